"""A gRPC call whose handler is an ordinary function, run by a thread.

Which thread that is, and who reads the relay meanwhile, is `grpc.thread_server`'s and `grpc.thread_pool`'s.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from twisted_rr.wire.grpc_context import Call
from twisted_rr.wire.grpc_status import CANCELLED
from twisted_rr.worker import forks
from twisted_rr.worker.grpc.call import GrpcCall, run_callbacks
from twisted_rr.worker.grpc.context import BaseContext, note_abort
from twisted_rr.worker.grpc.services import Method
from twisted_rr.worker.grpc.status import Aborted, CallOver, aborted, call_over
from twisted_rr.worker.report import tell_failure


class Threads(Protocol):
    """Whoever has the threads, as a call sees it."""

    lock: Any

    def ready(self, call: SyncCall) -> None:
        """*call* can be run. Under the lock."""

    def sent(self, call: SyncCall, more: bool) -> None:
        """Something of *call* is to be written, soon. Under the lock."""

    def flush(self) -> None:
        """Write what there is. Under the lock."""

    def wait(self, call: Any) -> None:
        """Return when something may have changed for *call*. Under the lock."""

    def leave(self) -> None:
        """The calling thread waits no more. Under the lock."""


class SyncCall(GrpcCall):
    """The call as its thread, and the server of threads, see it.

    :ivar waiting: the condition its thread waits for, None while it does not.
    """

    __slots__ = ("_full", "_queued", "_threads", "sent_at", "task", "waiting")

    def __init__(self, threads: Threads, stream: Any, codec: int, method: Method, fields: Call) -> None:
        GrpcCall.__init__(self, stream, codec, method, fields)
        self._threads = threads
        self._queued = False
        self._full = False
        self.sent_at = 0.0
        self.task = None
        self.waiting: threading.Condition | None = None

    # ------------------------------------------------------------- for the end, under the lock

    def opened(self) -> None:
        """A method that takes a stream begins at once, another when its message is there."""
        if self.method.request_streaming:
            self.changed()

    def changed(self) -> None:
        """See `GrpcCall.changed`."""
        if self._queued:
            self.wake()
        else:
            self._queued = True
            self._threads.ready(self)

    def dropped(self) -> None:
        """A thread cannot be stopped: it is told at its next read or write, and by callbacks."""
        self.changed()
        if self.callbacks:
            # Not here: they are the application's, and would run under the lock.
            threading.Thread(target=run_callbacks, args=(self.take_callbacks(),), daemon=True).start()

    def writable(self) -> None:
        """There is room for more of the answer."""
        self._full = False
        self.wake()

    def wake(self) -> None:
        """Let the call's thread look again, if it waits."""
        if self.waiting is not None:
            self.waiting.notify()

    # ------------------------------------------------------------------- for the call's thread

    def stop(self) -> None:
        """End the call after its caller has gone, before its handler began."""
        with self._threads.lock:
            self.ended = True
            self.stream.stop()
            self._threads.flush()

    def taken_up(self) -> None:
        """Nothing: messages count as read one by one."""

    def take(self) -> bytes | None:
        """The next message, None after the last; blocks. Raises `call_over`."""
        threads = self._threads
        with threads.lock:
            waited = False
            while not (self.inbox or self.closed or self.over()):
                threads.wait(
                    self
                )  # woken by message, data, finished and cancelled, or by reading them itself
                waited = True
            if waited:
                threads.leave()
            if self.over():
                raise call_over(self.why_over())
            if not self.inbox:
                return None
            body: bytes = self.inbox.popleft()
            if not self.closed:
                self.stream.consumed(len(body) or 1)  # `credit.cost`
                if self.stream.granting:
                    threads.flush()
            return body

    def put(self, data: bytes) -> bool:
        """Send a message; blocks while much is queued. False when nobody wants more."""
        threads = self._threads
        with threads.lock:
            if self.over():
                return False
            self.headed = True
            self._full = not self.stream.message(data, False, True)
            threads.sent(self, True)
            waited = False
            while self._full and not self.over():
                threads.wait(self)  # woken by writable and cancelled, or by reading them itself
                waited = True
            if waited:
                threads.leave()
        return True

    def begin_answer(self, metadata: Any) -> None:
        """Send the initial metadata. Raises ValueError, or `call_over`."""
        with self._threads.lock:
            if self.over():
                raise call_over(self.why_over())
            self.initial(metadata)
            self._threads.flush()

    def conclude(self, error: BaseException | None, doing: str, data: bytes | None) -> None:
        """The handler is done."""
        with self._threads.lock:
            if error is None:
                self.succeed(data)
            else:
                self.fail(error, doing)
            self._threads.sent(self, False)

    def cancel(self) -> None:
        """The handler gives the call up: the client gets CANCELLED."""
        with self._threads.lock:
            self.end(CANCELLED, "the call was cancelled by its handler", None)
            self._threads.flush()
            callbacks = self.take_callbacks()
        run_callbacks(callbacks)

    def add_callback(self, callback: Callable[[], Any]) -> bool:
        """Have *callback* called at the end; False when that has come."""
        with self._threads.lock:
            if self.callbacks is None:
                return False
            self.callbacks.append(callback)
            return True


