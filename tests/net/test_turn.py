"""One flush a turn."""

from twisted.internet.task import Clock

from twisted_rr.net.turn import GENERATIONS, Turn, turn_of


class Item:
    def __init__(self, then=None):
        self.flushed = 0
        self.then = then

    def flush(self):
        self.flushed += 1
        if self.then:
            self.then()


def test_an_item_added_twice_is_flushed_once():
    clock = Clock()
    turn, item = Turn(clock), Item()
    turn.add(item)
    turn.add(item)
    assert item.flushed == 0
    clock.advance(0)
    assert item.flushed == 1
    assert not clock.getDelayedCalls()


def test_items_are_flushed_in_the_order_they_were_added():
    clock = Clock()
    turn, order = Turn(clock), []
    first, second = Item(lambda: order.append(1)), Item(lambda: order.append(2))
    turn.add(first)
    turn.add(second)
    clock.advance(0)
    assert order == [1, 2]


def test_an_item_can_be_added_again_in_the_next_turn():
    clock = Clock()
    turn, item = Turn(clock), Item()
    for count in (1, 2, 3):
        turn.add(item)
        clock.advance(0)
        assert item.flushed == count


def test_what_a_flush_adds_is_flushed_in_the_same_turn():
    clock = Clock()
    turn, second = Turn(clock), Item()
    turn.add(Item(lambda: turn.add(second)))
    clock.advance(0)
    assert second.flushed == 1


class Later:
    """callLater that waits to be told; a Clock would run what a call of the same instant makes."""

    def __init__(self):
        self.calls = []

    def callLater(self, seconds, call):
        self.calls.append(call)

    def advance(self, seconds):
        calls, self.calls = self.calls, []
        for call in calls:
            call()


def test_a_flush_that_asks_for_ever_lets_the_reactor_turn():
    clock = Later()
    turn = Turn(clock)
    item = Item()
    item.then = lambda: turn.add(item)
    turn.add(item)
    clock.advance(0)
    assert item.flushed == GENERATIONS
    clock.advance(0)
    assert item.flushed == 2 * GENERATIONS


def test_a_flush_that_fails_does_not_keep_the_others_from_it():
    clock = Clock()
    turn, good = Turn(clock), Item()

    def fail():
        raise ValueError("told to")

    turn.add(Item(fail))
    turn.add(good)
    clock.advance(0)
    assert good.flushed == 1
    turn.add(good)
    clock.advance(0)
    assert good.flushed == 2


def test_a_driven_turn_makes_no_timer():
    clock = Clock()
    turn, item = Turn(clock), Item()
    turn.driven = True
    turn.add(item)
    assert not clock.getDelayedCalls()
    assert turn.pending()
    turn.run()
    assert item.flushed == 1
    assert not turn.pending()


def test_a_reactor_has_one_turn():
    one, other = Clock(), Clock()
    assert turn_of(one) is turn_of(one)
    assert turn_of(one) is not turn_of(other)
