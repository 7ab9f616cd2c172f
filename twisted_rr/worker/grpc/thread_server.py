"""Serves gRPC calls of a mux relay by threads alone, for workers without coroutines.

A thread reads the relay and runs what it finds, one call after the other: a quick handler costs no change of threads,
and the answers of a batch leave together. That nothing gets stuck behind a handler that takes long is a sentinel's
care: it looks every few milliseconds, while there is work, and less often while all goes well. When it finds the same
handler as before, it writes what is left to write and lets another thread take over; and from then on calls of that
method are run only after another thread was told to read, for as long as they go on being slow.

As long as all are quick the server may send more calls than there are threads, lest the relay runs dry between two of
its turns. With the first slow one it is told to send no more than that: the others are better off in other workers.
This is for unary methods alone: a stream can hold a thread for ever, and those that wait for it must not be here.
"""

from __future__ import annotations

import contextvars
import time
from typing import Any, Final

from twisted_rr.wire.grpc_status import UNIMPLEMENTED
from twisted_rr.wire.mux_settings import MuxSettings
from twisted_rr.worker.descriptors import Relay
from twisted_rr.worker.grpc.call import NOBODY, NOT_FOUND, read_call, refuse
from twisted_rr.worker.grpc.services import Method, Services
from twisted_rr.worker.grpc.sync_call import SyncCall, run
from twisted_rr.worker.report import tell_failure
from twisted_rr.worker.signals import Waker
from twisted_rr.worker.threads import ThreadServer

_TICK: Final = 0.001
_LONGEST: Final = 0.008
"""Seconds between two looks of the sentinel: each costs the working thread more than the sentinel itself."""
_RESTS: Final = 50
"""Looks without a call after which the sentinel sleeps."""
_AHEAD: Final = 4
"""Calls for each thread while all are quick."""
_SLOW: Final = 32
"""How many quick calls in a row make a slow method a quick one again."""
_QUICK: Final = 0.0005
"""Seconds; a call that takes less is quick."""
_STEADY: Final = 0.0002
"""Seconds; messages of a stream that come faster after one another leave together."""
_MANY: Final = 128
_BATCH: Final = 32
"""Messages and answers that may be left to the next write, and for a look of the sentinel at most."""


def ahead(services: Services, threads: int) -> int:
    """How many calls the server may send to *threads*."""
    return _AHEAD * threads if services.unary_only() else threads


