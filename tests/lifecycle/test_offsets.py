"""Readiness, telling clients to go, and closing the listeners: three offsets that do not depend on each other."""

from __future__ import annotations

import pytest
from lifecycle_world import World

from twisted_rr.lifecycle.budget import Budget
from twisted_rr.lifecycle.drain import ANNOUNCE


def world(**offsets: object) -> World:
    """Running; the announce lasts exactly 5 s, and a request is in flight."""
    made = World(Budget(total=30.0, announce_min=5.0, announce_max=5.0, **offsets)).start()  # type: ignore[arg-type]
    made.accept()
    return made


def happened(made: World) -> dict[str, float]:
    """When each of the three happened, from the signal, rounded to a tenth; absent: not in 10 s."""
    times: dict[str, float] = {}
    made.stop()
    for step in range(1, 101):
        now = step / 10
        if made.drain.ready_flipped:
            times.setdefault("unready", round(now - 0.1, 1))
        if "http announce" in made.diary:
            times.setdefault("goaway", round(now - 0.1, 1))
        if "http finish" in made.diary:
            times.setdefault("closed", round(now - 0.1, 1))
        made.reactor.advance(0.1)
    return times


@pytest.mark.parametrize("flip", [0.0, 2.0, 5.0])
@pytest.mark.parametrize("goaway", [0.0, 3.0, 8.0])
def test_each_offset_is_kept_whatever_the_other_is(flip: float, goaway: float) -> None:
    found = happened(world(ready_flip=flip, goaway_start=goaway))
    expected = {"unready": flip, "goaway": goaway, "closed": 5.0}
    assert found == pytest.approx(expected, abs=0.11)


def test_both_can_wait_for_the_end_of_the_announce() -> None:
    found = happened(world(ready_flip=None, goaway_start=None))
    assert found == pytest.approx({"unready": 5.0, "goaway": 5.0, "closed": 5.0}, abs=0.11)


def test_with_nothing_said_both_happen_in_the_turn_of_the_signal() -> None:
    made = world()
    made.drain.begin("SIGTERM")
    assert made.drain.ready_flipped and made.what("announce") == ["http announce"]


def test_a_forced_stop_waits_for_no_offset() -> None:
    made = world(ready_flip=4.0, goaway_start=20.0)
    made.stop()
    made.drain.hurry()
    assert made.drain.ready_flipped
    assert made.diary.index("http announce") < made.diary.index("http hurry")


def test_an_admins_drain_tells_clients_to_go_and_an_undrain_lets_the_next_one_tell_them_again() -> None:
    made = world(goaway_start=1.0)
    made.drain.hold("admin")
    assert made.what("announce") == []
    made.reactor.advance(1.0)
    assert made.what("announce") == ["http announce"]
    made.drain.undrain()
    made.drain.hold("admin")
    made.reactor.advance(1.0)
    assert made.what("announce") == ["http announce"] * 2


def test_an_undrain_before_the_offset_tells_nobody() -> None:
    made = world(goaway_start=1.0)
    made.drain.hold("admin")
    made.drain.undrain()
    made.reactor.advance(5.0)
    assert made.what("announce") == []


def test_a_signal_after_an_admins_drain_tells_nobody_twice() -> None:
    made = world()
    made.drain.hold("admin")
    made.stop()
    assert made.drain.state != "running" and made.what("announce") == ["http announce"]


def test_the_listeners_stay_open_until_readiness_has_failed() -> None:
    made = World(
        Budget(total=30.0, announce_min=0.0, announce_max=5.0, announce_quiet=0.0, ready_flip=3.0)
    ).start()
    made.accept()
    made.stop()
    made.reactor.spend(2.5)
    assert made.drain.state == ANNOUNCE
    made.reactor.spend(0.6)
    assert made.drain.state != ANNOUNCE and made.drain.ready_flipped


@pytest.mark.parametrize("flip", [None, 4.0])
def test_after_an_admins_drain_a_stop_does_not_make_it_ready_again(flip: float | None) -> None:
    made = world(ready_flip=flip)
    made.drain.hold("admin")
    made.stop()
    assert made.drain.state == ANNOUNCE and made.drain.ready_flipped
    taken_back = world(ready_flip=flip)
    taken_back.drain.hold("admin")
    taken_back.drain.undrain()
    taken_back.stop()
    assert not taken_back.drain.ready_flipped
