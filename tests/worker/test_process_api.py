"""`Worker` and `Payload`: loops of one's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from worker_rig import MuxRelay, Process

from twisted_rr.errors import ApplicationError
from twisted_rr.wire import frame
from twisted_rr.wire.control import MuxOffer
from twisted_rr.worker import Payload, Worker
from twisted_rr.worker.descriptors import Relay

Start = Callable[..., Process]

LOOP = """
from twisted_rr.worker import Payload, Worker
worker = Worker()
print("noise")
for payload in worker:
    command = payload.body
    if command == b"respond": worker.respond(b"done", context=payload.context)
    elif command == b"payload": worker.respond(Payload(b"body", b"context"))
    elif command == b"error": worker.error("no")
    elif command == b"stream": print(worker.stream([b"a", Payload(b"b"), "c"], b"context"))
    elif command == b"endless":
        def endless():
            try:
                while True: yield b"x" * 1000
            finally: print("closed")
        print(worker.stream(endless()))
    elif command == b"skip": continue
    elif command == b"twice":
        worker.respond()
        try: worker.respond()
        except RuntimeError as error: print(error)
print("over")
"""

HANDLER = """
from twisted_rr.worker import Payload, Worker
def handler(payload):
    command = payload.body
    if command == b"boom": raise ValueError("boom")
    if command == b"exit": raise KeyError("x")
    if command == b"none": return None
    if command == b"text": return "text"
    if command == b"number": return 7
    if command == b"stream": return (b"%d" % n for n in range(3))
    return Payload(command.upper(), payload.context, payload.codec)
Worker().run(handler)
"""

ASYNC = """
import asyncio, sys
from twisted_rr.worker import Payload, Worker
async def handler(payload):
    if payload.body == b"boom": raise ValueError("boom")
    if payload.body == b"sleep": await asyncio.sleep(0.3)
    if payload.body == b"forever":
        try: await asyncio.sleep(1000)
        finally: print("cancelled")
    if payload.body == b"list": return [b"a", b"b"]
    return payload.body.upper()
async def stream(payload):
    for number in range(3): yield b"%d" % number * 100000
Worker().run(stream if "stream" in sys.argv else handler, concurrency=10 if "mux" in sys.argv else 0)
"""


@pytest.fixture
def script(start: Start, tmp_path: Path) -> Callable[..., Process]:
    def begin(source: str, *arguments: str) -> Process:
        (tmp_path / "script.py").write_text(source)
        return start(*arguments, module=[str(tmp_path / "script.py")])

    return begin


def ask(process: Process, body: bytes, context: bytes = b"ctx", flags: int = frame.CODEC_RAW) -> frame_type:
    process.write(frame.encode(flags, 0, (len(context),), context + body))
    return whole(process)


frame_type = tuple[int, bytes, bytes]


def whole(process: Process) -> frame_type:
    got = process.next()
    if got.flags & frame.ERROR:
        raise ApplicationError(got.payload.decode())
    flags, context, body = got.flags, got.payload[: got.options[0]], got.payload[got.options[0] :]
    while got.bits & frame.STREAM:
        got = process.next()
        if got.flags & frame.ERROR:
            raise ApplicationError(got.payload.decode())
        body += got.payload
    return flags, context, body


def test_a_loop_answers_call_by_call(script: Callable[..., Process]) -> None:
    process = script(LOOP)
    assert process.hello(MuxOffer()) is None
    assert ask(process, b"respond") == (frame.CODEC_RAW, b"ctx", b"done")
    assert ask(process, b"payload") == (frame.CODEC_RAW, b"context", b"body")
    assert ask(process, b"stream") == (frame.CODEC_RAW, b"context", b"abc")
    assert ask(process, b"twice") == (frame.CODEC_RAW, b"", b"")
    with pytest.raises(ApplicationError, match="no"):
        ask(process, b"error")
    with pytest.raises(ApplicationError, match="without an answer to this one"):
        ask(process, b"skip")
    assert process.stop() == 0
    assert process.stderr.splitlines() == ["noise", "True", "there is no open call to answer", "over"]


def test_a_stream_that_the_server_stops_is_closed(script: Callable[..., Process]) -> None:
    process = script(LOOP)
    process.hello()
    process.write(frame.encode(0, 0, (0,), b"endless"))
    process.next()
    process.write(frame.encode(0, frame.STOP, (), b""))
    while process.next().bits & frame.STREAM:
        continue
    assert ask(process, b"respond")[2] == b"done"
    process.stop()
    assert process.stderr.splitlines() == ["noise", "closed", "False", "over"]


FORKS = """
import os
from twisted_rr.worker import Worker
def forked(payload):
    pid = os.fork()
    if pid == 0:
        if payload.body == b"raise": raise ValueError("in the child")
        return b"the child"
    _, status = os.waitpid(pid, 0)
    return b"%d" % os.waitstatus_to_exitcode(status)