class GrpcThreadServer(ThreadServer):
    """The gRPC calls of one mux relay, agreed for `ahead` calls at once. Waking: see `ThreadServer`, and `_keep_watch` for what is put off."""

    def __init__(
        self, services: Services, relay: Relay, waker: Waker, settings: MuxSettings, threads: int
    ) -> None:
        self._services = services
        self._variables = contextvars.copy_context()
        self._step = 0  # changes whenever a thread begins or ends a call
        self._running: SyncCall | None = None  # the call that the reading thread has begun
        self._unwritten = 0
        self._asleep = True  # the sentinel
        self._tick = _TICK  # of the sentinel
        self._steady = False  # messages were left to it
        self._agreed = settings.streams
        self._wide = settings.streams > threads  # the server may send more calls than there are threads
        self._ticking = False  # it reads the relay, and looks every millisecond all the same
        super().__init__(relay, waker, settings, threads, self._serve)

    # -------------------------------------------------------------- what the end tells, locked

    def opened(self, stream: Any, codec: int, context: bytes, body: bytes, more: bool) -> None:
        """See `MuxWorkerOwner.opened`."""
        try:
            fields = read_call(codec, context)
            method = self._services.find(fields[0], fields[1], fields[2])
        except Exception as error:
            tell_failure("The call cannot be read", error)
            stream.to = NOBODY
            stream.error(f"the call cannot be read: {type(error).__name__}: {error}")
            return
        if method is None:
            stream.to = NOBODY
            refuse(stream, codec, UNIMPLEMENTED, NOT_FOUND)
            return
        call = stream.to = SyncCall(self, stream, codec, method, fields)
        self._open += 1
        if not more:
            # Without a message the client has only closed its side.
            if body:
                call.inbox.append(body)
            call.closed = True
            call.changed()
        else:
            call.opened()

    def ready(self, call: Any) -> None:
        """See `sync_call.Threads`."""
        self._ready.append(call)

    # ---------------------------------------------------------------------------- running calls

    def _hand_over(self, call: Any) -> None:
        self._step += 1
        if call.method.slow:
            self._running = None
            self.flush()
            self.leave()
            return
        self._running = call
        if self._asleep:
            self._rouse()

    def _serve(self, call: Any) -> None:
        method = call.method
        if not method.slow:
            run(call, self._variables.copy())
        else:
            began = time.monotonic()
            run(call, self._variables.copy())
            if method.slow and time.monotonic() - began < _QUICK:
                method.slow -= 1
                if not method.slow:
                    self._widen()
        self._step += 1

    def _is_slow(self, method: Method) -> None:
        """From now on another thread reads before a call of *method* is run. Under the lock."""
        method.slow = _SLOW
        if self._wide:
            self._wide = False
            self._end.control({"capacity": self._threads})
            self.flush()

    def _widen(self) -> None:
        with self.lock:
            if not self._wide and self._threads < self._agreed and not self._services.any_slow():
                self._wide = True
                self._end.control({"capacity": self._agreed})
                self.flush()

    def _rouse(self) -> None:
        self._asleep = False
        self._watch.set()

    def sent(self, call: SyncCall, more: bool) -> None:
        """Write now, or with what follows at once. The waker of what is put off: who reads next, or the sentinel."""
        self._unwritten += 1
        if more and self._steady:
            wait = True  # nobody asks the clock while the sentinel looks every millisecond
        elif more:
            now = time.monotonic()
            last, call.sent_at = call.sent_at, now
            wait = now - last < _STEADY
            if wait:
                self._steady = True
                if self._tick > _TICK:
                    self._watch.set()
        else:
            wait = len(self._ready) > 0 and not call.method.slow
        if not wait or self._unwritten >= (_MANY if more else _BATCH):
            self.flush()
        elif self._asleep:
            self._rouse()
        elif self._watching and not self._ticking:
            self._ticking = True
            self._waker.wake()

    def flush(self) -> None:
        """See `ThreadServer.flush`."""
        self._unwritten = 0
        super().flush()

    def wait(self, call: Any) -> None:
        """See `ThreadServer.wait`."""
        if self._unwritten:
            # What the call waits for may come of it, and then nothing else would wake this thread.
            self.flush()
            return
        super().wait(call)

    def _read_once(self) -> None:
        if self._unwritten:
            self.flush()
        super()._read_once()

    def _rest_idle(self) -> None:
        if self._unwritten:
            self.flush()
        super()._rest_idle()

    # ----------------------------------------------------------------------------- the sentinel

    def _keep_watch(self) -> None:
        step = 0
        rests = 0
        while True:
            # Not at once, even where it was roused: for that would be a look at each message that is put off.
            time.sleep(_TICK)
            if self._asleep:
                self._watch.wait()
            elif self._tick > _TICK:
                self._watch.wait(self._tick - _TICK)
            with self.lock:
                if self._over():
                    break
                self._watch.clear()
                self._tick = _TICK if self._steady else min(2 * self._tick, _LONGEST)
                self._steady = False
                if self._unwritten:
                    self.flush()
                    rests = 0
                if self._reading or not self._open:
                    rests += 1
                    self._asleep = rests > _RESTS
                    continue
                rests = 0
                if self._step != step:
                    step = self._step
                    continue
                self._tick = _TICK
                self._take_over()
        if self._lost is not None:
            self._exit_later()

    def _take_over(self) -> None:
        """Nobody reads, and no call began or ended for a while: somebody else has to."""
        if self._running is not None:
            self._is_slow(self._running.method)
            self._running = None
        if self._idle_count or self._waiting:
            self.leave()
            return
        self._watching = True
        ticks = 0
        while not (self._idle_count or self._waiting or self._over() or self._reading):
            ticks = _RESTS if self._unwritten else max(0, ticks - 1)
            self._ticking = ticks > 0
            self._patience = 1 if ticks else None
            self._read_once()
        self._patience = None
        self._watching = self._ticking = False
        self.leave()
