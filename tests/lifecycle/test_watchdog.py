"""systemd's watchdog is fed by health only, and a stop gets more time for progress only."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lifecycle_world import Item, World
from twisted.internet.task import Clock

from twisted_rr.build import make_server, read_config
from twisted_rr.lifecycle.budget import Budget
from twisted_rr.lifecycle.in_flight import InFlight
from twisted_rr.lifecycle.movement import Movement
from twisted_rr.lifecycle.notify import Notifier
from twisted_rr.lifecycle.watchdog import Watchdog, watchdog_interval


class Manager:
    """The receiving end of NOTIFY_SOCKET."""

    def __init__(self, folder: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(folder / "notify"))
        self.socket.setblocking(False)
        self.notifier = Notifier({"NOTIFY_SOCKET": self.socket.getsockname()})

    def heard(self, word: str = "") -> list[str]:
        lines: list[str] = []
        while True:
            try:
                lines += self.socket.recv(4096).decode().split("\n")
            except BlockingIOError:
                return [line for line in lines if line.startswith(word)]


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    found = Manager(tmp_path)
    yield found
    found.socket.close()


class Patient:
    """A health that the test sets, behind a watchdog of 10 seconds."""

    def __init__(self, manager: Manager, **environ: str) -> None:
        self.manager = manager
        self.clock = Clock()
        self.answer: Any = True
        self.asked = 0
        self.watchdog = Watchdog(
            manager.notifier, self.clock, 10.0, self.health, environ=environ, pid=lambda: 4711
        )
        self.watchdog.startService()

    def health(self) -> bool:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return bool(self.answer)

    def spend(self, seconds: int) -> int:
        """How many signs of life came meanwhile."""
        self.clock.pump([1.0] * seconds)
        return len(self.manager.heard("WATCHDOG=1"))


# ------------------------------------------------------------------------------------------- the watchdog


def test_it_is_fed_at_once_and_then_twice_an_interval(manager: Manager) -> None:
    patient = Patient(manager)
    assert manager.heard() == ["WATCHDOG=1"]
    assert patient.spend(20) == 4


def test_it_is_not_fed_while_health_says_no(manager: Manager) -> None:
    patient = Patient(manager)
    manager.heard()
    patient.answer = False
    assert patient.spend(60) == 0


def test_it_is_fed_again_when_health_returns(manager: Manager) -> None:
    patient = Patient(manager)
    patient.answer = False
    patient.spend(5)
    patient.answer = True
    assert patient.spend(5) == 1


def test_a_health_that_raises_is_a_no_and_ends_nothing(
    manager: Manager, caplog: pytest.LogCaptureFixture
) -> None:
    patient = Patient(manager)
    manager.heard()
    patient.answer = RuntimeError("no idea")
    assert patient.spend(10) == 0
    patient.answer = True
    assert patient.spend(5) == 1


def test_a_watchdog_of_another_process_is_left_alone(manager: Manager) -> None:
    assert Patient(manager, WATCHDOG_PID="4712").spend(30) == 0
    assert manager.heard() == []


def test_our_own_pid_is_meant(manager: Manager) -> None:
    assert Patient(manager, WATCHDOG_PID="4711").spend(10) == 3


def test_without_a_socket_health_is_not_even_asked() -> None:
    deaf = Watchdog(Notifier({}), Clock(), 10.0, lambda: pytest.fail("asked"), environ={})
    deaf.startService()


def test_after_its_stop_it_is_silent(manager: Manager) -> None:
    patient = Patient(manager)
    manager.heard()
    patient.watchdog.stopService()
    assert patient.spend(30) == 0
    assert patient.clock.getDelayedCalls() == []


@pytest.mark.parametrize("told", ["", "0", "-5", "1.5", "soon", "²"])
def test_no_interval_no_watchdog(told: str) -> None:
    assert watchdog_interval({"WATCHDOG_USEC": told}) is None
    assert watchdog_interval({}) is None


def test_the_interval_is_told_in_microseconds() -> None:
    assert watchdog_interval({"WATCHDOG_USEC": "20000000"}) == 20.0


# ------------------------------------------------------------------------------------------- in a server


def status_only(manager: Manager, **environ: str) -> Any:
    world = World()
    told = {"NOTIFY_SOCKET": manager.socket.getsockname(), **environ}
    config = read_config({"version": "3", "status": {"address": "127.0.0.1:0"}}, environ={})
    return make_server(config, world.reactor, environ=told, clock=world.reactor)


def test_a_server_under_a_watchdog_asks_its_status_listener(manager: Manager) -> None:
    server = status_only(manager, WATCHDOG_USEC="4000000")
    status, watchdog = list(server.phase("STATUS"))
    watchdog.startService()
    assert manager.heard() == ["WATCHDOG=1"]
    status.healthy = lambda: False
    server.reactor.advance(2.0)
    assert manager.heard() == []
    watchdog.stopService()


def test_health_is_what_the_status_listener_would_answer(manager: Manager) -> None:
    (status,) = list(status_only(manager).phase("STATUS"))
    assert status.healthy() is True
    status._collector._host.provide(*dead_provider())
    status._collector._host.drain.start()
    status._collector._host.drain.ready()
    assert status.healthy() is False


def dead_provider() -> tuple[Any, Any]:
    from twisted_rr.interfaces import IHealth

    class Dead:
        name = "http"

        def alive(self) -> str | None:
            return "no worker alive"

        def ready(self) -> str | None:
            return "no worker alive"

    return IHealth, Dead()


# ------------------------------------------------------------------------------- more time for a stop


class Download(Item):
    """An exchange whose answer grows."""

    size = 0


def in_flight_of(*items: Any) -> InFlight:
    found = InFlight("http", lambda: 0.0)
    for item in items:
        found.begin(item)
    return found


def test_nothing_that_moves_is_no_progress() -> None:
    assert not Movement(lambda: [in_flight_of(Item())]).moved(0.0)


def test_one_sign_counts_for_a_few_seconds() -> None:
    progress = Movement(list, patience=5.0)
    progress.mark(10.0)
    assert progress.moved(14.9)
    assert not progress.moved(15.0)


@pytest.mark.parametrize("end", ["end", "end_cut", "end_lost"])
def test_an_exchange_less_is_progress(end: str) -> None:
    item = Item()
    flights = in_flight_of(item, Item())
    progress = Movement(lambda: [flights], patience=5.0)
    progress.mark(0.0)
    getattr(flights, end)(item)
    assert progress.moved(8.0)


def test_bytes_answered_are_progress() -> None:
    item = Download()
    flights = in_flight_of(item)
    progress = Movement(lambda: [flights], patience=5.0)
    progress.mark(0.0)
    item.size = 65536
    assert progress.moved(8.0)
    assert not progress.moved(13.0)


def test_bytes_count_although_a_bigger_answer_has_just_ended() -> None:
    small, big = Download(), Download()
    flights = in_flight_of(small, big)
    big.size = 1_000_000
    progress = Movement(lambda: [flights], patience=5.0)
    progress.mark(0.0)
    flights.end(big)
    assert progress.moved(1.0)
    small.size = 10
    assert progress.moved(7.0)


def test_what_only_arrives_is_no_progress() -> None:
    flights = in_flight_of(Item())
    progress = Movement(lambda: [flights], patience=5.0)
    progress.mark(0.0)
    flights.begin(Item())
    assert not progress.moved(8.0)


LONG = Budget(total=60.0)


def drained_for(manager: Manager, world: World, seconds: float) -> list[str]:
    manager.heard()
    world.reactor.spend(seconds, step=0.125)
    return manager.heard("EXTEND_TIMEOUT_USEC")


def test_a_stop_without_progress_gets_no_more_time_after_some_seconds(manager: Manager) -> None:
    world = World(LONG, notify=manager.notifier).start()
    world.accept()
    world.stop()
    assert drained_for(manager, world, 4.5) == ["EXTEND_TIMEOUT_USEC=2000000"] * 4
    assert drained_for(manager, world, 1.0) == []
    assert drained_for(manager, world, 20.0) == []


def test_a_stop_that_goes_on_gets_time_each_second(manager: Manager) -> None:
    world = World(LONG, notify=manager.notifier).start()
    items = [world.accept() for _ in range(5)]
    world.stop()
    drained_for(manager, world, 20.0)
    for item in items[:4]:
        world.front.in_flight.end(item)
        assert drained_for(manager, world, 4.0) == ["EXTEND_TIMEOUT_USEC=2000000"] * 4


def test_the_last_time_asked_for_ends_with_the_budget(manager: Manager) -> None:
    world = World(Budget(total=2.5, frame=0.1, term=0.1, flush=0.1), notify=manager.notifier)
    world.children["drivers"].holds = True
    world.start()
    world.drain.begin("SIGTERM")
    assert drained_for(manager, world, 6.0) == ["EXTEND_TIMEOUT_USEC=1500000", "EXTEND_TIMEOUT_USEC=500000"]
