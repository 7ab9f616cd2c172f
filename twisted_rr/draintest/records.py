"""What one run saw: exchanges, probes, connects, lives of processes, events; plain records, nothing is judged.

All times are `time.monotonic` seconds of the rig's process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

# How an exchange ended. COMPLETE: a whole answer. CUT: a part of one, then the end. EMPTY: a clean FIN before
# its first byte. RESET: a reset. REFUSED: nobody listened. HUNG: nothing came. LEFT: the client gave up by plan.
PENDING, COMPLETE, CUT, EMPTY, RESET, REFUSED, HUNG, LEFT = (
    "pending",
    "complete",
    "cut",
    "empty",
    "reset",
    "refused",
    "hung",
    "left",
)

#: For how long a client waits for the end of a connection whose last answer said close, in seconds.
PARTING = 2.0

RUNNING, ANNOUNCE, FINISH, STOP = "running", "announce", "finish", "stop"
PHASES = (RUNNING, ANNOUNCE, FINISH, STOP)


@attrs.define(eq=False, kw_only=True)
class Exchange:
    """One line of the ledger.

    :ivar client: the kind of client that asked.
    :ivar opened: when the connection, or its reuse, began.
    :ivar reused: on a connection that had served before.
    :ivar asked: when the request's head was complete, None when it never was.
    :ivar began: when the first byte of the answer came.
    :ivar ended: when its outcome was known.
    :ivar status: of the answer, 0 without one. gRPC's is told as the HTTP code that means as much: 503 is UNAVAILABLE.
    :ivar close: the answer said ``Connection: close``.
    :ivar parting: how the connection ended after that answer: ``fin``, ``reset``, ``open`` or not looked at.
    :ivar by_plan: this client does what a server may cut.
    :ivar counted: a server's report counts it; health calls are not in flight.
    :ivar calls: how many calls the line stands for: some clients begin many at once and look at none.
    """

    number: int
    protocol: str
    client: str
    opened: float
    reused: bool = False
    asked: float | None = None
    began: float | None = None
    ended: float | None = None
    outcome: str = PENDING
    status: int = 0
    close: bool = False
    parting: str = ""
    by_plan: bool = False
    counted: bool = True
    calls: int = 1


@attrs.define(eq=False, kw_only=True)
class Channel:
    """One HTTP/2 connection of a client.

    :ivar watches: the health service that it watches, empty for other clients.
    :ivar goaways: moment, last stream and code of each.
    :ivar streams: of the client, each with its line of the ledger where it has one.
    :ivar answered_beyond: streams that got an answer after a GOAWAY said that they would not.
    :ivar said: what came, in order: moment, ``message``, ``end`` or ``goaway``, stream, and the message, status or last stream.
    :ivar ending: ``fin``, ``reset``, or ``left`` when the client went first.
    :ivar by_plan: this client breaks the rules itself.
    :ivar on_goaway: called with how many have come.
    """

    address: tuple[str, int]
    client: str
    opened: float
    watches: str = ""
    goaways: list[tuple[float, int, int]] = attrs.field(factory=list)
    streams: dict[int, Exchange | None] = attrs.field(factory=dict)
    answered_beyond: list[int] = attrs.field(factory=list)
    said: list[tuple[float, str, int, Any]] = attrs.field(factory=list)
    ended: float | None = None
    ending: str = ""
    by_plan: bool = False
    on_goaway: Callable[[int], None] | None = None


@attrs.frozen(kw_only=True)
class Probe:
    """One question to a health channel; code 0: refused, -1: no answer in time, -2: the connection broke.

    :ivar waited: for how much of *took* the server could have run and did not get a CPU.
    """

    channel: str
    at: float
    took: float
    code: int
    waited: float = 0.0
    state: str = ""
    in_flight: int | None = None
    entries: tuple[int, ...] | None = None

    @property
    def ended(self) -> float:
        """When the answer was there."""
        return self.at + self.took


@attrs.frozen
class Connect:
    """One connect to the application's port: ``accepted``, ``refused``, ``reset`` or ``hung``."""

    at: float
    took: float
    outcome: str


@attrs.define(eq=False)
class Life:
    """One process below the server; *gone* None: it was there to the end."""

    pid: int
    born: float
    gone: float | None = None
    zombie_since: float | None = None
    zombie_until: float | None = None


@attrs.frozen
class Event:
    """Something that was done or seen: kinds are state, signal, fault, process, note."""

    at: float
    kind: str
    text: str


