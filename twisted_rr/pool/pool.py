"""One pool of workers of one kind: where calls are placed, wait, are run again and are refused.

How many workers there are is crew.py's affair, what one does worker.py's, who waits how long waiting.py's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredLock, succeed
from zope.interface import implementer

from twisted_rr.errors import (
    ApplicationError,
    CrashLoop,
    Draining,
    NoFreeWorker,
    Overloaded,
    PoolError,
    QueueFull,
    TooLarge,
    WorkerStartError,
)
from twisted_rr.interfaces import IWorkerPool
from twisted_rr.log import logger
from twisted_rr.pool.allocator import Allocator
from twisted_rr.pool.cpus import default_workers
from twisted_rr.pool.crew import Crew
from twisted_rr.pool.health import PoolHealth
from twisted_rr.pool.host import PoolHost, StopSchedule
from twisted_rr.pool.parting import Parting
from twisted_rr.pool.recruits import Recruits
from twisted_rr.pool.relay import one_call
from twisted_rr.pool.rolling import ResetReport, all_of, reset_all
from twisted_rr.pool.settings import PoolSettings, ServerSettings
from twisted_rr.pool.spec import LaunchSpec, PoolPlan
from twisted_rr.pool.starting import Starting
from twisted_rr.pool.state import TemplateInfo, WorkerInfo, WorkerState
from twisted_rr.pool.supervisor import Supervisor
from twisted_rr.pool.waiting import Collecting, Lobby, Waiting
from twisted_rr.pool.worker import Worker
from twisted_rr.wire.call import Call
from twisted_rr.wire.mux_settings import MAX_MESSAGE

__all__ = ["PoolHost", "StopSchedule", "WorkerPool"]

FULL: Final = 1 << 62


@implementer(IWorkerPool)
class WorkerPool(Service):
    """See `IWorkerPool`; ``pool.health`` is its `IHealth` (two contracts call something ``ready``).

    ``startService`` starts the workers; `ready` tells how it went. ``stopService`` takes no more calls,
    stops every worker by the schedule of `PoolHost.stop` and fires when all are reaped; what is then still
    open ends with WorkerDied. `finish` waits for open and waiting calls before that.

    :ivar shed: calls that waited too long and were turned away (``max_queue_age``), since the start.
    :ivar concurrency: calls that a worker gets at once; 0: as many as it takes.
    :ivar stranded: calls of a drain that no worker could be started for, since the start (exit code 5 too).
    :ivar max_message: bytes of one message (mux.md 4) that a worker may send; for a front to set before the start.
    :ivar plan: what its workers are started with.
    :ivar replacing: held by who replaces workers one by one.
    :ivar killed: workers that were told to stop and needed SIGKILL, since the start (exit code 5).
    """

    def __init__(
        self,
        name: str,
        mode: str,
        settings: PoolSettings,
        server: ServerSettings,
        host: PoolHost,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """*mode* becomes the workers' RR_MODE, *env* is the plugin's own part of their environment.

        Raises ConfigError: no command, no such user.
        """
        self.name = name
        self.mux = False
        self.killed = 0
        self.stranded = 0
        self.shed = 0
        self.debug = settings.debug
        self.max_message = MAX_MESSAGE
        self.settings = settings
        self.health = PoolHealth(self)
        self._host = host
        self.plan = PoolPlan(settings, server, host.environ)
        self.replacing = DeferredLock()
        self._log = logger("server")
        self._seconds = host.reactor.seconds
        if server.relay != "pipes" and host.relays is None and host.make_ends is None:
            raise ValueError(f"server.relay is {server.relay}: PoolHost.relays must hold its listener")
        self._recruits = Recruits(host, server, mode, env or {})
        self.crew = Crew(self, host, settings, self._log)
        self._takers: list[Worker] = []
        self._waiting = Waiting(
            host.reactor, settings.allocate_timeout, self._expired, settings.max_queue_age, self._too_old
        )
        self._lobby = Lobby(self._left)
        self._collecting = Collecting(self._left, self._collected, self._fail_later)
        self._bodies: set[Call] = set()  # their bodies are being collected
        self._known = False  # whether ``mux`` is known
        self._finished: list[Deferred[None]] = []
        self._supervisor = Supervisor(self, host, settings, self._log)
        self._allocator = Allocator(self.crew, host.reactor, settings.dynamic_allocator)
        self._parting = Parting(self, host, self._log)
        self._starting = Starting(self, host.prepare)

    # ------------------------------------------------------------------ calls

    def open(self, head: Any, body: bytes, more: bool, to: Any) -> Any:
        """See `IWorkerPool.open`. The way of most calls is this method alone."""
        best: Worker | None = None
        if self.mux and not self._waiting.size:
            least = FULL
            for worker in self._takers:
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
            self.crew.worn(worker)

    def _hold(self, head: Any, body: bytes, more: bool, to: Any) -> Call:
        """No worker takes the call as it is: it waits, or collects its body first."""
        call = Call(head, to, self._lobby)
        call.more = more
        if body:
            call.queue.append(body)
            call.queued = len(body)
        if not self.running or self.crew.stopping:
            self._fail_later(call, Draining())
        elif self._known and not self.mux:
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
        except PoolError as error:
            self._unstored(call, error)
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
        if not self._waiting.size:
            worker = self._free()
            if worker is not None:
                self._place(call, worker)
                return
        if self.full():
            self._fail_later(call, QueueFull(self.settings.max_queue_size))
            return
        crew = self.crew
        short = self.debug or len(self._takers) < crew.target()  # if not, there is nothing to be looked after
        if short and (crew.tripped or (crew.failures.impossible_since is not None and self.hopeless())):
            call.end = self._lobby
            self._host.reactor.callLater(0, self._strand, call)
            self.crew.maintain()
            return
        call.since = self.now()
        self._waiting.put(call)
        # Its wakers: a worker that gets free (call_freed, worker_room), one that gets ready, and the timer.
        self._allocator.shortage()
        if short:
            crew.maintain()

    def _free(self, but: Worker | None = None) -> Worker | None:
        """The worker with the fewest calls that takes one more; among equals the one that rested longest."""
        best: Worker | None = None
        for worker in self._takers:
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
            self.crew.worn(worker)

    def _queued(self, call: Call) -> bytes:
        """The body that came while *call* waited, in one piece where it is one: so it can be run again."""
        if call.full or not all(isinstance(piece, bytes) for piece in call.queue):
            return b""
        body = b"".join(piece for piece in call.queue if isinstance(piece, bytes))
        call.drop()
        return body

    def _serve(self) -> None:
        """Give waiting calls to workers as long as there are both."""
        while self._waiting.size:
            worker = self._free()
            if worker is None:
                return
            call = self._waiting.take()
            if call is None:
                return
            if call.worker is worker and (other := self._free(but=worker)) is not None:
                worker = other  # it has refused this very call
            self._place(call, worker)

    def _fail_later(self, call: Call, error: Exception) -> None:
        """No callback comes before ``open`` has returned."""
        call.end = self._lobby
        self._host.reactor.callLater(0, self._fail, call, error)

    def _fail(self, call: Call, error: Exception) -> None:
        self._close_spool(call)
        call.fail(error)

    def _expired(self, call: Call) -> None:
        self._fail(call, NoFreeWorker(self.settings.allocate_timeout))
        self._check_finished()

    def _too_old(self, call: Call) -> None:
        self.shed += 1
        age = self.settings.max_queue_age
        self._fail_later(call, Overloaded(self.now() - call.since, age))
        self._check_finished()

    def _left(self, call: Call) -> None:
        """*call* was given up while it waited or collected its body."""
        self._waiting.discard(call)
        self._bodies.discard(call)
        self._close_spool(call)
        self._check_finished()

    def _close_spool(self, call: Call) -> None:
        if call.spool is not None:
            call.spool.close()

    # ------------------------------------------------------------------ what workers tell (WorkerOwner)

    def worker_ready(self, worker: Worker) -> None:
        if self._known and worker.mux is not self.mux:
            self._wrong_kind(worker)
            return
        if not self._known:
            self._known = True
            self.mux = worker.mux
        if worker not in self.crew.held:
            self.take(worker)

    def take(self, worker: Worker) -> None:
        """*worker* gets calls from now on."""
        self._takers.append(worker)
        self.crew.ready(worker)
        if self.crew.draining and not self.crew.stopping:
            self._parting.tell(worker)
        self._serve()
        if self.settings.debug and not worker.jobs:
            worker.replaced = True
            worker.retire(WorkerState.DESTROYED)  # nobody waits any more, and the next call gets fresh code

    def _wrong_kind(self, worker: Worker) -> None:
        kinds = ("one call", "many calls")
        reason = (
            f"it takes {kinds[worker.mux]} at a time and the others {kinds[self.mux]}: restart the server"
        )
        worker.error = WorkerStartError(worker.spec.command, reason)
        worker.kill(reason)

    def worker_left(self, worker: Worker) -> None:
        if worker in self._takers:
            self._takers.remove(worker)

    def worker_gone(self, worker: Worker) -> None:
        self.crew.gone(worker)
        if self.crew.draining and worker.error is not None and not self.crew.counts()[0]:
            # In a drain nothing is gained by another try: those who wait are told at once.
            self._give_up()
        elif self.crew.tripped:
            self._give_up()
        self._check_finished()

    def look(self) -> None:
        """Once a second: nobody waits for a worker that cannot be started (drain.md F3)."""
        if self._waiting.size and self.hopeless():
            self._give_up()
            self._check_finished()

    def hopeless(self) -> bool:
        """No worker lives and none could be started for ``stuck_after``; in a drain that is known at once."""
        patience = 0.0 if self.crew.draining else self.health.stuck_after
        since = self.crew.failures.impossible_since
        return since is not None and not self.crew.counts()[0] and self.now() - since >= patience

    def _give_up(self) -> None:
        for call in self._waiting.take_all():
            self._strand(call)

    def _strand(self, call: Call) -> None:
        self.stranded += self.crew.draining
        failures = self.crew.failures
        if self.crew.tripped and failures.last is not None:
            self._fail(call, CrashLoop(failures.count, failures.last.reason, failures.last.stderr))
        else:
            self._fail(call, NoFreeWorker(self.settings.allocate_timeout))

    def worker_room(self, worker: Worker) -> None:
        self._serve()

    def worker_retires(self, worker: Worker) -> None:
        self.crew.replace(worker, WorkerState.INVALID, warm=False)

    def worker_forced(self, worker: Worker) -> None:
        """See `WorkerOwner`."""
        self.killed += 1

    def worker_answered(self, worker: Worker) -> None:
        self.crew.answered()

    def call_freed(self, worker: Worker, call: Call) -> None:
        if call.spool is not None and call.end is worker.end:
            call.spool.close()
        if worker.left:
            if not worker.end.load:
                worker.idle()
        elif not worker.end.accepting and not worker.end.missed:
            self.worker_retires(worker)
        if self._waiting.size:
            self._serve()
        if self._finished:
            self._check_finished()

    def call_refused(self, worker: Worker, call: Call) -> bool:
        if (call.held is None and call.spool is None) or self.crew.stopping:
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
        other = self._free(but=worker)
        if other is not None:
            self._place(call, other)
        else:
            self._waiting.put_first(call)
            self.crew.maintain()
        return True

    def call_lost(self, worker: Worker, call: Call) -> None:
        if call.end is worker.end:
            self._close_spool(call)

    # ------------------------------------------------------------------ the crew's owner

    def make_worker(self) -> Worker:
        return self._made(self.plan)

    def make_held(self, plan: PoolPlan) -> Worker:
        """A worker started as *plan* says, to see whether it works: it takes no calls before `admit`."""
        return self._made(plan, held=True)

    def _made(self, plan: PoolPlan, held: bool = False) -> Worker:
        worker = Worker(self, self._host, self.spec(plan), plan.settings.allocate_timeout, self._log)
        worker.limit = self.crew.limit_for_new()
        self.crew.workers.append(worker)
        if held:
            self.crew.hold(worker)
        worker.start(plan.server.relay, plan.server.relay_pipes or self._single(plan))
        return worker

    def _single(self, plan: PoolPlan) -> bool:
        """Its workers take one call at a time, as far as that is known before they are there."""
        return not self.mux if self._known else one_call(plan.settings.command or plan.server.command)

    def spec(self, plan: PoolPlan) -> LaunchSpec:
        """What a worker is started with."""
        return self._recruits.spec(plan)

    def renew_template(self, plan: PoolPlan) -> None:
        """Workers that *plan* starts from now on take the application's code of now, if they are preloaded."""
        self._recruits.renew_template(plan)

    def apply(self, plan: PoolPlan) -> None:
        """Go by *plan* from now on; workers that are there stay as they were started (see `Succession`)."""
        self.plan = plan
        self.settings = settings = plan.settings
        self.crew.apply(settings, self._size()[0])
        self._waiting.limit_to(settings.allocate_timeout, settings.max_queue_age)
        self._allocator.apply(settings.dynamic_allocator)
        self._supervisor.stop()
        self._supervisor = Supervisor(self, self._host, settings, self._log)
        self._supervisor.start()

    def admit(self, worker: Worker) -> None:
        """A held worker gets calls from now on."""
        self.crew.admit(worker)
        self.take(worker)

    @property
    def concurrency(self) -> int:
        """See `WorkerOwner`."""
        return self.settings.concurrency

    def demand(self) -> int:
        return self._waiting.size

    def now(self) -> float:
        """Monotonic seconds."""
        return float(self._seconds())

    def busy(self) -> bool:
        """There are workers, and none of them takes one more call."""
        return bool(self._takers) and self._free() is None

    def full(self) -> bool:
        """The next call that has to wait would be refused."""
        size = self.settings.max_queue_size
        return bool(size) and not self.settings.debug and self._waiting.size >= size

    # ------------------------------------------------------------------ start and stop

    def startService(self) -> None:
        Service.startService(self)
        self._known = False
        count, reason = self._size()
        if reason:
            self._log.info(
                "pool {pool}: {count} workers, because {reason}", pool=self.name, count=count, reason=reason
            )
        self._parting.start()
        self._supervisor.start()
        self._starting.begin(count)

    def _size(self) -> tuple[int, str]:
        if self.settings.debug:
            return 0, ""
        if self.settings.num_workers:
            return self.settings.num_workers, ""
        return default_workers()

    def ready(self) -> Deferred[None]:
        return self._starting.over()

    @property
    def start_error(self) -> WorkerStartError | None:
        """Why the last start failed."""
        return self._starting.error

    def stopService(self) -> Deferred[None]:
        Service.stopService(self)
        self._parting.stop()
        self._supervisor.stop()
        self._allocator.stop()
        self._refuse_all()
        gone = self.crew.stop()
        if self.crew.starting:
            self._starting.abandon()
        return gone

    def finish(self) -> Deferred[None]:
        """Fires when no call is open or waiting; the pool still takes calls meanwhile."""
        waiter: Deferred[None] = Deferred()
        self._finished.append(waiter)
        self._check_finished()
        return waiter

    def _check_finished(self) -> None:
        if not self._finished or self._waiting.size or self._bodies:
            return
        if any(worker.end is not None and worker.end.load for worker in self.crew.workers):
            return
        waiters, self._finished = self._finished, []
        for waiter in waiters:
            waiter.callback(None)

    def hurry(self) -> None:
        """SIGKILL to every worker now; ``stopService`` still fires only when all are reaped."""
        self._refuse_all()
        self.crew.kill()

    def _refuse_all(self) -> None:
        """Nobody waits any more."""
        for call in [*self._waiting.take_all(), *self._bodies]:
            self._fail(call, Draining())
        self._bodies.clear()
        self._check_finished()

    # ------------------------------------------------------------------ for operators

    def workers(self) -> Sequence[WorkerInfo]:
        now = self._seconds()
        return [worker.info(now) for worker in self.crew.workers if worker.pid]

    def template(self) -> TemplateInfo | None:
        """See `IWorkerPool`."""
        return self._recruits.template(self.plan)

    def counts(self) -> tuple[int, int]:
        """``(alive, total)``: workers that answered the handshake and live, and those wanted."""
        return self.crew.counts()

    def waiting(self) -> int:
        """Calls that wait for a worker."""
        return self._waiting.size

    def waited(self) -> float:
        """Seconds that the first of them has waited; 0 when none waits."""
        return self._waiting.oldest()

    def reset(self) -> Deferred[None]:
        """See `replace`."""
        return self.replace().addCallback(lambda report: None)

    def replace(self) -> Deferred[ResetReport]:
        """Replace every worker, the new ones first, ``reset_batch`` at a time; fires when the old ones are reaped.

        Fails with ResetFailed when a new one does not start; those not yet replaced stay. Fails with
        Draining in a drain.
        """
        return Deferred.fromCoroutine(reset_all(self, self._log))

    def grow(self, count: int) -> Deferred[None]:
        return Deferred.fromCoroutine(self._grow(count))

    async def _grow(self, count: int) -> None:
        if self.crew.draining:
            raise Draining()
        await all_of([worker.when_ready() for worker in self.crew.grow(count)])

    def shrink(self, count: int) -> Deferred[None]:
        gone = [worker.when_gone() for worker in self.crew.shrink(count)]
        return Deferred.fromCoroutine(all_of(gone)) if gone else succeed(None)