class SyncContext(BaseContext):
    """The context of a handler that is an ordinary function."""

    __slots__ = ()

    def send_initial_metadata(self, initial_metadata: Any) -> None:
        """Send the initial metadata now. Raises ValueError after the first message, and when sent before."""
        self._call.begin_answer(initial_metadata)

    def abort(self, code: Any, details: Any = "", trailing_metadata: Any = None) -> None:
        """End the call with this status. Always raises."""
        if trailing_metadata is not None:
            self._call.set_trailing(trailing_metadata)
        note_abort(self._call, code, details)
        raise aborted()

    def abort_with_status(self, status: Any) -> None:
        """End the call with a grpc.Status: code, details, trailing_metadata. Always raises."""
        self.abort(status.code, status.details, status.trailing_metadata)

    def cancel(self) -> None:
        """End the call as CANCELLED now; the handler may clean up."""
        self._call.cancel()

    def add_callback(self, callback: Callable[[], Any]) -> bool:
        """Call *callback* when the call ends, in whatever way; in a thread of its own when it is cancelled.

        False when it has ended, and then *callback* is not called.
        """
        added: bool = self._call.add_callback(callback)
        return added


class Requests:
    """The iterator of requests that a handler of a client's stream gets."""

    __slots__ = ("_call",)

    def __init__(self, call: SyncCall) -> None:
        self._call = call

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        body = self._call.take()
        if body is None:
            raise StopIteration
        return self._call.decoded(body)

    def next(self) -> Any:
        """The same, as grpcio has it."""
        return self.__next__()


def run(call: SyncCall, variables: contextvars.Context) -> None:
    """Run the handler of *call* and send what it gives, within *variables*. Raises nothing."""
    variables.run(_run, call)
    if call.callbacks:
        run_callbacks(call.take_callbacks())
    call.callbacks = None


def _run(call: SyncCall) -> None:
    method = call.method
    data: bytes | None = None
    doing = "Exception calling application"
    try:
        request = Requests(call) if method.request_streaming else call.request()
        response = method.behavior(request, SyncContext(call))
        if method.response_streaming:
            doing = "Exception iterating responses"
            _send_all(call, response)
        else:
            data = call.answer(response)
    # SystemExit too: a handler that raises it must not take the other calls with it.
    except BaseException as error:
        if forks.child:
            forks.end_child(error, f"{method.path}: {doing}")
        if not isinstance(error, (Aborted, CallOver)):
            tell_failure(f"{method.path}: {doing}", error)
        call.conclude(error, doing, None)
        return
    if forks.child:
        forks.end_child()
    call.conclude(None, "", data)


def _send_all(call: SyncCall, responses: Any) -> None:
    try:
        put = call.put
        encoded = call.encoded
        for response in responses:
            if not put(encoded(response)):
                raise call_over(call.why_over())
    finally:
        close = getattr(responses, "close", None)
        if close is not None:
            close()
