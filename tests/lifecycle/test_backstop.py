"""The thread that keeps the deadline when the reactor cannot."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from lifecycle_world import World

from twisted_rr.lifecycle.backstop import Backstop
from twisted_rr.lifecycle.budget import Budget


class Left(BaseException):
    """The process has ended."""


class Rig:
    """A server with a budget of 10 s, on its own clock; ``sleep`` is what passes the time of the thread."""

    def __init__(self, code: int = 0) -> None:
        self.world = World(Budget(total=10.0)).start()
        self.turning = True
        self.killed: list[tuple[int, int]] = []
        self.said: list[bytes] = []
        self.left: list[tuple[float, int]] = []
        self.backstop = Backstop(
            lambda otherwise: code or otherwise,
            seconds=self.world.reactor.seconds,
            sleep=self.sleep,
            leave=self.leave,
            killpg=lambda pid, number: self.killed.append((pid, number)),
            say=self.said.append,
        )
        self.server: Any = self.world.server
        self.server.pools = lambda: [Pool()]
        self.world.reactor.callWhenRunning = lambda call: None  # type: ignore[method-assign]
        self.backstop.follow(self.server, self.world.reactor)

    def sleep(self, seconds: float) -> None:
        if self.world.reactor.seconds() > 60:
            raise Left
        if self.turning:
            self.world.reactor.advance(seconds)
        else:
            self.world.reactor.rightNow += seconds

    def leave(self, code: int) -> None:
        self.left.append((self.world.reactor.seconds(), code))

    def watch(self) -> None:
        with pytest.raises(Left):
            self.backstop.watch()
            raise Left


class Info:
    def __init__(self, pid: int) -> None:
        self.pid = pid


class Pool:
    def workers(self) -> list[Info]:
        return [Info(101), Info(102)]


def test_a_blocked_reactor_is_ended_shortly_after_the_budget_and_takes_its_workers() -> None:
    rig = Rig()
    rig.world.drain.begin("SIGTERM")
    rig.turning = False
    rig.watch()
    ((at, code),) = rig.left
    assert 10.0 <= at <= 11.0 and code == 3
    assert rig.killed == [(101, signal.SIGKILL), (102, signal.SIGKILL)]
    assert b"the reactor is blocked" in rig.said[0]


def test_a_reactor_that_was_blocked_before_the_signal_counts_from_the_signal() -> None:
    rig = Rig()
    rig.world.reactor.rightNow = 5.0
    rig.turning = False
    rig.backstop.alarm()
    rig.watch()
    assert 15.0 <= rig.left[0][0] <= 16.0 and rig.left[0][1] == 3


def test_a_forced_stop_says_so() -> None:
    rig = Rig()
    rig.world.drain.hurry()
    rig.turning = False
    rig.watch()
    assert rig.left[0][1] == 4


def test_what_the_stop_itself_came_to_is_kept() -> None:
    rig = Rig(code=5)
    rig.world.drain.begin("SIGTERM")
    rig.turning = False
    rig.watch()
    assert rig.left[0][1] == 5


def test_a_reactor_that_turns_gets_more_time_but_not_for_ever() -> None:
    rig = Rig()
    rig.world.drain.begin("SIGTERM")
    rig.watch()
    assert 12.0 <= rig.left[0][0] <= 14.0
    assert b"the stop does not end" in rig.said[0]


def test_a_process_that_was_stopped_and_continued_is_given_its_looks() -> None:
    rig = Rig()
    rig.world.drain.begin("SIGTERM")
    rig.world.reactor.rightNow += 30.0  # SIGSTOP, SIGCONT
    rig.watch()
    assert rig.left[0][0] >= 32.0, "the reactor had no time to collapse its phases"


def test_alarms_after_the_first_do_nothing() -> None:
    rig = Rig()
    for _ in range(3):
        rig.backstop.alarm()
    rig.world.drain.begin("SIGTERM")
    rig.turning = False
    rig.watch()
    assert len(rig.left) == 1


def test_the_thread_is_started_with_the_reactor_and_not_before() -> None:
    rig = Rig()
    waiting: list[Any] = []
    rig.world.reactor.callWhenRunning = waiting.append  # type: ignore[method-assign]
    rig.backstop.follow(rig.server, rig.world.reactor)
    assert waiting == [rig.backstop._start]
