"""A gRPC call whose handler is a coroutine function or an async generator function, run by a task.

Every wait names its waker beside it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, NoReturn

from twisted_rr.wire.grpc_context import Call
from twisted_rr.wire.grpc_status import CANCELLED
from twisted_rr.worker import forks
from twisted_rr.worker.grpc.call import GrpcCall, run_callbacks
from twisted_rr.worker.grpc.context import BaseContext, note_abort
from twisted_rr.worker.grpc.services import Method
from twisted_rr.worker.grpc.status import Aborted, CallOver, aborted, call_over, end_of_stream
from twisted_rr.worker.report import tell_failure


class AsyncCall(GrpcCall):
    """The call as its task, and the loop's server, see it. Everything happens on the loop.

    :ivar task: runs the handler; None before it begins and after it has ended.
    :ivar begin: starts the task.
    """

    __slots__ = ("_begin", "_lock", "_loop", "_readers", "_writers", "task")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        lock: Any,
        begin: Callable[[AsyncCall], None],
        stream: Any,
        codec: int,
        method: Method,
        fields: Call,
    ) -> None:
        GrpcCall.__init__(self, stream, codec, method, fields)
        self._loop = loop
        self._lock = lock  # threads of other calls use the same end
        self._begin: Callable[[AsyncCall], None] | None = begin
        self._readers: list[asyncio.Future[None]] | None = None
        self._writers: list[asyncio.Future[None]] | None = None
        self.task: asyncio.Task[None] | None = None

    # ------------------------------------------------------------------ the relay's side

    def opened(self) -> None:
        """A method that takes a stream begins at once, another when its message is there."""
        if self.method.request_streaming:
            self.changed()

    def changed(self) -> None:
        """See `GrpcCall.changed`."""
        if self._begin is not None:
            begin, self._begin = self._begin, None
            begin(self)
        elif self._readers is not None:
            readers, self._readers = self._readers, None
            _wake(readers)

    def dropped(self) -> None:
        """The task is cancelled, in its next step; not before its first, because it has to end the call."""
        self.changed()
        self._wake_all()
        if self.task is not None:
            self._loop.call_soon(self.task.cancel)
        self._loop.call_soon(self._run_callbacks)

    def writable(self) -> None:
        """There is room for more of the answer."""
        writers, self._writers = self._writers, None
        _wake(writers)

    def _wake_all(self) -> None:
        self.writable()
        readers, self._readers = self._readers, None
        _wake(readers)

    # ------------------------------------------------------------------ the task's side

    async def take(self) -> bytes | None:
        """The next message, None after the last. Raises `call_over`."""
        while not (self.inbox or self.closed or self.over()):
            future = self._loop.create_future()
            if self._readers is None:
                self._readers = [future]
            else:
                self._readers.append(future)
            await future  # woken by message, data, finished, cancelled and cancel
        if self.over():
            raise call_over(self.why_over())
        if not self.inbox:
            return None
        body: bytes = self.inbox.popleft()
        if not self.closed:
            with self._lock:
                self.stream.consumed(len(body) or 1)  # `credit.cost`
        return body

    def put(self, data: bytes) -> bool:
        """Send a message; False: wait for `room` before the next. Raises `call_over`."""
        if self.over():
            raise call_over(self.why_over())
        self.headed = True
        with self._lock:
            room: bool = self.stream.message(data, False, True)
            return room

    async def room(self) -> None:
        """Return when the client takes more. Raises `call_over`."""
        future = self._loop.create_future()
        if self._writers is None:
            self._writers = [future]
        else:
            self._writers.append(future)
        await future  # woken by writable, cancelled and cancel
        if self.over():
            raise call_over(self.why_over())

    def begin_answer(self, metadata: Any) -> None:
        """Send the initial metadata. Raises ValueError, or `call_over`."""
        if self.over():
            raise call_over(self.why_over())
        with self._lock:
            self.initial(metadata)

    def conclude(self, error: BaseException | None, doing: str, data: bytes | None) -> None:
        """The handler is done."""
        with self._lock:
            if error is None:
                self.succeed(data)
            elif isinstance(error, asyncio.CancelledError) and self.code is None:
                self.end(CANCELLED, "the handler was cancelled", None)
            else:
                self.fail(error, doing)
        if self.callbacks:
            self._run_callbacks()
        self.callbacks = None

    def cancel(self) -> None:
        """The handler gives the call up: the client gets CANCELLED."""
        with self._lock:
            self.end(CANCELLED, "the call was cancelled by its handler", None)
        self._wake_all()
        self._run_callbacks()

    def _run_callbacks(self) -> None:
        if self.callbacks is not None:
            run_callbacks(self.take_callbacks())


def _wake(futures: list[asyncio.Future[None]] | None) -> None:
    if futures is not None:
        for future in futures:
            if not future.done():
                future.set_result(None)


class AsyncContext(BaseContext):
    """The context of a coroutine's handler."""

    __slots__ = ()

    async def read(self) -> Any:
        """The next request, ``grpc.aio.EOF`` after the last. Raises when the call is over."""
        if not self._call.method.request_streaming:
            return end_of_stream()  # the handler has the one there is
        body = await self._call.take()
        return end_of_stream() if body is None else self._call.decoded(body)

    async def write(self, message: Any) -> None:
        """Send a response; waits while the client takes none. Raises when the call is over."""
        if not self._call.put(self._call.encoded(message)):
            await self._call.room()

    async def send_initial_metadata(self, initial_metadata: Any) -> None:
        """Send the initial metadata now. Raises ValueError after the first message, and when sent before."""
        self._call.begin_answer(initial_metadata)

    async def abort(self, code: Any, details: Any = "", trailing_metadata: Any = ()) -> NoReturn:
        """End the call with this status. Always raises."""
        if trailing_metadata:
            self._call.set_trailing(trailing_metadata)
        note_abort(self._call, code, details)
        raise aborted()

    async def abort_with_status(self, status: Any) -> NoReturn:
        """End the call with a grpc.Status: code, details, trailing_metadata. Always raises."""
        await self.abort(status.code, status.details, status.trailing_metadata)

    def details(self) -> Any:
        """The status message as it was set, empty before, as grpc.aio has it."""
        return self._call.details or ""

    def trailing_metadata(self) -> Any:
        """The metadata for the end as it was set, empty before, as grpc.aio has it."""
        return self._call.trailing or ()

    def cancel(self) -> None:
        """End the call as CANCELLED now; the handler may clean up."""
        self._call.cancel()

    def cancelled(self) -> bool:
        """Whether the client, or the deadline, gave the call up."""
        gone: bool = self._call.gone
        return gone

    def done(self) -> bool:
        """Whether the call is over, in whatever way."""
        return bool(self._call.gone or self._call.ended)

    def add_done_callback(self, callback: Callable[[AsyncContext], Any]) -> None:
        """Call ``callback(context)`` when the call ends, in whatever way; soon, when it has ended."""
        if not self.add_callback(lambda: callback(self)):
            asyncio.get_running_loop().call_soon(callback, self)

    def add_callback(self, callback: Callable[[], Any]) -> bool:
        """Call *callback* when the call ends; False when it has ended, and then it is not called."""
        if self._call.callbacks is None:
            return False
        self._call.callbacks.append(callback)
        return True


