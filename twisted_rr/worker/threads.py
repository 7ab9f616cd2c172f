"""Serves calls of a mux relay by threads, which also read the relay in turn.

A thread without a call reads the relay and runs what it finds, so that a call costs no change of
threads; another idle one reads on meanwhile. A thread that waits within its call (for a body, for
room) reads as well, if nobody does. While all threads are at work nobody needs to read, except for
heartbeats and cancels: after a second a watcher does, which runs no calls. It is thus some thread
other than a busy one that answers the server's heartbeat: a call that takes long is no lack of
progress here, whereas on an event loop (`asgi`) it would be, which is why there the loop answers.

The main thread is the first of those that run calls: with one thread (the default) an application
finds itself where it would be under any other server, and signal handlers run.
"""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from twisted_rr.errors import FrameError
from twisted_rr.wire.mux_settings import MuxSettings
from twisted_rr.wire.mux_worker import MuxWorkerEnd
from twisted_rr.worker.descriptors import Relay
from twisted_rr.worker.draining import Deadline
from twisted_rr.worker.report import say
from twisted_rr.worker.signals import HEARD, Waker
from twisted_rr.worker.thread_call import ThreadCall

_READ = 65536
_TICK = 1.0
"""Seconds between the watcher's looks."""
_LOST_GRACE = 10.0
"""Seconds that open calls get when the server is no more."""
_LOOK = 100
"""Milliseconds between two looks whether the server has heard that this worker goes."""
_JOIN = 2.0
"""Seconds that a thread without a call gets to end."""


class Draining(Deadline, threading.Event):
    """A threading.Event that also knows the deadline: ``deadline``, ``remaining()``."""


