"""A front's listener: bound early, silent until told, emptied before it is closed."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from twisted_rr.errors import ListenError
from twisted_rr.lifecycle.budget import Budget
from twisted_rr.lifecycle.clock import MonotonicClock
from twisted_rr.lifecycle.drain import Drain
from twisted_rr.lifecycle.listeners import Listener
from twisted_rr.testing.host import FakeDrain
from twisted_rr.testing.port import FakePort
from twisted_rr.testing.transport import StringTransport


class Factory:
    def __init__(self) -> None:
        self.built: list[object] = []

    def buildProtocol(self, address: object) -> object:
        self.built.append(address)
        return None

    def doStart(self) -> None:
        self.built.append("start")

    def doStop(self) -> None:
        self.built.append("stop")


class Rig:
    def __init__(self, drain: Any = None) -> None:
        self.clock = Clock()
        self.ports: list[FakePort] = []
        self.factory = Factory()
        self.drain = drain or Drain(Budget(), self.clock.seconds)
        self.listener = Listener("127.0.0.1:0", self.factory, self.clock, self.drain, bind=self.bind)

    @property
    def diary(self) -> list[str]:
        """What was done with each port."""
        return [event for port in self.ports for event in ("bind", *port.events)]

    def bind(self, address: str) -> FakePort:
        self.ports.append(FakePort(address))
        return self.ports[-1]


def test_it_binds_early_and_listens_when_told() -> None:
    rig = Rig()
    assert rig.listener.address == "127.0.0.1:0"
    rig.listener.privilegedStartService()
    rig.listener.startService()
    assert (rig.diary, rig.listener.address) == (["bind"], "127.0.0.1:8080")
    assert rig.listener.listen()
    assert not rig.listener.listen()
    assert rig.diary == ["bind", "listen"]


def test_a_parent_without_a_privileged_step_is_fine() -> None:
    rig = Rig()
    rig.listener.startService()
    assert rig.diary == ["bind"]


def test_it_does_not_begin_to_listen_in_a_drain() -> None:
    rig = Rig()
    rig.listener.startService()
    rig.drain.begin("SIGTERM")
    assert not rig.listener.listen()
    assert rig.diary == ["bind"]


def test_finish_empties_the_queue_and_happens_once() -> None:
    rig = Rig()
    rig.listener.startService()
    rig.listener.listen()
    rig.listener.finish()
    rig.listener.finish()
    rig.listener.stopService()
    assert rig.diary == ["bind", "listen", "finish"]


def test_what_never_listened_is_only_closed() -> None:
    rig = Rig()
    rig.listener.privilegedStartService()
    rig.listener.stopService()
    assert rig.diary == ["bind", "close"]


def test_it_can_start_again() -> None:
    rig = Rig()
    for _ in range(2):
        rig.listener.startService()
        rig.listener.listen()
        rig.listener.stopService()
    assert rig.diary == ["bind", "listen", "finish"] * 2


def test_the_drain_hears_of_each_connection() -> None:
    rig = Rig()
    rig.listener.startService()
    rig.listener.listen()
    rig.clock.advance(5)
    peer = StringTransport()
    rig.ports[0].connect(peer)
    assert (rig.drain.last_arrival, rig.factory.built) == (5.0, [peer.getPeer()])


def test_a_drain_that_does_not_want_to_hear_is_fine() -> None:
    rig = Rig(FakeDrain())
    rig.listener.startService()
    rig.listener.listen()
    rig.ports[0].connect(StringTransport())
    assert len(rig.factory.built) == 1


def test_a_port_in_use_fails_the_privileged_step() -> None:
    rig = Rig()

    def bind(address: str) -> FakePort:
        raise ListenError(address, "in use")

    rig.listener._bind = bind
    with pytest.raises(ListenError):
        rig.listener.privilegedStartService()
    rig.listener.stopService()


def test_a_foreign_reactors_timers_are_used_with_monotonic_seconds() -> None:
    clock = Clock()
    monotonic = MonotonicClock(clock, lambda: 77.0)
    called: list[int] = []
    monotonic.callLater(1, called.append, 1)
    assert (monotonic.seconds(), len(monotonic.getDelayedCalls())) == (77.0, 1)
    clock.advance(1)
    assert called == [1]


def test_the_limit_of_silence_holds_for_each_port_it_binds() -> None:
    rig = Rig()
    rig.listener.limit_silence(30.0)
    rig.listener.privilegedStartService()
    assert rig.ports[0].silence == 30.0
    rig.listener.limit_silence(0.0)
    assert rig.ports[0].silence == 0.0
