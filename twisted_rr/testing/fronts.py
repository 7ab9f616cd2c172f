"""A kit for people who write a front: runs one through a stop and says where it breaks the contract.

It needs no server: a reactor, a way to make the front, and a client that can begin, finish and give up an exchange.
How a front is written is docs/fronts.md. Left out: health, and what the front's protocol says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from twisted_rr.interfaces import IFront, IInFlight

__all__ = ["Client", "FrontCheck", "RecordingInFlight", "check_front"]


class Client(Protocol):
    """The kit's hands on a front: what a client of its protocol and its application do. Everything is synchronous."""

    def begin(self) -> Any:
        """A new exchange on a new connection; what `finish` and `leave` take, or None when it was not accepted."""

    def finish(self, exchange: Any) -> None:
        """The application answers and the client takes all of it."""

    def leave(self, exchange: Any) -> None:
        """The client goes away in the middle of it."""

    def outcome(self, exchange: Any) -> str:
        """What the client has seen: ``open``, ``complete``, ``refused`` (a clear word, such as 503) or ``broken``."""

    def told_to_go(self, exchange: Any) -> bool:
        """Whether its complete answer told it to go elsewhere (``Connection: close``, GOAWAY)."""


class RecordingInFlight:
    """Stands between a front and its `IInFlight`: remembers every begin and every first end of an item."""

    def __init__(self, kept: Any) -> None:
        self.kept = kept
        self.begun: list[Any] = []
        self.ended: list[Any] = []
        self.unknown: list[Any] = []

    def begin(self, item: Any) -> None:
        self.begun.append(item)
        self.kept.begin(item)

    def _end(self, name: str, item: Any) -> None:
        if not any(item is each for each in self.begun):
            self.unknown.append(item)
        self.ended.append(item)
        getattr(self.kept, name)(item)

    def __getattr__(self, name: str) -> Any:
        if name in ("end", "end_cut", "end_lost", "end_refused"):
            return lambda item: self._end(name, item)
        return getattr(self.kept, name)


class FrontCheck:
    """One front on its way out, step by step; each step raises AssertionError with the rule that was broken.

    :param make: makes a new front that is bound and listens as soon as it is started.
    :param client: makes the kit's hands for that front.
    :param advance: lets time pass, in seconds: the advance of a fake reactor, say.
    """

    def __init__(
        self, make: Callable[[], Any], client: Callable[[Any], Client], advance: Callable[[float], None]
    ) -> None:
        self.front = make()
        self.advance = advance
        verifyObject(IFront, self.front)
        verifyObject(IInFlight, self.front.in_flight)
        # A front may keep its set in a slot of another name; only what goes through the attribute is seen.
        self.record = self.front.in_flight = RecordingInFlight(self.front.in_flight)
        self.front.privilegedStartService()
        self.front.startService()
        self.advance(0)
        self.client = client(self.front)
        self.stopped: list[Any] = []

    def expect(self, holds: bool, rule: str) -> None:
        """Raise AssertionError with *rule* unless it *holds*."""
        if not holds:
            raise AssertionError(f"{type(self.front).__name__}: {rule}")

    def accepted(self) -> Any:
        """A new exchange, which has to be accepted and counted."""
        before = self.front.in_flight.count()
        exchange = self.client.begin()
        self.expect(exchange is not None, "a new exchange has to be accepted until finish()")
        self.expect(self.front.in_flight.count() == before + 1, "an accepted exchange is in flight, once")
        return exchange

    def stop(self) -> None:
        """Begin ``stopService``; ``stopped`` gets an entry when its Deferred has fired."""
        done = self.front.stopService()
        self.expect(
            isinstance(done, Deferred), "stopService() returns a Deferred: its end is when nothing is left"
        )
        done.addBoth(self.stopped.append)

    def settle(self, seconds: float = 5.0) -> None:
        """Let *seconds* pass in small steps."""
        for _ in range(round(seconds / 0.05)):
            self.advance(0.05)


def _announce_goes_on_serving(check: FrontCheck) -> None:
    before = check.accepted()
    check.front.announce()
    check.front.announce()
    after = check.accepted()
    for exchange in (before, after):
        check.client.finish(exchange)
        check.settle(0.5)
        check.expect(
            check.client.outcome(exchange) == "complete", "announce() cuts nothing and refuses nothing"
        )
        check.expect(
            check.client.told_to_go(exchange), "after announce() answers tell clients to go elsewhere"
        )