class ThreadServer:
    """The calls of one mux relay, and the threads that run them.

    *handle* runs one call; it must end the call and raise nothing.

    :ivar draining: set when the server begins to drain.
    :ivar lock: guards everything here, the end and the calls; re-entrant, as the end calls back.
    """

    def __init__(
        self,
        relay: Relay,
        waker: Waker,
        settings: MuxSettings,
        threads: int,
        handle: Callable[[ThreadCall], None],
    ) -> None:
        relay.set_blocking(False)
        self.draining = Draining()
        self.lock = threading.RLock()
        self._relay = relay
        self._waker = waker
        self._threads = threads
        self._handle = handle
        self._end = MuxWorkerEnd(self, settings)
        self._own = threading.local()
        self._ready: deque[ThreadCall] = deque()  # opened, and not taken up by a thread
        self._open = 0  # calls opened and not yet over
        self._rest = b""  # what the kernel did not take
        self._reading = False  # a thread is in poll() or about to be
        self._patience: int | None = None  # milliseconds that it waits there at most
        self._idle = threading.Condition(self.lock)
        self._idle_count = 0
        self._waiting: list[ThreadCall] = []  # calls whose threads wait while another one reads
        self._watch = threading.Event()
        self._watching = False  # it is the watcher that reads
        self._finishing = False
        self._unheard = False  # it goes, and the server may not know
        self._heard_by: float | None = None  # when it has to
        self._lost: str | None = None
        self._poll = select.poll()
        self._watched = 0
        self._poll.register(waker.fd, select.POLLIN)
        self._poll.register(relay.writer, 0)
        self._poll.register(relay.reader, select.POLLIN)
        waker.on_terminate(self._terminated)

    def serve(self, rest: bytes) -> str:
        """Run until the server asks to stop and the open calls are over; *rest* was read with the handshake.

        Gives "" when it ended in good order, else the reason.
        """
        if rest:
            with self.lock:
                self._received(rest)
        others = [
            threading.Thread(target=self._run_calls, name=f"rr-call-{number}", daemon=True)
            for number in range(2, self._threads + 1)
        ]
        others.append(threading.Thread(target=self._keep_watch, name="rr-watch", daemon=True))
        for thread in others:
            thread.start()
        self._run_calls()
        with self.lock:
            if self._lost is not None:
                self._idle.wait_for(lambda: not self._open, _LOST_GRACE)  # woken by _run_calls
        if self._lost is None:
            # They are over, too. One that Python's own end finds on its way out may take the process down with SIGABRT.
            for thread in others:
                thread.join(_JOIN)
        return self._lost or ""

    # ------------------------------------------------------------------ threads that run calls

    def _run_calls(self) -> None:
        while (call := self._next_call()) is not None:
            if call.gone:
                call.stop()
            else:
                call.taken_up()
                self._handle(call)
            with self.lock:
                self._open -= 1
                if self._lost is not None:
                    self._idle.notify_all()  # for serve()

    def _next_call(self) -> ThreadCall | None:
        """Wait for a call, reading the relay meanwhile unless another thread does; None at the end."""
        with self.lock:
            while not self._ready:
                if self._over():
                    self._release_all()
                    return None
                if self._reading:
                    self._rest_idle()
                else:
                    self._read_once()
            call = self._ready.popleft()
            self._hand_over(call)
            return call

    def _hand_over(self, call: ThreadCall) -> None:
        """This thread runs *call* now: another one is to read meanwhile. Under the lock."""
        self.leave()

    def _rest_idle(self) -> None:
        self._idle_count += 1
        self._relieve_watcher()
        self._idle.wait()  # woken by leave(), wait() and _release_all()
        self._idle_count -= 1

    def wait(self, call: ThreadCall) -> None:
        """Return when something may have changed for *call*, whose thread this is. Under the lock, held once."""
        if not self._reading:
            self._read_once()
            if self._ready and self._idle_count:
                self._idle.notify(len(self._ready))
            return
        condition = self._own_condition()
        call.waiting = condition
        self._waiting.append(call)
        self._relieve_watcher()
        condition.wait()  # woken by the call's own events, and by leave() to read in its turn
        self._waiting.remove(call)
        call.waiting = None

    def _own_condition(self) -> threading.Condition:
        found: threading.Condition | None = getattr(self._own, "condition", None)
        if found is None:
            found = self._own.condition = threading.Condition(self.lock)
        return found

    def leave(self) -> None:
        """A thread goes on with its call: if nobody reads now, let one of those that wait do so. Under the lock."""
        if self._reading:
            return
        if self._idle_count:
            self._idle.notify()
        elif self._waiting:
            self._waiting[0].wake()
        elif self._rest:
            self._watch.set()

    # ------------------------------------------------------------------------ the watcher

    def _keep_watch(self) -> None:
        """Read while all others are at work, until one of them waits."""
        while True:
            self._watch.wait(_TICK)
            self._watch.clear()
            with self.lock:
                if self._over():
                    break
                if self._reading or not self._open:
                    continue
                self._watching = True
                while not (self._idle_count or self._waiting or self._over() or self._reading):
                    self._read_once()
                self._watching = False
                self.leave()
        if self._lost is not None:
            self._exit_later()

    def _relieve_watcher(self) -> None:
        if self._watching:
            self._waker.wake()

    def _exit_later(self) -> None:
        """The server is gone: open calls get some seconds to notice, then nothing waits for them."""
        threading.Event().wait(_LOST_GRACE)
        say("the server is gone and a call goes on: exiting now")
        sys.stderr.flush()
        os._exit(1)

    # -------------------------------------------------------------- what the end tells, locked

    def dirty(self) -> None:
        """Nothing: whoever makes the end dirty flushes it before giving up the lock."""

    def opened(self, stream: Any, codec: int, context: bytes, body: bytes, more: bool) -> None:
        """A new call, for the next free thread."""
        call = stream.to = ThreadCall(self, stream, codec, context, body, more)
        self._open += 1
        self._ready.append(call)

    def said(self, message: dict[str, Any]) -> None:
        """``stop`` ends the worker after its calls; ``draining`` is there for applications that ask."""
        if message.get("stop"):
            self._finishing = True
            self._unheard = False
        elif "draining" in message:
            self.draining.told(message["draining"])
            self.draining.set()

    # --------------------------------------------------------------- reading and writing, locked

    def _read_once(self) -> None:
        """Wait for the relay, the waker or room, without the lock; then take what came."""
        wanted = select.POLLOUT if self._rest else 0
        if wanted != self._watched:
            self._watched = wanted
            self._poll.register(self._relay.writer, wanted)
            one = self._relay.writer == self._relay.reader
            self._poll.register(self._relay.reader, select.POLLIN | (wanted if one else 0))
        self._reading = True
        self.lock.release()
        try:
            patience = self._patience
            if patience is None and self._unheard:
                patience = _LOOK
            events = self._poll.poll(patience)
            data = self._read(events)
        finally:
            self.lock.acquire()
            self._reading = False
        if data:
            self._received(data)
        elif data is not None:
            self._lose("the server has closed the relay")
        elif self._rest:
            self.flush()

    def _read(self, events: list[tuple[int, int]]) -> bytes | None:
        """What the relay gives: nothing yet is None, its end is empty."""
        relay = self._relay
        for fd, event in events:
            if fd == self._waker.fd:
                self._waker.clear()
            elif fd == relay.reader and event & ~select.POLLOUT:
                try:
                    return os.read(fd, _READ)
                except BlockingIOError:
                    return None
                except OSError:
                    return b""
            elif event & (select.POLLERR | select.POLLHUP):
                return b""
        return None

    def _received(self, data: bytes) -> None:
        try:
            self._end.feed(data)
        except FrameError as error:
            self._lose(str(error))
        else:
            self.flush()

    def flush(self) -> None:
        """Write what there is, as far as the kernel takes it. Under the lock.

        The waker of what is left: the thread that reads, now or soon, or else the watcher.
        """
        if self._lost is not None:
            return
        while True:
            if not self._rest:
                self._rest = self._end.take()
                if not self._rest:
                    return
            self._rest = self._write(self._rest)
            if self._rest:
                if self._reading:
                    self._waker.wake()
                else:
                    self._watch.set()
                return

    def _write(self, data: bytes) -> bytes:
        try:
            return data[os.write(self._relay.writer, data) :]
        except BlockingIOError:
            return data
        except OSError:
            return b""  # the server is no more: reading will say so

    # ------------------------------------------------------------------------- the way out

    def _terminated(self) -> None:
        # In a signal handler: the lock may be held by the thread that it interrupts. The waker follows.
        self._unheard = self._unheard or not self._finishing
        self._finishing = True

    def _lose(self, reason: str) -> None:
        self._lost = reason
        self._finishing = True
        for stream in list(self._end.streams.values()):
            stream.to.cancelled("client")

    def _over(self) -> bool:
        """Whether there is nothing left to do."""
        if not self._finishing:
            return False
        if self._lost is not None:
            return True
        self._end.stopping = True
        if self._unheard and self._tell():
            return False
        return not (self._open or self._end.streams or self._rest)

    def _tell(self) -> bool:
        """Whether the server has yet to hear that this worker goes; it is told the first time."""
        now = time.monotonic()
        if self._heard_by is None:
            self._heard_by = now + HEARD
            self._end.control({"retire": True})
            self.flush()
        return now < self._heard_by

    def _release_all(self) -> None:
        """Wake every thread, so that each finds out that it is over."""
        self._idle.notify_all()
        self._watch.set()
        if self._reading:
            self._waker.wake()
