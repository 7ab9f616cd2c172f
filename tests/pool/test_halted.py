"""Stopped workers, and those in a system call that does not end, are seen in /proc and timed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from twisted_rr.pool import health
from twisted_rr.pool.health import Halted
from twisted_rr.pool.usage import state_of


class Worker:
    told_pid = 0

    def __init__(self, pid: int) -> None:
        self.pid = pid


@pytest.fixture
def states(monkeypatch: pytest.MonkeyPatch) -> dict[int, tuple[str, int]]:
    found: dict[int, tuple[str, int]] = {}
    monkeypatch.setattr(health, "state_of", lambda pid, told: found[pid])
    return found


def test_a_stopped_worker_is_timed_and_a_continued_one_is_not(states: dict[int, tuple[str, int]]) -> None:
    halted, worker = Halted(), Worker(7)
    ages = []
    for now, state in enumerate(["S", "T", "T", "T", "S", "T"]):
        states[7] = (state, 5)
        halted.look([worker], float(now))  # type: ignore[list-item]
        ages.append(halted.halted_for(worker, float(now)))  # type: ignore[arg-type]
    assert ages == [0.0, 0.0, 1.0, 2.0, 0.0, 0.0]


def test_a_worker_that_waits_for_its_disk_but_gets_on_is_not_halted(
    states: dict[int, tuple[str, int]],
) -> None:
    halted, worker = Halted(), Worker(7)
    for now in range(20):
        states[7] = ("D", now)
        halted.look([worker], float(now))  # type: ignore[list-item]
        assert halted.halted_for(worker, float(now)) == 0.0  # type: ignore[arg-type]


def test_it_looks_seldom_and_forgets_who_is_not_asked_about(states: dict[int, tuple[str, int]]) -> None:
    halted, worker = Halted(), Worker(7)
    states[7] = ("T", 0)
    halted.look([worker], 0.0)  # type: ignore[list-item]
    states[7] = ("S", 0)
    halted.look([worker], 0.1)  # type: ignore[list-item]
    assert halted.halted_for(worker, 3.0) == 3.0  # type: ignore[arg-type]
    halted.look([], 1.0)
    assert halted.halted_for(worker, 3.0) == 0.0  # type: ignore[arg-type]


def test_the_kernel_is_read_right() -> None:
    child: Any = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        os.kill(child.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
        assert state_of(child.pid, 0)[0] == "T"
        assert state_of(child.pid, os.getpid())[0] == "T", "a pid of another group is not believed"
    finally:
        child.kill()
        child.communicate()
    assert state_of(child.pid, 0) == ("", 0)
