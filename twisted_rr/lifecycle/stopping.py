"""The way out: announce, finish, force, then one phase after another, under one deadline (drain.md 2.2).

Nothing here decides *that* the server stops, nor what a service does when it is stopped or forced; what became of the
work in hand is counted by `account`. Every wait has a limit that `Drain.hurry` can move to now.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.python.failure import Failure

from twisted_rr.interfaces import IFront
from twisted_rr.lifecycle.account import Account
from twisted_rr.lifecycle.drain import ANNOUNCE, FORCE
from twisted_rr.lifecycle.report import Report
from twisted_rr.log import logger

if TYPE_CHECKING:
    from twisted_rr.lifecycle.phases import Phase
    from twisted_rr.lifecycle.server import Server

# What a phase gets when the plan has no time left for it (a stopped and continued process, a blocked
# reactor): enough to act, too little to hold the exit.
_LEAST = 0.1
# And what it gets to finish once it was forced: reaping needs the kernel, the last answers a few turns. All
# together below the second that a forced stop may take (I13).
_AFTER_FORCE = {"WORKERS": 0.4, "FRONT": 0.15, "STATUS": 0.2}
_AFTER_FORCE_OTHERS = 0.05
# How much of the flush is left when the workers have to be gone.
_REAPED_BY = 0.5


class WayOut:
    """One walk from the signal to the end of the server's services."""

    def __init__(self, server: Server, at_end: Sequence[Callable[[], Any]], tell: bool = True) -> None:
        self._server = server
        self._drain = server.drain
        self._clock = server.clock
        self._at_end = at_end
        self._account = Account(server, tell)
        self._log = logger("drain")
        self._wake: Deferred[None] | None = None
        self._current: Phase | None = None
        self._limit = 0.0
        self._halfway_told = False

    def _fronts(self) -> list[IFront]:
        return self._server.fronts()

    def _in_flights(self) -> list[Any]:
        return [front.in_flight for front in self._fronts()]

    async def walk(self) -> Report:
        """Stop everything; what happened."""
        self._drain.begin("stopService")
        unhurry = self._drain.on_hurry(self._hurried)
        try:
            self._log.info(
                "draining because of {cause}: {announce:g} s announce, work is cut in {cut:.1f} s, exit within {total:g} s",
                cause=self._drain.cause,
                announce=self._drain.budget.announce_max,
                cut=self._drain.remaining(),
                total=self._drain.budget.total,
            )
            await self._announce()
            await self._finish()
            await self._stop_front()
            self._drain.stopping()
            await self._stop_lower()
            # Where those who flush find it.
            report = self._server.report = self._account.report()
            await self._flush()
            await self._stop_phase(self._server.phase("STATUS"), self._drain.end)
        finally:
            unhurry()
        return report

    # ------------------------------------------------------------- the steps

    async def _announce(self) -> None:
        """Listeners stay open until nobody new comes, within the limits of the budget."""
        drain, budget = self._drain, self._drain.budget
        start = drain.begun if drain.leaving_since is None else drain.leaving_since
        assert start is not None
        while drain.state == ANNOUNCE:
            until = min(self._out_of_rotation(start), start + budget.announce_max, drain.deadline)
            if self._clock.seconds() >= until:
                break
            await self._wait(None, lambda until=until: min(until, drain.deadline))  # type: ignore[misc]
        if drain.state == ANNOUNCE:
            drain.announced()

    def _out_of_rotation(self, start: float) -> float:
        """When it will be plain that nobody sends us anything more, as far as one can see now (drain.md B8)."""
        drain, budget = self._drain, self._drain.budget
        last = start if drain.last_arrival is None else max(start, drain.last_arrival)
        until = max(start + budget.announce_min, last + budget.announce_quiet)
        if budget.ready_flip is not None:
            until = max(until, start + budget.ready_flip)
        if budget.wait_probes:
            gone = drain.probes.gone_at(start)
            until = max(until, start + budget.announce_max if gone is None else gone)
        return until

    async def _finish(self) -> None:
        """Listeners close; what was accepted goes on until it is done or the deadline comes."""
        self._account.closed = self._drain.age()
        for front in self._fronts():
            try:
                front.finish()
            except Exception:
                self._log.failure("{front} could not close its listeners", front=front.name)
        while busy := [each for each in self._in_flights() if each.count()]:
            idle = busy[0].idle()
            if not await self._wait(idle, self._next_look):
                # Consumed: whoever is cancelled here tells nobody.
                idle.addErrback(lambda failure: None)
                idle.cancel()
                if self._clock.seconds() >= self._drain.deadline:
                    return
                self._tell_blockers()

    def _next_look(self) -> float:
        """When the wait for what is in flight ends: half-way to tell who blocks, then at the deadline."""
        drain = self._drain
        halfway = (drain.begun or 0.0) + drain.budget.cut / 2
        return drain.deadline if self._halfway_told else min(halfway, drain.deadline)

    def _tell_blockers(self) -> None:
        self._halfway_told = True
        blockers = self._account.blocking()
        self._log.warn(
            "{in_flight} in flight after half of the time, to be cut in {left:.1f} s: {blocking}",
            in_flight=sum(each.count() for each in self._in_flights()),
            left=self._drain.remaining(),
            blocking=", ".join(map(str, blockers)),
            blockers=[one.record() for one in blockers],
        )

    async def _stop_front(self) -> None:
        if any(each.count() for each in self._in_flights()):
            blockers = self._account.blockers = self._account.blocking()
            self._log.warn(
                "cut: {blocking}",
                blocking=", ".join(map(str, blockers)),
                blockers=[one.record() for one in blockers],
            )
            self._drain.expired()
        front = self._server.phase("FRONT")
        if self._drain.state == FORCE:
            self._account.note_force()
            front.hurry()
        await self._stop_phase(front, self._drain.deadline)

    async def _stop_lower(self) -> None:
        drain = self._drain
        # SIGKILL is the last step of their own schedule, at the end of what is kept for it, and what it killed has
        # yet to be reaped.
        ends = {"WORKERS": drain.end - drain.budget.flush * _REAPED_BY}
        for name in ("WORKERS", "DRIVERS", "CONTROL", "METRICS"):
            await self._stop_phase(self._server.phase(name), ends.get(name, drain.end))

    async def _flush(self) -> None:
        """A callLater(0) of the last turn never runs: what must be written is written here."""
        stops = [maybeDeferred(flush) for flush in self._at_end]
        for stop in stops:
            stop.addErrback(lambda failure: self._log.failure("flush failed", failure=failure))
        now = self._clock.seconds()
        self._limit = now + max(_LEAST, min(self._drain.budget.flush, self._drain.end - now))
        if self._drain.hurried:
            self._hurried()
        if not await self._wait(DeferredList(stops), lambda: self._limit):
            self._log.warn("the flush did not end in time")

    # ---------------------------------------------------------------- phases

    async def _stop_phase(self, phase: Phase, planned: float) -> None:
        """Stop *phase* until *planned* (monotonic), then force it, then go on without it."""
        now = self._clock.seconds()
        self._limit = max(planned, now + _LEAST)
        self._current = phase
        stopped: Deferred[Any] = phase.stopService().addErrback(self._failed)
        if self._drain.hurried:
            self._hurried()
        if not await self._wait(stopped, lambda: self._limit):
            if not self._drain.hurried:
                await self._force_phase(phase, stopped)
            if not stopped.called:
                self._account.unstopped += phase.waiting
                self._log.error("left behind: {children}", children=", ".join(phase.waiting))
        self._current = None

    async def _force_phase(self, phase: Phase, stopped: Deferred[Any]) -> None:
        self._log.warn(
            "{phase} did not stop in time and is forced: {children}",
            phase=phase.name,
            children=", ".join(phase.waiting),
        )
        if phase.name == "FRONT":
            self._drain.expired()
            self._account.note_force()
        phase.hurry()
        limit = self._clock.seconds() + _AFTER_FORCE.get(str(phase.name), _AFTER_FORCE_OTHERS)
        await self._wait(stopped, lambda: limit)

    def _failed(self, failure: Failure) -> None:
        # The phase has logged each child; that others stopped is what counts here.
        self._log.debug("{reason}", reason=str(failure.value))

    def _hurried(self) -> None:
        phase = self._current
        after = (
            _AFTER_FORCE_OTHERS if phase is None else _AFTER_FORCE.get(str(phase.name), _AFTER_FORCE_OTHERS)
        )
        # Without a phase it is the flush that is waited for, or what goes by the deadline, which is now.
        self._limit = min(self._limit, self._clock.seconds() + after)
        if phase is not None:
            self._account.note_force()
            # This may lead the walk on, phases further, before it returns: a wake too many is harmless.
            phase.hurry()
        if self._wake is not None:
            self._rouse(self._wake)

    async def _wait(self, event: Deferred[Any] | None, until: Callable[[], float]) -> bool:
        """Wait for *event*, at most until the monotonic time that *until* answers; True when it happened.

        Wakers: *event* itself, a timer, and `_hurried`, after which *until* may answer something earlier.
        """
        while event is None or not event.called:
            left = until() - self._clock.seconds()
            if left <= 0:
                return False
            wake: Deferred[None] = Deferred()
            self._wake = wake
            timer = self._clock.callLater(left, self._rouse, wake)
            if event is not None:
                event.addBoth(self._pass_on, wake)
            await wake
            if timer.active():
                timer.cancel()
        return True

    def _rouse(self, wake: Deferred[None]) -> None:
        if not wake.called:
            wake.callback(None)

    def _pass_on(self, result: Any, wake: Deferred[None]) -> Any:
        self._rouse(wake)
        return result
