"""Threads beside an event loop, for the handlers of a worker that are ordinary functions.

Where no handler is a coroutine there is no loop either: see `grpc.thread_server`.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from queue import SimpleQueue
from typing import Any

from twisted_rr.worker.grpc.sync_call import SyncCall, run


class ThreadPool:
    """Runs ready calls, *count* at once; the threads start as they are needed, and end with the process.

    :ivar lock: guards the end that they share with the loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, lock: Any, over: Any, count: int) -> None:
        self.lock = lock
        self._loop = loop
        self._over = over  # what the loop is told when a call has run
        self._count = count
        self._variables = contextvars.copy_context()
        self._calls: SimpleQueue[SyncCall] = SimpleQueue()
        self._started = 0
        self._busy = 0  # calls that are queued or run
        self._own = threading.local()

    def ready(self, call: SyncCall) -> None:
        """See `sync_call.Threads`."""
        self._busy += 1
        self._calls.put(call)
        if self._busy > self._started < self._count:
            self._started += 1
            threading.Thread(target=self._work, name=f"rr-grpc-{self._started}", daemon=True).start()

    def _work(self) -> None:
        while True:
            call = self._calls.get()  # woken by ready
            if call.gone:
                call.stop()
            else:
                run(call, self._variables.copy())
            with self.lock:
                self._busy -= 1
            try:
                self._loop.call_soon_threadsafe(self._over, call)
            except RuntimeError:
                return  # the loop is closed: the server is no more

    def sent(self, call: SyncCall, more: bool) -> None:
        """Nothing: the end has told its owner, which flushes on the loop."""

    def flush(self) -> None:
        """Nothing: as `sent`."""

    def wait(self, call: SyncCall) -> None:
        """See `sync_call.Threads`."""
        condition: threading.Condition | None = getattr(self._own, "condition", None)
        if condition is None:
            condition = self._own.condition = threading.Condition(self.lock)
        call.waiting = condition
        condition.wait()  # woken by the call's own events, which the loop reads
        call.waiting = None

    def leave(self) -> None:
        """Nothing: the loop reads the relay."""
