"""The workers of one pool as a body: how many there are, who is started for whom, how all of them stop.

Which worker gets a call is the pool's affair; the crew tells it who takes calls.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred, succeed

from twisted_rr.errors import WorkerStartError, last_words
from twisted_rr.pool.cpus import default_workers
from twisted_rr.pool.host import PoolHost
from twisted_rr.pool.limits import ALONE, EXACT, LONGEST, Backoff, jobs_limit
from twisted_rr.pool.settings import PoolSettings
from twisted_rr.pool.state import WorkerState
from twisted_rr.pool.worker import NEVER, Worker

MOST = 2048
TRIP = 5  # starts that fail one after the other until nobody waits for the next
LISTEN = 3.0  # seconds that a start says nothing to the log when others start beside it
DIFFERENT = 16  # last words that are remembered
AT_ONCE = 4  # at most a fourth of the workers is being replaced by plan at a time, and no more than start side by side


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
    workers that take calls does not fall below the wanted one. Those that limits end do so in turns: workers that
    start take the CPU from those that serve, and workers that began together reach their limits together.

    :ivar start_failures: workers that did not start since the last one that did.
    :ivar held: those of `workers` that take no calls yet: started to see whether other settings work.
    """

    def __init__(self, owner: CrewOwner, host: PoolHost, settings: PoolSettings, log: Any) -> None:
        self.workers: list[Worker] = []
        self.held: set[Worker] = set()
        self.wanted = 0
        self.extra = 0
        self.stopping = False
        self.starting = False
        self.impossible_since: float | None = None
        self.last_error: WorkerStartError | None = None
        self.backoff = Backoff(host.random)
        self.start_failures = 0
        self._burst: set[tuple[str, ...]] = set()  # what workers that failed have said, and the log has
        self._last_try = 0.0  # seconds that the last start took to fail
        self._owner = owner
        self._host = host
        self._settings = settings
        self._log = log
        self._outgoing: deque[tuple[Worker, WorkerState, float | None]] = deque()
        self._due: dict[Worker, tuple[WorkerState, float | None]] = {}  # it is not yet their turn to go
        self._timer: Any = None
        self._listening: Any = None
        self._all_gone: list[Deferred[None]] = []
        self._spawning = False
        self._side_by_side = default_workers()[0]  # a start takes a processor for as long as it takes

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
        return self.start_failures >= TRIP and not self._settings.debug and not self.counts()[0]

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
        self.last_error = None
        self.impossible_since = None
        self.backoff.succeeded()
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
        self._take_turns()
        missing = self.missing()
        if missing <= 0 or (self.draining and not self._owner.demand()):
            return
        if not self.backoff.failures:
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
        if self.backoff.failures or company:
            # Where one does not start, the others as a rule say the same.
            for worker in made:
                worker.process.hold()
            if not self.backoff.failures and self._listening is None:
                self._listening = self._host.reactor.callLater(LISTEN, self._listen, made[:1])
        return made

    def _listen(self, made: list[Worker]) -> None:
        """A start that takes long is followed, in one of those that were started together."""
        self._listening = None
        for worker in made:
            if not self.backoff.failures:
                worker.process.release()

    def _later(self) -> None:
        if self._timer is None:
            self._timer = self._host.reactor.callLater(self._pause(), self._one)

    def _pause(self) -> float:
        """Short while no worker is alive, but never shorter than a try takes: half a processor is left to others."""
        return self.backoff.pause(LONGEST if self.counts()[0] else max(ALONE, self._last_try))

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
        self.backoff.succeeded()
        self.impossible_since = None
        self.start_failures = 0
        self._burst.clear()
        self._cancel_timer()

    def limit_for_new(self) -> int:
        """How many calls a new worker gets, by chance where RoadRunner's jitter has room."""
        if self._settings.debug:
            return 1
        return jobs_limit(self._settings.max_jobs, self._host.random) or NEVER

    # ------------------------------------------------------------------ what workers tell

    def ready(self, worker: Worker) -> None:
        """*worker* answered the handshake: one that waited for its replacement may go."""
        self.impossible_since = None
        if self.start_failures >= TRIP:
            self._log.info("workers start again, after {failures} that did not", failures=self.start_failures)
        self.start_failures = 0
        worker.process.release()
        if not self.starting:
            self._let_go()
        if self.backoff.failures or self._due:
            self.maintain()

    def answered(self) -> None:
        """Some worker gave its first answer."""
        if self.backoff.failures:
            self.backoff.succeeded()
            self._burst.clear()
            self._cancel_timer()
            self.maintain()

    def gone(self, worker: Worker) -> None:
        """*worker* has been reaped."""
        self.workers.remove(worker)
        self._forget(worker)
        held = worker in self.held
        self.held.discard(worker)
        self._hear_out(worker)
        if worker.error is not None and not held:
            self.last_error = worker.error
        if not self.stopping and not self.starting:
            if not held:
                self._count_failure(worker)
            self.maintain()
        if not self.workers:
            waiters, self._all_gone = self._all_gone, []
            for waiter in waiters:
                waiter.callback(None)

    def _hear_out(self, worker: Worker) -> None:
        """The last words of one that is gone are in the log once, however many say the same."""
        said = worker.process.said()
        worker.process.release(drop=bool(worker.error) and said in self._burst)
        if worker.error is not None and said and len(self._burst) < DIFFERENT:
            self._burst.add(said)

    def _count_failure(self, worker: Worker) -> None:
        if worker.answered or worker.planned:
            return
        self.backoff.failed()
        if worker.error is not None:
            self.start_failures += (
                not worker.unreachable
            )  # the other kind is the pool's to judge (`hopeless`)
            self._last_try = self._host.reactor.seconds() - worker.born
        if not worker.unreachable:
            self.impossible_since = None  # its program runs, so a start is possible
        elif self.impossible_since is None:
            self.impossible_since = self._host.reactor.seconds()
        if worker.error is not None:
            self._tell(worker.error)
        if self.start_failures == TRIP and self.tripped:
            self._tell_tripped(worker)

    def _tell(self, error: WorkerStartError) -> None:
        """The last lines of standard error went to the log as they came; the reason is one line more."""
        self._log.error(
            "{error}; try {failures}, the next in about {pause:.1f} s",
            error=str(error),
            failures=self.backoff.failures,
            pause=self._pause(),
        )

    def _tell_tripped(self, worker: Worker) -> None:
        assert worker.error is not None
        self._log.error(
            "no worker is alive and {failures} starts have failed: calls are refused until one succeeds; it said: {said}",
            event="crash_loop",
            failures=self.start_failures,
            said=last_words(worker.error.stderr) or "nothing",
            stderr=worker.error.stderr,
        )

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
            self._forget(worker)
            worker.retire(state, limit)
        elif not self.goes(worker):
            worker.state = state
            self._due[worker] = (state, limit)
        self.maintain()
        return True

    def goes(self, worker: Worker) -> bool:
        """*worker* will go, when another is there or it is its turn."""
        return worker.replaced or worker in self._due

    def _take_turns(self) -> None:
        """Those whose limits end them are replaced, so many at a time. The wakers are `ready` and `gone`."""
        if self.draining:
            return
        room = max(1, min(self.target() // AT_ONCE, self._side_by_side)) - len(self._outgoing)
        for worker in list(self._due)[: max(0, room)]:
            state, limit = self._due.pop(worker)
            worker.replaced = True
            self._outgoing.append((worker, state, limit))

    def succeed(self, worker: Worker, state: WorkerState, limit: float) -> Worker:
        """Start another for *worker* at once, for a reset; `replace` would wait out a back-off."""
        self.follow(worker, state, limit)
        [new] = self.spawn(1)
        return new

    def follow(self, worker: Worker, state: WorkerState, limit: float) -> None:
        """*worker* retires as soon as enough others take calls."""
        self._due.pop(worker, None)
        worker.replaced = True
        self._outgoing.appendleft((worker, state, limit))

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
        surplus = sum(worker.ready and worker not in self.held for worker in self.workers) - self.target()
        while self._outgoing and surplus > 0:
            worker, state, limit = self._outgoing.popleft()
            worker.retire(state, limit)
            surplus -= 1

    def keep(self, worker: Worker) -> None:
        """*worker* was to be replaced and no other came: it stays, unless fewer are wanted meanwhile."""
        if worker.left:
            return
        self._forget(worker)
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
        exact = self._settings.debug or self._settings.max_jobs < EXACT
        if not exact:
            # It serves on until another does, however long that takes: on a busy machine, where starts are slow, the
            # workers would else be gone before their replacements are there, and every call would wait.
            if not self.replace(worker, WorkerState.MAX_JOBS):
                worker.limit = worker.jobs + 1  # a drain may be called off
        elif not self.draining or self._settings.debug:
            self.replace(worker, WorkerState.MAX_JOBS, warm=False)

    def _forget(self, worker: Worker) -> None:
        self._due.pop(worker, None)
        for entry in list(self._outgoing):
            if entry[0] is worker:
                self._outgoing.remove(entry)

    def grow(self, count: int) -> list[Worker]:
        """*count* more, started at once."""
        count = min(count, MOST - self.wanted)
        self.wanted += count
        return self.spawn(max(0, count))

    def shrink(self, count: int) -> list[Worker]:
        """The *count* with the fewest calls retire, at the latest after destroy_timeout; the last one stays."""
        count = min(count, self.wanted - 1)
        self.wanted -= max(0, count)
        return self._dismiss(count)

    def shrink_to_fit(self) -> list[Worker]:
        """Those beyond the wanted number retire."""
        return self._dismiss(-self.missing())

    def _dismiss(self, count: int) -> list[Worker]:
        staying = [worker for worker in self.workers if not worker.replaced and not worker.left]
        staying.sort(key=lambda worker: (worker.end is not None, worker.end.load if worker.end else 0))
        for worker in staying[: max(0, count)]:
            self._due.pop(worker, None)
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
        self._cancel_listening()
        self._outgoing.clear()
        self._due.clear()

    def when_empty(self) -> Deferred[None]:
        """Fires when no process is left."""
        if not self.workers:
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        self._all_gone.append(waiter)
        return waiter

    def _cancel_listening(self) -> None:
        if self._listening is not None and self._listening.active():
            self._listening.cancel()
        self._listening = None

    def _cancel_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def each_ready(self, action: Callable[[Worker], object]) -> None:
        """Do *action* for every worker that takes calls."""
        for worker in list(self.workers):
            if worker.ready:
                action(worker)
