"""The command that runs before the workers, with real processes."""

import os
import signal
import sys
import time

import pytest
from pool_processes import World, command
from rig import RunningServer, alive, config_for, free_port, serving, until
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


# ------------------------------------------------------------------------- after_init


def test_after_init_runs_once_when_all_workers_are_ready_and_the_server_is_ready_after_it(tmp_path):
    marker = tmp_path / "marker"
    script = tmp_path / "warm"  # a file, because what looks like a variable is replaced in a configuration
    script.write_text(f"echo $GREETING:$RR_MODE >> {marker}; sleep 0.5; echo warmed; touch {tmp_path}/over")
    after = {"command": ["sh", str(script)], "env": {"GREETING": "hello"}}
    with serving(tmp_path, "asgi_app:app", server={"after_init": after}) as server:
        assert (tmp_path / "over").exists(), "ready although it runs"
        assert marker.read_text() == "hello:\n"
        messages = [record["msg"] for record in server.records()]
        assert any(message.startswith("after_init") and message.endswith("warmed") for message in messages)
        server.signal(signal.SIGUSR2)  # a reset runs it no second time
        until(lambda: any("reset" in record["msg"] for record in server.records()))
        assert marker.read_text() == "hello:\n"


def test_a_failing_after_init_is_a_line_and_the_server_serves(tmp_path):
    after = {"command": ["sh", "-c", "exit 9"]}
    with serving(tmp_path, "asgi_app:app", server={"after_init": after}) as server:
        assert any(
            "server.after_init" in record["msg"] and "exit code 9" in record["msg"]
            for record in server.records()
        )
        assert server.get("/")[0] == 200


@pytest.mark.parametrize(
    "command, options, reason",
    [
        (["sh", "-c", "exit 9"], {}, "after_init ended with exit code 9"),
        (["sleep", "60"], {"exec_timeout": "300ms"}, "after_init took longer than 0.3 s"),
        (["/no/such/program"], {}, "No such file"),
    ],
)
def test_with_exit_on_error_its_failure_ends_the_server(tmp_path, command, options, reason):
    after = {"command": command, "exit_on_error": True, **options}
    started = serving(tmp_path, "asgi_app:app", server={"after_init": after})
    with pytest.raises(AssertionError, match="the server ended with 1") as caught, started:
        raise AssertionError("it serves")
    assert reason in str(caught.value)


def test_a_stop_ends_an_after_init_that_runs(tmp_path):
    marker = tmp_path / "pid"
    script = tmp_path / "lasting"
    script.write_text(f"echo $$ > {marker}; exec sleep 60")
    after = {"command": ["sh", str(script)]}
    port, status_port = free_port(), free_port()
    config = config_for("asgi_app:app", port=port, status_port=status_port, server={"after_init": after})
    server = RunningServer(tmp_path, config, port=port, status_port=status_port)
    try:
        until(lambda: marker.exists() and marker.read_text().strip(), 30)
        pid = int(marker.read_text())
        assert server.status("/ready")[0] == 503
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 10
        assert not alive(pid)
    finally:
        server.kill()
