"""One ASGI call, with a stream that records."""

from __future__ import annotations

import asyncio
import pickle
from collections import UserDict
from collections.abc import Callable, Coroutine
from types import MappingProxyType
from typing import Any

import pytest

from twisted_rr.worker.exchange import CANCEL_GRACE, SMALL, Codec, Exchange
from twisted_rr.worker.scope import http_scope

START = {"type": "http.response.start", "status": 200, "headers": [(b"x", b"1")]}
HEAD = (200, [(b"x", b"1")])


def body(data: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


class RecordingStream:
    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.taken = 0
        self.room = True

    def send(self, context: bytes, data: bytes, more: bool) -> bool:
        self.sent.append((pickle.loads(context) if context[:1] == b"\x80" else context, data, more))
        return self.room

    def error(self, text: str) -> None:
        self.sent.append(("error", text))

    def stop(self) -> None:
        self.sent.append("stop")

    def consumed(self, count: int) -> None:
        self.taken += count


def run(
    test: Callable[[Exchange, RecordingStream], Coroutine[Any, Any, None]],
    data: bytes = b"",
    more: bool = False,
    headers: Any = (),
    trailers: bool = True,
) -> RecordingStream:
    stream = RecordingStream()

    async def main() -> None:
        codec = Codec(
            lambda status, headers: pickle.dumps((status, headers)),
            (lambda headers: pickle.dumps(("trailers", headers))) if trailers else None,
        )
        fields = ("GET", b"/path", "1.1", "http", None, None, list(headers), None)
        scope = http_scope(fields, {}, {})
        exchange = Exchange(stream, codec, asyncio.get_running_loop(), scope, data, more)
        async with asyncio.timeout(5):
            await test(exchange, stream)
        if exchange.timer is not None:
            exchange.timer.cancel()

    asyncio.run(main())
    return stream


async def turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# ----------------------------------------------------------------------------------- answers


def test_a_small_answer_is_one_frame() -> None:
    async def test(exchange: Exchange, stream: RecordingStream) -> None:
        await exchange.send(START)
        assert stream.sent == []
        await exchange.send(body(b"hello"))
        assert exchange.returned() is None

    assert run(test).sent == [(HEAD, b"hello", False)]


@pytest.mark.parametrize(
    ("start", "head"),
    [
        (MappingProxyType({"type": "http.response.start", "status": 200}), (200, [])),
        (UserDict(type="http.response.start", status=200), (200, [])),
        ({"type": "http.response.start", "status": 200, "headers": [[b"a", b"b"]]}, (200, [(b"a", b"b")])),
        (
            {"type": "http.response.start", "status": 200, "headers": ((b"a", bytearray(b"b")),)},
            (200, [(b"a", b"b")]),
        ),
    ],
)
def test_messages_may_be_any_mapping_and_headers_any_pairs(start: Any, head: Any) -> None:
    async def test(exchange: Exchange, stream: RecordingStream) -> None:
        await exchange.send(start)
        await exchange.send(UserDict(body(b"")))

    assert run(test).sent == [(head, b"", False)]


def test_a_status_may_be_of_a_kind_of_its_own() -> None:
    class Status(int):
        pass

    async def test(exchange: Exchange, stream: RecordingStream) -> None:
        await exchange.send({"type": "http.response.start", "status": Status(201)})
        await exchange.send(body(b""))

    (status, _), _, _ = run(test).sent[0]
    assert status == 201 and type(status) is int


def test_a_head_is_made_anew_unless_it_is_the_last_one_again() -> None:
    made: list[Any] = []

    def encode(status: int, headers: Any) -> bytes:
        made.append((status, list(headers)))
        return b"%d" % len(made)

    async def main() -> None:
        codec = Codec(encode)
        headers = [(b"x", b"1")]
        steps: list[tuple[int, list[tuple[bytes, bytes]], bytes]] = [
            (200, headers, b"1"), (200, list(headers), b"1"), (404, headers, b"2"), (404, [], b"3"),
        ]  # fmt: skip
        for status, wanted, context in steps:
            stream = RecordingStream()
            fields = ("GET", b"/path", "1.1", "http", None, None, [], None)
            exchange = Exchange(
                stream, codec, asyncio.get_running_loop(), http_scope(fields, {}, {}), b"", False
            )
            await exchange.send({"type": "http.response.start", "status": status, "headers": wanted})
            await exchange.send(body(b"x"))
            assert stream.sent == [(context, b"x", False)]
        for status in (True, "200", 99):
            exchange = Exchange(RecordingStream(), codec, asyncio.get_running_loop(), {}, b"", False)
            with pytest.raises(RuntimeError):
                await exchange.send({"type": "http.response.start", "status": status, "headers": []})

    asyncio.run(main())
    assert made == [(200, [(b"x", b"1")]), (404, [(b"x", b"1")]), (404, [])]


def test_a_streamed_answer_is_a_frame_a_piece() -> None:
    async def test(exchange: Exchange, stream: RecordingStream) -> None:
        await exchange.send(START)
        await exchange.send(body(b"a", True))
        await exchange.send({"type": "http.response.body"})

    assert run(test).sent == [(HEAD, b"a", True), (b"", b"", False)]


def test_trailers_end_an_answer_that_announced_them() -> None:
    async def test(exchange: Exchange, stream: RecordingStream) -> None:
        await exchange.send({**START, "trailers": True})
        await exchange.send(body(b"a"))
        await exchange.send(
            {"type": "http.response.trailers", "headers": [(b"t", b"1")], "more_trailers": True}
        )
        await exchange.send({"type": "http.response.trailers", "headers": [(b"u", b"2")]})
        assert exchange.returned() is None

    trailers = ("trailers", [(b"t", b"1"), (b"u", b"2")])
    assert run(test).sent == [(HEAD, b"a", True), (trailers, b"", False)]


def test_a_full_stream_holds_the_sender_until_it_is_writable() -> None:
    async def test(exchange: Exchange, stream: RecordingStream) -> None:
        await exchange.send(START)
        stream.room = False
        sender = asyncio.ensure_future(exchange.send(body(b"a", True)))
        await turns()
        assert not sender.done()
        exchange.writable()
        await sender

    run(test)


def test_a_full_stream_does_not_hold_the_last_piece() -> None:
    async def test(exchange: Exchange, stream: RecordingStream) -> None:
        stream.room = False
        await exchange.send(START)
        await exchange.send(body(b"a"))

    run(test)


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        ([body(b"a")], "'http.response.body' where it should have sent http.response.start"),
        ([START, START], "'http.response.start' where it should have sent http.response.body"),
        ([START, body(b""), body(b"")], "should have sent nothing, it is complete"),
        ([START, body(b""), START], "should have sent nothing, it is complete"),
        ([START, {"type": "http.response.trailers", "headers": []}], "should have sent http.response.body"),
        ([{"type": "websocket.accept"}], "sends no 'websocket.accept'"),
        ([{**START, "status": "200"}], "the status of http.response.start"),
        ([{**START, "status": 103}], "the status of http.response.start"),
        ([{**START, "status": True}], "the status of http.response.start"),
        ([{**START, "status": 42}], "the status of http.response.start"),
        ([{**START, "headers": [("x", "1")]}], "should be bytes, not str"),
        ([{**START, "headers": [(b"x", 1)]}], "should be bytes, not int"),
        ([{**START, "headers": [b"x"]}], "should be pairs of bytes"),
        ([{**START, "headers": [(b"x", b"1", b"2")]}], "should be pairs of bytes"),
        ([START, body("text")], "should be bytes, not str"),  # type: ignore[arg-type]
        ([START, body(None)], "should be bytes, not NoneType"),  # type: ignore[arg-type]
    ],
)
def test_wrong_use_is_a_runtime_error(messages: list[Any], error: str) -> None:
    async def test(exchange: Exchange, stream: RecordingStream) -> None:
        for message in messages[:-1]:
            await exchange.send(message)
        with pytest.raises(RuntimeError, match=error.replace("(", "\\(")):
            await exchange.send(messages[-1])

    run(test)


