import json
from pathlib import Path

import pytest

from twisted_rr.errors import FrameError
from twisted_rr.wire.control import (
    STOP_COMMAND,
    MuxAnswer,
    MuxOffer,
    draining,
    encode_control,
    encode_pid_reply,
    encode_pid_request,
    parse_control,
    parse_pid_reply,
    parse_pid_request,
    server_settings,
    worker_settings,
)
from twisted_rr.wire.frame import CODEC_JSON, CODEC_MSGPACK, encode
from twisted_rr.wire.reader import Frame, FrameReader

FOLDER = Path(__file__).parent / "vectors"
FRAMES = {v["name"]: v["frame"] for v in json.loads((FOLDER / "frames.json").read_text())["frames"]}
MUX = {v["name"]: v["frame"] for v in json.loads((FOLDER / "mux.json").read_text())["frames"]}


def one(data):
    return FrameReader(65536).first(data)


def reply(mux, flags=0x09, **more):
    payload = {"pid": 5, **more}
    if mux is not None:
        payload["mux"] = mux
    return one(encode(flags, 0, (), json.dumps(payload).encode()))


def test_pid_frames_are_the_vectors():
    assert encode_pid_request(1234).hex() == FRAMES["pid_request"]
    assert encode_pid_reply(5678).hex() == FRAMES["pid_reply_php"]
    assert STOP_COMMAND.hex() == FRAMES["stop_command"]


def test_mux_handshake_frames_are_the_vectors():
    assert encode_pid_request(1234, MuxOffer(window=262144, max_frame=65536)).hex() == MUX["offer"]
    assert encode_pid_reply(5678, MuxAnswer(window=262144, max_frame=65536)).hex() == MUX["answer"]


def test_control_frames_are_the_vectors():
    assert encode_control(draining(25000)).hex() == MUX["draining"]
    assert encode_control({"capacity": 3}).hex() == MUX["capacity"]
    assert encode_control({"retire": True}).hex() == MUX["retire"]


@pytest.mark.parametrize("name", ("pid_reply_php", "pid_reply_codec"))
def test_both_forms_of_the_pid_reply_are_taken(name):
    assert parse_pid_reply(one(bytes.fromhex(FRAMES[name])), MuxOffer()) == (5678, None)


def test_a_reply_needs_the_control_flag():
    with pytest.raises(FrameError, match="CONTROL"):
        parse_pid_reply(Frame(0x08, 0, (), b'{"pid":5}'), None)


@pytest.mark.parametrize("payload", (b"", b"Hello", b"[1]", b"5", b"\xff", b"[" * 100000))
def test_a_control_frame_holds_a_json_object(payload):
    with pytest.raises(FrameError, match="JSON object"):
        parse_control(payload)


@pytest.mark.parametrize("pid", (0, -1, "5", None, True, 1.0))
def test_a_pid_is_an_integer_above_zero(pid):
    with pytest.raises(FrameError, match="pid is"):
        parse_pid_reply(one(encode(1, 0, (), json.dumps({"pid": pid}).encode())), None)
    with pytest.raises(FrameError, match="pid is"):
        parse_pid_request({"pid": pid})


def test_both_sides_agree():
    offer = MuxOffer(streams=10, window=16384, max_frame=8192)
    _, seen = parse_pid_request(parse_control(one(encode_pid_request(1, offer)).payload))
    answer = MuxAnswer(streams=4, window=32768, max_frame=4096, codec="json", caps=["heartbeat"])
    pid, got = parse_pid_reply(one(encode_pid_reply(7, answer)), offer)
    server, worker = server_settings(offer, got), worker_settings(seen, answer)
    assert pid == 7
    assert (server.capacity, worker.capacity) == (4, 4)
    for side in (server, worker):
        assert (side.streams, side.max_frame, side.codec, side.caps) == (4, 4096, CODEC_JSON, {"heartbeat"})
    assert (server.window, server.peer_window) == (16384, 32768) == (worker.peer_window, worker.window)


def test_numbers_left_out_have_their_defaults_and_unknown_keys_are_ignored():
    _, answer = parse_pid_reply(reply({"v": 1, "codec": "msgpack", "color": 1}, extra=2), MuxOffer())
    assert (answer.streams, answer.window, answer.max_frame, answer.caps) == (1000, 262144, 65536, ())
    settings = server_settings(MuxOffer(), answer)
    assert settings.codec == CODEC_MSGPACK
    # It is not held to what our own ends say.
    assert (settings.max_frame, settings.peer_window, settings.window) == (65536, 262144, 524288)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("streams", 0), ("streams", 65536), ("streams", "5"), ("streams", True), ("streams", 1.5),
        ("window", 16383), ("window", 16777217), ("max_frame", 4095), ("max_frame", 1048577), ("window", None),
    ],
)  # fmt: skip
def test_a_number_out_of_range_ends_the_handshake_on_either_side(key, value):
    with pytest.raises(FrameError, match=f"mux.{key} is"):
        parse_pid_reply(reply({"v": 1, "codec": "json", key: value}), MuxOffer())
    with pytest.raises(FrameError, match=f"mux.{key} is"):
        parse_pid_request({"pid": 1, "mux": {"v": 1, "codecs": ["json"], key: value}})


@pytest.mark.parametrize("key", ("streams", "window", "max_frame"))
def test_the_ends_of_the_ranges_are_taken(key):
    low, high = {"streams": (1, 65535), "window": (16384, 16777216), "max_frame": (4096, 1048576)}[key]
    for value in (low, high):
        _, answer = parse_pid_reply(reply({"v": 1, "codec": "json", key: value}), MuxOffer())
        assert getattr(answer, key) == value


def test_a_codec_that_was_not_offered_ends_the_handshake():
    with pytest.raises(FrameError, match="'cbor'"):
        parse_pid_reply(reply({"v": 1, "codec": "cbor"}), MuxOffer())
    with pytest.raises(FrameError, match="'msgpack'"):
        parse_pid_reply(reply({"v": 1, "codec": "msgpack"}), MuxOffer(codecs=["json"]))


def test_an_answer_without_an_offer_ends_the_handshake():
    with pytest.raises(FrameError, match="not offered"):
        parse_pid_reply(reply({"v": 1, "codec": "json"}), None)


@pytest.mark.parametrize("mux", ({"v": 2, "codec": "json"}, {}, 5))
def test_an_answer_of_another_version_ends_the_handshake(mux):
    with pytest.raises(FrameError, match="version 1"):
        parse_pid_reply(reply(mux), MuxOffer())


@pytest.mark.parametrize(
    "mux", (None, {}, {"v": 2, "codecs": ["json"]}, {"v": 1}, {"v": 1, "codecs": ["cbor", 5]}, [])
)
def test_an_offer_that_we_do_not_know_is_answered_without_mux(mux):
    assert parse_pid_request({"pid": 9, "mux": mux}) == (9, None)


def test_codecs_keep_the_order_of_the_offer():
    _, offer = parse_pid_request({"pid": 9, "mux": {"v": 1, "codecs": ["json", "new", "msgpack"]}})
    assert offer.codecs == ("json", "msgpack")


def test_an_error_of_the_handshake_shows_what_was_read():
    with pytest.raises(FrameError) as caught:
        parse_pid_reply(reply({"v": 3}), MuxOffer())
    assert caught.value.first.startswith(b'{"pid": 5')
