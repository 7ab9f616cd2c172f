"""Which processes that ended are reaped for others, and which are left to those who started them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from rig import until
from twisted.internet.task import Clock

from twisted_rr.pool import child
from twisted_rr.pool.strangers import TICK, Strangers

PROGRAM = "import os, sys; sys.argv[1] == 'group' and os.setpgid(0, 0)"


def ended(kind):
    """A child of ours that is a zombie; nobody waits for it but the test."""
    process = subprocess.Popen([sys.executable, "-I", "-S", "-c", PROGRAM, kind])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    return process


def zombie(process):
    return os.path.exists(f"/proc/{process.pid}")


@pytest.fixture
def make():
    made = []

    def begin(ours):
        clock = Clock()
        made.append(Strangers(clock, ours))
        made[-1].startService()
        made[-1].begin()
        return made[-1], clock

    yield begin
    for strangers in made:
        strangers.stopService()


def test_a_stranger_is_reaped_at_the_second_look(make):
    strangers, clock = make(ours=True)
    process = ended("group")
    clock.advance(TICK)
    assert zombie(process), "whoever knows it has a second"
    clock.advance(TICK)
    assert not zombie(process) and strangers.reaped == 1
    process.wait()


def test_a_process_in_our_own_group_is_left_to_who_started_it(make):
    strangers, clock = make(ours=True)
    process = ended("none")
    clock.pump([TICK] * 4)
    assert zombie(process)
    assert process.wait() == 0 and strangers.reaped == 0


def test_one_that_the_server_started_is_left_to_its_watch(make, monkeypatch):
    strangers, clock = make(ours=True)
    process = ended("group")
    monkeypatch.setattr(child, "running", {process.pid})
    clock.pump([TICK] * 4)
    assert zombie(process) and process.wait() == 0 and strangers.reaped == 0


def test_in_a_foreign_program_only_the_groups_of_workers_are_looked_at(make, monkeypatch):
    strangers, clock = make(ours=False)
    foreign, orphan = ended("group"), ended("group")
    monkeypatch.setattr(child, "groups", {orphan.pid: None})
    clock.pump([TICK] * 4)
    until(lambda: not zombie(orphan))
    assert zombie(foreign) and foreign.wait() == 0 and strangers.reaped == 1
    orphan.wait()


def test_nothing_is_looked_at_where_it_was_not_asked_for():
    clock = Clock()
    strangers = Strangers(clock, ours=True, getpid=lambda: 4711)
    strangers.startService()
    assert clock.getDelayedCalls() == []
    strangers = Strangers(clock, ours=True, getpid=lambda: 1)
    strangers.startService()
    assert len(clock.getDelayedCalls()) == 1, "PID 1 does it always"
    strangers.stopService()
    assert clock.getDelayedCalls() == []