def test_other_kinds_of_bytes_and_iterables_are_taken() -> None:
    async def test(exchange: Exchange, stream: RecordingStream) -> None:
        await exchange.send({**START, "headers": ([bytearray(b"x"), memoryview(b"1")] for _ in range(1))})
        await exchange.send(body(bytearray(b"a"), True))  # type: ignore[arg-type]
        await exchange.send(body(memoryview(b"b")))  # type: ignore[arg-type]

    assert run(test).sent == [(HEAD, b"a", True), (b"", b"b", False)]


@pytest.mark.parametrize(
    ("messages", "missing"),
    [
        ([], "http.response.start"),
        ([START], "http.response.body"),
        ([START, body(b"", True)], "http.response.body"),
    ],
)
def test_a_return_without_a_whole_answer_is_an_error(messages: list[Any], missing: str) -> None:
    async def test(exchange: Exchange, stream: RecordingStream) -> None:
        for message in messages:
            await exchange.send(message)
        assert exchange.returned() == f"the application returned where it should have sent {missing}"

    assert run(test).sent[-1][0] == "error"


# ----------------------------------------------------------------------------------- requests


def test_a_request_without_a_body_is_one_event_then_silence() -> None:
    async def test(exchange: Exchange, stream: RecordingStream) -> None:
        assert await exchange.receive() == {"type": "http.request", "body": b"", "more_body": False}
        waiting = asyncio.ensure_future(exchange.receive())
        await turns()
        assert not waiting.done()
        await exchange.send(START)
        await exchange.send(body(b""))
        assert (await waiting)["type"] == "http.disconnect"

    run(test)


