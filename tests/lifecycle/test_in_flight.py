"""The set of exchanges: counted once, whatever ends them, however often."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from lifecycle_world import Item
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from twisted_rr.interfaces import IInFlight
from twisted_rr.lifecycle.in_flight import InFlight


def test_it_keeps_the_contract() -> None:
    assert verifyObject(IInFlight, InFlight("http", Clock().seconds))


def test_ending_twice_counts_once() -> None:
    flying = InFlight("http", Clock().seconds)
    item, other = Item(), Item()
    flying.begin(item)
    flying.begin(other)
    flying.end(item)
    flying.end(item)
    flying.end_cut(item)
    flying.end_lost(item)
    assert (flying.count(), flying.finished, flying.cut, flying.lost) == (1, 1, 0, 0)


def test_the_oldest_is_the_first_that_is_left() -> None:
    clock = Clock()
    flying = InFlight("http", clock.seconds)
    assert flying.oldest() is None
    items = []
    for _ in range(3):
        items.append(Item(clock.seconds()))
        flying.begin(items[-1])
        clock.advance(1)
    assert flying.oldest() == 3.0
    flying.end(items[0])
    assert flying.oldest() == 2.0
    assert flying.items() == items[1:]


def test_idle_fires_at_once_when_nothing_is_in_flight() -> None:
    assert InFlight("http", Clock().seconds).idle().called


def test_idle_fires_for_everybody_with_the_last_end_of_any_kind() -> None:
    for how in ("end", "end_cut", "end_lost"):
        flying = InFlight("http", Clock().seconds)
        first, last = Item(), Item()
        flying.begin(first)
        flying.begin(last)
        waits = [flying.idle(), flying.idle()]
        flying.end(first)
        assert not any(wait.called for wait in waits)
        getattr(flying, how)(last)
        assert all(wait.called for wait in waits)


def test_a_cancelled_wait_is_forgotten() -> None:
    flying = InFlight("http", Clock().seconds)
    item = Item()
    flying.begin(item)
    wait = flying.idle()
    failures: list[object] = []
    wait.addErrback(lambda failure: failures.append(failure.type))
    wait.cancel()
    flying.end(item)
    assert failures == [CancelledError]


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["begin", "end", "end_cut", "end_lost"]))))
def test_the_count_is_that_of_a_set(events: list[tuple[int, str]]) -> None:
    flying = InFlight("http", Clock().seconds)
    items = [Item() for _ in range(6)]
    model: set[int] = set()
    begun = 0
    for number, event in events:
        getattr(flying, event)(items[number])
        if event == "begin":
            begun += number not in model
            model.add(number)
        else:
            model.discard(number)
        assert flying.count() == len(model)
    assert flying.finished + flying.cut + flying.lost + flying.count() == begun
