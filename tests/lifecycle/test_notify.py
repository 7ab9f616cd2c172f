"""What systemd hears, on a real datagram socket."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from lifecycle_world import World

from twisted_rr.lifecycle.budget import Budget
from twisted_rr.lifecycle.notify import Notifier


class Manager:
    """The receiving end."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.setblocking(False)

    def heard(self) -> list[str]:
        lines = []
        while True:
            try:
                lines += self.socket.recv(4096).decode().split("\n")
            except BlockingIOError:
                return lines


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    found = Manager(str(tmp_path / "notify"))
    yield found
    found.socket.close()


def notifier(manager: Manager) -> Notifier:
    return Notifier({"NOTIFY_SOCKET": manager.socket.getsockname()})


def test_without_a_socket_it_is_silent() -> None:
    quiet = Notifier({})
    quiet.send("READY=1")
    assert not quiet.enabled


def test_a_dead_socket_is_given_up_and_harms_nothing(tmp_path: Path) -> None:
    deaf = Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    deaf.send("READY=1")
    assert not deaf.enabled


def test_an_abstract_socket_is_understood() -> None:
    manager = Manager("\0twisted-rr-test-notify")
    Notifier({"NOTIFY_SOCKET": "@twisted-rr-test-notify"}).send("READY=1")
    assert manager.heard() == ["READY=1"]
    manager.socket.close()


def test_ready_comes_with_running_and_stopping_with_the_signal(manager: Manager) -> None:
    world = World(Budget(total=10.0), notify=notifier(manager))
    world.server.privilegedStartService()
    assert manager.heard() == []
    world.server.startService()
    assert manager.heard() == ["STATUS=starting", "READY=1", "STATUS=running"]
    world.accept()
    world.drain.begin("SIGTERM")
    heard = manager.heard()
    assert heard[0] == "STOPPING=1"
    assert heard[1].startswith("STATUS=draining:announce; in_flight=1; deadline_in=6.0s")


def test_while_draining_the_line_comes_every_second_with_more_time(manager: Manager) -> None:
    world = World(Budget(total=10.0), notify=notifier(manager)).start()
    item = world.accept()
    world.stop()
    manager.heard()
    world.reactor.spend(1.1)
    assert manager.heard() == [
        "STATUS=draining:finish; in_flight=1; deadline_in=5.0s",
        "EXTEND_TIMEOUT_USEC=2000000",
    ]
    world.front.in_flight.end(item)
    world.reactor.spend(3)
    assert manager.heard() == ["STATUS=stopping; in_flight=0; deadline_in=4.9s", "STATUS=stopped"]


def test_no_time_is_asked_for_beyond_the_budget(manager: Manager) -> None:
    world = World(Budget(total=2.0, frame=0.1, term=0.1, flush=0.1), notify=notifier(manager))
    world.children["drivers"].holds = True
    world.start()
    world.drain.begin("SIGTERM")
    manager.heard()
    world.reactor.spend(5.05)
    assert [line for line in manager.heard() if "EXTEND" in line] == ["EXTEND_TIMEOUT_USEC=1000000"]


def test_a_reload_is_bracketed(manager: Manager) -> None:
    told = notifier(manager)
    told.reloading(12.5)
    told.ready("running")
    assert manager.heard() == ["RELOADING=1", "MONOTONIC_USEC=12500000", "READY=1", "STATUS=running"]
