"""Calls of any kind given to a coroutine function of the application's own, on one asyncio loop.

The blocking counterpart is `api.Worker` itself. A handler gets whole bodies and need not know the relay.
"""

from __future__ import annotations

import asyncio
import inspect
import signal
from collections.abc import Awaitable, Callable
from typing import Any

from twisted_rr.wire.mux_settings import MuxSettings
from twisted_rr.worker import forks
from twisted_rr.worker.descriptors import Relay
from twisted_rr.worker.handshake import Hello, answer
from twisted_rr.worker.loop_server import LoopServer
from twisted_rr.worker.payload import Payload
from twisted_rr.worker.report import tell_failure

AsyncHandler = Callable[[Payload], Any]


class HandlerCall:
    """One call: collects its body, then lets its task go on."""

    __slots__ = ("_body", "_loop", "_stream", "_whole", "_writable", "codec", "context", "gone", "task")

    def __init__(
        self,
        stream: Any,
        loop: asyncio.AbstractEventLoop,
        codec: int,
        context: bytes,
        body: bytes,
        more: bool,
    ) -> None:
        self._stream = stream
        self._loop = loop
        self._body = [body]
        self._whole: asyncio.Future[None] = loop.create_future()
        self._writable: asyncio.Future[None] | None = None
        self.codec = codec
        self.context = context
        self.gone = False
        self.task: asyncio.Task[None] | None = None
        if more:
            stream.consumed(len(body))
        else:
            self._whole.set_result(None)

    def data(self, body: bytes, more: bool) -> None:
        """A piece of the body."""
        self._body.append(body)
        if more:
            self._stream.consumed(len(body))
        elif not self._whole.done():
            self._whole.set_result(None)

    def message(self, body: bytes, text: bool, more: bool) -> None:
        """Messages are joined to one body."""
        self.data(body, more)

    def finished(self, context: bytes) -> None:
        """The body ended with a context, which this kind of handler does not see."""
        self.data(b"", False)

    def cancelled(self, reason: str) -> None:
        """Nobody waits for the answer: the handler is cancelled."""
        self.gone = True
        if self.task is not None:
            self._loop.call_soon(self.task.cancel)  # not before its first step, see LoopServer.cancel

    def writable(self) -> None:
        """There is room for more."""
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    async def payload(self) -> Payload:
        """The whole request."""
        await self._whole  # woken by data and finished; cancelled cancels the task
        return Payload(b"".join(self._body), self.context, self.codec)

    async def send(self, piece: Payload, more: bool) -> None:
        """Send a part of the answer; waits while much is queued."""
        if not self._stream.send(piece.context, piece.body, more) and more:
            self._writable = self._loop.create_future()
            await self._writable  # woken by writable; cancelled cancels the task

    def error(self, text: str) -> None:
        """End the call: the handler failed."""
        self._stream.error(text)

    def stop(self) -> None:
        """End the call after its caller has gone."""
        self._stream.stop()


class HandlerServer(LoopServer):
    """Gives each call to *handler*: a coroutine function, or an async generator function for streams."""

    def __init__(self, handler: AsyncHandler, relay: Relay, settings: MuxSettings | None) -> None:
        super().__init__(asyncio.get_running_loop(), relay, settings)
        self._handler = handler

    def opened(self, stream: Any, codec: int, context: bytes, body: bytes, more: bool) -> None:
        """See `MuxWorkerOwner.opened`."""
        call = stream.to = HandlerCall(stream, self.loop, codec, context, body, more)
        self.begin(call, self._run(call), None)

    async def _run(self, call: HandlerCall) -> None:
        try:
            await _answer(self._handler, call)
            if forks.child:
                forks.end_child()
        except BaseException as error:
            if forks.child:
                forks.end_child(error, "The handler failed")
            if call.gone:
                call.stop()
            else:
                tell_failure("The handler failed", error)
                call.error(f"{type(error).__name__}: {error}")
        self.over(call)


async def _answer(handler: AsyncHandler, call: HandlerCall) -> None:
    result = handler(await call.payload())
    if inspect.isasyncgen(result):
        async for piece in result:
            await call.send(Payload.of(piece), True)
        await call.send(Payload(), False)
        return
    answer = await result
    if inspect.isgenerator(answer) or isinstance(answer, (list, tuple)):
        for piece in answer:
            await call.send(Payload.of(piece), True)
        answer = b""
    await call.send(Payload.of(answer), False)


async def serve(
    handler: AsyncHandler,
    relay: Relay,
    hello: Hello,
    concurrency: int,
    startup: Callable[[], Awaitable[None]] | None = None,
) -> str:
    """Serve until the end; "" in good order, else the reason. *startup* runs before the handshake's answer."""
    if startup is not None:
        await startup()
    server = HandlerServer(handler, relay, answer(relay, hello, concurrency))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.terminate)
    server.start(hello.rest)
    reason = await server.finished  # woken by flushed() and lost()
    server.close()
    return reason
