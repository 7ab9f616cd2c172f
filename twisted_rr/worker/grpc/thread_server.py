"""Serves gRPC calls of a mux relay by threads alone, for workers without coroutines.

A thread reads the relay and runs what it finds, one call after the other: a quick handler costs no change of threads,
and the answers of a batch leave together. That nothing gets stuck behind a handler that takes long is a sentinel's
care: it looks every millisecond, while there is work. When it finds the same handler as before, it writes what is
left to write and lets another thread take over; and from then on calls of that method are run only after
another thread was told to read, for as long as they go on being slow.
"""

from __future__ import annotations

import contextvars
import time
from typing import Any, Final

from twisted_rr.wire.grpc_status import UNIMPLEMENTED
from twisted_rr.wire.mux_settings import MuxSettings
from twisted_rr.worker.descriptors import Relay
from twisted_rr.worker.grpc.call import NOBODY, NOT_FOUND, read_call, refuse
from twisted_rr.worker.grpc.services import Services
from twisted_rr.worker.grpc.sync_call import SyncCall, run
from twisted_rr.worker.report import tell_failure
from twisted_rr.worker.signals import Waker
from twisted_rr.worker.threads import ThreadServer

_TICK: Final = 0.001
_RESTS: Final = 50
"""Ticks without a call after which the sentinel sleeps."""
_SLOW: Final = 32
"""How many quick calls in a row make a slow method a quick one again."""
_QUICK: Final = 0.0005
"""Seconds; a call that takes less is quick."""
_STEADY: Final = 0.0002
"""Seconds; messages of a stream that come faster after one another leave together."""
_BATCH: Final = 32
"""Answers and messages that may be left to the next write, and for a millisecond at most."""


class GrpcThreadServer(ThreadServer):
    """The gRPC calls of one mux relay. Waking: see `ThreadServer`, and `_keep_watch` for what is put off."""

    def __init__(
        self, services: Services, relay: Relay, waker: Waker, settings: MuxSettings, threads: int
    ) -> None:
        self._services = services
        self._variables = contextvars.copy_context()
        self._step = 0  # changes whenever a thread begins or ends a call
        self._running: SyncCall | None = None  # the call that the reading thread has begun
        self._unwritten = 0
        self._asleep = True  # the sentinel
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
        self._step += 1

    def _rouse(self) -> None:
        self._asleep = False
        self._watch.set()

    def sent(self, call: SyncCall, more: bool) -> None:
        """Write now, or with what follows at once. The waker of what is put off: who reads next, or the sentinel."""
        self._unwritten += 1
        if more:
            now = time.monotonic()
            last, call.sent_at = call.sent_at, now
            wait = now - last < _STEADY
        else:
            wait = len(self._ready) > 0 and not call.method.slow
        if not wait or self._unwritten >= _BATCH:
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
            self.flush()
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
            if self._asleep:
                self._watch.wait()
            else:
                time.sleep(_TICK)
            with self.lock:
                if self._over():
                    break
                self._watch.clear()
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
                self._take_over()
        if self._lost is not None:
            self._exit_later()

    def _take_over(self) -> None:
        """Nobody reads, and no call began or ended for a while: somebody else has to."""
        if self._running is not None:
            self._running.method.slow = _SLOW
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
