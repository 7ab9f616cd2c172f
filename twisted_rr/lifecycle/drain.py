"""The one lifecycle state and the one deadline: an explicit table of states and events.

Drain knows when it must end and tells who watches; the order in which services stop is in `stopping`,
what the states mean to a probe in `plugins.status`. Whether the server is stuck is computed there too,
apart from the state: a stuck server is still, say, ``draining:finish``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

from zope.interface import implementer

from twisted_rr.errors import RRError
from twisted_rr.interfaces import IDrain
from twisted_rr.lifecycle.budget import Budget
from twisted_rr.lifecycle.probes import Probes
from twisted_rr.log import logger

BOOTING = "booting"
STARTING = "starting"
RUNNING = "running"
DRAINED = "drained"
ANNOUNCE = "draining:announce"
FINISH = "draining:finish"
FORCE = "draining:force"
STOPPING = "stopping"

STATES = (BOOTING, STARTING, RUNNING, DRAINED, ANNOUNCE, FINISH, FORCE, STOPPING)

#: event -> state -> next state. A pair that is absent is a mistake of the caller: `WrongState`.
TABLE: Mapping[str, Mapping[str, str]] = {
    # The services are being started. After a stop the same server may start again (embedding).
    "start": {BOOTING: STARTING, STOPPING: STARTING},
    # Every pool answered and every front listens. A stop that came first keeps its state.
    "ready": {
        STARTING: RUNNING,
        RUNNING: RUNNING,
        DRAINED: DRAINED,
        ANNOUNCE: ANNOUNCE,
        FINISH: FINISH,
        FORCE: FORCE,
        STOPPING: STOPPING,
    },
    # The operator moves traffic away; the server goes on serving what comes.
    "hold": {RUNNING: DRAINED, DRAINED: DRAINED},
    "undrain": {DRAINED: RUNNING, RUNNING: RUNNING},
    # A signal, stopService or a fatal failure. Who was never ready has nobody to announce it to.
    "begin": {
        BOOTING: FINISH,
        STARTING: FINISH,
        RUNNING: ANNOUNCE,
        DRAINED: ANNOUNCE,
        ANNOUNCE: ANNOUNCE,
        FINISH: FINISH,
        FORCE: FORCE,
        STOPPING: STOPPING,
    },
    # Ctrl-C in a terminal, and --reload: no announce.
    "interrupt": {
        BOOTING: FINISH,
        STARTING: FINISH,
        RUNNING: FINISH,
        DRAINED: FINISH,
        ANNOUNCE: ANNOUNCE,
        FINISH: FINISH,
        FORCE: FORCE,
        STOPPING: STOPPING,
    },
    # The announce is over: listeners close.
    "announced": {ANNOUNCE: FINISH, FINISH: FINISH, FORCE: FORCE},
    # The deadline, with work in flight.
    "expire": {ANNOUNCE: FORCE, FINISH: FORCE, FORCE: FORCE, STOPPING: STOPPING},
    # Somebody who will not wait.
    "force": {
        BOOTING: FORCE,
        STARTING: FORCE,
        RUNNING: FORCE,
        DRAINED: FORCE,
        ANNOUNCE: FORCE,
        FINISH: FORCE,
        FORCE: FORCE,
        STOPPING: STOPPING,
    },
    # Nothing is in flight any more and the fronts are gone: the rest stops by plan.
    "stop": {FINISH: STOPPING, FORCE: STOPPING, STOPPING: STOPPING},
}


class WrongState(RRError):
    """An event that the present state does not allow, such as undrain after a signal."""

    def __init__(self, event: str, state: str) -> None:
        super().__init__(event, state)
        self.event = event
        self.state = state

    def __str__(self) -> str:
        return f"{self.event} is not possible while {self.state}"


@implementer(IDrain)
class Drain:
    """The lifecycle of one server.

    :ivar state: one of `STATES`.
    :ivar draining: True from the instant of the signal on.
    :ivar leaving: True while clients should be told to go elsewhere: draining, or drained by an admin.
    :ivar brisk: True when the stop is a developer's: end streams and idle connections at once.
    :ivar hurried: True once somebody asked not to wait.
    :ivar cause: what began the drain, such as ``SIGTERM``; empty before.
    :ivar begun: monotonic time of its beginning, None before.
    :ivar since: monotonic time of the last change of state.
    :ivar was_ready: latched at the first ``running``: what /startup tells.
    :ivar probes: who asks the status listener.
    :ivar last_arrival: monotonic time of the last new connection on a front, None when there was none.
    """

    def __init__(self, budget: Budget, seconds: Callable[[], float]) -> None:
        self.plan = budget
        self.budget = budget
        self._seconds = seconds
        self._watchers: list[Callable[[str], None]] = []
        self._hurriers: list[Callable[[], None]] = []
        self._news: deque[str] = deque()
        self._telling = False
        self._log = logger("drain")
        self.state = BOOTING
        self.was_ready = False
        self.last_arrival: float | None = None
        self.probes = Probes()
        self.since = seconds()
        self._forget()

    def _forget(self) -> None:
        self.budget = self.plan
        self.draining = False
        self.leaving = False
        self.brisk = False
        self.hurried = False
        self.cause = ""
        self.begun: float | None = None
        self.leaving_since: float | None = None
        self._deadline: float | None = None
        self._held = False

    # ------------------------------------------------------------------ start

    def start(self) -> None:
        """The services are being started, for the first time or after a stop."""
        if self.state == STOPPING:
            self._forget()
            self.was_ready = False
        self._move("start")

    def ready(self) -> None:
        """Everything serves. Without effect when a stop came first."""
        self._move("ready")

    # ------------------------------------------------------------------- stop

    def begin(self, cause: str, at: float | None = None, brisk: bool = False) -> None:
        """Start the drain: synchronous and idempotent, the first deadline holds.

        *at* is the monotonic time of the cause, when it was earlier than now (a signal that had to wait
        for its reactor turn). *brisk*: no announce, streams end at once, ``drain.dev_finish`` seconds.
        """
        if not self.draining:
            self._set_deadline(cause, self._seconds() if at is None else at, brisk)
        self._move("interrupt" if brisk else "begin")

    def hurry(self) -> None:
        """The deadline is now. Begins the drain when nothing did."""
        if not self.draining:
            self._set_deadline("hurry", self._seconds(), False)
        self.hurried = True
        self._deadline = min(self._seconds(), self.deadline)
        self._move("force")
        for hurried in list(self._hurriers):
            hurried()

    def hold(self, cause: str) -> None:
        """Drain by an admin: not ready, still serving; raises `WrongState` unless running."""
        self._move("hold")
        self._held = True
        self.cause = cause

    def undrain(self) -> None:
        """Back to running after `hold`; raises `WrongState` after a signal."""
        self._move("undrain")
        self._held = False
        self.cause = ""

    def announced(self) -> None:
        """The announce is over; for the server's way out."""
        self._move("announced")

    def expired(self) -> None:
        """The deadline has come with work in flight; for the server's way out."""
        self._move("expire")

    def stopping(self) -> None:
        """The fronts are gone; for the server's way out."""
        self._move("stop")

    def _set_deadline(self, cause: str, at: float, brisk: bool) -> None:
        self.draining = True
        self.brisk = brisk
        self.cause = cause
        self.begun = at
        self.budget = self.plan.briskly() if brisk else self.plan
        self._deadline = at + self.budget.cut

    def replan(self, budget: Budget) -> None:
        """Stop by another budget from now on; raises `WrongState` once the stop has begun: its deadline holds."""
        if self.draining:
            raise WrongState("another budget", self.state)
        self.plan = self.budget = budget

    # ------------------------------------------------------------------- time

    @property
    def deadline(self) -> float:
        """Monotonic time at which what is in flight is cut."""
        return self._seconds() + self.budget.cut if self._deadline is None else self._deadline

    @property
    def end(self) -> float:
        """Monotonic time by which the process has to be gone."""
        return self._seconds() + self.budget.total if self.begun is None else self.begun + self.budget.total

    def remaining(self) -> float:
        """Seconds until the deadline, never negative; the whole of it while not draining."""
        return self.budget.cut if self._deadline is None else max(0.0, self._deadline - self._seconds())

    def age(self) -> float:
        """Seconds since the drain began, 0 while it has not."""
        return 0.0 if self.begun is None else self._seconds() - self.begun

    @property
    def ready_flipped(self) -> bool:
        """Whether readiness has to fail because of the stop (``drain.ready_flip``)."""
        if not self.draining:
            return False
        flip = self.budget.ready_flip
        # Never ready with closed listeners, whatever the offset says, nor again after an admin's drain (I1).
        return self._held or self.state != ANNOUNCE or (flip is not None and self.age() >= flip)

    def goaway_in(self) -> float | None:
        """Seconds until clients are told to go (``drain.goaway_start``), 0 when it is time; None: not known yet."""
        if not self.leaving:
            return None
        start = self.budget.goaway_start
        if self.state not in (ANNOUNCE, DRAINED):
            return 0.0 if start is None or self.hurried else max(0.0, start - self.age())
        if start is None:
            return None
        since = self.since if self.leaving_since is None else self.leaving_since
        return max(0.0, since + start - self._seconds())

    def arrived(self) -> None:
        """A front accepted a connection (drain.md 2.2: the announce ends early when none comes)."""
        self.last_arrival = self._seconds()

    def probed(self, peer: str, agent: str) -> None:
        """*peer* asked the status listener; it may be a load balancer's probe."""
        self.probes.asked(peer, agent, self._seconds())

    # --------------------------------------------------------------- watching

    def watch(self, changed: Callable[[str], None]) -> Callable[[], None]:
        """Call *changed* with each new state, in the same reactor turn; returns the call that ends it."""
        self._watchers.append(changed)

        def unwatch() -> None:
            if changed in self._watchers:
                self._watchers.remove(changed)

        return unwatch

    def on_hurry(self, hurried: Callable[[], None]) -> Callable[[], None]:
        """Call *hurried* at every `hurry`, also when the state stays; returns the call that ends it."""
        self._hurriers.append(hurried)
        return lambda: self._hurriers.remove(hurried)

    def _move(self, event: str) -> None:
        state = TABLE[event].get(self.state)
        if state is None:
            raise WrongState(event, self.state)
        if state == self.state:
            return
        self.state = state
        self.since = self._seconds()
        self.was_ready = self.was_ready or state == RUNNING
        self.leaving = self.draining or state == DRAINED
        if not self.leaving:
            self.leaving_since = None
        elif self.leaving_since is None:
            self.leaving_since = self.since
        self._news.append(state)
        self._tell()

    def _tell(self) -> None:
        # A watcher may move the state itself; all of them still hear every state in order.
        if self._telling:
            return
        self._telling = True
        try:
            while self._news:
                state = self._news.popleft()
                for changed in list(self._watchers):
                    try:
                        changed(state)
                    except Exception:
                        self._log.failure("a watcher of the state {state} failed", state=state)
        finally:
            self._telling = False
