"""Calls that end badly leave nothing behind, in plain Python and compiled: memory counted after rounds of the same calls."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from wire_recorders import MSGPACK, STOP, STREAM, call_frame, credit_frame

from twisted_rr.wire.context import encode_request
from twisted_rr.wire.grpc_context import encode_call
from twisted_rr.wire.mux_settings import MuxSettings
from twisted_rr.worker.asgi import AsgiServer
from twisted_rr.worker.descriptors import Relay
from twisted_rr.worker.grpc import Services
from twisted_rr.worker.grpc.loop_server import GrpcLoopServer
from twisted_rr.worker.lifespan import Lifespan
from twisted_rr.worker.loop_server import LoopServer

CALLS = 100
ROUNDS = 4
PIECE = b"x" * 1000
STARTED = {"type": "http.response.start", "status": 200, "headers": []}

Phase = Callable[[int], Iterator[bytes]]
"""What the server sends for the call with this id, step by step."""


async def application(scope: Any, receive: Any, send: Any) -> None:
    """One path for each way to end: none of them is an answer."""
    path = scope["path"]
    if path == "/reads":
        while (await receive())["type"] != "http.disconnect":
            pass
        return
    if path == "/deaf":
        await asyncio.get_running_loop().create_future()
    if path != "/raises":
        await send(STARTED)
        while path != "/breaks":
            await send({"type": "http.response.body", "body": PIECE, "more_body": True})
        await send({"type": "http.response.body", "body": PIECE, "more_body": True})
    raise RuntimeError("on purpose")


async def waits(request: Any, context: Any) -> bytes:
    await asyncio.get_running_loop().create_future()
    return b""


async def raises(request: Any, context: Any) -> bytes:
    raise RuntimeError("on purpose")


async def streams(request: Any, context: Any) -> Any:
    while True:
        yield PIECE


async def reads(requests: Any, context: Any) -> bytes:
    async for _ in requests:
        pass
    return b""


def services() -> Services:
    found = Services()
    found.method("p.S/waits", waits)
    found.method("p.S/raises", raises)
    found.method("p.S/streams", streams, kind="unary_stream")
    found.method("p.S/reads", reads, kind="stream_unary")
    return found


def http(path: str, **more: Any) -> Callable[[int], bytes]:
    context = encode_request(
        MSGPACK, "POST", path.encode(), "1.1", "http", ("192.0.2.7", 4711), None, [(b"host", b"test")], None
    )
    return lambda id: call_frame(id, context, b"", **more)


def grpc(method: str, **more: Any) -> Callable[[int], bytes]:
    context = encode_call(MSGPACK, "p.S", method, [("user-agent", "test")], 60000, "192.0.2.7:4711", None)
    return lambda id: call_frame(id, context, b"", **more)


def stop(id: int) -> bytes:
    return call_frame(id, b"", b"", STOP)


def until_stopped(opens: Callable[[int], bytes], *more: Callable[[int], bytes]) -> Phase:
    def phase(id: int) -> Iterator[bytes]:
        yield opens(id)
        for step in more:
            yield step(id)
        yield stop(id)

    return phase


def alone(opens: Callable[[int], bytes]) -> Phase:
    def phase(id: int) -> Iterator[bytes]:
        yield opens(id)

    return phase


def piece(id: int) -> bytes:
    return call_frame(id, b"", PIECE, STREAM)


def message(id: int) -> bytes:
    return call_frame(id, b"", PIECE, STREAM | 0x20)


def taken(id: int) -> bytes:
    return credit_frame(id, 5000)


PHASES: dict[str, tuple[str, Phase]] = {
    "http, listening": ("http", until_stopped(http("/reads"))),
    "http, cancelled": ("http", until_stopped(http("/deaf"))),
    "http, upload": ("http", until_stopped(http("/reads", bits=STREAM), piece, piece)),
    "http, stream": ("http", until_stopped(http("/streams"), taken)),
    "http, raises": ("http", alone(http("/raises"))),
    "http, raises within its answer": ("http", alone(http("/breaks"))),
    "grpc, waiting": ("grpc", until_stopped(grpc("waits"))),
    "grpc, upload": ("grpc", until_stopped(grpc("reads", bits=STREAM), message, message)),
    "grpc, stream": ("grpc", until_stopped(grpc("streams"), taken)),
    "grpc, raises": ("grpc", alone(grpc("raises"))),
    "grpc, no such method": ("grpc", alone(grpc("nothing"))),
}


def made(kind: str, relay: Relay) -> LoopServer:
    settings = MuxSettings()
    if kind == "grpc":
        return GrpcLoopServer(services(), relay, settings, 1)
    return AsgiServer(application, Lifespan(application, asyncio.get_running_loop()), relay, settings)


async def round_of(phase: Phase, server: LoopServer, far: socket.socket, first: int) -> None:
    """Calls side by side, step by step, and the end of all."""
    calls = [phase(id) for id in range(first, first + CALLS)]
    while steps := [step for call in calls if (step := next(call, b""))]:
        for step in steps:
            await asyncio.get_running_loop().sock_sendall(far, step)
            _read(far)
            await asyncio.sleep(0)
        for _ in range(4):
            await asyncio.sleep(0)
    while server.end.streams or server._calls:  # nothing else tells that a task is over
        _read(far)
        await asyncio.sleep(0)
    _read(far)


def _read(far: socket.socket) -> None:
    """What the worker has to say is of no interest, but must not fill the socket."""
    with contextlib.suppress(BlockingIOError):
        while far.recv(1 << 20):
            pass


def counted() -> int:
    gc.collect()
    return sys.getallocatedblocks()


@pytest.mark.parametrize("name", PHASES)
def test_calls_that_end_badly_leave_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, phase = PHASES[name]
    monkeypatch.setattr("sys.stderr", Nowhere())

    async def main() -> list[int]:
        near, far = socket.socketpair()
        far.setblocking(False)
        with near, far:
            server = made(kind, Relay(near.fileno(), near.fileno()))
            server.start(b"")
            found = []
            async with asyncio.timeout(30):
                for number in range(ROUNDS + 1):
                    await round_of(phase, server, far, 1 + number * CALLS)
                    found.append(counted())
            server.close()
        return found

    found = asyncio.run(main())
    grown = [after - before for before, after in zip(found[1:], found[2:], strict=False)]
    # One block for every second call would be seen; what the interpreter keeps for itself is a few of all.
    assert min(grown) < CALLS // 2, (name, found)


class Nowhere:
    """A standard error that keeps nothing."""

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None: ...


def test_a_block_kept_for_each_call_would_be_seen() -> None:
    kept: list[bytes] = []
    before = counted()
    kept.extend(b"%d" % number * 3 for number in range(CALLS))
    assert counted() - before >= CALLS
