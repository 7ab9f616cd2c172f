"""What is known about the server at one instant, collected once for an answer. No rule is applied here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import attrs

from twisted_rr.interfaces import IFront, IHealth, IHost, IInFlight
from twisted_rr.lifecycle.previous_exit import PreviousExit
from twisted_rr.plugins.status.checks.runner import CheckFacts
from twisted_rr.plugins.status.config import StatusSettings
from twisted_rr.plugins.status.evidence import Evidence, Saturation, Standstill

LIFECYCLE = "lifecycle"


@attrs.frozen(kw_only=True)
class PluginFacts:
    """One plugin.

    :ivar not_alive: why it cannot make progress, None when it can.
    :ivar not_alive_for: since how many seconds it says so.
    :ivar proved: whether that is to be believed: only proof makes /health say no.
    :ivar not_ready: why a new call would not be served, None when it would.
    :ivar saturated: why one would have to wait, None when it would run at once.
    :ivar overloaded: that has lasted long enough to send calls elsewhere.
    :ivar workers: how many live, and how many there should be; None where there are none.
    """

    name: str
    not_alive: str | None = None
    not_alive_for: float = 0.0
    proved: bool = False
    not_ready: str | None = None
    saturated: str | None = None
    overloaded: bool = False
    workers: tuple[int, int] | None = None


@attrs.frozen(kw_only=True)
class ProtocolFacts:
    """The exchanges in flight of one protocol; *oldest* is an age in seconds."""

    name: str
    count: int = 0
    oldest: float | None = None
    cut: int = 0


@attrs.frozen(kw_only=True)
class Facts:
    """One instant of the server.

    :ivar state: the lifecycle's state (`lifecycle.drain.STATES`).
    :ivar state_age: seconds since it was entered.
    :ivar was_ready: it was running once (latched until the next start).
    :ivar flipped: readiness has to fail because of the stop.
    :ivar remaining: seconds until work is cut.
    :ivar arrived_ago: seconds since the last new connection, None when there was none.
    :ivar immediate_fail: a peer Envoy is to eject us at once (``drain.envoy_immediate_fail``).
    :ivar previous_exit: how the run before ended, in one word, when that was not in order.
    """

    state: str
    state_age: float = 0.0
    draining: bool = False
    was_ready: bool = False
    flipped: bool = False
    remaining: float = 0.0
    arrived_ago: float | None = None
    plugins: tuple[PluginFacts, ...] = ()
    protocols: tuple[ProtocolFacts, ...] = ()
    previous_exit: str = ""
    immediate_fail: bool = False
    checks: tuple[CheckFacts, ...] = ()

    @property
    def in_flight(self) -> int:
        """Over all protocols."""
        return sum(protocol.count for protocol in self.protocols)

    @property
    def oldest(self) -> float | None:
        """Age of the oldest exchange of all."""
        return max((each.oldest for each in self.protocols if each.oldest is not None), default=None)


class Collector:
    """Asks the host's providers. They never block, so neither does this."""

    def __init__(
        self,
        host: IHost,
        settings: StatusSettings,
        log: Any,
        checks: Callable[[], tuple[CheckFacts, ...]] = tuple,
    ) -> None:
        self._host = host
        self._stuck_after = settings.stuck_after
        self._strict = settings.liveness == "strict"
        self._evidence = Evidence(settings.stuck_after)
        self._standstill = Standstill()
        self._on_saturation = settings.on_saturation
        self._saturations: dict[str, Saturation] = {}
        self._checks = checks
        self._envoy = bool(getattr(host.setting("drain"), "envoy_immediate_fail", False))
        self._log = log

    def use(self, settings: StatusSettings) -> None:
        """Judge by these settings from now on; ``stuck_after`` stays, because evidence is counted by it."""
        self._strict = settings.liveness == "strict"
        self._on_saturation = settings.on_saturation
        self._saturations.clear()

    def collect(self) -> Facts:
        """The facts now. Also to be called about once a second, so that evidence is timed between probes."""
        drain = self._host.drain
        now = float(self._host.clock.seconds())
        arrived = getattr(drain, "last_arrival", None)
        protocols = tuple(self._protocols())
        return Facts(
            state=drain.state,
            state_age=now - getattr(drain, "since", now),
            draining=drain.draining,
            was_ready=getattr(drain, "was_ready", drain.state == "running"),
            flipped=getattr(drain, "ready_flipped", drain.draining),
            remaining=drain.remaining(),
            arrived_ago=None if arrived is None else now - arrived,
            plugins=tuple(sorted(self._plugins(now, protocols), key=lambda plugin: plugin.name)),
            protocols=protocols,
            previous_exit=self._previous_exit(),
            immediate_fail=drain.draining and self._envoy,
            checks=self._checks(),
        )

    def start(self) -> None:
        """Start anew: what was seen before a stop is no evidence. Pools are told ``status.stuck_after``."""
        self._evidence.forget()
        self._saturations.clear()
        for provider in self._host.collect(IHealth):
            if hasattr(provider, "stuck_after"):
                provider.stuck_after = self._stuck_after

    def _previous_exit(self) -> str:
        for tell in self._host.collect(PreviousExit):
            previous = tell()
            if previous is not None and previous.unclean:
                return str(previous.label)
        return ""

    def _plugins(self, now: float, protocols: tuple[ProtocolFacts, ...]) -> Iterable[PluginFacts]:
        stalled = self._stalled(now) if self._strict else None
        for provider in self._host.collect(IHealth):
            told = self._ask(provider.name, provider.alive)
            not_alive = told or stalled
            age = self._evidence.observe(now, provider.name, not_alive)
            saturated = self._ask(provider.name, getattr(provider, "saturated", _never))
            yield PluginFacts(
                name=provider.name,
                not_alive=not_alive,
                not_alive_for=age or 0.0,
                # A provider has waited before it said so; what we see ourselves has to last first.
                proved=told is not None or self._evidence.proves(age),
                not_ready=self._ask(provider.name, provider.ready),
                saturated=saturated,
                overloaded=self._overloaded(provider.name, now, saturated is not None),
                workers=provider.counts() if hasattr(provider, "counts") else None,
            )

    def _overloaded(self, name: str, now: float, busy: bool) -> bool:
        how = self._on_saturation
        if how.mode != "lasting":
            return busy and how.mode == "at_once"
        found = self._saturations.get(name)
        if found is None:
            found = self._saturations[name] = Saturation(how.after, how.recover)
        return found.observe(now, busy)

    def _ask(self, name: str, question: Any) -> str | None:
        # A provider must not raise; one that does cannot be trusted to make progress.
        try:
            answer: str | None = question()
            return answer
        except Exception:
            self._log.failure("the health of {plugin} cannot be told", plugin=name)
            return "its health cannot be told"

    def _in_flights(self) -> list[Any]:
        found = {id(each): each for each in self._host.collect(IInFlight)}
        for front in self._host.collect(IFront):
            found[id(front.in_flight)] = front.in_flight
        return list(found.values())

    def _protocols(self) -> Iterable[ProtocolFacts]:
        for each in self._in_flights():
            yield ProtocolFacts(
                name=each.name, count=each.count(), oldest=each.oldest(), cut=int(getattr(each, "cut", 0))
            )

    def _stalled(self, now: float) -> str | None:
        sets = self._in_flights()
        done = sum(getattr(each, name, 0) for each in sets for name in ("finished", "cut", "lost"))
        active = [
            each
            for kind in (IHealth, IFront)
            for each in self._host.collect(kind)
            if hasattr(each, "activity")
        ]
        signs = (int(done), *(int(each.activity()) for each in active))
        return self._standstill.observe(sum(each.count() for each in sets), signs)


def _never() -> None:
    """A provider that knows no saturation."""
