"""Serves gRPC calls on an asyncio loop, over either kind of relay: coroutines as tasks, other handlers by threads."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import Any

from twisted_rr.wire.grpc_status import UNIMPLEMENTED
from twisted_rr.wire.mux_settings import MuxSettings
from twisted_rr.worker.descriptors import Relay
from twisted_rr.worker.grpc.async_call import AsyncCall, run
from twisted_rr.worker.grpc.call import NOBODY, NOT_FOUND, ONE_CALL, STREAMS, read_call, refuse
from twisted_rr.worker.grpc.services import Services
from twisted_rr.worker.grpc.sync_call import SyncCall
from twisted_rr.worker.grpc.thread_pool import ThreadPool
from twisted_rr.worker.loop_server import LoopServer
from twisted_rr.worker.report import tell_failure


class LockedEnd:
    """An end that threads use too: the relay's loop takes the lock for each step."""

    __slots__ = ("_end", "_lock")

    def __init__(self, end: Any, lock: Any) -> None:
        self._end = end
        self._lock = lock

    def feed(self, data: bytes) -> None:
        """See the end."""
        with self._lock:
            self._end.feed(data)

    def take_parts(self) -> list[Any]:
        """See the end."""
        with self._lock:
            parts: list[Any] = self._end.take_parts()
            return parts

    def eof(self) -> None:
        """See the end."""
        with self._lock:
            self._end.eof()


class GrpcLoopServer(LoopServer):
    """The gRPC calls of one relay. *settings* is None for one call at a time."""

    def __init__(self, services: Services, relay: Relay, settings: MuxSettings | None, threads: int) -> None:
        super().__init__(asyncio.get_running_loop(), relay, settings)
        self._services = services
        self._variables = contextvars.copy_context()
        self._lock = threading.RLock()
        self._pool = ThreadPool(self.loop, self._lock, self.over, threads)
        self._thread_id = threading.get_ident()

    def start(self, rest: bytes) -> None:
        """See `LoopServer.start`."""
        self._relay.start(LockedEnd(self.end, self._lock), rest)

    def dirty(self) -> None:
        """See `MuxWorkerOwner.dirty`. Threads of the pool say it too."""
        if threading.get_ident() == self._thread_id:
            self._relay.schedule()
        elif not self.loop.is_closed():  # else the server is no more, and this thread late
            self.loop.call_soon_threadsafe(self._relay.schedule)

    def terminate(self) -> None:
        """See `LoopServer.terminate`."""
        with self._lock:
            super().terminate()

    def opened(self, stream: Any, codec: int, context: bytes, body: bytes, more: bool) -> None:
        """See `MuxWorkerOwner.opened`."""
        if not self.mux:
            codec = ONE_CALL
        try:
            fields = read_call(codec, context)
            method = self._services.find(fields[0], fields[1], fields[2])
        except Exception as error:
            tell_failure("The call cannot be read", error)
            stream.to = NOBODY
            stream.error(f"the call cannot be read: {type(error).__name__}: {error}")
            return
        if method is None or (method.response_streaming and not self.mux):
            stream.to = NOBODY
            refuse(stream, codec, UNIMPLEMENTED, NOT_FOUND if method is None else STREAMS)
            return
        call: Any
        if method.asynchronous:
            call = AsyncCall(self.loop, self._lock, self._begin, stream, codec, method, fields)
        else:
            call = SyncCall(self._pool, stream, codec, method, fields)
            self._calls.add(call)
        stream.to = call
        if not more:
            # Without a message the client has only closed its side.
            if body or not self.mux:
                call.inbox.append(body)
            call.closed = True
            call.changed()
        else:
            call.opened()

    def _begin(self, call: AsyncCall) -> None:
        self.begin(call, self._run(call), self._variables.copy())

    async def _run(self, call: AsyncCall) -> None:
        await run(call)
        self.over(call)
