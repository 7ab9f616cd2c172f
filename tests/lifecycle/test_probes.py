"""Who counts as a load balancer's probe, and when it counts as gone."""

from __future__ import annotations

from lifecycle_world import World

from twisted_rr.lifecycle.budget import Budget
from twisted_rr.lifecycle.drain import ANNOUNCE, FINISH
from twisted_rr.lifecycle.load_balancers import PRESETS
from twisted_rr.lifecycle.probes import MOST, UNKNOWN_INTERVAL, Probes


def asked(*times: float, agent: str = "checker/1", peer: str = "10.0.0.9") -> Probes:
    probes = Probes()
    for time in times:
        probes.asked(peer, agent, time)
    return probes


def test_a_client_that_asks_in_regular_intervals_is_a_prober() -> None:
    assert asked(0, 5, 10, 15).gone_at(15) == 25.0


def test_a_little_jitter_is_still_regular() -> None:
    gone = asked(0, 5, 10.4, 15.1, 20).gone_at(20)
    assert gone is not None and 29 < gone < 32


def test_a_client_that_asks_now_and_then_is_not() -> None:
    assert asked(0, 1, 9, 10, 31, 33).gone_at(33) is None


def test_polling_in_a_loop_is_not_probing() -> None:
    assert asked(*(number * 0.05 for number in range(20))).gone_at(1) is None


def test_the_kubelet_never_counts() -> None:
    assert asked(0, 5, 10, 15, 20, agent="kube-probe/1.31").gone_at(20) is None


def test_a_known_health_checker_counts_from_its_first_question() -> None:
    assert asked(3, agent="ELB-HealthChecker/2.0").gone_at(3) == 3 + 2 * UNKNOWN_INTERVAL


def test_a_prober_that_had_stopped_before_the_signal_is_not_waited_for() -> None:
    assert asked(0, 5, 10, 15).gone_at(26) is None


def test_the_last_of_several_probers_decides() -> None:
    probes = asked(0, 5, 10, 15)
    for time in (1, 11, 21, 31):
        probes.asked("10.0.0.8", "checker/1", time)
    assert probes.gone_at(20) == 51.0


def test_clients_are_forgotten_beyond_a_number() -> None:
    probes = asked(0, 5, 10, 15)
    for number in range(MOST):
        probes.asked(f"10.1.0.{number}", "x", 16)
    assert probes.gone_at(15) is None


BUDGET = Budget(total=60.0, announce_min=2.0, announce_max=35.0, announce_quiet=2.0, wait_probes=True)


def probed_world(last: float) -> World:
    """A running server behind a prober with an interval of 5 s; now is 20."""
    world = World(BUDGET).start()
    world.reactor.advance(20)
    for time in (last - 15, last - 10, last - 5, last):
        world.drain.probes.asked("10.0.0.9", "checker/1", time)
    return world


def test_the_announce_waits_until_the_probes_have_stopped() -> None:
    world = probed_world(last=20)
    world.stop()
    world.reactor.spend(4, 0.1)
    world.drain.probed("10.0.0.9", "checker/1")
    world.drain.probed("10.0.0.9", "kube-probe/1.31")
    world.reactor.spend(8, 0.1)
    assert world.drain.state == ANNOUNCE
    world.reactor.spend(4, 0.1)
    assert world.drain.state != ANNOUNCE


def test_it_waits_no_longer_than_the_longest_announce() -> None:
    world = probed_world(last=20)
    world.stop()
    for _ in range(6):
        world.reactor.spend(5, 0.1)
        world.drain.probed("10.0.0.9", "checker/1")
    assert world.drain.state == ANNOUNCE
    world.reactor.spend(5.2, 0.1)
    assert world.drain.state != ANNOUNCE


def test_probes_that_cannot_be_seen_are_given_the_longest_announce() -> None:
    world = World(BUDGET).start()
    world.stop()
    world.reactor.spend(34, 0.1)
    assert world.drain.state == ANNOUNCE
    world.reactor.spend(1.2, 0.1)
    assert world.drain.state != ANNOUNCE


def test_nobody_waits_for_probes_where_readiness_is_all_that_counts() -> None:
    world = World(Budget(total=60.0, announce_min=2.0, announce_max=35.0)).start()
    world.accept()
    world.reactor.advance(20)
    for time in (5, 10, 15, 20):
        world.drain.probes.asked("10.0.0.9", "checker/1", time)
    world.stop()
    world.reactor.spend(2.2, 0.1)
    assert world.drain.state == FINISH


def test_every_preset_says_why() -> None:
    assert all(len(preset.why) > 20 for preset in PRESETS.values())
