"""The frames of the mux extension as bytes, built and read by our ends, and those that end a relay."""

import json
from pathlib import Path

import pytest
from wire_recorders import MuxServer, MuxWorker, call_frame, credit_frame, drain, in_chunks, parse_all

from twisted_rr.errors import FrameError
from twisted_rr.wire.control import encode_control
from twisted_rr.wire.frame import CODEC_JSON

VECTORS = json.loads((Path(__file__).parent / "vectors" / "mux.json").read_text())
FRAMES = {v["name"]: v for v in VECTORS["frames"]}
WIRE = {name: bytes.fromhex(v["frame"]) for name, v in FRAMES.items()}


def context_of(name):
    v = FRAMES[name]
    return bytes.fromhex(v["payload"])[: v["options"][0]]


HEAD = context_of("answer_whole")
TRAILERS = context_of("trailers")
REQUEST = context_of("open")


@pytest.mark.parametrize("name", FRAMES)
def test_fields_of_a_vector_are_what_its_bytes_say(name):
    v = FRAMES[name]
    assert parse_all(WIRE[name]) == [
        (v["flags"], v["bits"], tuple(v["options"]), bytes.fromhex(v["payload"]))
    ]


# ------------------------------------------------------------------ built


def server_sends(steps):
    server = MuxServer()
    call = server.opened(REQUEST, b"", True)
    steps(server, call)
    return drain(server.end)


def worker_sends(steps, **settings):
    worker = MuxWorker(**settings)
    steps(worker, worker.accept(bits=1))
    return drain(worker.end)


def opened(context, body, more, **settings):
    server = MuxServer(**settings)
    server.open(context, body, more)
    return drain(server.end)


def taken_half(server, call):
    server.end.feed(call_frame(1, HEAD, b"", 1) + call_frame(1, b"", bytes(65536), 1) * 2)


BUILT = {
    "open": lambda: opened(REQUEST, b"", False),
    "open_json": lambda: opened(context_of("open_json"), b"", False, codec=CODEC_JSON),
    "open_body": lambda: opened(REQUEST, b"hello", False),
    "open_more": lambda: opened(context_of("open_more"), b"", True),
    "body": lambda: server_sends(lambda server, call: call.send(b"part", True)),
    "body_end": lambda: server_sends(lambda server, call: call.send(b"", False)),
    "request_trailers": lambda: server_sends(lambda server, call: call.finish(lambda codec: TRAILERS)),
    "answer_whole": lambda: worker_sends(lambda worker, stream: stream.send(HEAD, b"hello", False)),
    "answer_whole_json": lambda: worker_sends_json(),
    "interim": lambda: worker_sends(lambda worker, stream: stream.send(context_of("interim"), b"", True)),
    "head": lambda: worker_sends(lambda worker, stream: stream.send(HEAD, b"", True)),
    "data": lambda: worker_sends(lambda worker, stream: stream.send(b"", b"hello", True)),
    "end": lambda: worker_sends(lambda worker, stream: stream.send(b"", b"", False)),
    "trailers": lambda: worker_sends(lambda worker, stream: stream.send(TRAILERS, b"", False)),
    "credit_up": lambda: worker_sends(took_half_of_the_body),
    "credit_down": lambda: server_sends(taken_half),
    "cancel": lambda: server_sends(lambda server, call: call.cancel("client")),
    "cancelled": lambda: worker_sends(cancelled_by_server),
    "error": lambda: worker_sends(lambda worker, stream: stream.error("boom")),
    "ws_open": lambda: opened(context_of("ws_open"), b"", True),
    "ws_accept": lambda: worker_sends(lambda worker, stream: stream.send(context_of("ws_accept"), b"", True)),
    "ws_text": lambda: server_sends(lambda server, call: call.message(b"hi", True, True)),
    "ws_binary": lambda: worker_sends(lambda worker, stream: stream.message(b"\0\1", False, True)),
    "empty_message": lambda: server_sends(lambda server, call: call.message(b"", False, True)),
    "empty_message_end": lambda: server_sends(lambda server, call: call.message(b"", False, False)),
    "ws_close": lambda: server_sends(lambda server, call: call.finish(lambda codec: context_of("ws_close"))),
    "message_end": lambda: worker_sends(
        lambda worker, stream: stream.message(b"bye", False, False, context_of("message_end"))
    ),
    "pong": lambda: worker_sends(lambda worker, stream: worker.end.feed(WIRE["ping"])),
    "draining": lambda: server_sends(
        lambda server, call: server.end.control({"draining": {"deadline_ms": 25000}})
    ),
    "stop": lambda: server_sends(lambda server, call: server.end.control({"stop": True})),
    "capacity": lambda: worker_sends(lambda worker, stream: worker.end.control({"capacity": 3})),
    "retire": lambda: worker_sends(lambda worker, stream: worker.end.control({"retire": True})),
}


