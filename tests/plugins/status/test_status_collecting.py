"""Facts are collected without trust in the providers, and proof is timed where the providers do not do it."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock

from twisted_rr.interfaces import IFront, IHealth, IInFlight
from twisted_rr.lifecycle.budget import Budget
from twisted_rr.lifecycle.drain import Drain
from twisted_rr.lifecycle.in_flight import InFlight
from twisted_rr.plugins.status.config import StatusSettings
from twisted_rr.plugins.status.evidence import Evidence, Standstill
from twisted_rr.plugins.status.facts import Collector
from twisted_rr.testing.host import FakeHost
from twisted_rr.testing.pool import FakeHealth


class Item:
    since = 0.0

    def describe(self) -> str:
        return "GET /"


def collector(host: FakeHost, **changed: Any) -> Collector:
    return Collector(host, StatusSettings(address=":0", **changed), host.log("status"))


def running(host: FakeHost) -> Drain:
    drain = Drain(Budget(total=30), host.clock.seconds)
    drain.start()
    drain.ready()
    host.drain = drain  # type: ignore[assignment]
    return drain


def test_what_a_provider_tells_counts_at_once_and_its_age_is_told() -> None:
    host = FakeHost(Clock())
    health = FakeHealth("http")
    host.provide(IHealth, health)
    found = collector(host)
    assert found.collect().plugins[0].not_alive is None
    health.not_alive, health.not_ready = "dead", "none is alive"
    (plugin,) = found.collect().plugins
    assert (plugin.not_alive, plugin.proved, plugin.not_alive_for, plugin.not_ready) == (
        "dead",
        True,
        0.0,
        "none is alive",
    )
    host.clock.advance(7)
    assert found.collect().plugins[0].not_alive_for == 7.0
    health.not_alive = None
    assert not found.collect().plugins[0].proved


def test_plugins_are_sorted_by_name() -> None:
    host = FakeHost()
    for name in ("tcp", "grpc", "http"):
        host.provide(IHealth, FakeHealth(name))
    assert [plugin.name for plugin in collector(host).collect().plugins] == ["grpc", "http", "tcp"]


def test_a_provider_that_raises_is_not_alive() -> None:
    class Broken:
        name = "x"

        def alive(self) -> str:
            raise RuntimeError("secret/path")

        ready = alive

    host = FakeHost()
    host.provide(IHealth, Broken())
    (plugin,) = collector(host).collect().plugins
    assert plugin.not_alive == plugin.not_ready == "its health cannot be told"
    assert host.log("status").lines("critical")


def test_pools_are_told_how_long_evidence_has_to_last() -> None:
    host = FakeHost()
    health = FakeHealth("http")
    health.stuck_after = 10.0  # type: ignore[attr-defined]
    host.provide(IHealth, health)
    collector(host, stuck_after=3.0).start()
    assert health.stuck_after == 3.0  # type: ignore[attr-defined]


def test_in_flight_comes_from_fronts_and_from_those_who_offer_it_once_each() -> None:
    host = FakeHost(Clock())

    class Front:
        in_flight = InFlight("http", host.clock.seconds)

    other = InFlight("jobs", host.clock.seconds)
    host.provide(IFront, Front())
    host.provide(IInFlight, Front.in_flight)
    host.provide(IInFlight, other)
    Front.in_flight.begin(Item())
    host.clock.advance(4)
    now = collector(host).collect()
    assert sorted((each.name, each.count, each.oldest) for each in now.protocols) == [
        ("http", 1, 4.0),
        ("jobs", 0, None),
    ]


def test_the_lifecycle_is_read_from_the_drain() -> None:
    host = FakeHost(Clock())
    drain = running(host)
    host.clock.advance(5)
    drain.arrived()
    drain.begin("SIGTERM")
    host.clock.advance(2)
    now = collector(host).collect()
    assert (now.state, now.state_age, now.draining, now.flipped, now.was_ready) == (
        "draining:announce",
        2.0,
        True,
        True,
        True,
    )
    assert (now.remaining, now.arrived_ago) == (24.0, 2.0)


def test_strict_needs_completions_and_gives_them_time() -> None:
    host = FakeHost(Clock())
    running(host)
    host.provide(IHealth, FakeHealth("http"))
    flying = InFlight("http", host.clock.seconds)
    host.provide(IInFlight, flying)
    found = collector(host, liveness="strict", stuck_after=3.0)
    items = [Item() for _ in range(3)]
    for item in items:
        flying.begin(item)
    proved = []
    for second in range(10):
        if second == 5:
            flying.end(items[0])
        proved.append(found.collect().plugins[0].proved)
        host.clock.advance(1)
    # Nothing is known at 0; from 1 on nothing is completed, until 5; from 6 on again.
    assert proved == [False, False, False, False, True, False, False, False, False, True]


def test_alive_does_not_mind_that_nothing_is_completed() -> None:
    host = FakeHost(Clock())
    running(host)
    host.provide(IHealth, FakeHealth("http"))
    flying = InFlight("http", host.clock.seconds)
    host.provide(IInFlight, flying)
    flying.begin(Item())
    found = collector(host, stuck_after=1.0)
    for _ in range(60):
        assert found.collect().plugins[0].not_alive is None
        host.clock.advance(1)


def test_evidence_is_broken_by_one_good_moment() -> None:
    evidence = Evidence(10.0)
    assert evidence.observe(0, "x", "bad") == 0
    assert evidence.proves(evidence.observe(10, "x", "bad"))
    assert evidence.observe(11, "x", None) is None
    assert not evidence.proves(evidence.observe(12, "x", "bad"))
    assert not evidence.proves(None)


def test_progress_is_a_changed_number_or_nothing_to_do() -> None:
    progress = Standstill()
    assert progress.observe(1, 0) is None
    assert progress.observe(1, 0) is not None
    assert progress.observe(0, 0) is None
    assert progress.observe(1, 1) is None