class AsyncRequests:
    """The asynchronous iterator of requests that a handler of a client's stream gets."""

    __slots__ = ("_call",)

    def __init__(self, call: AsyncCall) -> None:
        self._call = call

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        body = await self._call.take()
        if body is None:
            raise StopAsyncIteration
        return self._call.decoded(body)


async def run(call: AsyncCall) -> None:
    """Run the handler of *call* and send what it gives. Raises nothing."""
    method = call.method
    data: bytes | None = None
    doing = "Exception calling application"
    try:
        request = AsyncRequests(call) if method.request_streaming else call.request()
        result = method.behavior(request, AsyncContext(call))
        if not method.response_streaming:
            data = call.answer(await result)
        elif hasattr(result, "__aiter__"):
            doing = "Exception iterating responses"
            await _send_all(call, result)
        else:
            await result  # it writes by its context
    # SystemExit too: a handler that raises it must not take the other calls with it.
    except BaseException as error:
        if forks.child:
            forks.end_child(error, f"{method.path}: {doing}")
        if not (
            isinstance(error, (Aborted, CallOver))
            or (call.gone and isinstance(error, asyncio.CancelledError))
        ):
            tell_failure(f"{method.path}: {doing}", error)
        call.conclude(error, doing, None)
        return
    if forks.child:
        forks.end_child()
    call.conclude(None, "", data)


async def _send_all(call: AsyncCall, responses: Any) -> None:
    # No finally: compiled, what it raises again is the error that any task handles just then.
    failed: BaseException | None = None
    try:
        async for response in responses:
            if not call.put(call.encoded(response)):
                await call.room()
    except BaseException as error:
        failed = error
    close = getattr(responses, "aclose", None)
    if close is not None:
        await close()
    if failed is not None:
        raise failed