def worker_sends_json():
    worker = MuxWorker(codec=CODEC_JSON)
    worker.end.feed(call_frame(1, b"[]", b"", 0, CODEC_JSON))
    worker.streams[1].send(context_of("answer_whole_json"), b"hello", False)
    return drain(worker.end)


def took_half_of_the_body(worker, stream):
    worker.end.feed(call_frame(1, b"", bytes(65536), 1) * 2)
    stream.consumed(131072)


def cancelled_by_server(worker, stream):
    worker.end.feed(WIRE["cancel"])
    stream.stop()


@pytest.mark.parametrize("name", BUILT)
def test_our_ends_build_the_vectors_bytes(name):
    assert BUILT[name]().hex() == WIRE[name].hex()


def test_parts_of_a_message_are_the_vectors():
    worker = MuxWorker(peer_window=16384)
    stream = worker.accept(bits=1)
    stream.send(b"", bytes(16382), True)
    stream.message(b"hello", True, True)
    assert drain(worker.end).endswith(WIRE["ws_part"])
    worker.end.feed(credit_frame(1, 3))
    assert drain(worker.end) == WIRE["ws_part_last"]


# ------------------------------------------------------------------ read


SERVER_READS = {
    "answer_whole": [("context", 16, HEAD, b"hello", False)],
    "interim": [("context", 16, context_of("interim"), b"", True)],
    "head": [("context", 16, HEAD, b"", True)],
    "data": [("data", b"hello", True)],
    "end": [("data", b"", False)],
    "trailers": [("context", 16, TRAILERS, b"", False)],
    "cancelled": [
        ("failed", "Refused", "the worker gave the call back and its body is no longer held"),
    ],
    "error": [("failed", "ApplicationError", "boom")],
    "ws_accept": [("context", 16, context_of("ws_accept"), b"", True)],
    "ws_binary": [("message", b"\0\1", False, True)],
    "ws_part": [],
    "empty_message": [("message", b"", False, True)],
    "empty_message_end": [("message", b"", False, False)],
    "message_end": [
        ("message", b"bye", False, True),
        ("context", 16, context_of("message_end"), b"", False),
    ],
    "credit_up": [],
    "pong": [],
}


@pytest.mark.parametrize("name", SERVER_READS)
@pytest.mark.parametrize("step", (1, 1000))
def test_the_server_understands_the_vectors(name, step):
    server = MuxServer()
    call = server.opened()
    for chunk in in_chunks(WIRE[name], [step]):
        server.end.feed(chunk)
    assert call.to.events == SERVER_READS[name]


WORKER_READS = {
    "body": [(1, "data", b"part", True)],
    "body_end": [(1, "data", b"", False)],
    "request_trailers": [(1, "finished", TRAILERS)],
    "cancel": [(1, "cancelled", "client")],
    "ws_text": [(1, "message", b"hi", True, True)],
    "empty_message": [(1, "message", b"", False, True)],
    "empty_message_end": [(1, "message", b"", False, False)],
    "ws_close": [(1, "finished", context_of("ws_close"))],
    "credit_down": [],
    "pong": [],
}


