"""The command that runs before the workers, with real processes."""

import os
import sys
import time

import pytest
from pool_processes import World, command
from twisted.internet.epollreactor import EPollReactor

from twisted_rr.errors import WorkerStartError
from twisted_rr.net.turn import turn_of
from twisted_rr.pool.host import PoolHost
from twisted_rr.pool.on_init import OnInit, on_init_env
from twisted_rr.pool.settings import OnInitSettings
from twisted_rr.testing.host import RecordingLog


class Run:
    """An `OnInit` on a reactor of its own, and its log."""

    def __init__(self, *argv, **settings):
        self.log = RecordingLog()
        self.reactor = EPollReactor()
        self.reactor.seconds = time.monotonic
        host = PoolHost(reactor=self.reactor, turn=turn_of(self.reactor), environ=dict(os.environ))
        self.on_init = OnInit(OnInitSettings(command=argv, **settings), host, self.log)

    def finish(self):
        seen = []
        for _ in range(2):  # two pools ask, it runs once
            self.on_init.run().addBoth(seen.append)
        deadline = time.monotonic() + 20
        while len(seen) < 2:
            assert time.monotonic() < deadline
            self.reactor.iterate(0.02)
        return seen


def test_its_output_is_logged_and_it_runs_once():
    run = Run("sh", "-c", "echo migrated; echo done >&2")
    assert run.finish() == [None, None]
    lines = run.log.lines("info")
    assert sorted(line.split(": ")[1] for line in lines) == ["done", "migrated"]


def test_a_failure_is_a_line_unless_it_is_to_fail_the_start():
    run = Run("sh", "-c", "exit 3")
    assert run.finish() == [None, None]
    assert "exit code 3" in run.log.lines("error")[0]
    failures = Run("sh", "-c", "exit 3", exit_on_error=True).finish()
    assert all(failure.check(WorkerStartError) for failure in failures)


def test_it_is_killed_after_its_time():
    began = time.monotonic()
    [failure, _] = Run("sleep", "60", exec_timeout=0.2, exit_on_error=True).finish()
    assert "longer than 0.2 s" in str(failure.value)
    assert time.monotonic() - began < 5


def test_the_servers_variables_win_and_there_is_no_rr_variable():
    env = on_init_env(OnInitSettings(command=("x",), env={"a": "$HOME", "HOME": "/x"}), {"HOME": "/root"})
    assert env == {"A": "/root", "HOME": "/root"}


def world_after(on_init, **settings):
    """A world whose workers start after *on_init*."""
    made = []

    def host(reactor):
        alone = PoolHost(reactor=reactor, turn=turn_of(reactor), environ=dict(os.environ))
        made.append(OnInit(on_init, alone, RecordingLog()))
        return {"prepare": made[0].run}

    return World(None, host, command=command("raw_echo.py"), num_workers=1, **settings)


def test_the_workers_start_after_it(tmp_path):
    marker = tmp_path / "migrated"
    world = world_after(OnInitSettings(command=("sh", "-c", f"sleep 0.2; touch {marker}")))
    world.pool.startService()
    assert world.pool.workers() == []
    assert not marker.exists()
    world.outcome(world.pool.ready())
    assert marker.exists()
    world.close()


def test_a_failing_one_fails_the_start_of_the_pool():
    program = (sys.executable, "-c", "raise SystemExit(4)")
    world = world_after(OnInitSettings(command=program, exit_on_error=True))
    world.pool.startService()
    with pytest.raises(WorkerStartError, match="exit code 4"):
        world.outcome(world.pool.ready())
    world.close()
