"""Chooses how a worker's gRPC calls are served, and serves them: by threads, on a loop, or one call at a time."""

from __future__ import annotations

import contextlib
import contextvars
import gc
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any, Final

from twisted_rr.wire.grpc_status import UNIMPLEMENTED
from twisted_rr.worker.blocking import BlockingCall, BlockingRelay
from twisted_rr.worker.descriptors import Relay
from twisted_rr.worker.grpc.async_call import AsyncContext
from twisted_rr.worker.grpc.call import NOT_FOUND, ONE_CALL, STREAMS, read_call, refuse
from twisted_rr.worker.grpc.loop_server import GrpcLoopServer
from twisted_rr.worker.grpc.services import Services
from twisted_rr.worker.grpc.sync_call import SyncCall, SyncContext, run
from twisted_rr.worker.grpc.thread_server import GrpcThreadServer, ahead
from twisted_rr.worker.handshake import Hello, answer
from twisted_rr.worker.report import say, tell_failure
from twisted_rr.worker.signals import Waker

THREADS: Final = 10
"""Handlers at once that are ordinary functions; what people give grpcio's pool."""
CONCURRENCY: Final = 1000
"""Calls at once on an event loop."""
MAX_MESSAGE: Final = 2**31 - 1
"""How large a message may be is the server's to say (``max_recv_msg_size``)."""


def serve_threads(services: Services, relay: Relay, hello: Hello, threads: int) -> str:
    """Serve handlers that are ordinary functions, until the server asks to stop; 0 *threads* for no mux.

    Gives "" when it ended in good order, else the reason.
    """
    prepare(services)
    waker = Waker()
    try:
        settings = answer(relay, hello, ahead(services, threads), services.names())
        if settings is None:
            return serve_single(services, BlockingRelay(relay, waker, hello.rest))
        settings.max_message = MAX_MESSAGE
        threads = min(threads, settings.streams)
        return GrpcThreadServer(services, relay, waker, settings, threads).serve(hello.rest)
    finally:
        waker.close()


async def serve_loop(services: Services, relay: Relay, hello: Hello, calls: int, threads: int) -> str:
    """Serve on the running loop, other handlers than coroutines by *threads*; 0 *calls* for no mux."""
    prepare(services)
    settings = answer(relay, hello, calls, services.names())
    if settings is not None:
        settings.max_message = MAX_MESSAGE
    server = GrpcLoopServer(services, relay, settings, threads)
    server.loop.add_signal_handler(signal.SIGTERM, server.terminate)
    server.start(hello.rest)
    reason = await server.finished  # woken by flushed() and lost()
    server.close()
    return reason


def prepare(services: Services) -> None:
    """What is to be done once before the first call."""
    if not services:
        say("no gRPC method is registered: every call will be UNIMPLEMENTED")
    grpc: Any = sys.modules.get("grpc")
    # Contexts pass for grpcio's where it is asked. It is there only if the application loaded it.
    for base, context in (("ServicerContext", SyncContext), ("aio.ServicerContext", AsyncContext)):
        found = grpc
        for name in base.split("."):
            found = getattr(found, name, None)
        if found is not None:
            with contextlib.suppress(AttributeError, TypeError):
                found.register(context)
    gc.collect()
    gc.freeze()  # what was loaded so far stays: the collector need not walk over it again and again


class OneThread:
    """The thread of a relay that carries one call at a time: nothing to wait for, each write is made at once."""

    def __init__(self) -> None:
        self.lock = threading.RLock()

    def ready(self, call: SyncCall) -> None:
        """Whoever opened it runs it."""

    def sent(self, call: SyncCall, more: bool) -> None:
        """It is written already."""

    def flush(self) -> None:
        """It is written already."""

    def wait(self, call: SyncCall) -> None:
        """Never called: the request has come whole, and a unary answer is one frame."""
        raise AssertionError("a call of a one-call relay has nothing to wait for")

    def leave(self) -> None:
        """See `wait`."""


def serve_single(services: Services, relay: BlockingRelay) -> str:
    """Answer one call after the other (protocol.md 5)."""
    threads = OneThread()
    variables = contextvars.copy_context()
    for codec, context, body in _calls(relay):
        stream = BlockingCall(relay, codec)
        try:
            fields = read_call(ONE_CALL, context)
            method = services.find(fields[0], fields[1], fields[2])
        except Exception as error:
            tell_failure("The call cannot be read", error)
            stream.error(f"the call cannot be read: {type(error).__name__}: {error}")
            continue
        if method is None or method.response_streaming:
            refuse(stream, ONE_CALL, UNIMPLEMENTED, NOT_FOUND if method is None else STREAMS)
            continue
        call = SyncCall(threads, stream, ONE_CALL, method, fields)
        call.inbox.append(body)
        call.closed = True
        run(call, variables.copy())
    return ""


def _calls(relay: BlockingRelay) -> Iterator[tuple[int, bytes, bytes]]:
    while (got := relay.call()) is not None:
        yield got
