"""Deadlines of calls: one timer for all, and nothing kept of those that are over."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from twisted_rr.plugins.grpc.deadlines import SPARE, TICKS, Deadlines


class Log:
    def __init__(self) -> None:
        self.failures: list[str] = []

    def failure(self, format: str, **fields: Any) -> None:
        self.failures.append(format)


class Item:
    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.expired = 0

    def expire(self) -> None:
        self.expired += 1
        if self.error is not None:
            raise self.error


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def deadlines(clock: Clock, log: Log) -> Deadlines:
    return Deadlines(clock, log)


def test_items_expire_within_a_tick_after_their_time(clock: Clock, deadlines: Deadlines) -> None:
    item = Item()
    deadlines.add(item, 1.0)
    seen = []
    for step in (0.999, 0.001 + 1 / TICKS):
        clock.advance(step)
        seen.append(item.expired)
    assert seen == [0, 1]


def test_one_that_raises_does_not_take_the_others_of_its_tick_along(
    clock: Clock, deadlines: Deadlines, log: Log
) -> None:
    items = [Item(), Item(ValueError("at its deadline")), Item()]
    later = Item()
    for item in items:
        deadlines.add(item, 1.0)
    deadlines.add(later, 2.0)
    clock.advance(1.1)
    assert [item.expired for item in items] == [1, 1, 1]
    assert log.failures == ["a call could not be told that its deadline has come"]
    clock.advance(1)
    assert later.expired == 1


def test_calls_that_are_over_leave_nothing_until_the_hour_that_they_had(
    clock: Clock, deadlines: Deadlines
) -> None:
    lasting = Item()
    deadlines.add(lasting, 3600.0)
    for _ in range(10_000):
        item = Item()
        tick = deadlines.add(item, clock.seconds() + 3600.0)
        clock.advance(0.01)
        deadlines.discard(item, tick)
    assert len(deadlines._buckets) == 1
    assert len(deadlines._heap) <= 2 + SPARE
    clock.advance(3600)
    assert lasting.expired == 1
    assert not deadlines._buckets and not deadlines._heap


def test_a_tick_that_was_freed_is_used_again_and_told_once(clock: Clock, deadlines: Deadlines) -> None:
    first, second, third = Item(), Item(), Item()
    deadlines.discard(first, deadlines.add(first, 1.0))
    deadlines.add(second, 1.0)
    deadlines.discard(first, deadlines.add(first, 0.5))
    deadlines.add(third, 3.0)
    clock.advance(2)
    assert (first.expired, second.expired, third.expired) == (0, 1, 0)
    clock.advance(2)
    assert third.expired == 1
    assert not clock.getDelayedCalls()


def test_one_that_is_over_already_may_be_discarded(clock: Clock, deadlines: Deadlines) -> None:
    item = Item()
    tick = deadlines.add(item, 1.0)
    clock.advance(2)
    deadlines.discard(item, tick)
    assert item.expired == 1
