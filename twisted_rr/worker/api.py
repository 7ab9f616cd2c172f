"""`Worker`: serve calls of any kind with a loop of one's own.

Applications with a standard interface need none of this: see ``python -m twisted_rr.worker``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from twisted_rr.worker import descriptors, forks, handshake, hooks, signals, stacks
from twisted_rr.worker.blocking import BlockingCall, BlockingRelay
from twisted_rr.worker.descriptors import Relay
from twisted_rr.worker.payload import Payload
from twisted_rr.worker.report import say, tell_failure

if TYPE_CHECKING:
    from twisted_rr.worker.grpc import Services

Handler = Callable[[Payload], Any]


class Worker:
    """One worker process's connection to its server.

    Make it before importing what might print: it takes the relay (descriptors 0 and 1, or what
    RR_RELAY names) out of the application's reach. The first call to `wait` tells the server that
    the worker is ready. One call at a time::

        worker = Worker()
        for payload in worker:
            worker.respond(payload.body.upper())

    or with a handler, whose exceptions become errors of their calls::

        Worker().run(lambda payload: payload.body.upper())

    A handler gives bytes, str, None, a `Payload`, or an iterable of these to stream. A coroutine
    function, or an async generator function, is run on an asyncio loop, by default one call at a
    time; with ``concurrency=100`` up to that many where the server can (mux.md), and then contexts
    are those of mux.md 7.

    Raises RelayUnavailable when there is no server on the other side.
    """

    def __init__(self, relay: Relay | None = None) -> None:
        if relay is None:
            relay = descriptors.take()
            forks.guard(relay)
        self._relay = relay
        stacks.install()
        self._blocking: BlockingRelay | None = None
        self._call: BlockingCall | None = None
        self._codec = 0
        self._over = False
        self._grpc: Services | None = None

    @property
    def grpc(self) -> Services:
        """What generated gRPC code registers servicers with; see docs/grpc-workers. Served by `run`."""
        if self._grpc is None:
            from twisted_rr.worker.grpc import Services  # here, because most workers do without

            self._grpc = Services()
        return self._grpc

    def __iter__(self) -> Iterator[Payload]:
        while (payload := self.wait()) is not None:
            yield payload

    def wait(self) -> Payload | None:
        """Block until the next call comes; None when the worker should end.

        A call before that was not answered is ended with an error. Raises FrameError when what
        comes is no frame.
        """
        if self._call is not None:
            self.error("the worker asked for the next call without an answer to this one")
        relay = self._ready()
        if relay is None or (got := relay.call()) is None:
            self._over = True
            return None
        self._codec, context, body = got
        self._call = BlockingCall(relay, self._codec)
        return Payload(body, context, self._codec)

    def _ready(self) -> BlockingRelay | None:
        if self._blocking is None and not self._over:
            signals.ignore_interrupt()
            hello = handshake.receive(self._relay)
            if hello is None:
                return None
            handshake.answer(self._relay, hello, 0)
            self._blocking = BlockingRelay(self._relay, signals.Waker(), hello.rest)
        return self._blocking

    def respond(self, answer: Any = b"", context: bytes = b"") -> None:
        """Answer the call: with bytes, str or None, and a *context*, or with a `Payload` of both.

        Raises RuntimeError when there is no open call.
        """
        payload = Payload.of(answer)
        self._open().send(payload.context or context, payload.body, False)
        self._call = None

    def stream(self, pieces: Iterable[Any], context: bytes = b"") -> bool:
        """Answer the call piece by piece; *context* goes with the first. False when the server stopped it.

        *pieces* is closed if it can be. An exception of its own ends the call with an error, and
        is raised.
        """
        call = self._open()
        try:
            for piece in pieces:
                payload = Payload.of(piece)
                call.send(payload.context or context, payload.body, True)
                context = b""
                if call.gone:
                    break
        except BaseException as error:
            self.error(f"{type(error).__name__}: {error}")
            raise
        finally:
            close = getattr(pieces, "close", None)
            if close is not None:
                close()
        self._call = None
        if call.gone:
            call.stop()
            return False
        call.send(context, b"", False)
        return True

    def error(self, text: str) -> None:
        """End the call with an error; the worker goes on. Raises RuntimeError when there is no open call."""
        self._open().error(text)
        self._call = None

    def _open(self) -> BlockingCall:
        if self._call is None:
            raise RuntimeError("there is no open call to answer")
        return self._call

    def run(self, handler: Handler | None = None, concurrency: int | None = None, threads: int = 0) -> None:
        """Serve with *handler* until the server ends this worker; without one, what `grpc` has.

        *concurrency* is for coroutine functions: calls at once, 0 for one at a time. Left out it is 0
        with a *handler* and 1000 for gRPC. *threads* is for gRPC handlers that are none: calls at once,
        10 when it is 0.

        Functions registered with `on_start` and `on_stop` are called before the first call and after the last.
        """
        if handler is None:
            self._run_grpc(concurrency, threads)
            return
        if inspect.iscoroutinefunction(handler) or inspect.isasyncgenfunction(handler):
            import asyncio  # here, so that a worker without a loop does not load it

            asyncio.run(self.serve(handler, concurrency))
            return
        hooks.begin()
        for payload in self:
            self._handle(handler, payload)
        hooks.end()

    def _run_grpc(self, concurrency: int | None, threads: int) -> None:
        from twisted_rr.worker.grpc import serving

        if self.grpc.needs_loop():
            import asyncio

            asyncio.run(self.serve(None, concurrency, threads))
            return
        signals.ignore_interrupt()
        hello = handshake.receive(self._relay)
        if hello is not None:
            hooks.begin()
            calls = 0 if concurrency == 0 else threads or serving.THREADS
            reason = serving.serve_threads(self.grpc, self._relay, hello, calls)
            hooks.end()
            if reason:
                say(reason)

    def _handle(self, handler: Handler, payload: Payload) -> None:
        try:
            answer = handler(payload)
            if forks.child:
                forks.end_child()
            if isinstance(answer, Iterable) and not isinstance(answer, (bytes, bytearray, memoryview, str)):
                self.stream(answer)
            else:
                self.respond(answer)
        except Exception as error:
            if forks.child:
                forks.end_child(error, "The handler failed")
            tell_failure("The handler failed", error)
            if self._call is not None:
                self.error(f"{type(error).__name__}: {error}")

    async def serve(
        self, handler: Handler | None = None, concurrency: int | None = None, threads: int = 0
    ) -> None:
        """The same for coroutine functions, on the running loop. Raises FrameError when the relay breaks."""
        import asyncio

        from twisted_rr.worker import handlers

        signals.ignore_interrupt()
        hello = await asyncio.to_thread(handshake.receive, self._relay)
        if hello is None:
            return
        await hooks.begin_on_loop()
        if handler is None:
            reason = await self._serve_grpc(hello, concurrency, threads)
        else:
            reason = await handlers.serve(handler, self._relay, hello, concurrency or 0)
        await hooks.end_on_loop()
        if reason:
            say(reason)

    async def _serve_grpc(self, hello: handshake.Hello, concurrency: int | None, threads: int) -> str:
        from twisted_rr.worker.grpc import serving

        calls = serving.CONCURRENCY if concurrency is None else concurrency
        return await serving.serve_loop(self.grpc, self._relay, hello, calls, threads or serving.THREADS)
