"""The base of every front; how it leaves is the kit's subject, in `test_fronts_kit`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from twisted_rr.errors import Draining, ListenError, QueueFull, WorkerDied
from twisted_rr.lifecycle.front import Front
from twisted_rr.testing.host import FakeHost
from twisted_rr.testing.pool import FakePool
from twisted_rr.testing.port import FakePort
from twisted_rr.testing.transport import StringTransport


class Exchange:
    cut = refused = False
    since = 0.0

    def describe(self) -> str:
        return "an exchange"


class Connection(Protocol):
    def __init__(self, front: Front, sweep: Callable[[float], None]) -> None:
        self.front = front
        self.sweep = sweep

    def connectionMade(self) -> None:
        self.front.connections[self] = self.transport


class Rig:
    """A front, its pool, and connections that are swept by *sweep*."""

    def __init__(
        self, pool: FakePool | None = None, sweep: Callable[[float], None] = lambda now: None
    ) -> None:
        self.clock = Clock()
        self.host = FakeHost(self.clock)
        self.port = FakePort("127.0.0.1:7")
        factory = Factory.forProtocol(lambda: Connection(self.front, sweep))  # type: ignore[arg-type,return-value]
        self.front = Front("it", "127.0.0.1:7", factory, self.host, pool, lambda _: self.port)

    def start(self) -> Rig:
        self.front.privilegedStartService()
        self.front.startService()
        return self

    def connect(self) -> StringTransport:
        transport = StringTransport()
        self.port.connect(transport)
        return transport

    def log(self, *levels: str) -> list[str]:
        return self.host.log("it").lines(*levels)


class LatePool(FakePool):
    """Not ready until the test says so."""

    def __init__(self) -> None:
        super().__init__("it", True)
        self.waiter: Any = None

    def ready(self) -> Any:
        from twisted.internet.defer import Deferred

        self.waiter = Deferred()
        return self.waiter


def told(deferred: Any) -> list[Any]:
    """What *deferred* has fired with, so far and later."""
    got: list[Any] = []
    deferred.addBoth(got.append)
    return got


def test_without_a_pool_it_listens_at_once() -> None:
    rig = Rig().start()
    assert rig.front.listening
    assert told(rig.front.started()) == [None]


def test_with_a_pool_it_listens_when_that_is_ready() -> None:
    pool = LatePool()
    rig = Rig(pool).start()
    started = told(rig.front.started())
    assert (rig.port.events, started) == ([], [])
    pool.waiter.callback(None)
    assert (rig.port.events, started) == (["listen"], [None])
    assert rig.log("info") == ["listening on 127.0.0.1:7"]


def test_a_pool_that_fails_is_told_to_those_who_wait_and_to_those_who_ask_later() -> None:
    pool = LatePool()
    rig = Rig(pool).start()
    early = told(rig.front.started())
    pool.waiter.errback(ZeroDivisionError())
    late = told(rig.front.started())
    assert [each.type for each in early + late] == [ZeroDivisionError] * 2
    assert rig.port.events == []


def test_a_port_that_another_server_listens_on_meanwhile_fails_the_start() -> None:
    pool = LatePool()
    rig = Rig(pool)

    def taken(*arguments: Any) -> None:
        raise ListenError("127.0.0.1:7", "address already in use (EADDRINUSE)")

    rig.port.listen = taken
    rig.start()
    early = told(rig.front.started())
    pool.waiter.callback(None)
    assert [each.type for each in early + told(rig.front.started())] == [ListenError] * 2


def test_a_stop_that_comes_before_the_pool_leaves_the_port_closed() -> None:
    pool = LatePool()
    rig = Rig(pool).start()
    started = told(rig.front.started())
    stopped = told(rig.front.stopService())
    pool.waiter.callback(None)
    assert (rig.port.events, stopped) == (["close"], [None])
    assert [each.type for each in started] == [Draining]


def test_a_connection_that_fails_at_its_time_outs_leaves_the_others_theirs() -> None:
    swept: list[float] = []

    def sweep(now: float) -> None:
        swept.append(now)
        if len(swept) == 1:
            raise ZeroDivisionError

    rig = Rig(sweep=sweep).start()
    transports = [rig.connect(), rig.connect()]
    rig.clock.advance(1)
    assert (swept, [each.closing for each in transports]) == ([1.0, 1.0], ["abort", ""])


def test_load_is_one_line_a_second_and_a_failure_a_line_of_its_own() -> None:
    rig = Rig().start()
    for _ in range(3):
        rig.front.failed(Exchange(), QueueFull(1))
    rig.front.failed(Exchange(), WorkerDied(7, "signal 9"))
    rig.clock.advance(1)
    rig.clock.advance(1)
    assert rig.log("warn") == ["3 requests were turned away: QueueFull"]
    assert rig.log("error") == ["an exchange failed after 0.00 s: worker 7 died: signal 9"]


@pytest.mark.parametrize("how", ["end", "cut", "lost", "refused"])
def test_an_exchange_is_counted_by_how_it_ended(how: str) -> None:
    front = Rig().start().front
    exchange = Exchange()
    front.in_flight.begin(exchange)
    if how in ("cut", "refused"):
        setattr(exchange, how, True)
    front.over(exchange, lost=how == "lost")
    counted = {name: getattr(front.in_flight, name) for name in ("finished", "cut", "lost", "refused")}
    assert counted == {"finished": 0, "cut": 0, "lost": 0, "refused": 0} | {how.replace("end", "finished"): 1}


def test_records_hears_of_every_end() -> None:
    front = Rig().start().front
    heard: list[Any] = []
    front.record = lambda exchange, lost: heard.append(lost)  # type: ignore[method-assign]
    front.over(Exchange(), "client")
    front.records = True
    front.over(Exchange(), "")
    assert heard == [""]


def test_a_drain_that_is_taken_back_lets_clients_stay() -> None:
    rig = Rig().start()
    rig.front.announce()
    rig.host.drain.enter("running")
    assert not rig.front.draining


def test_what_clients_sent_before_the_close_is_still_read() -> None:
    rig = Rig().start()
    transport = rig.connect()
    told(rig.front.stopService())
    rig.clock.advance(0.05)
    assert transport.closing == ""
    rig.front.in_flight.begin(late := Exchange())
    rig.clock.advance(5)
    assert transport.closing == ""
    rig.front.over(late, False)
    rig.clock.advance(0)
    assert transport.closing == "fin"


def test_after_a_stop_it_starts_as_if_new() -> None:
    rig = Rig().start()
    transport = rig.connect()
    rig.front.hurry()
    stopped = told(rig.front.stopService())
    assert (transport.closing, stopped) == ("", [])
    rig.clock.advance(0.05)
    assert (transport.closing, stopped) == ("abort", [None])
    rig.front.closed(next(iter(rig.front.connections)))
    front = rig.start().front
    assert (front.listening, front.draining, front.finishing, front.forced) == (True, False, False, False)
    assert rig.port.events == ["listen", "finish", "listen"]


def test_nothing_is_held_after_a_stop() -> None:
    rig = Rig().start()
    told(rig.front.stopService())
    assert rig.clock.getDelayedCalls() == []
    assert isinstance(told(rig.front.started())[0], Failure)
