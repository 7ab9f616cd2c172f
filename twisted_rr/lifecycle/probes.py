"""Which load balancers probe us, and whether they have stopped: the second half of "nobody sends us anything".

Only those who ask the status listener are seen. Who asks is known by its User-Agent, or by asking in regular
intervals; the kubelet probes until the container is gone and says nothing about traffic, so it never counts.
"""

from __future__ import annotations

from typing import Final

#: User-Agent prefixes of health checkers: they count from their first question.
CHECKERS: Final = (
    "ELB-HealthChecker",
    "GoogleHC",
    "Amazon-Route53-Health-Check",
    "Envoy/HC",
    "Edge Health Probe",
    "Load Balancer Agent",
    "HAProxy",
)

#: And of those that go on asking whatever the traffic does.
IGNORED: Final = ("kube-probe", "Prometheus", "Blackbox Exporter")

#: Questions after which an unknown client is a prober, if their intervals are alike.
PROVED: Final = 4
#: By how much of the mean an interval may differ.
JITTER: Final = 0.3
#: The interval of a known checker that has asked only once, in seconds: ALB's and NLB's default.
UNKNOWN_INTERVAL: Final = 30.0
#: A prober has stopped when it has not asked for so many of its intervals.
MISSED: Final = 2.0
#: Shorter intervals are polling by hand or by a test, longer ones no health check.
SHORTEST: Final = 0.5
LONGEST: Final = 300.0
#: Clients that are remembered.
MOST: Final = 256


class _Client:
    """One client's questions: the last, the mean interval, and how many in a row were regular."""

    __slots__ = ("checker", "interval", "last", "regular")

    def __init__(self, now: float, checker: bool) -> None:
        self.checker = checker
        self.last = now
        self.interval = 0.0
        self.regular = 1

    def asked(self, now: float) -> None:
        gap = now - self.last
        self.last = now
        if not self.interval:
            self.interval = gap
            self.regular = 2
        elif abs(gap - self.interval) <= JITTER * self.interval:
            self.interval += (gap - self.interval) / 4
            self.regular += 1
        else:
            self.interval = gap
            self.regular = 2

    @property
    def prober(self) -> bool:
        known = self.checker and self.regular < PROVED
        return known or (self.regular >= PROVED and SHORTEST <= self.interval <= LONGEST)

    def gone_at(self) -> float:
        """When its silence will mean that it has stopped."""
        proved = self.regular >= PROVED and self.interval
        return self.last + MISSED * (self.interval if proved else UNKNOWN_INTERVAL)


class Probes:
    """The clients of the status listener, as far as they may be probing load balancers."""

    def __init__(self) -> None:
        self._clients: dict[tuple[str, str], _Client] = {}

    def asked(self, peer: str, agent: str, now: float) -> None:
        """A question of *peer* with User-Agent *agent* at monotonic *now*."""
        if agent.startswith(IGNORED):
            return
        key = (peer, agent[:64])
        client = self._clients.pop(key, None)
        if client is None:
            if len(self._clients) >= MOST:
                del self._clients[next(iter(self._clients))]  # the one that asked longest ago
            client = _Client(now, agent.startswith(CHECKERS))
        else:
            client.asked(now)
        self._clients[key] = client

    def gone_at(self, since: float) -> float | None:
        """When all probers that were active at *since* will have stopped, if they stay silent from now on.

        None when none was active then: a balancer that probes elsewhere cannot be seen to stop.
        """
        gone = [each.gone_at() for each in self._clients.values() if each.prober]
        active = [at for at in gone if at >= since]
        return max(active, default=None)
