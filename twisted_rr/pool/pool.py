"""One pool of workers of one kind: its start and stop, what its workers tell, and what operators may ask of it.

Which call a worker gets is placement.py's subject, how many workers there are crew.py's, what one does worker.py's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredLock, succeed
from zope.interface import implementer

from twisted_rr.errors import Draining, WorkerStartError
from twisted_rr.interfaces import IWorkerPool
from twisted_rr.log import logger
from twisted_rr.pool.allocator import Allocator
from twisted_rr.pool.cpus import default_workers
from twisted_rr.pool.crew import Crew
from twisted_rr.pool.health import PoolHealth
from twisted_rr.pool.host import PoolHost, StopSchedule
from twisted_rr.pool.parting import Parting
from twisted_rr.pool.placement import Placement
from twisted_rr.pool.recruits import Recruits
from twisted_rr.pool.relay import one_call
from twisted_rr.pool.rolling import ResetReport, all_of, reset_all
from twisted_rr.pool.settings import PoolSettings, ServerSettings
from twisted_rr.pool.spec import LaunchSpec, PoolPlan
from twisted_rr.pool.starting import Starting
from twisted_rr.pool.state import TemplateInfo, WorkerInfo, WorkerState
from twisted_rr.pool.supervisor import Supervisor
from twisted_rr.pool.worker import Worker
from twisted_rr.wire.call import Call
from twisted_rr.wire.mux_settings import MAX_MESSAGE

__all__ = ["PoolHost", "StopSchedule", "WorkerPool"]


@implementer(IWorkerPool)
class WorkerPool(Service):
    """See `IWorkerPool`; ``pool.health`` is its `IHealth` (two contracts call something ``ready``).

    ``startService`` starts the workers; `ready` tells how it went. ``stopService`` takes no more calls,
    stops every worker by the schedule of `PoolHost.stop` and fires when all are reaped; what is then still
    open ends with WorkerDied.

    :ivar concurrency: calls that a worker gets at once; 0: as many as it takes.
    :ivar max_message: bytes of one message (mux.md 4) that a worker may send; for a front to set before the start.
    :ivar plan: what its workers are started with.
    :ivar replacing: held by who replaces workers one by one.
    :ivar killed: workers that were told to stop and needed SIGKILL, since the start (exit code 5).
    """

    open: Callable[[Any, bytes, bool, Any], Any]
    call_freed: Callable[[Worker, Call], None]
    call_refused: Callable[[Worker, Call], bool]
    call_lost: Callable[[Worker, Call], None]

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
        self._supervisor = Supervisor(self, host, settings, self._log)
        self._allocator = Allocator(self.crew, host.reactor, settings.dynamic_allocator)
        self._calls = calls = Placement(host.reactor, settings, self.crew, self._allocator, self.health)
        # On the path of every call, so without a step in between.
        self.open = calls.open
        self.call_freed = calls.freed
        self.call_refused = calls.refused
        self.call_lost = calls.lost
        self._parting = Parting(self, host, self._log)
        self._starting = Starting(self, host.prepare)

    # ------------------------------------------------------------------ what workers tell (WorkerOwner)

    def worker_ready(self, worker: Worker) -> None:
        calls = self._calls
        if calls.known and worker.mux is not self.mux:
            self._wrong_kind(worker)
            return
        if not calls.known:
            calls.known = True
            self.mux = calls.mux = worker.mux
        if worker not in self.crew.held:
            self.take(worker)

    def take(self, worker: Worker) -> None:
        """*worker* gets calls from now on."""
        self._calls.take(worker)
        self.crew.ready(worker)
        if self.crew.draining and not self.crew.stopping:
            self._parting.tell(worker)
        self._calls.serve()
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
        self._calls.leave(worker)

    def worker_gone(self, worker: Worker) -> None:
        self.crew.gone(worker)
        if self.crew.draining and worker.error is not None and not self.crew.counts()[0]:
            # In a drain nothing is gained by another try: those who wait are told at once.
            self._calls.give_up()
        elif self.crew.tripped:
            self._calls.give_up()

    def look(self) -> None:
        """Once a second: nobody waits for a worker that cannot be started (drain.md F3)."""
        if self._calls.waiting.size and self._calls.hopeless():
            self._calls.give_up()

    def hopeless(self) -> bool:
        """See `Placement.hopeless`."""
        return self._calls.hopeless()

    def worker_room(self, worker: Worker) -> None:
        self._calls.serve()

    def worker_retires(self, worker: Worker) -> None:
        self.crew.replace(worker, WorkerState.INVALID, warm=False)

    def worker_forced(self, worker: Worker) -> None:
        """See `WorkerOwner`."""
        self.killed += 1

    def worker_answered(self, worker: Worker) -> None:
        self.crew.answered()

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
        return not self.mux if self._calls.known else one_call(plan.settings.command or plan.server.command)

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
        self._calls.apply(settings)
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
        return self._calls.waiting.size

    def now(self) -> float:
        """Monotonic seconds."""
        return float(self._seconds())

    def busy(self) -> bool:
        """See `Placement.busy`."""
        return self._calls.busy()

    def full(self) -> bool:
        """See `Placement.full`."""
        return self._calls.full()

    # ------------------------------------------------------------------ start and stop

    def startService(self) -> None:
        Service.startService(self)
        self._calls.known = False
        self._calls.running = True
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
        self._calls.running = False
        self._parting.stop()
        self._supervisor.stop()
        self._allocator.stop()
        self._calls.refuse_all()
        gone = self.crew.stop()
        if self.crew.starting:
            self._starting.abandon()
        return gone

    def hurry(self) -> None:
        """SIGKILL to every worker now; ``stopService`` still fires only when all are reaped."""
        self._calls.refuse_all()
        self.crew.kill()

    # ------------------------------------------------------------------ for operators

    @property
    def shed(self) -> int:
        """Calls that waited too long and were turned away (``max_queue_age``), since the start."""
        return self._calls.shed

    @property
    def stranded(self) -> int:
        """Calls of a drain that no worker could be started for, since the start (exit code 5 too)."""
        return self._calls.stranded

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
        return self._calls.waiting.size

    def waited(self) -> float:
        """Seconds that the first of them has waited; 0 when none waits."""
        return self._calls.waiting.oldest()

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