def _finish_closes_and_serves_what_was_accepted(check: FrontCheck) -> None:
    exchange = check.accepted()
    check.front.announce()
    check.front.finish()
    check.front.finish()
    check.expect(check.client.begin() is None, "nothing is accepted after finish()")
    check.expect(check.client.outcome(exchange) == "open", "finish() cuts nothing")
    check.client.finish(exchange)
    check.settle(0.5)
    check.expect(check.client.outcome(exchange) == "complete", "what was accepted is served after finish()")


def _idle_fires_when_the_last_one_ends(check: FrontCheck) -> None:
    fired: list[Any] = []
    first, second = check.accepted(), check.accepted()
    check.front.in_flight.idle().addCallback(fired.append)
    check.client.finish(first)
    check.settle(0.5)
    check.expect(not fired, "idle() waits for every exchange")
    check.client.leave(second)
    check.settle(0.5)
    check.expect(bool(fired), "idle() fires when the last exchange has ended, a client that left included")
    check.expect(check.front.in_flight.oldest() is None, "oldest() is None when nothing is in flight")


def _each_exchange_ends_exactly_once(check: FrontCheck) -> None:
    exchanges = [check.accepted() for _ in range(3)]
    check.client.finish(exchanges[0])
    check.client.leave(exchanges[1])
    check.front.announce()
    check.front.finish()
    check.front.hurry()
    check.expect(check.front.in_flight.count() == 0, "hurry() ends everything in flight before it returns")
    check.front.hurry()
    check.client.leave(exchanges[0])
    check.client.leave(exchanges[2])
    check.settle(0.5)
    check.expect(not check.record.unknown, "only what was begun is ended")
    begun, ended = check.record.begun, check.record.ended
    check.expect(
        len({id(item) for item in begun}) == len(begun) == 3, "each exchange is begun once, as a new item"
    )
    check.expect(len({id(item) for item in ended}) == 3, "each exchange is ended")
    check.expect(len(ended) == 3, "each exchange is ended once, whatever comes together")


def _hurry_says_a_clear_word_where_nothing_was_sent(check: FrontCheck) -> None:
    exchange = check.accepted()
    check.front.announce()
    check.front.finish()
    check.front.hurry()
    check.settle(0.5)
    check.expect(
        check.client.outcome(exchange) == "refused",
        "hurry() refuses in words what has no byte of an answer yet",
    )


def _stop_waits_and_hurry_ends_it(check: FrontCheck) -> None:
    check.accepted()
    check.front.announce()
    check.front.finish()
    check.stop()
    check.settle(3.0)
    check.expect(not check.stopped, "stopService() waits for what is in flight")
    check.front.hurry()
    check.settle(2.0)
    check.expect(bool(check.stopped), "after hurry() stopService()'s Deferred fires within two seconds")


def _an_idle_stop_is_quick(check: FrontCheck) -> None:
    check.stop()
    check.settle(2.0)
    check.expect(bool(check.stopped), "with nothing in flight stopService() is over in two seconds")
    check.expect(check.client.begin() is None, "stopService() alone closes the listeners too")


RULES: tuple[Callable[[FrontCheck], None], ...] = (
    _announce_goes_on_serving,
    _finish_closes_and_serves_what_was_accepted,
    _idle_fires_when_the_last_one_ends,
    _each_exchange_ends_exactly_once,
    _hurry_says_a_clear_word_where_nothing_was_sent,
    _stop_waits_and_hurry_ends_it,
    _an_idle_stop_is_quick,
)
"""Each takes a fresh `FrontCheck`; their names say what they are about."""


def check_front(
    make: Callable[[], Any], client: Callable[[Any], Client], advance: Callable[[float], None]
) -> list[str]:
    """Run a new front through every rule; the rules that were broken, none for a good one. See `FrontCheck`."""
    broken = []
    for rule in RULES:
        try:
            rule(FrontCheck(make, client, advance))
        except AssertionError as error:
            broken.append(str(error))
    return broken
