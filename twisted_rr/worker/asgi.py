"""Serves an ASGI application: a task a call, on one loop, over either kind of relay.

A call's messages are `exchange`'s, bytes are `loop`'s. Scopes of type ``http`` and ``lifespan`` are
served; a WebSocket is refused.
"""

from __future__ import annotations

import asyncio
import functools
import signal
import time
from collections.abc import Callable
from typing import Any, Final

from twisted_rr.wire.context import decode_request, encode_head, encode_trailers
from twisted_rr.wire.mux_settings import MuxSettings
from twisted_rr.worker import forks
from twisted_rr.worker.descriptors import Relay
from twisted_rr.worker.exchange import ENDED, Codec, Exchange
from twisted_rr.worker.handshake import Hello, answer
from twisted_rr.worker.lifespan import Lifespan
from twisted_rr.worker.loop_server import LoopServer
from twisted_rr.worker.report import say, tell_failure
from twisted_rr.worker.requests import codec_of, read_single, single_head
from twisted_rr.worker.scope import http_scope

END_STREAMS: Final = 0.5
"""Seconds between two looks for endless streams, once their time is up."""

LOST_GRACE: Final = 5.0
"""Seconds the application's shutdown may take when the server is no more."""


class AsgiServer(LoopServer):
    """The HTTP calls of one relay. *settings* is None for one call at a time."""

    def __init__(
        self, application: Any, lifespan: Lifespan, relay: Relay, settings: MuxSettings | None
    ) -> None:
        super().__init__(asyncio.get_running_loop(), relay, settings)
        self._application = application
        self._lifespan = lifespan
        self._codecs: dict[int, Codec] = {}
        self._look: asyncio.TimerHandle | None = None

    def draining(self, times: Any) -> None:
        """The application finds it in its state (`lifespan.DRAINING`); endless streams are asked to end in time."""
        event = self._lifespan.draining
        event.told(times)
        event.set()
        if self._look is not None:
            self._look.cancel()
        if event.streams_end is not None:
            self._look = self.loop.call_later(
                max(0.0, event.streams_end - time.monotonic()), self._end_streams
            )

    def _end_streams(self) -> None:
        """Those that run, and again and again those that were begun since."""
        self._look = self.loop.call_later(END_STREAMS, self._end_streams)
        for call in list(self._calls):
            if isinstance(call, Exchange):
                call.ask_to_end()

    def close(self) -> bool:
        """See `LoopServer.close`."""
        if self._look is not None:
            self._look.cancel()
        return super().close()

    def opened(self, stream: Any, codec: int, context: bytes, body: bytes, more: bool) -> None:
        """Start the application for a new call."""
        pieces = None
        fields: tuple[Any, ...]
        try:
            if self.mux:
                fields = decode_request(codec, context)
            else:
                codec = stream.codec = codec_of(codec, context)
                fields, body, pieces = read_single(codec, context, body)
            lifespan = self._lifespan
            extensions: dict[str, Any] = {"http.response.trailers": {}} if self.mux else {}
            scope = http_scope(fields, lifespan.state.copy(), extensions)
        except Exception as error:
            self._unreadable(stream, error)
            return
        how = self._codecs.get(codec)
        if how is None:
            how = self._codec(codec)
        exchange = Exchange(stream, how, self.loop, scope, body, more, pieces)
        stream.to = exchange
        if scope["scheme"] in ("ws", "wss"):
            stream.send(how.head(501, []), b"", False)
            return
        self.begin(exchange, self._run(scope, exchange), lifespan.context.copy(), True)

    def _codec(self, codec: int) -> Codec:
        if self.mux:
            how = Codec(functools.partial(encode_head, codec), functools.partial(encode_trailers, codec))
        else:
            how = Codec(functools.partial(single_head, codec))
        self._codecs[codec] = how
        return how

    def _unreadable(self, stream: Any, error: Exception) -> None:
        text = f"the request's context cannot be read: {type(error).__name__}: {error}"
        say(text)
        stream.error(text)

    async def _run(self, scope: dict[str, Any], exchange: Exchange) -> None:
        try:
            await self._application(scope, exchange.receive, exchange.send)
        # SystemExit too: a handler that raises it must not take the other calls with it.
        except BaseException as error:
            self._failed(exchange, error)
        else:
            if forks.child:
                forks.end_child()
            if exchange.phase != ENDED or exchange.gone:
                self._returned(exchange)
        if exchange.timer is not None:
            exchange.timer.cancel()
            exchange.timer = None
        self.over(exchange)

    def _returned(self, exchange: Exchange) -> None:
        wrong = exchange.returned()
        if wrong is not None:
            say(f"{exchange.describe()}: {wrong}")

    def _failed(self, exchange: Exchange, error: BaseException) -> None:
        headline = f"The ASGI application failed in {exchange.describe()}"
        if forks.child:
            forks.end_child(error, headline)
        if not (exchange.gone and isinstance(error, (asyncio.CancelledError, OSError))):
            tell_failure(headline, error)
        exchange.failed(error)


async def serve(
    application: Any, relay: Relay, hello: Hello, concurrency: int, started: Callable[[], None]
) -> str:
    """Start *application*, answer the handshake, serve until the end, shut it down.

    *started* is called between the first two. Gives "" when it ended in good order, else the
    reason. Raises LifespanFailed; the server then gets no answer.
    """
    loop = asyncio.get_running_loop()
    lifespan = Lifespan(application, loop)
    await lifespan.startup()
    started()
    server = AsgiServer(application, lifespan, relay, answer(relay, hello, concurrency))
    loop.add_signal_handler(signal.SIGTERM, server.terminate)
    server.start(hello.rest)
    reason = await server.finished  # woken by flushed() and lost()
    gone = server.close()
    await lifespan.shutdown(LOST_GRACE if gone else None)
    return reason
