"""Processes that are started by a thread: they are there in a later turn, and the reactor turns meanwhile."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import attrs
import pytest
from pool_processes import World, alive, command
from rig import serving

from twisted_rr.errors import WorkerStartError
from twisted_rr.pool import spawner as spawner_module
from twisted_rr.pool.spawner import Spawner
from twisted_rr.pool.templates import Templates
from twisted_rr.testing.host import RecordingLog


def by_thread(reactor):
    return {"templates": Templates(reactor, RecordingLog(), lambda: None, spawner=Spawner(reactor))}


@pytest.fixture
def make():
    worlds = []

    def begin(**settings):
        settings.setdefault("command", command("raw_echo.py"))
        worlds.append(World(host=by_thread, **settings))
        return worlds[-1]

    yield begin
    for world in worlds:
        world.close()


def test_workers_serve_die_and_are_replaced(make):
    world = make(num_workers=2).start()
    assert world.ask(b"hello") == b"hello"
    before = world.pids()
    os.kill(before[0], signal.SIGKILL)
    world.until(lambda: len(world.pids()) == 2 and before[0] not in world.pids())
    world.until(lambda: world.pool.counts()[0] == 2)
    assert not Path(f"/proc/{before[0]}").exists()


def test_a_worker_has_its_own_descriptors_and_no_other(make):
    world = make(num_workers=1).start()
    [pid] = world.pids()
    links = {
        name: os.readlink(f"/proc/{pid}/fd/{name}").partition(":")[0]
        for name in os.listdir(f"/proc/{pid}/fd")
    }
    assert links == {"0": "socket", "1": "socket", "2": "pipe"}
    assert os.getpgid(pid) == pid


def test_the_reactor_turns_while_a_process_is_slow_to_start(make, monkeypatch):
    spawn = spawner_module._spawn

    def slow(*arguments):
        time.sleep(0.5)
        return spawn(*arguments)

    monkeypatch.setattr(spawner_module, "_spawn", slow)
    world = make(num_workers=2)
    begun = time.monotonic()
    world.pool.startService()
    world.reactor.iterate(0)
    assert time.monotonic() - begun < 0.4
    world.outcome(world.pool.ready())


def test_one_that_is_stopped_before_it_was_started_never_is(make, monkeypatch):
    spawn, started = spawner_module._spawn, []

    def slow(*arguments):
        time.sleep(0.3)
        started.append(spawn(*arguments))
        return started[-1]

    monkeypatch.setattr(spawner_module, "_spawn", slow)
    world = make(num_workers=3)
    world.pool.startService()
    world.until(lambda: not started, 10)
    world.outcome(world.pool.stopService())
    world.until(lambda: not any(alive(pid) for pid, _ in started))
    assert len(started) <= 1, "the others were withdrawn"


def test_a_start_that_the_system_refuses_is_told(make, monkeypatch):
    world = make(num_workers=1)
    spec = world.pool.spec
    monkeypatch.setattr(
        world.pool, "spec", lambda plan: attrs.evolve(spec(plan), executable="/no/such/python")
    )
    world.pool.startService()
    with pytest.raises(WorkerStartError, match="start: No such file"):
        world.outcome(world.pool.ready())


def test_a_server_that_is_killed_takes_them_with_it(tmp_path):
    started = serving(tmp_path, "asgi_app:app")
    with pytest.raises(AssertionError, match="as planned"), started as server:
        workers = server.workers()
        os.kill(server.pid, signal.SIGKILL)
        server.process.wait(10)
        deadline = time.monotonic() + 3
        while any(alive(pid) for pid in workers):
            assert time.monotonic() < deadline, "somebody outlived the server"
            time.sleep(0.02)
        raise AssertionError("as planned")
