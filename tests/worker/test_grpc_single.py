"""gRPC for servers that give one call at a time: what travels is, byte for byte, what protocol.md 5 says."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from worker_rig import Process

from twisted_rr.wire import frame
from twisted_rr.wire.control import MuxOffer
from twisted_rr.wire.grpc_context import decode_single_end, decode_status, encode_single_call

Start = Callable[..., Process]

KINDS = ("sync", "async", "mixed")


@pytest.fixture(params=KINDS)
def worker(request: pytest.FixtureRequest, start: Start) -> Process:
    process = start("--interface", "grpc", f"grpc_app:register_{request.param}")
    assert process.hello() is None
    return process


def call(process: Process, method: str, body: bytes = b"", metadata: Any = (), service: str = "t.S") -> None:
    context = encode_single_call(service, method, list(metadata), "127.0.0.1:50000")
    process.write(frame.encode(frame.CODEC_JSON, 0, (len(context),), context + body))


def answer(process: Process) -> tuple[int, str, list[Any], list[Any], bytes]:
    """Code, message, headers, trailers and body."""
    got = process.next()
    assert not got.bits and len(got.options) == 1
    size = got.options[0]
    code, text, _, headers, trailers = decode_single_end(got.payload[:size])
    return code, text, headers, trailers, got.payload[size:]


@pytest.mark.parametrize("kind", KINDS)
def test_the_transcript_is_that_of_the_protocol(start: Start, kind: str) -> None:
    """The vectors pid_request, pid_reply_php, grpc_request (another service) and stop_command of protocol.md 1.6."""
    process = start("--interface", "grpc", f"grpc_app:register_{kind}")
    process.write(bytes.fromhex("13090c0000005f0c46730000") + b'{"pid":1234}')
    reply = b'{"pid":%d}' % process.pid
    assert read(process, 12 + len(reply)) == frame.prefix(3, 0x01, 0, len(reply)) + reply
    context = b'{"service":"t.S","method":"Upper","context":{":peer.address":["127.0.0.1:50000"]}}'
    request = frame.encode(frame.CODEC_JSON, 0, (len(context),), context + b"\n\x02hi")
    assert request[:2] == b"\x14\x08"
    process.write(request)
    expected = bytes.fromhex("140804000000b83d9796000000000000") + b"\n\x02HI"
    assert read(process, len(expected)) == expected
    context = b'{"service":"t.S","method":"Abort","context":{"a":["b"]}}'
    process.write(frame.encode(frame.CODEC_JSON, 0, (len(context),), context + b"5"))
    error = base64.b64encode(b"\x08\x05\x12\x07said so")
    trailers = b'{"trailers":"{\\"t\\":\\"1\\"}","error":"' + error + b'"}'
    expected = frame.encode(frame.CODEC_JSON, 0, (len(trailers),), trailers)
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


def test_metadata_goes_both_ways(worker: Process) -> None:
    call(worker, "Meta", metadata=[("a", "1"), ("b-bin", b"ok")])
    code, _, headers, trailers, body = answer(worker)
    assert code == 0 and headers == [("got", "2")] and trailers == []
    assert body == b"a='1'|b-bin=b'ok'|ipv4:127.0.0.1:50000|{}"


def test_status_and_trailers_are_json_in_json(worker: Process) -> None:
    call(worker, "Status", b"5 not there")
    assert answer(worker) == (5, "not there", [], [("t", "1")], b"")
    assert "'b-bin' is left out" in worker.stderr


def test_rich_status_is_the_error_of_the_context(worker: Process) -> None:
    call(worker, "Rich")
    got = worker.next()
    context = json.loads(got.payload[: got.options[0]])
    assert decode_status(base64.b64decode(context["error"])) == (3, "bad", [b"\n\x01x"])
    assert json.loads(context["trailers"]) == {"k": "v"}


def test_exception_is_a_status_and_the_worker_lives(worker: Process) -> None:
    call(worker, "Boom")
    assert answer(worker)[:2] == (2, "Exception calling application: boom")
    call(worker, "Upper", b"x")
    assert answer(worker)[4] == b"X"


def test_streams_of_answers_have_no_place(worker: Process) -> None:
    call(worker, "Repeat", b"3")
    code, text, *_ = answer(worker)
    assert code == 12 and "no stream" in text


def test_stream_of_requests_is_the_one_that_came(worker: Process) -> None:
    call(worker, "Join", b"one")
    assert answer(worker)[4] == b"one"


def test_unknown_method_is_unimplemented(worker: Process) -> None:
    call(worker, "No")
    assert answer(worker)[:2] == (12, "Method not found!")


def test_handler_that_cancels_its_call_ends_it_once(worker: Process) -> None:
    call(worker, "Cancel")
    assert answer(worker)[0] == 1
    call(worker, "Upper", b"x")
    assert answer(worker)[4] == b"X"


def test_context_that_cannot_be_read_is_an_error_frame(worker: Process) -> None:
    worker.write(frame.encode(frame.CODEC_JSON, 0, (2,), b"[]"))
    got = worker.next()
    assert got.flags & frame.ERROR and b"cannot be read" in got.payload
    call(worker, "Upper", b"x")
    assert answer(worker)[4] == b"X"


def test_large_messages_pass(worker: Process) -> None:
    call(worker, "Upper", b"x" * 5_000_000)
    assert answer(worker)[4] == b"X" * 5_000_000


@pytest.mark.parametrize("kind", KINDS)
def test_mux_may_be_declined(start: Start, kind: str) -> None:
    process = start("--interface", "grpc", "--no-mux", f"grpc_app:register_{kind}")
    assert process.hello(MuxOffer()) is None
    call(process, "Upper", b"x")
    assert answer(process)[4] == b"X"
