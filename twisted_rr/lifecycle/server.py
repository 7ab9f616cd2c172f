"""The root of the service tree: starts the phases, says when everything is ready, hands the way out to `stopping`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from twisted.application.service import IService, MultiService, Service
from twisted.internet.defer import Deferred, DeferredList, FirstError, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from twisted_rr.errors import RRError, for_log
from twisted_rr.interfaces import IFront, IWorkerPool
from twisted_rr.lifecycle.budget import Budget
from twisted_rr.lifecycle.clock import MonotonicClock
from twisted_rr.lifecycle.drain import DRAINED, RUNNING, STOPPING, Drain, WrongState
from twisted_rr.lifecycle.farewell import Farewell
from twisted_rr.lifecycle.movement import Movement
from twisted_rr.lifecycle.notify import Notifier
from twisted_rr.lifecycle.phases import FRONT, PHASES, WORKERS, Phase, name_of
from twisted_rr.lifecycle.report import EXIT_CODES, FAILED, Report
from twisted_rr.lifecycle.stopping import WayOut
from twisted_rr.log import logger


class StartEnded(RRError):
    """The server was stopped, or failed, before it was ready.

    :ivar failure: why, None for a stop.
    """

    def __init__(self, failure: Failure | None) -> None:
        super().__init__(failure)
        self.failure = failure

    def __str__(self) -> str:
        return "stopped before it was ready" if self.failure is None else str(self.failure.value)


class Server(MultiService):
    """The root service: six `Phase`s under one `Drain`.

    Usable inside a foreign MultiService: it installs no signal handler and no atexit hook, and its
    ``stopService`` drains without a shutdown of the reactor. It may start again after a stop.

    :param reactor: an IReactorCore for the shutdown trigger, and the owner of timers.
    :param budget: see `budget.plan`.
    :param clock: an IReactorTime with monotonic seconds; a `MonotonicClock` over *reactor* by default.
    :param on_failure: called once with the Failure when the server cannot go on; when it is None the
        server just stops itself (embedding).
    :param tell: whether the report of a stop is logged (``drain.report.log``).
    :ivar drain: the `Drain`.
    :ivar report: the `Report` of the last stop, None before.
    :ivar reload: `twisted_rr.reload.Reloader.reload`; None where the configuration cannot be read again.
    """

    def __init__(
        self,
        reactor: Any,
        budget: Budget,
        *,
        clock: IReactorTime | None = None,
        notify: Notifier | None = None,
        on_failure: Callable[[Failure], None] | None = None,
        tell: bool = True,
    ) -> None:
        super().__init__()
        self.reactor = reactor
        self.clock: IReactorTime = MonotonicClock(reactor) if clock is None else clock
        self.drain = Drain(budget, self.clock.seconds)
        self.notify = Notifier({}) if notify is None else notify
        self.failure: Failure | None = None
        self.report: Report | None = None
        self.reload: Callable[..., Deferred[Any]] | None = None
        self._on_failure = on_failure
        self._tell = tell
        self._at_end: list[Callable[[], Any]] = []
        self._trigger: Any = None
        self._unfollow: list[Callable[[], None]] = []
        self._stopping: list[Deferred[None]] | None = None
        self._bound = False
        self._log = logger("lifecycle")
        for name in PHASES:
            Phase(name).setServiceParent(self)

    # ------------------------------------------------------------------- tree

    def phase(self, name: str) -> Phase:
        """The phase of that name; KeyError when there is none."""
        found = self.getServiceNamed(name)
        assert isinstance(found, Phase)
        return found

    def place(self, phase: str, service: IService) -> None:
        """Put *service* into a phase."""
        service.setServiceParent(self.phase(phase))

    def fronts(self) -> list[IFront]:
        """The services of FRONT that can be drained."""
        return [child for child in self.phase(FRONT) if IFront.providedBy(child)]

    def pools(self) -> list[IWorkerPool]:
        """The worker pools."""
        return [child for child in self.phase(WORKERS) if IWorkerPool.providedBy(child)]

    def _in_flights(self) -> list[Any]:
        return [front.in_flight for front in self.fronts()]

    def at_end(self, flush: Callable[[], Any]) -> None:
        """Call *flush* at the end of every stop, before STATUS closes; a Deferred it returns is waited for
        within ``budget.flush``."""
        self._at_end.append(flush)

    @property
    def code(self) -> int:
        """The exit code that the last stop, or failure, asks for."""
        if self.report is not None:
            return self.report.code
        return EXIT_CODES[FAILED] if self.failure is not None else 0

    def line(self) -> str:
        """The lifecycle in one line, for systemd and logs."""
        drain = self.drain
        if not drain.draining:
            return drain.state
        busy = sum(front.in_flight.count() for front in self.fronts())
        return f"{drain.state}; in_flight={busy}; deadline_in={drain.remaining():.1f}s"

    # ------------------------------------------------------------------ start

    def privilegedStartService(self) -> None:
        """Let every service bind its ports. One that fails releases those before it, and fails the start."""
        if not self._may_start():
            return
        bound: list[IService] = []
        try:
            for child in self._children():
                bound.append(child)
                child.privilegedStartService()
        except BaseException:
            for child in reversed(bound):
                self._release(child)
            raise
        self._bound = True

    def startService(self) -> None:
        """Start the phases, STATUS first. Returns before everything is ready: see `drain`.

        Does nothing while it runs (a parent that runs starts what is added to it); raises `WrongState` while it
        still stops.
        """
        if not self._may_start():
            return
        self._bound = False
        self.report = None
        self.failure = None
        self._unfollow = [
            self.drain.watch(self._changed),
            Farewell(self.drain, self.clock, self.fronts).close,
            self.notify.follow(self.drain, self.clock, self.line, Movement(self._in_flights)),
        ]
        self.drain.start()
        Service.startService(self)
        self._trigger = self.reactor.addSystemEventTrigger("before", "shutdown", self._shutdown_begins)
        try:
            for phase in self:
                phase.startService()
        except BaseException:
            self._abandon_start()
            raise
        Deferred.fromCoroutine(self._become_ready()).addErrback(self.fail)

    def _may_start(self) -> bool:
        if self._stopping is not None:
            raise WrongState("start", self.drain.state)
        return not self.running

    def ready(self) -> Deferred[None]:
        """Fires when everything serves; fails with `StartEnded` when a failure or a stop came first."""
        waiter: Deferred[None] = Deferred(lambda cancelled: end())

        def changed(state: str) -> None:
            if state == RUNNING:
                end()
                waiter.callback(None)
            elif self.drain.draining:
                end()
                waiter.errback(StartEnded(self.failure))

        end = self.drain.watch(changed)
        changed(RUNNING if self.drain.state == DRAINED else self.drain.state)
        return waiter

    async def _become_ready(self) -> None:
        waits = [maybeDeferred(wait) for wait in self._readiness()]
        # The first that fails decides; the rest is consumed so that nothing is logged twice.
        try:
            await DeferredList(waits, fireOnOneErrback=True, consumeErrors=True)
        except FirstError as error:
            if self.drain.draining:
                # Whoever waits for a pool that is being stopped is told so; that is no failure.
                return
            error.subFailure.raiseException()
        self.drain.ready()

    def _readiness(self) -> Iterator[Callable[[], Any]]:
        for child in self._children():
            if IWorkerPool.providedBy(child):
                yield child.ready
            elif hasattr(child, "started"):
                yield child.started

    def _children(self) -> Iterator[Any]:
        for phase in self:
            yield from phase

    def _release(self, child: IService) -> None:
        def failed(failure: Failure) -> None:
            self._log.debug(
                "{child} could not be released: {reason}", child=name_of(child), reason=str(failure.value)
            )

        maybeDeferred(child.stopService).addErrback(failed)

    def _abandon_start(self) -> None:
        Service.stopService(self)
        self.failure = Failure()
        self.drain.begin("failed start")
        self.drain.hurry()
        self._forget_trigger()
        self._drop_phases()
        self.drain.stopping()
        self._unfollow_all()

    def _drop_phases(self) -> None:
        """Stop and force everything at once, waiting for nothing."""
        for phase in reversed(list(self)):
            if phase.running:
                phase.stopService().addErrback(lambda failure: None)  # logged by the phase, child by child
            phase.hurry()

    # ------------------------------------------------------------------- stop

    def fail(self, failure: Failure) -> None:
        """The server cannot go on: drain, and stop with exit code 1. Only the first failure counts."""
        if self.failure is not None or self.drain.state == STOPPING:
            self._log.failure("a failure while stopping", failure=failure)
            return
        self.failure = failure
        self._log.error("the server cannot go on: {reason}", reason=for_log(failure.value))
        self.drain.begin("failure")
        if self._on_failure is not None:
            self._on_failure(failure)
        else:
            maybeDeferred(self.stopService).addErrback(
                lambda stop: self._log.failure("stop failed", failure=stop)
            )

    def hurry(self) -> None:
        """Force the stop that is under way."""
        self.drain.hurry()

    def stopService(self) -> Deferred[None]:
        """Drain and stop, phase by phase; fires when nothing is left. Never fails; called again, it joins."""
        done: Deferred[None] = Deferred()
        if self._stopping is not None:
            self._stopping.append(done)
        elif not self.running:
            self._unbind()
            done.callback(None)
        else:
            self._stopping = [done]
            Service.stopService(self)
            Deferred.fromCoroutine(self._stop())
        return done

    def _unbind(self) -> None:
        """Stopped before it was started: what was bound is released."""
        if self._bound:
            self._bound = False
            for child in reversed(list(self._children())):
                self._release(child)

    async def _stop(self) -> None:
        way_out = WayOut(self, self._at_end, self._tell)
        try:
            self.report = await way_out.walk()
        except Exception:
            # A mistake of ours, or an IInFlight that raises. Whoever waits must not wait for ever.
            self.failure = Failure()
            self._log.failure("the way out failed")
            self.drain.hurry()
            self._drop_phases()
            self.drain.stopping()
        self._forget_trigger()
        self._unfollow_all()
        waiting, self._stopping = self._stopping or [], None
        for done in waiting:
            done.callback(None)

    def _shutdown_begins(self) -> None:
        # Only the state: Twisted waits for all triggers together, so nothing can be held back here.
        self._trigger = None
        self.drain.begin("shutdown")

    def _changed(self, state: str) -> None:
        self._log.info("{state}", state=state)

    def _forget_trigger(self) -> None:
        if self._trigger is not None:
            self.reactor.removeSystemEventTrigger(self._trigger)
            self._trigger = None

    def _unfollow_all(self) -> None:
        for unfollow in self._unfollow:
            unfollow()
        self._unfollow = []
