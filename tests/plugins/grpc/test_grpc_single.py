"""Calls for one-call workers, as RoadRunner makes them (protocol.md 5)."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from grpc_world import Client, World, served

from twisted_rr.errors import ApplicationError, FrameError
from twisted_rr.plugins.grpc.framing import framed
from twisted_rr.wire.frame import CODEC_JSON
from twisted_rr.wire.grpc_status import encode_status


def begun(**keys: Any) -> tuple[World, Client, int]:
    world, client = served(mux=False, **keys)
    return world, client, client.call()


def test_the_context_is_the_documented_object() -> None:
    world, client = served(mux=False)
    client.call("/helloworld.Greeter/SayHello", fields=[("key", "v1"), ("key", "v2"), ("grpc-timeout", "1S")])
    flags, context, body, length = world.call.call_head.spool().finish()
    assert flags == CODEC_JSON
    assert json.loads(context) == {
        "service": "helloworld.Greeter",
        "method": "SayHello",
        "context": {
            "content-type": ["application/grpc"],
            "key": ["v1", "v2"],
            ":authority": ["test"],
            ":peer.address": ["192.168.1.1:54321"],
        },
    }


def test_a_service_without_a_package_has_a_leading_dot() -> None:
    world, client = served(mux=False)
    client.call("/Name/Method")
    assert json.loads(world.call.call_head.spool().finish()[1])["service"] == ".Name"


def test_a_call_takes_a_worker_when_its_message_is_complete() -> None:
    world, client = served(mux=False)
    number = client.call(message=None, end=False)
    data = framed(b"hello")
    client.data(number, data[:6])
    client.data(number, data[6:])
    assert world.pool.calls == []
    client.data(number, b"", end=True)
    assert world.call.messages == [b"hello"]


def test_a_second_message_is_refused() -> None:
    world, client = served(mux=False)
    number = client.call(message=None, end=False)
    client.data(number, framed(b"a") + framed(b"b"), end=True)
    answer = client.answer(number)
    assert answer.status == 12
    assert "streaming is not supported" in answer.text
    assert world.pool.calls == []


def test_a_call_without_a_message_is_refused() -> None:
    world, client = served(mux=False)
    assert client.answer(client.call(message=None)).status == 13


@pytest.mark.parametrize("code", [-1, -(1 << 31)])
def test_a_code_that_cannot_be_one_becomes_unknown(code: int) -> None:
    world, client, number = begun()
    status = encode_status(code & 0xFFFFFFFF, "odd")
    world.call.respond(json.dumps({"error": base64.b64encode(status).decode()}).encode())
    world.turn()
    assert (client.answer(number).status, client.answer(number).text) == (2, "odd")


def test_a_code_in_an_error_text_that_cannot_be_one_becomes_unknown() -> None:
    world, client, number = begun()
    world.call.fail(ApplicationError("4294967295|:|odd", b"4294967295|:|odd"))
    world.turn()
    assert (client.answer(number).status, client.answer(number).text) == (2, "odd")


def test_an_answer_is_its_body() -> None:
    world, client, number = begun()
    world.call.respond(b"", b"ho")
    world.turn()
    answer = client.answer(number)
    assert answer.messages == [b"ho"]
    assert answer.status == 0


def test_an_empty_answer_is_an_empty_message() -> None:
    world, client, number = begun()
    world.call.respond()
    world.turn()
    answer = client.answer(number)
    assert answer.messages == [b""]
    assert answer.status == 0


def test_headers_and_trailers_are_json_in_json() -> None:
    world, client, number = begun()
    context = {
        "headers": json.dumps({"X-One": "1", "x-list": ["no"], "x-bin": "b"}),
        "trailers": json.dumps({"x-two": "2"}),
    }
    world.call.respond(json.dumps(context).encode(), b"ho")
    world.turn()
    answer = client.answer(number)
    assert answer.head["x-one"] == "1"
    assert answer.head["x-bin"] == "Yg"
    assert "x-list" not in answer.head
    assert answer.trailers == {"grpc-status": "0", "x-two": "2"}


def test_the_older_form_has_each_key_as_a_header() -> None:
    world, client, number = begun()
    world.call.respond(b'{"X-One":"1"}', b"ho")
    world.turn()
    assert client.answer(number).head["x-one"] == "1"


def test_an_error_is_a_serialised_status() -> None:
    world, client, number = begun()
    status = encode_status(5, "not here", [b"\x0a\x01x"])
    context = {"error": base64.b64encode(status).decode(), "trailers": '{"x-two":"2"}'}
    world.call.respond(json.dumps(context).encode(), b"ignored")
    world.turn()
    answer = client.answer(number)
    assert (answer.status, answer.text) == (5, "not here")
    assert answer.data == b""
    found = answer.head["grpc-status-details-bin"]
    assert base64.b64decode(found + "=" * (-len(found) % 4)) == status
    assert answer.head["x-two"] == "2"


@pytest.mark.parametrize(
    "context", [b"[]", b'{"a":1}', b"{", b'{"error":"*"}', b'{"error":"/w=="}', b'{"headers":"[]"}']
)
def test_a_context_that_makes_no_sense_is_unknown_and_the_worker_lives(context: bytes) -> None:
    world, client, number = begun()
    world.call.respond(context, b"ho")
    world.turn()
    answer = client.answer(number)
    assert answer.status == 2
    assert answer.text
    assert len(world.log("error")) == 1


@pytest.mark.parametrize(
    ("text", "code", "message", "rich"),
    [
        ("5|:|not here", 5, "not here", False),
        ("3|:|bad|:|\n\x01x", 3, "bad", True),
        ("0|:|zero", 13, "zero", False),
        ("boom", 13, "sync_worker_receive_frame: SoftJobError: boom", False),
        ("x|:|boom", 2, "sync_worker_receive_frame: SoftJobError: x|:|boom", False),
    ],
)
def test_an_error_text_tells_a_status(text: str, code: int, message: str, rich: bool) -> None:
    world, client, number = begun()
    world.call.fail(ApplicationError(text))
    world.turn()
    answer = client.answer(number)
    assert (answer.status, answer.text) == (code, message)
    assert ("grpc-status-details-bin" in answer.head) is rich


def test_a_status_the_application_tells_is_no_error_of_the_server() -> None:
    world, client, number = begun()
    world.call.fail(ApplicationError("5|:|not here"))
    assert world.log("error") == []


def test_a_stream_is_refused_and_stopped() -> None:
    world, client, number = begun()
    call = world.call
    call.head(0, b"", b"piece", more=True)
    world.turn()
    answer = client.answer(number)
    assert (answer.status, answer.text) == (2, "streaming is not supported")
    assert call.cancelled == "client"


def test_a_large_answer_goes_on_as_it_comes() -> None:
    world, client, number = begun()
    call = world.call
    call.length = 9
    call.head(0, b"", b"abc", more=True)
    call.data(b"def", more=True)
    call.data(b"ghi", more=False)
    world.turn()
    answer = client.answer(number)
    assert answer.messages == [b"abcdefghi"]
    assert answer.status == 0


def test_a_worker_lost_inside_a_message_breaks_the_stream_off() -> None:
    world, client, number = begun()
    call = world.call
    call.length = 9
    call.head(0, b"", b"abc", more=True)
    call.fail(ApplicationError("gone"))
    world.turn()
    assert client.answer(number).reset == 2
    assert world.front.in_flight.cut == 1


def test_a_large_answer_that_is_compressed_is_gathered_first() -> None:
    import gzip

    world, client = served(mux=False)
    number = client.call(fields=[("grpc-encoding", "gzip")])
    call = world.call
    call.length = 400
    call.head(0, b"", b"a" * 200, more=True)
    call.data(b"a" * 200, more=False)
    world.turn()
    answer = client.answer(number)
    assert gzip.decompress(answer.data[5:]) == b"a" * 400
    assert answer.status == 0


def test_an_answer_above_the_limit_is_not_sent() -> None:
    world, client, number = begun(max_send_msg_size=10)
    call = world.call
    call.length = 11
    call.head(0, b"", b"abc", more=True)
    world.turn()
    assert client.answer(number).status == 8
    assert call.cancelled == "client"


def test_a_message_frame_is_nonsense_from_such_a_worker() -> None:
    world, client, number = begun()
    with pytest.raises(FrameError):
        world.call.reply(b"x")


def test_under_debug_the_kind_of_a_worker_is_seen_when_it_answers() -> None:
    from twisted_rr.pool.settings import PoolSettings

    for mux in (False, True):
        world, client = served(mux=False, pool=PoolSettings(debug=True))
        number = client.call()
        world.pool.mux = mux
        if mux:
            world.call.reply(b"ho", more=False)
        else:
            world.call.respond(b"", b"ho")
        world.turn()
        assert client.answer(number).messages == [b"ho"]