@attrs.frozen(kw_only=True)
class Terms:
    """What the server under test has promised, in seconds.

    :ivar total: signal to exit.
    :ivar cut: signal to the cut of what is in flight.
    :ivar announce: listeners stay open at least this long after the signal.
    :ivar announce_max: and at most this long.
    :ivar ready_flip: when readiness fails, from the signal.
    :ivar goaway_start: when clients are told to go, from the signal.
    :ivar stuck_after: how long evidence has to last before /health fails.
    :ivar worker_stop: how long stopping the workers may take.
    """

    total: float = 30.0
    cut: float = 26.0
    announce: float = 0.0
    announce_max: float = 0.0
    ready_flip: float = 0.0
    goaway_start: float = 0.0
    stuck_after: float = 10.0
    worker_stop: float = 3.0


@attrs.define(eq=False)
class Evidence:
    """Everything that one run saw.

    :ivar effects: what the injected faults entitle the server to; see `faults`.
    :ivar holds: spans in which the rig kept the server from running.
    :ivar outages: spans in which the rig made all workers unable to go on.
    :ivar cpu_waits: at some moments, for how long the server had waited for a CPU in all.
    :ivar hangs: since when one worker is stopped.
    :ivar missed: faults that could not be injected, with the reason.
    :ivar left_behind: processes that outlived the server.
    :ivar holders: processes, other than the server, that held its listening socket.
    :ivar report: the server's own report of its stop.
    :ivar reports: how many it wrote.
    """

    name: str
    terms: Terms
    began: float
    ready: float | None = None
    signalled: float | None = None
    forced: float | None = None
    exited: float | None = None
    code: int | None = None
    exchanges: list[Exchange] = attrs.field(factory=list)
    channels: list[Channel] = attrs.field(factory=list)
    probes: list[Probe] = attrs.field(factory=list)
    connects: list[Connect] = attrs.field(factory=list)
    lives: dict[int, Life] = attrs.field(factory=dict)
    events: list[Event] = attrs.field(factory=list)
    lags: list[tuple[float, float]] = attrs.field(factory=list)
    cpu_waits: list[tuple[float, float]] = attrs.field(factory=list)
    faults: list[str] = attrs.field(factory=list)
    effects: set[str] = attrs.field(factory=set)
    holds: list[tuple[float, float]] = attrs.field(factory=list)
    outages: list[tuple[float, float]] = attrs.field(factory=list)
    hangs: list[float] = attrs.field(factory=list)
    missed: dict[str, str] = attrs.field(factory=dict)
    left_behind: list[int] = attrs.field(factory=list)
    holders: list[int] = attrs.field(factory=list)
    facts: dict[str, Any] = attrs.field(factory=dict)
    report: dict[str, Any] | None = None
    reports: int = 0
    log: str = ""

    def forget(self) -> None:
        """Drop the records, keep the facts."""
        for records in (self.exchanges, self.channels, self.probes, self.connects, self.lags, self.cpu_waits):
            records.clear()
        self.log = ""

    def channel(self, name: str) -> list[Probe]:
        """The probes of one channel, in order."""
        return [probe for probe in self.probes if probe.channel == name]

    def first_refused(self) -> float | None:
        """When the application's listener was first seen closed after the signal."""
        signalled = self.signalled
        if signalled is None:
            return None
        return next(
            (each.at for each in self.connects if each.at >= signalled and each.outcome == "refused"), None
        )

    def deadline(self) -> float | None:
        """When what is in flight is cut."""
        if self.signalled is None:
            return None
        cut = self.signalled + self.terms.cut
        return cut if self.forced is None else min(cut, self.forced)

    def held(self, begin: float, end: float, margin: float = 0.3) -> bool:
        """Whether the rig kept the server from running in or just before that span."""
        return any(begin < over + margin and end > start for start, over in self.holds)

    def free(self, begin: float, end: float) -> float:
        """For how long of that span the rig let the server run."""
        return end - begin - sum(max(0.0, min(end, over) - max(begin, start)) for start, over in self.holds)

    def lag(self, begin: float, end: float) -> float:
        """For how long the rig itself did not get to run in that span."""
        return max((lag for at, lag in self.lags if begin <= at + lag and at <= end), default=0.0)

    def starved(self, begin: float, end: float) -> float:
        """For how long the server could have run in that span and did not get a CPU, as far as it was seen."""
        inside = [waited for at, waited in self.cpu_waits if begin - 0.05 <= at <= end + 0.05]
        return max(inside) - min(inside) if inside else 0.0

    def own_time(self, probe: Probe) -> float:
        """What of a probe's duration was the server's: without the rig's lag, without waiting for a CPU."""
        return max(0.0, probe.took - self.lag(probe.at, probe.ended) - probe.waited)

    def after_signal(self, margin: float = 0.05) -> float:
        """A moment at which the server surely had the signal, unless it was held."""
        assert self.signalled is not None
        at = self.signalled + margin
        for start, over in self.holds:
            if start <= at <= over + margin:
                at = over + margin
        return at + self.lag(self.signalled, at)
