"""The calls of one pool: which worker each one gets, which ones wait, are run again, or are refused.

How long who waits is waiting.py's subject, how many workers there are crew.py's; when the pool starts and stops is the
pool's own.
"""

from __future__ import annotations

from typing import Any, Final

from twisted_rr.errors import (
    ApplicationError,
    CrashLoop,
    Draining,
    NoFreeWorker,
    Overloaded,
    PoolError,
    QueueFull,
    TooLarge,
)
from twisted_rr.pool.crew import Crew
from twisted_rr.pool.state import WorkerState
from twisted_rr.pool.waiting import Collecting, Lobby, Waiting
from twisted_rr.pool.worker import Worker
from twisted_rr.wire.call import Call

FULL: Final = 1 << 62


class Placement:
    """Takes the calls of a pool while it is ``running``, and gives them to its ``takers``.

    :ivar mux: the workers hold many calls at once. It is not ``known`` before the first of them is ready.
    :ivar takers: workers that get calls, in the order in which they got ready.
    :ivar waiting: the calls for which there is no worker.
    :ivar shed: calls that waited too long and were turned away (``max_queue_age``), since the start.
    :ivar stranded: calls of a drain that no worker could be started for, since the start.
    """

    __slots__ = (
        "known", "mux", "running", "shed", "stranded", "takers", "waiting",
        "_allocator", "_bodies", "_collecting", "_crew", "_health", "_lobby", "_reactor", "_seconds", "_settings",
    )  # fmt: skip

    def __init__(self, reactor: Any, settings: Any, crew: Crew, allocator: Any, health: Any) -> None:
        """*settings* is the pool's section, *health* its `PoolHealth`, which knows for how long hope lasts."""
        self.known = False
        self.mux = False
        self.running = False
        self.shed = 0
        self.stranded = 0
        self.takers: list[Worker] = []
        self._reactor = reactor
        self._seconds = reactor.seconds
        self._settings = settings
        self._crew = crew
        self._allocator = allocator
        self._health = health
        self.waiting = Waiting(
            reactor, settings.allocate_timeout, self._expired, settings.max_queue_age, self._too_old
        )
        self._lobby = Lobby(self._left)
        self._collecting = Collecting(self._left, self._collected, self._fail_later)
        self._bodies: set[Call] = set()  # their bodies are being collected

    # ------------------------------------------------------------------ calls come

    def open(self, head: Any, body: bytes, more: bool, to: Any) -> Any:
        """See `IWorkerPool`. The way of most calls is this method alone."""
        best: Worker | None = None
        if self.mux and not self.waiting.size:
            least = FULL
            for worker in self.takers:
                end = worker.end
                load = end.load
                if load < end.limit and end.accepting:
                    if not load:
                        best = worker  # nobody waits behind a busy one while it rests
                        break
                    if load < least:
                        least = load
                        best = worker
        if best is None:
            return self._hold(head, body, more, to)
        call = Call(head, to, best.end)
        self._start_mux(call, best, body, more)
        return call

    def _start_mux(self, call: Call, worker: Worker, body: bytes, more: bool) -> None:
        end = worker.end
        call.end = end
        call.more = more
        call.worker = worker
        call.since = worker.since = self._seconds()
        try:
            end.open(call, call.head.mux_context(end.codec), body, more)
        except TooLarge as error:
            self._fail_later(call, ApplicationError(str(error)))
            return
        worker.jobs += 1
        if worker.jobs >= worker.limit:
            self._crew.worn(worker)

    def _hold(self, head: Any, body: bytes, more: bool, to: Any) -> Call:
        """No worker takes the call as it is: it waits, or collects its body first."""
        call = Call(head, to, self._lobby)
        call.more = more
        if body:
            call.queue.append(body)
            call.queued = len(body)
        if not self.running or self._crew.stopping:
            self._fail_later(call, Draining())
        elif self.known and not self.mux:
            if more:
                self._collect(call)
            else:
                self._whole(call, body)
        else:
            self._enqueue(call)
        return call

    def _collect(self, call: Call) -> None:
        call.spool = call.head.spool()
        call.end = self._collecting
        self._bodies.add(call)
        self._collecting.pump(call)

    def _whole(self, call: Call, body: bytes) -> None:
        """As `_collect`, of a call that has its whole content."""
        spool = call.spool = call.head.spool()
        try:
            if body:
                call.drop()
                spool.write(body)
            spool.finish()
        except OSError as full:
            self._unstored(call, ApplicationError(f"the body cannot be stored: {full.strerror}"))
            return
        except PoolError as refusal:
            self._unstored(call, refusal)
            return
        self._enqueue(call)

    def _unstored(self, call: Call, error: Exception) -> None:
        self._close_spool(call)
        self._fail_later(call, error)

    def _collected(self, call: Call) -> None:
        self._bodies.discard(call)
        self._enqueue(call)

    def _enqueue(self, call: Call) -> None:
        """*call* is complete as far as it has to be: a worker takes it now, or it waits."""
        call.end = self._lobby
        if not self.waiting.size:
            worker = self._free(None)
            if worker is not None:
                self._place(call, worker)
                return
        if self.full():
            self._fail_later(call, QueueFull(self._settings.max_queue_size))
            return
        crew = self._crew
        # If all workers are there, there is nothing to be looked after.
        short = self._settings.debug or len(self.takers) < crew.target()
        if short and (crew.tripped or (crew.failures.impossible_since is not None and self.hopeless())):
            self._reactor.callLater(0, self._strand, call)
            crew.maintain()
            return
        call.since = self._seconds()
        self.waiting.put(call)
        # Its wakers: a worker that gets free (freed, serve), one that gets ready, and the timer.
        self._allocator.shortage()
        if short:
            crew.maintain()

    # ------------------------------------------------------------------ calls go to workers

    def take(self, worker: Worker) -> None:
        """*worker* gets calls from now on."""
        self.takers.append(worker)

    def leave(self, worker: Worker) -> None:
        """*worker* gets none any more."""
        if worker in self.takers:
            self.takers.remove(worker)

    def _free(self, but: Worker | None) -> Worker | None:
        """The worker, other than *but*, with the fewest calls that takes one more; among equals who rested longest."""
        best: Worker | None = None
        for worker in self.takers:
            end = worker.end
            if worker is but or end.load >= end.limit or not end.accepting:
                continue
            if best is None or (end.load, worker.since) < (best.end.load, best.since):
                best = worker
        return best

    def _place(self, call: Call, worker: Worker) -> None:
        if self.mux:
            self._start_mux(call, worker, self._queued(call), call.more)
            return
        if call.spool is None:  # it came before the kind of the workers was known, or was collected otherwise
            self._collect(call)
            return
        end = worker.end
        flags, context, body, length = call.spool.finish()
        call.end = end
        call.worker = worker
        call.since = worker.since = self._seconds()
        try:
            end.start(call, flags, context, body, length)
        except TooLarge as error:
            call.spool.close()
            self._fail_later(call, ApplicationError(str(error)))
            return
        worker.jobs += 1
        if worker.jobs >= worker.limit:
            self._crew.worn(worker)

    def _queued(self, call: Call) -> bytes:
        """The body that came while *call* waited, in one piece where it is one: so it can be run again."""
        if call.full or not all(isinstance(piece, bytes) for piece in call.queue):
            return b""
        body = b"".join(piece for piece in call.queue if isinstance(piece, bytes))
        call.drop()
        return body

    def serve(self) -> None:
        """Give waiting calls to workers as long as there are both."""
        while self.waiting.size:
            worker = self._free(None)
            if worker is None:
                return
            call = self.waiting.take()
            if call is None:
                return
            if call.worker is worker:
                # It has refused this very call.
                worker = self._free(worker) or worker
            self._place(call, worker)

    # ------------------------------------------------------------------ what workers tell of their calls

    def freed(self, worker: Worker, call: Call) -> None:
        """See `WorkerOwner.call_freed`."""
        if call.spool is not None and call.end is worker.end:
            call.spool.close()
        if worker.left:
            if not worker.end.load:
                worker.idle()
        elif not worker.end.accepting and not worker.end.missed:
            self._crew.replace(worker, WorkerState.INVALID, False)
        if self.waiting.size:
            self.serve()

    def refused(self, worker: Worker, call: Call) -> bool:
        """See `WorkerOwner.call_refused`."""
        if (call.held is None and call.spool is None) or self._crew.stopping:
            return False
        # A worker that answered and then stopped itself meant no call: it gets none any more, so this has an end.
        if not (worker.answered and not worker.end.accepting):
            if call.retried:
                return False
            call.retried = True
        if call.held:
            call.queue.appendleft(call.held)
            call.queued += len(call.held)
        call.end = self._lobby
        other = self._free(worker)
        if other is not None:
            self._place(call, other)
        else:
            self.waiting.put_first(call)
            self._crew.maintain()
        return True

    def lost(self, worker: Worker, call: Call) -> None:
        """See `WorkerOwner.call_lost`."""
        if call.end is worker.end:
            self._close_spool(call)

    # ------------------------------------------------------------------ calls end without a worker

    def _fail_later(self, call: Call, error: Exception) -> None:
        """No callback comes before ``open`` has returned."""
        call.end = self._lobby
        self._reactor.callLater(0, self._fail, call, error)

    def _fail(self, call: Call, error: Exception) -> None:
        self._close_spool(call)
        call.fail(error)

    def _expired(self, call: Call) -> None:
        self._fail(call, NoFreeWorker(self._settings.allocate_timeout))

    def _too_old(self, call: Call) -> None:
        self.shed += 1
        self._fail_later(call, Overloaded(self._seconds() - call.since, self._settings.max_queue_age))

    def _left(self, call: Call) -> None:
        """*call* was given up while it waited or collected its body."""
        self.waiting.discard(call)
        self._bodies.discard(call)
        self._close_spool(call)

    def _close_spool(self, call: Call) -> None:
        if call.spool is not None:
            call.spool.close()

    def hopeless(self) -> bool:
        """No worker lives and none could be started for ``stuck_after``; in a drain that is known at once."""
        patience = 0.0 if self._crew.draining else self._health.stuck_after
        since = self._crew.failures.impossible_since
        return since is not None and not self._crew.counts()[0] and self._seconds() - since >= patience

    def give_up(self) -> None:
        """Those who wait will get no worker."""
        for call in self.waiting.take_all():
            self._strand(call)

    def _strand(self, call: Call) -> None:
        self.stranded += self._crew.draining
        failures = self._crew.failures
        if self._crew.tripped and failures.last is not None:
            self._fail(call, CrashLoop(failures.count, failures.last.reason, failures.last.stderr))
        else:
            self._fail(call, NoFreeWorker(self._settings.allocate_timeout))

    def refuse_all(self) -> None:
        """The pool stops: nobody waits any more."""
        for call in [*self.waiting.take_all(), *self._bodies]:
            self._fail(call, Draining())
        self._bodies.clear()

    # ------------------------------------------------------------------ for the pool

    def apply(self, settings: Any) -> None:
        """Go by other settings from now on."""
        self._settings = settings
        self.waiting.limit_to(settings.allocate_timeout, settings.max_queue_age)

    def busy(self) -> bool:
        """There are workers, and none of them takes one more call."""
        return bool(self.takers) and self._free(None) is None

    def full(self) -> bool:
        """The next call that has to wait would be refused."""
        size: int = self._settings.max_queue_size
        return bool(size) and not self._settings.debug and self.waiting.size >= size