"""
FORKED = {
    "function": "Worker().run(forked)",
    "coroutine": "async def handler(payload): return forked(payload)\nWorker().run(handler)",
    "loop": "worker = Worker()\nfor payload in worker: worker.respond(forked(payload))",
}


@pytest.mark.parametrize("how", FORKED)
def test_a_fork_that_comes_back_says_nothing_to_the_server(script: Callable[..., Process], how: str) -> None:
    process = script(FORKS + FORKED[how])
    process.hello()
    assert ask(process, b"return")[2] == b"0"
    assert ask(process, b"raise")[2] == b"1"
    assert ask(process, b"return")[2] == b"0"
    assert "ValueError: in the child" in process.stderr
    assert process.stop() == 0


def test_sigterm_ends_a_loop(script: Callable[..., Process]) -> None:
    process = script(LOOP)
    process.hello()
    ask(process, b"respond")
    process.term()
    assert process.wait() == 0
    assert process.stderr.splitlines()[-1] == "over"


def test_a_handler_answers_in_many_ways_and_its_exceptions_are_errors(script: Callable[..., Process]) -> None:
    process = script(HANDLER)
    process.hello()
    assert ask(process, b"other") == (frame.CODEC_RAW, b"ctx", b"OTHER")
    assert ask(process, b"none")[2] == b""
    assert ask(process, b"text")[2] == b"text"
    assert ask(process, b"stream")[2] == b"012"
    with pytest.raises(ApplicationError, match="ValueError: boom"):
        ask(process, b"boom")
    with pytest.raises(ApplicationError, match="an answer is a Payload, bytes, str or None, not int"):
        ask(process, b"number")
    assert process.stop() == 0
    assert process.stderr.count("The handler failed\n") == 2


def test_a_coroutine_handler_serves_one_call_at_a_time(script: Callable[..., Process]) -> None:
    process = script(ASYNC)
    assert process.hello(MuxOffer()) is None
    assert ask(process, b"other")[2] == b"OTHER"
    assert ask(process, b"list")[2] == b"ab"
    with pytest.raises(ApplicationError, match="ValueError: boom"):
        ask(process, b"boom")
    assert process.stop() == 0


def test_a_coroutine_handler_serves_many_calls_where_the_server_can(script: Callable[..., Process]) -> None:
    relay = MuxRelay(script(ASYNC, "mux"))
    assert relay.accepted.streams == 10
    answers = [relay.open("/", b"sle", more=True) for _ in range(10)]
    for answer in answers:
        answer.call.send(b"ep", False)
    for answer in answers:
        assert answer.wait().body == b"SLEEP"
    forever = relay.open("/", b"forever")
    relay.step(0.1)
    forever.call.cancel("client")
    relay.until(lambda: relay.end.load == 0)
    assert relay.process.stop() == 0
    assert relay.process.stderr == "cancelled\n"


def test_a_cancel_that_comes_with_its_open_frees_the_slot(script: Callable[..., Process]) -> None:
    relay = MuxRelay(script(ASYNC, "mux"))
    answer = relay.open("/", b"forever")
    opened = relay.end.take()
    answer.call.cancel("client")
    relay.process.write(opened + relay.end.take())
    relay.until(lambda: relay.end.load == 0)
    assert relay.process.stop() == 0


def test_an_async_generator_streams(script: Callable[..., Process]) -> None:
    relay = MuxRelay(script(ASYNC, "mux", "stream"))
    assert relay.get("/").body == b"0" * 100000 + b"1" * 100000 + b"2" * 100000


def test_answers_need_an_open_call() -> None:
    worker = Worker(Relay(0, 1))
    for call in (worker.respond, lambda: worker.error("x"), lambda: worker.stream([])):
        with pytest.raises(RuntimeError, match="no open call"):
            call()


def test_payloads_are_made_of_what_handlers_give() -> None:
    assert (Payload.of(None).body, Payload.of("ä").body, Payload.of(bytearray(b"x")).body) == (
        b"",
        "ä".encode(),
        b"x",
    )
    assert repr(Payload(b"abc", b"de")) == "<Payload context=2 body=3 bytes>"
