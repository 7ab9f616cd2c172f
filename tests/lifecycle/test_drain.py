"""The state machine: its table, its one deadline, its watchers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from twisted_rr.lifecycle.budget import Budget
from twisted_rr.lifecycle.drain import (
    ANNOUNCE,
    BOOTING,
    DRAINED,
    FINISH,
    FORCE,
    RUNNING,
    STARTING,
    STATES,
    STOPPING,
    TABLE,
    Drain,
    WrongState,
)

BUDGET = Budget(total=30.0, announce_min=2.0, announce_max=5.0)


def running(clock: Clock | None = None) -> Drain:
    drain = Drain(BUDGET, (clock or Clock()).seconds)
    drain.start()
    drain.ready()
    return drain


def test_the_table_names_only_known_states() -> None:
    for row in TABLE.values():
        assert set(row) <= set(STATES)
        assert set(row.values()) <= set(STATES)


def test_every_state_answers_a_stop_and_a_hurry() -> None:
    for event in ("begin", "interrupt", "force"):
        assert set(TABLE[event]) == set(STATES)


def test_start_leads_through_starting_to_running() -> None:
    drain = Drain(BUDGET, Clock().seconds)
    states = [drain.state]
    drain.watch(states.append)
    drain.start()
    drain.ready()
    assert states == [BOOTING, STARTING, RUNNING]
    assert drain.was_ready


def test_begin_flips_at_once_and_tells_watchers_before_it_returns() -> None:
    drain = running()
    seen: list[tuple[str, bool]] = []
    drain.watch(lambda state: seen.append((state, drain.draining)))
    drain.begin("SIGTERM")
    assert seen == [(ANNOUNCE, True)]
    assert drain.cause == "SIGTERM"


def test_a_second_begin_changes_neither_deadline_nor_cause() -> None:
    clock = Clock()
    drain = running(clock)
    drain.begin("SIGTERM")
    deadline = drain.deadline
    clock.advance(1)
    drain.begin("stopService")
    assert (drain.deadline, drain.cause) == (deadline, "SIGTERM")


def test_the_deadline_counts_from_the_signal_and_not_from_its_turn() -> None:
    clock = Clock()
    drain = running(clock)
    clock.advance(3)
    drain.begin("SIGTERM", at=1.0)
    assert drain.deadline == 1.0 + BUDGET.cut
    assert drain.age() == 2.0


def test_remaining_is_the_whole_before_and_never_negative_after() -> None:
    clock = Clock()
    drain = running(clock)
    assert drain.remaining() == BUDGET.cut
    drain.begin("SIGTERM")
    clock.advance(BUDGET.cut + 100)
    assert drain.remaining() == 0.0


def test_who_was_never_ready_does_not_announce() -> None:
    drain = Drain(BUDGET, Clock().seconds)
    drain.start()
    drain.begin("SIGTERM")
    assert drain.state == FINISH
    drain.ready()
    assert (drain.state, drain.was_ready) == (FINISH, False)


def test_an_interrupt_skips_the_announce_and_shortens_the_deadline() -> None:
    drain = running()
    drain.begin("SIGINT", brisk=True)
    assert drain.state == FINISH
    assert drain.remaining() == pytest.approx(BUDGET.dev_finish)
    assert drain.brisk


def test_hurry_makes_the_deadline_now() -> None:
    clock = Clock()
    drain = running(clock)
    drain.begin("SIGTERM")
    clock.advance(1)
    drain.hurry()
    assert (drain.state, drain.remaining(), drain.hurried) == (FORCE, 0.0, True)


def test_hurry_without_a_stop_begins_one() -> None:
    drain = running()
    drain.hurry()
    assert (drain.state, drain.draining) == (FORCE, True)


def test_hurry_is_told_even_where_the_state_stays() -> None:
    drain = running()
    drain.begin("x")
    drain.announced()
    drain.stopping()
    told: list[int] = []
    drain.on_hurry(lambda: told.append(1))
    drain.hurry()
    assert (drain.state, told) == (STOPPING, [1])


def test_an_admin_drain_can_be_undone_exactly() -> None:
    drain = running()
    before = drain.state
    drain.hold("admin")
    assert (drain.state, drain.draining, drain.leaving) == (DRAINED, False, True)
    drain.undrain()
    assert (drain.state, drain.draining, drain.leaving, drain.cause) == (before, False, False, "")
    assert drain.remaining() == BUDGET.cut


def test_undrain_after_a_signal_is_refused() -> None:
    drain = running()
    drain.begin("SIGTERM")
    with pytest.raises(WrongState, match="undrain is not possible while draining:announce"):
        drain.undrain()


def test_a_signal_ends_an_admin_drain() -> None:
    drain = running()
    drain.hold("admin")
    drain.begin("SIGTERM")
    assert (drain.state, drain.cause) == (ANNOUNCE, "SIGTERM")


def test_after_a_stop_it_starts_anew() -> None:
    clock = Clock()
    drain = running(clock)
    drain.begin("x")
    drain.hurry()
    drain.stopping()
    drain.start()
    assert (drain.state, drain.draining, drain.hurried, drain.was_ready) == (STARTING, False, False, False)
    assert drain.remaining() == BUDGET.cut


def test_a_failing_watcher_does_not_keep_the_others_from_hearing() -> None:
    drain = running()
    heard: list[str] = []

    def broken(state: str) -> None:
        raise RuntimeError

    drain.watch(broken)
    drain.watch(heard.append)
    drain.begin("SIGTERM")
    assert heard == [ANNOUNCE]


def test_a_watcher_that_moves_the_state_leaves_the_order_intact_for_all() -> None:
    drain = running()
    heard: list[str] = []
    drain.watch(lambda state: drain.hurry() if state == ANNOUNCE else None)
    drain.watch(heard.append)
    drain.begin("SIGTERM")
    assert heard == [ANNOUNCE, FORCE]


def test_an_ended_watch_hears_nothing() -> None:
    drain = running()
    heard: list[str] = []
    drain.watch(heard.append)()
    drain.begin("SIGTERM")
    assert heard == []


def test_readiness_flips_with_the_signal_by_default() -> None:
    drain = running()
    assert not drain.ready_flipped
    drain.begin("SIGTERM")
    assert drain.ready_flipped


def test_readiness_flips_at_its_offset() -> None:
    clock = Clock()
    drain = Drain(Budget(total=30, announce_max=5, ready_flip=3.0), clock.seconds)
    drain.start()
    drain.ready()
    drain.begin("SIGTERM")
    clock.advance(2.9)
    assert not drain.ready_flipped
    clock.advance(0.1)
    assert drain.ready_flipped


def test_readiness_can_flip_when_the_announce_ends_and_never_later_than_force() -> None:
    drain = Drain(Budget(total=30, announce_max=5, ready_flip=None), Clock().seconds)
    drain.start()
    drain.ready()
    drain.begin("SIGTERM")
    assert not drain.ready_flipped
    drain.announced()
    assert drain.ready_flipped


EVENTS = (
    "start",
    "ready",
    "begin",
    "interrupt",
    "hold",
    "undrain",
    "announced",
    "expired",
    "stopping",
    "hurry",
)


@given(st.lists(st.tuples(st.sampled_from(EVENTS), st.floats(0, 5)), max_size=30))
def test_whatever_happens_the_first_deadline_holds_and_draining_never_ends_by_itself(
    events: list[tuple[str, float]],
) -> None:
    clock = Clock()
    drain = Drain(BUDGET, clock.seconds)
    calls = {
        "begin": lambda: drain.begin("a"),
        "interrupt": lambda: drain.begin("b", brisk=True),
        "hold": lambda: drain.hold("c"),
    }
    deadline: float | None = None
    order = [ANNOUNCE, FINISH, FORCE, STOPPING]
    for name, pause in events:
        clock.advance(pause)
        before, was_draining = drain.state, drain.draining
        try:
            calls.get(name, getattr(drain, name, None))()
        except WrongState:
            assert (drain.state, drain.draining) == (before, was_draining)
            continue
        if name == "start":
            deadline = None
            assert not drain.draining
            continue
        assert drain.draining == (drain.state in order)
        assert drain.remaining() >= 0
        if drain.draining:
            if deadline is not None:
                assert drain.deadline <= deadline
            if was_draining:
                assert order.index(drain.state) >= order.index(before)
            deadline = drain.deadline
            assert deadline <= clock.seconds() + BUDGET.cut