def test_a_streamed_body_comes_as_it_comes_and_is_granted_when_taken() -> None:
    async def test(exchange: Exchange, stream: RecordingStream) -> None:
        assert await exchange.receive() == {"type": "http.request", "body": b"ab", "more_body": True}
        assert stream.taken == 2
        waiting = asyncio.ensure_future(exchange.receive())
        await turns()
        exchange.data(b"c", True)
        exchange.data(b"d", True)
        assert (await waiting)["body"] == b"cd"
        assert stream.taken == 4
        exchange.data(b"e", False)
        assert await exchange.receive() == {"type": "http.request", "body": b"e", "more_body": False}

    run(test, b"ab", True)


def test_small_pieces_that_wait_are_given_as_one_and_large_ones_as_they_came() -> None:
    large = [bytes([number]) * SMALL for number in range(2)]

    async def test(exchange: Exchange, stream: RecordingStream) -> None:
        for piece in (b"a", b"b", b"", large[0], large[1], b"c", b"d"):
            exchange.data(piece, True)
        exchange.data(b"", False)
        got = []
        while not got or got[-1]["more_body"]:
            got.append(await exchange.receive())
        assert [message["body"] for message in got] == [b"ab", *large, b"cd"]
        assert got[1]["body"] is large[0]
        assert [message["more_body"] for message in got] == [True, True, True, False]

    run(test, b"", True)


def test_what_waits_is_granted_piece_by_piece_as_it_is_taken() -> None:
    async def test(exchange: Exchange, stream: RecordingStream) -> None:
        exchange.data(bytes(SMALL), True)
        exchange.data(bytes(SMALL - 1), True)
        exchange.data(b"x", True)
        await exchange.receive()
        assert stream.taken == SMALL
        await exchange.receive()
        assert stream.taken == 2 * SMALL

    run(test, b"", True)


def test_what_waited_is_dropped_when_the_call_is_given_up() -> None:
    async def test(exchange: Exchange, stream: RecordingStream) -> None:
        exchange.data(bytes(SMALL), True)
        exchange.data(bytes(SMALL), True)
        exchange.cancelled("client")
        assert (await exchange.receive())["type"] == "http.disconnect"
        await exchange.send(START)
        await exchange.send(body(b""))

    run(test, b"", True)


def test_a_body_may_end_empty_or_with_trailers() -> None:
    async def test(exchange: Exchange, stream: RecordingStream) -> None:
        exchange.finished(b"trailers")
        assert await exchange.receive() == {"type": "http.request", "body": b"", "more_body": False}

    run(test, b"", True)


def test_two_receivers_both_hear_of_the_disconnect_even_if_one_is_cancelled() -> None:
    async def test(exchange: Exchange, stream: RecordingStream) -> None:
        await exchange.receive()
        receivers = [asyncio.ensure_future(exchange.receive()) for _ in range(3)]
        await turns()
        receivers[0].cancel()
        await turns()
        exchange.cancelled("client")
        assert [(await one)["type"] for one in receivers[1:]] == ["http.disconnect"] * 2

    run(test)


def test_the_first_wait_for_a_body_invites_a_client_that_expects_it() -> None:
    async def test(exchange: Exchange, stream: RecordingStream) -> None:
        waiting = asyncio.ensure_future(exchange.receive())
        await turns()
        assert stream.sent == [((100, []), b"", True)]
        exchange.data(b"x", True)
        await waiting
        again = asyncio.ensure_future(exchange.receive())
        await turns()
        exchange.data(b"", False)
        await again
        await exchange.send(START)
        await exchange.send(body(b""))

    sent = run(test, more=True, headers=[(b"expect", b"100-continue")]).sent
    assert sent == [((100, []), b"", True), (HEAD, b"", False)]


def test_no_invitation_after_the_head_or_without_expect() -> None:
    async def after_head(exchange: Exchange, stream: RecordingStream) -> None:
        await exchange.send(START)
        waiting = asyncio.ensure_future(exchange.receive())
        await turns()
        exchange.data(b"", False)
        await waiting

    assert run(after_head, more=True, headers=[(b"expect", b"100-continue")]).sent == []
    assert run(after_head, more=True).sent == []


# -------------------------------------------------------------------------------------- cancel


