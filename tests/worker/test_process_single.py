"""One call at a time: what travels is, byte for byte, what protocol.md says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from worker_rig import Process, request, tree

from twisted_rr.errors import ApplicationError
from twisted_rr.wire import frame
from twisted_rr.wire.control import MuxOffer

Start = Callable[..., Process]

BOTH = pytest.mark.parametrize("application", ["sdk_apps:site", "sdk_apps:wsgi_site"])
CODECS = pytest.mark.parametrize("codec", [frame.CODEC_JSON, frame.CODEC_PROTO])

STOP = bytes.fromhex("13000000000096d1803402 00")
PONG = bytes.fromhex("13000000000096d1803408 00")


def worker(start: Start, *arguments: str, **more: Any) -> Process:
    process = start(*arguments, **more)
    assert process.hello() is None
    return process


@pytest.mark.parametrize("application", ["sdk_apps:hello", "sdk_apps:plain"])
def test_the_transcript_is_that_of_the_protocol(start: Start, application: str) -> None:
    """The vectors pid_request, pid_reply_php, http_request (its fields), stop_command of protocol.md 1.6."""
    process = start(application)
    process.write(bytes.fromhex("13090c0000005f0c46730000") + b'{"pid":1234}')
    reply = b'{"pid":%d}' % process.pid
    assert read(process, 12 + len(reply)) == frame.prefix(3, 0x01, 0, len(reply)) + reply
    context = (
        bytes.fromhex("0a093132372e302e302e311208485454502f312e311a03474554") + b'"\x12http://localhost/x'
    )
    process.write(frame.encode(0x80, 0, (len(context),), context))
    answer = bytes.fromhex("08c801121c0a0c") + b"content-type" + bytes.fromhex("120c0a0a") + b"text/plain"
    if application == "sdk_apps:plain":
        answer = answer.replace(b"content-type", b"Content-Type")
        answer += bytes.fromhex("12150a0e") + b"Content-Length" + bytes.fromhex("12030a0135")
    size = len(answer) + 5
    expected = frame.prefix(4, 0x80, 0, size) + len(answer).to_bytes(4, "little") + answer + b"hello"
    assert read(process, len(expected)) == expected
    process.write(bytes.fromhex("13090d0000003a6bfacb0000") + b'{"stop":true}')
    assert process.read() == b""
    assert process.wait() == 0
    assert process.stderr == ""


def read(process: Process, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += process.read()
    return data


@BOTH
@CODECS
def test_the_answer_has_the_codec_of_the_request(start: Start, application: str, codec: int) -> None:
    process = worker(start, application)
    process.call(request("/"), codec=codec)
    answer = process.next()
    assert (answer.flags, answer.bits, len(answer.options)) == (codec, 0, 1)
    for flags in (0, codec):
        process.call(request("/"), codec=codec)
        assert process.answer()[2] == b"hello", flags


@BOTH
def test_a_context_without_codec_bits_is_recognized(start: Start, application: str) -> None:
    process = worker(start, application)
    for first, codec in ((b'{"uri":"http://x/","method":"GET"}', 0x08), (b'"\x09http://x/', 0x80)):
        process.write(frame.encode(0, 0, (len(first),), first))
        assert process.next().flags == codec


@BOTH
def test_mux_is_not_answered_when_it_is_switched_off(start: Start, application: str) -> None:
    process = start("--no-mux", application)
    assert process.hello(MuxOffer()) is None
    process.call(request("/"))
    assert process.answer()[2] == b"hello"


@BOTH
@pytest.mark.parametrize("relay", ["socketpair", "pipes"])
def test_bodies_go_both_ways(start: Start, application: str, relay: str) -> None:
    process = worker(start, application, relay=relay)
    for size in (0, 10, 300_000):
        process.call(request("/echo", "POST"), b"z" * size)
        status, _, body = process.answer()
        assert (status, len(body)) == (200, size)


@BOTH
def test_a_stream_is_frames_with_the_stream_bit(start: Start, application: str) -> None:
    process = worker(start, application)
    process.call(request("/big"))
    first = process.next()
    assert (first.bits, first.options[0] > 0) == (frame.STREAM, True)
    size = len(first.payload) - first.options[0]
    more = True
    while more:
        piece = process.next()
        assert piece.options == (0,)
        size += len(piece.payload)
        more = bool(piece.bits & frame.STREAM)
    assert size == 10_000_000
    assert process.quiet()


@BOTH
def test_stop_in_a_stream_ends_it_with_an_empty_frame(start: Start, application: str) -> None:
    process = worker(start, application)
    process.call(request("/endless"))
    process.next()
    process.write(STOP)
    while (piece := process.next()).bits & frame.STREAM:
        assert piece.payload
    assert (piece.flags, piece.bits, piece.options, piece.payload) == (frame.CODEC_JSON, 0, (0,), b"")
    process.call(request("/"))
    assert process.answer()[2] == b"hello"
    assert process.stop() == 0
    assert process.stderr.splitlines()[0] == "endless is over"


@BOTH
def test_a_stop_command_in_a_stream_ends_it_and_the_worker(start: Start, application: str) -> None:
    process = worker(start, application)
    process.call(request("/endless"))
    process.next()
    process.write(STOP + frame.encode(0x09, 0, (), b'{"stop":true}'))
    while process.next().bits & frame.STREAM:
        continue
    assert process.wait() == 0


@BOTH
def test_stale_stop_and_pong_frames_between_requests_are_ignored(start: Start, application: str) -> None:
    process = worker(start, application)
    process.write(STOP + PONG)
    process.call(request("/"))
    assert process.answer()[2] == b"hello"
    process.write(STOP)
    process.call(request("/echo", "POST"), b"x")
    assert process.answer()[2] == b"x"
    assert process.quiet()


@BOTH
def test_an_exception_is_an_error_frame_without_options(start: Start, application: str) -> None:
    process = worker(start, application)
    process.call(request("/boom"))
    answer = process.next()
    assert (answer.flags, answer.bits, answer.options) == (frame.ERROR, 0, ())
    assert answer.payload == b"ValueError: boom goes the handler"
    process.call(request("/"))
    assert process.answer()[2] == b"hello"


@BOTH
def test_an_exception_in_a_stream_is_an_error_frame(start: Start, application: str) -> None:
    process = worker(start, application)
    process.call(request("/late"))
    with pytest.raises(ApplicationError, match="boom in the middle"):
        process.answer()


@BOTH
def test_an_unreadable_context_is_an_error_and_the_worker_lives(start: Start, application: str) -> None:
    process = worker(start, application)
    process.write(frame.encode(frame.CODEC_JSON, 0, (4,), b"what"))
    with pytest.raises(ApplicationError, match="the request's context cannot be read"):
        process.answer()
    process.call(request("/"))
    assert process.answer()[2] == b"hello"


@pytest.mark.parametrize("application", ["sdk_forms:flask_app", "sdk_forms:starlette_app"])
@CODECS
def test_a_parsed_form_reaches_the_framework(
    start: Start, application: str, codec: int, tmp_path: Path
) -> None:
    file = tmp_path / "upload"
    file.write_bytes(b"content\r\n" * 20_000)
    leaf = {"name": "f.txt", "mime": "text/x-t", "size": 180_000, "error": 0, "tmpName": str(file)}
    process = worker(start, application)
    headers = {"Content-Type": "multipart/form-data; boundary=gone", "Content-Length": "12"}
    made = request("/", "POST", headers, parsed=True, uploads=tree({"file": leaf}))
    process.call(made, tree({"title": "Zoë", "tags": ["a", "b"]}), codec)
    assert json.loads(process.answer()[2]) == {
        "title": "Zoë", "tags": ["a", "b"], "file": ["f.txt", "text/x-t", 180_000],
    }  # fmt: skip
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": "12"}
    process.call(
        request("/", "POST", headers, parsed=True), tree({"title": "&=%", "tags": ["a", "b"]}), codec
    )
    assert json.loads(process.answer()[2]) == {"title": "&=%", "tags": ["a", "b"], "file": None}


@BOTH
def test_sigterm_between_calls_ends_the_worker(start: Start, application: str) -> None:
    process = worker(start, application)
    process.call(request("/"))
    process.answer()
    process.term()
    assert process.wait() == 0


@BOTH
def test_sigterm_in_a_call_lets_it_finish(start: Start, application: str) -> None:
    process = worker(start, application)
    process.call(request("/slow"))
    process.quiet(0.1)
    process.term()
    assert process.answer()[2] == b"slow"
    process.call(request("/"))  # which the server sent before it could know
    asks = process.next()
    assert (asks.bits, asks.options, asks.payload) == (0, (13,), b'{"stop":true}')
    assert process.wait() == 0


@BOTH
def test_the_end_of_the_relay_ends_the_worker(start: Start, application: str) -> None:
    process = worker(start, application)
    process.hang_up()
    assert process.wait() in (0, 1)
    assert "Traceback" not in process.stderr


@BOTH
def test_the_environment_of_one_call_at_a_time(start: Start, application: str) -> None:
    process = worker(start, application)
    name = "/environ" if "wsgi" in application else "/scope"
    process.call(request(name + "?q=1", headers={"User-Agent": "test"}))
    shown = eval(process.answer()[2])
    if "wsgi" in application:
        assert shown["QUERY_STRING"] == "q=1"
        assert (shown["SERVER_NAME"], shown["SERVER_PORT"]) == ("example.com", "80")
        assert (shown["REMOTE_ADDR"], shown["HTTP_HOST"]) == ("192.0.2.7", "example.com")
    else:
        assert (shown["query_string"], shown["extensions"]) == (b"q=1", {})
        assert shown["headers"] == [(b"host", b"example.com"), (b"user-agent", b"test")]
        assert (shown["client"], shown["server"]) == (("192.0.2.7", 0), ("example.com", 80))