@pytest.mark.parametrize("name", WORKER_READS)
@pytest.mark.parametrize("step", (1, 1000))
def test_the_worker_understands_the_vectors(name, step):
    worker = MuxWorker()
    worker.accept(bits=1)
    worker.log.clear()
    for chunk in in_chunks(WIRE[name], [step]):
        worker.end.feed(chunk)
    assert worker.log == WORKER_READS[name]


@pytest.mark.parametrize(
    ("name", "costs"),
    [("body", 4), ("body_end", 0), ("request_trailers", 0), ("empty_message", 1), ("empty_message_end", 1)],
)
def test_what_the_vectors_cost(name, costs):
    worker, server = MuxWorker(window=16384), MuxServer(window=16384)
    stream, call = worker.accept(bits=1), server.opened()
    worker.end.feed(WIRE[name])
    assert stream.credit_in == 16384 - costs
    server.end.feed(WIRE[name])
    assert call.credit_in == 16384 - (
        0 if call.ended else costs
    )  # of a call that has ended nobody counts any more


def test_the_worker_builds_an_empty_message_as_the_server_does():
    assert worker_sends(lambda worker, stream: stream.message(b"", False, True)) == WIRE["empty_message"]
    assert worker_sends(lambda worker, stream: stream.message(b"", False, False)) == WIRE["empty_message_end"]


@pytest.mark.parametrize("name", ("open", "open_body", "open_more", "ws_open"))
def test_the_worker_understands_opens(name):
    worker = MuxWorker()
    worker.end.feed(WIRE[name])
    context = context_of(name)
    body = bytes.fromhex(FRAMES[name]["payload"])[len(context) :]
    assert worker.log == [(1, "opened", 16, context, body, bool(FRAMES[name]["bits"]))]


# ------------------------------------------------------------------ refused


def end_of(vector):
    if vector["receiver"] == "server":
        server = MuxServer(window=16384)
        server.opened(b"ctx", b"", True)
        if vector["open"] == "ended":
            server.end.feed(call_frame(1, b"h", b""))
        return server.end
    worker = MuxWorker(window=16384)
    worker.accept(bits=0 if vector["open"] == "closed" else 1)
    return worker.end


@pytest.mark.parametrize(
    "vector", VECTORS["refused"], ids=lambda vector: f"{vector['receiver']}-{vector['name']}"
)
@pytest.mark.parametrize("step", (1, 7, 100000))
def test_what_breaks_the_protocol_is_refused_with_its_reason_and_first_bytes(vector, step):
    data = bytes.fromhex(vector["frame"])
    end = end_of(vector)
    with pytest.raises(FrameError) as caught:
        for chunk in in_chunks(data, [step]):
            end.feed(chunk)
    assert vector["reason"] in caught.value.reason
    assert caught.value.first
    assert data.startswith(caught.value.first) or caught.value.first in data


@pytest.mark.parametrize("make", (MuxServer, MuxWorker))
def test_an_end_inside_a_frame_is_refused(make):
    end = make().end
    end.feed(WIRE["ping"][:7])
    with pytest.raises(FrameError, match="inside a frame"):
        end.eof()


@pytest.mark.parametrize("make", (MuxServer, MuxWorker))
def test_an_end_between_frames_is_fine(make):
    end = make().end
    end.feed(WIRE["pong"])
    end.eof()


def test_both_sides_answer_a_ping():
    for made in (MuxServer(), MuxWorker()):
        made.end.feed(WIRE["ping"])
        assert drain(made.end) == WIRE["pong"]
        made.end.feed(encode_control({"unknown": 1}))
        assert made.end.take() == b""


def test_a_silent_peer_is_asked_with_a_ping():
    server = MuxServer(caps=["heartbeat"])
    server.opened()
    worker = MuxWorker(caps=["heartbeat"])
    worker.accept()
    for end in (server.end, worker.end):
        for now in range(10):
            end.tick(float(now))
        assert drain(end) == WIRE["ping"]
        assert not end.missed