def test_after_the_client_has_gone_send_does_nothing_and_receive_says_so() -> None:
    async def test(exchange: Exchange, stream: RecordingStream) -> None:
        exchange.cancelled("client")
        assert await exchange.receive() == {"type": "http.disconnect"}
        await exchange.send(START)
        await exchange.send(body(b"a", True))
        await exchange.send(body(b"b"))
        assert (await exchange.receive())["type"] == "http.disconnect"
        assert exchange.returned() is None

    assert run(test, b"unread").sent == ["stop"]


def test_a_cancel_wakes_a_held_sender() -> None:
    async def test(exchange: Exchange, stream: RecordingStream) -> None:
        await exchange.send(START)
        stream.room = False
        sender = asyncio.ensure_future(exchange.send(body(b"a", True)))
        await turns()
        exchange.cancelled("client")
        await sender

    run(test)


def test_an_application_that_ignores_the_disconnect_is_cancelled_with_a_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def test(exchange: Exchange, stream: RecordingStream) -> None:
        exchange.task = asyncio.ensure_future(asyncio.sleep(1000))
        exchange.cancelled("client")
        await exchange.receive()
        exchange._look()
        exchange._insist()
        with pytest.raises(asyncio.CancelledError):
            await exchange.task

    run(test)
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert "GET /path is cancelled" in printed


def test_an_application_that_does_not_listen_is_cancelled_soon_and_without_a_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def test(exchange: Exchange, stream: RecordingStream) -> None:
        exchange.task = asyncio.ensure_future(asyncio.sleep(1000))
        exchange.cancelled("client")
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(exchange.task, 10)

    run(test)
    assert capsys.readouterr().err == ""


def test_one_that_has_heard_of_the_disconnect_gets_its_seconds() -> None:
    async def test(exchange: Exchange, stream: RecordingStream) -> None:
        loop = asyncio.get_running_loop()
        exchange.task = asyncio.ensure_future(asyncio.sleep(1000))
        exchange.cancelled("client")
        await exchange.receive()
        exchange._look()
        assert not exchange.task.cancelling()
        assert exchange.timer is not None
        assert CANCEL_GRACE - 1 < exchange.timer.when() - loop.time() <= CANCEL_GRACE
        exchange.task.cancel()

    run(test)


def test_a_failure_ends_the_call_and_wakes_receivers() -> None:
    async def test(exchange: Exchange, stream: RecordingStream) -> None:
        await exchange.receive()
        waiting = asyncio.ensure_future(exchange.receive())
        await turns()
        exchange.failed(ValueError("boom"))
        assert (await waiting)["type"] == "http.disconnect"

    assert run(test).sent == [("error", "ValueError: boom")]


# -------------------------------------------------------------------------------------- the end of streams

EVENTS = {**START, "headers": [(b"content-type", b"text/event-stream; charset=utf-8")]}


def test_an_endless_stream_that_is_asked_to_end_ends_properly_when_its_application_returns() -> None:
    async def test(exchange: Exchange, stream: RecordingStream) -> None:
        await exchange.receive()
        await exchange.send(EVENTS)
        await exchange.send(body(b"1", True))
        waiting = asyncio.ensure_future(exchange.receive())
        await turns()
        exchange.ask_to_end()
        assert await waiting == {"type": "http.disconnect"}
        await exchange.send(body(b"last", True))
        assert exchange.returned() is None

    assert [(data, more) for _, data, more in run(test).sent] == [(b"1", True), (b"last", True), (b"", False)]


def test_an_application_may_end_it_by_itself_as_well() -> None:
    async def test(exchange: Exchange, stream: RecordingStream) -> None:
        await exchange.send(EVENTS)
        await exchange.send(body(b"1", True))
        exchange.ask_to_end()
        await exchange.send(body(b"bye"))
        assert exchange.returned() is None

    assert [(data, more) for _, data, more in run(test).sent] == [(b"1", True), (b"bye", False)]


@pytest.mark.parametrize("pieces", [0, 1])
def test_neither_a_download_nor_an_answer_to_come_is_asked_to_end(pieces: int) -> None:
    async def test(exchange: Exchange, stream: RecordingStream) -> None:
        await exchange.receive()
        await exchange.send(START if pieces else EVENTS)
        for _ in range(pieces):
            await exchange.send(body(b"1", True))
        exchange.ask_to_end()
        assert not exchange.asked
        waiting = asyncio.ensure_future(exchange.receive())
        await turns()
        assert not waiting.done()
        waiting.cancel()

    run(test)


def test_an_application_that_fails_when_asked_to_end_fails() -> None:
    async def test(exchange: Exchange, stream: RecordingStream) -> None:
        await exchange.send(EVENTS)
        await exchange.send(body(b"1", True))
        exchange.ask_to_end()
        exchange.failed(RuntimeError("at the end"))

    assert run(test).sent[-1] == ("error", "RuntimeError: at the end")
