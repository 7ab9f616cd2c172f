"""The workers of one pool as a body: how many there are, who is started for whom, how all of them stop.

Which worker gets a call is the pool's affair; the crew tells it who takes calls. What it remembers of starts that fail is in
failures.py, in which order workers go in turns.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred, succeed

from twisted_rr.pool.failures import TRIP, Failures
from twisted_rr.pool.host import PoolHost
from twisted_rr.pool.limits import EXACT, jobs_limit
from twisted_rr.pool.settings import PoolSettings
from twisted_rr.pool.state import WorkerState
from twisted_rr.pool.turns import Turns
from twisted_rr.pool.worker import NEVER, Worker

MOST = 2048
LATE = 2  # times max_jobs, from where on a worker has got too many calls


class CrewOwner(Protocol):
    """The pool, as its crew sees it."""

    def make_worker(self) -> Worker:
        """A new worker, started."""

    def demand(self) -> int:
        """Calls that wait for a worker."""


class Crew:
    """``workers`` are all that have not been reaped, oldest first.

    A worker that is to go by plan (its jobs, its age, a reset) is first marked ``replaced`` and another
    started; it goes on taking calls until some new worker is ready, then it retires. So the number of
    workers that take calls does not fall below the wanted one.

    :ivar failures: what it remembers of starts that fail.
    :ivar held: those of `workers` that take no calls yet: started to see whether other settings work.
    """

    def __init__(self, owner: CrewOwner, host: PoolHost, settings: PoolSettings, log: Any) -> None:
        self.workers: list[Worker] = []
        self.held: set[Worker] = set()
        self.wanted = 0
        self.extra = 0
        self.stopping = False
        self.starting = False
        self.failures = Failures(host.reactor, host.random, log)
        self._owner = owner
        self._host = host
        self._settings = settings
        self._log = log
        self._told_late = False
        self._turns = Turns()
        self._timer: Any = None
        self._all_gone: list[Deferred[None]] = []
        self._spawning = False

    # ------------------------------------------------------------------ counting

    def counts(self) -> tuple[int, int]:
        """``(alive, wanted)``: those that answered the handshake and live, and how many there should be."""
        alive = sum(worker.end is not None and worker not in self.held for worker in self.workers)
        return alive, self.target()

    def target(self) -> int:
        return self._owner.demand() if self._settings.debug else self.wanted + self.extra

    def missing(self) -> int:
        """How many are to be started."""
        return self.target() - sum(not worker.replaced and not worker.left for worker in self.workers)

    @property
    def scheduled(self) -> bool:
        """A worker is starting, or a start is scheduled."""
        return self._timer is not None or any(
            worker.end is None and not worker.left for worker in self.workers
        )

    @property
    def draining(self) -> bool:
        drain = self._host.drain
        return self.stopping or (drain is not None and bool(drain.draining))

    @property
    def tripped(self) -> bool:
        """No worker is alive and one start after the other fails: nobody is to wait for the next.

        Starts go on, one a step; the first that succeeds ends it.
        """
        return not self._settings.debug and self.failures.tripped(self.counts()[0])

    @property
    def _probing(self) -> bool:
        """A start is under way, whose outcome decides about the next."""
        return any(worker.end is None and not worker.left for worker in self.workers)

    # ------------------------------------------------------------------ starting

    def begin(self, wanted: int, first: int) -> list[Worker]:
        """Start *first* workers of *wanted*; until `begun` none is replaced."""
        self.stopping = False
        self.starting = True
        self.wanted = wanted
        self.extra = 0
        self.failures.restart()
        return self.spawn(first)

    def begun(self) -> None:
        """The start is over, well or not."""
        self.starting = False
        self.maintain()

    def maintain(self) -> None:
        """Start what is missing: at once, or one by one with pauses while workers die before an answer.

        The waker of every call that waits for a worker that does not exist yet.
        """
        if self.stopping or self.starting:
            return
        if self._spawning:  # a process that was made just now has ended already
            self._host.reactor.callLater(0, self.maintain)
            return
        if not self.draining:
            for worker in self._turns.take(self.target()):
                self._tell_late(worker)
        missing = self.missing()
        if missing <= 0 or (self.draining and not self._owner.demand()):
            return
        if not self.failures.pausing:
            self.spawn(missing)
        elif not self._probing:  # else its end calls this again
            self._later()

    def spawn(self, count: int) -> list[Worker]:
        """Start *count* workers now."""
        company = count > 1 or self._probing
        # A worker may be gone before its making returned; it is counted afterwards, once.
        self._spawning = True
        try:
            made = [self._owner.make_worker() for _ in range(count)]
        finally:
            self._spawning = False
        if self.failures.pausing or company:
            self.failures.hush(made)
        return made

    def _later(self) -> None:
        if self._timer is None:
            pause = self.failures.pause(self.counts()[0])
            self._timer = self._host.reactor.callLater(pause, self._one)

    def _one(self) -> None:
        self._timer = None
        if not self.stopping and self.missing() > 0 and (not self.draining or self._owner.demand()):
            self.spawn(1)

    def apply(self, settings: PoolSettings, wanted: int) -> None:
        """Go by other settings; `maintain` and `shrink_to_fit` then see to the number of workers."""
        other_limit = settings.max_jobs != self._settings.max_jobs
        self._settings = settings
        self.wanted = wanted
        for worker in self.workers:
            if other_limit and not worker.replaced and not worker.left:
                worker.limit = self.limit_for_new()

    def forgive(self) -> None:
        """What failed so far is no reason to wait any more: another program is started now."""
        self.failures.forget()
        self._cancel_timer()

    def limit_for_new(self) -> int:
        """How many calls a new worker gets, by chance where RoadRunner's jitter has room."""
        if self._settings.debug:
            return 1
        return jobs_limit(self._settings.max_jobs, self._host.random) or NEVER

    # ------------------------------------------------------------------ what workers tell

    def ready(self, worker: Worker) -> None:
        """*worker* answered the handshake: one that waited for its replacement may go."""
        self.failures.started(worker)
        if not self.starting:
            self._let_go()
        if self.failures.pausing or self._turns.waiting:
            self.maintain()

    def answered(self) -> None:
        """Some worker gave its first answer."""
        if self.failures.answered():
            self._cancel_timer()
            self.maintain()

    def gone(self, worker: Worker) -> None:
        """*worker* has been reaped."""
        self.workers.remove(worker)
        self._turns.forget(worker)
        held = worker in self.held
        self.held.discard(worker)
        self.failures.hear_out(worker)
        if worker.error is not None and not held:
            self.failures.last = worker.error
        if not self.stopping and not self.starting:
            if not held:
                self._count_failure(worker)
            self.maintain()
        if not self.workers:
            waiters, self._all_gone = self._all_gone, []
            for waiter in waiters:
                waiter.callback(None)

    def _count_failure(self, worker: Worker) -> None:
        before = self.failures.count
        self.failures.ended(worker, self.counts()[0])
        if before < self.failures.count == TRIP and self.tripped and worker.error is not None:
            self.failures.tell_tripped(worker.error)

    # ------------------------------------------------------------------ replacing

    def replace(
        self, worker: Worker, state: WorkerState, warm: bool = True, limit: float | None = None
    ) -> bool:
        """Start another for *worker*, which retires: at once, or when the other is ready (*warm*).

        Warm, it may have to wait for its turn. Nothing while draining: no worker is recycled then. True when
        *worker* will go.
        """
        if worker.left:
            return True
        if self.draining and warm:
            return False
        if not warm:
            worker.replaced = True
            self._turns.forget(worker)
            worker.retire(state, limit)
        elif not self.goes(worker):
            worker.state = state
            self._turns.line_up(worker, state, limit)
        self.maintain()
        return True

    def goes(self, worker: Worker) -> bool:
        """*worker* will go, when another is there or it is its turn."""
        return self._turns.goes(worker)

    def succeed(self, worker: Worker, state: WorkerState, limit: float) -> Worker:
        """Start another for *worker* at once, for a reset; `replace` would wait out a back-off."""
        self.follow(worker, state, limit)
        [new] = self.spawn(1)
        return new

    def follow(self, worker: Worker, state: WorkerState, limit: float) -> None:
        """*worker* retires as soon as enough others take calls."""
        self._turns.put_first(worker, state, limit)

    def hold(self, worker: Worker) -> None:
        """*worker* is only tried: it takes no calls and does not count, until `admit`."""
        worker.replaced = True
        self.held.add(worker)

    def admit(self, worker: Worker) -> None:
        """*worker* is one of all from now on."""
        worker.replaced = False
        self.held.discard(worker)

    def _let_go(self) -> None:
        """Those that wait for their replacement retire as far as enough others take calls."""
        ready = sum(worker.ready and worker not in self.held for worker in self.workers)
        self._turns.let_go(ready - self.target())

    def keep(self, worker: Worker) -> None:
        """*worker* was to be replaced and no other came: it stays, unless fewer are wanted meanwhile."""
        if worker.left:
            return
        self._turns.forget(worker)
        if self.missing() <= 0:
            worker.retire(WorkerState.DESTROYED, self._settings.destroy_timeout)
            return
        worker.replaced = False
        worker.state = WorkerState.READY
        if worker.limit == NEVER:
            worker.limit = worker.jobs + self.limit_for_new()

    def worn(self, worker: Worker) -> None:
        """*worker* has got as many calls as its limit says."""
        worker.limit = NEVER
        debug = self._settings.debug
        # As a rule it serves on until another does, however long that takes: on a busy machine, where starts are slow,
        # the workers would else be gone before their replacements are there, and every call would wait.
        warm = not debug and self._settings.max_jobs >= EXACT
        stays = self.draining and not debug
        if stays or not self.replace(worker, WorkerState.MAX_JOBS, warm):
            worker.limit = worker.jobs + 1  # a drain may be called off

    def _tell_late(self, worker: Worker) -> None:
        """Once: workers cannot be started as fast as these limits want them."""
        most = self._settings.max_jobs
        if self._told_late or not most or worker.jobs < LATE * most:
            return
        self._told_late = True
        self._log.warn(
            "worker {pid} got {jobs} calls until it was its turn to be replaced: others do not start as fast "
            "as max_jobs ({most}) is reached; --preload starts them faster",
            event="max_jobs_late",
            pid=worker.pid,
            jobs=worker.jobs,
            most=most,
        )

    def grow(self, count: int) -> list[Worker]:
        """*count* more, started at once."""
        count = min(count, MOST - self.wanted)
        self.wanted += count
        return self.spawn(max(0, count))

    def shrink(self, count: int) -> list[Worker]:
        """*count* less: those with the fewest calls retire, at the latest after destroy_timeout. Workers that are missing
        count; the last one stays."""
        count = min(count, self.wanted - 1)
        self.wanted -= max(0, count)
        return self._dismiss(min(count, -self.missing()))

    def shrink_to_fit(self) -> list[Worker]:
        """Those beyond the wanted number retire."""
        return self._dismiss(-self.missing())

    def _dismiss(self, count: int) -> list[Worker]:
        staying = [worker for worker in self.workers if not worker.replaced and not worker.left]
        staying.sort(key=lambda worker: (worker.end is not None, worker.end.load if worker.end else 0))
        for worker in staying[: max(0, count)]:
            self._turns.forget(worker)
            worker.replaced = True
            worker.retire(WorkerState.DESTROYED, self._settings.destroy_timeout)
        self._let_go()
        return staying[: max(0, count)]

    def add_extra(self, count: int) -> None:
        """The allocator wants *count* more for a while; negative: as many less."""
        self.extra = max(0, self.extra + count)
        if count < 0:
            self._dismiss(-self.missing())
        else:
            self.maintain()

    # ------------------------------------------------------------------ stopping

    def stop(self) -> Deferred[None]:
        """Stop all by the schedule; fires when all are reaped."""
        self._end()
        for worker in list(self.workers):
            worker.stop()
        return self.when_empty()

    def kill(self) -> Deferred[None]:
        """SIGKILL to all; fires when all are reaped."""
        self._end()
        for worker in list(self.workers):
            worker.kill("the pool stops at once")
        return self.when_empty()

    def demand(self) -> int:
        """Calls that wait for a worker."""
        return self._owner.demand()

    def _end(self) -> None:
        self.stopping = True
        self._cancel_timer()
        self.failures.stop()
        self._turns.clear()

    def when_empty(self) -> Deferred[None]:
        """Fires when no process is left."""
        if not self.workers:
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        self._all_gone.append(waiter)
        return waiter

    def _cancel_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def each_ready(self, action: Callable[[Worker], object]) -> None:
        """Do *action* for every worker that takes calls."""
        for worker in list(self.workers):
            if worker.ready:
                action(worker)
