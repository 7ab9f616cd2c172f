"""Health over real sockets: truthful, quick, and the last to go.

The first half runs the status service alone on a reactor of its own in a thread; the second half watches
the real server with real workers.
"""

from __future__ import annotations

import http.client
import json
import os
import resource
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from rig import Background, RunningServer, alive, config_for, free_port, serving, until
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.epollreactor import EPollReactor

from twisted_rr.interfaces import IHealth
from twisted_rr.lifecycle.budget import Budget
from twisted_rr.lifecycle.server import Server
from twisted_rr.plugins.status.config import StatusSettings
from twisted_rr.plugins.status.service import StatusService
from twisted_rr.testing.host import FakeHost
from twisted_rr.testing.pool import FakeHealth


class Slow(Service):
    """A service whose stop the test ends."""

    def __init__(self) -> None:
        self.setName("slow")
        self.stop: Deferred[None] = Deferred()

    def stopService(self) -> Deferred[None]:
        return self.stop


class World:
    """A server with nothing but a status listener and one slow service, in a thread."""

    def __init__(self) -> None:
        self.reactor = EPollReactor()
        self.reactor.seconds = time.monotonic
        self.server = Server(self.reactor, Budget(total=10.0), clock=self.reactor)
        self.host = FakeHost(self.reactor)
        self.host.drain = self.server.drain
        self.health = FakeHealth("http")
        self.host.provide(IHealth, self.health)
        self.status = StatusService(self.host, StatusSettings(address="127.0.0.1:0"))
        self.slow = Slow()
        self.server.place("STATUS", self.status)
        self.server.place("DRIVERS", self.slow)
        self.server.privilegedStartService()
        self.port = int(self.status.address.rpartition(":")[2])
        self.stopped = threading.Event()
        self.thread = threading.Thread(
            target=self.reactor.run, kwargs={"installSignalHandlers": False}, daemon=True
        )

    def start(self) -> World:
        self.reactor.callWhenRunning(self.server.startService)
        self.thread.start()
        until(lambda: self.get("/ready")[0] == 200)
        return self

    def call(self, function, *args):
        done: list = []
        self.reactor.callFromThread(lambda: done.append(function(*args)))
        until(lambda: done)
        return done[0]

    def stop(self) -> None:
        self.call(lambda: self.server.stopService().addCallback(lambda _: self.stopped.set()))

    def get(self, path: str, **headers: str):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        except ConnectionError:
            return 0, {}, b""
        finally:
            connection.close()

    def end(self) -> None:
        if not self.slow.stop.called:
            self.reactor.callFromThread(self.slow.stop.callback, None)
        if not self.stopped.is_set():
            self.stop()
        assert self.stopped.wait(5)
        self.reactor.callFromThread(self.reactor.stop)
        self.thread.join(5)


@pytest.fixture
def world() -> Iterator[World]:
    found = World().start()
    yield found
    found.end()


def test_a_bound_port_refuses_before_the_start():
    world = World()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", world.port), 1)
    world.server.stopService()
    world.status.stopService()


def test_codes_follow_the_state_and_the_listener_outlives_everything(world: World):
    assert world.get("/health")[0] == world.get("/startup")[0] == 200
    world.stop()
    status, headers, body = world.get("/ready")
    assert (status, headers["x-rr-lifecycle"], headers["connection"]) == (503, "stopping", "close")
    assert json.loads(body)[0]["plugin_name"] == "lifecycle"
    assert world.get("/health")[0] == 200
    before = time.monotonic()
    world.reactor.callFromThread(world.slow.stop.callback, None)
    assert world.stopped.wait(2)
    assert time.monotonic() - before < 0.2
    assert world.get("/health")[0] == 0


@pytest.mark.proves("I1")
def test_a_long_poll_learns_of_the_drain_in_milliseconds(world: World):
    _, headers, _ = world.get("/ready")
    poll = Background(
        lambda: (
            world.get("/ready", **{"If-None-Match": headers["etag"], "Prefer": "wait=10"}),
            time.monotonic(),
        )
    )
    time.sleep(0.2)
    signalled = time.monotonic()
    world.call(world.server.drain.begin, "SIGTERM")
    (status, _, _), answered = poll.result(5)
    assert status == 503
    assert answered - signalled < 0.1


@pytest.mark.proves("F46:stop")
def test_idle_and_half_open_clients_do_not_hold_the_stop(world: World):
    clients = [socket.create_connection(("127.0.0.1", world.port)) for _ in range(20)]
    for client in clients[:10]:
        client.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n")
    until(lambda: world.call(lambda: len(world.status.front.sessions)) == 20)
    world.reactor.callFromThread(world.slow.stop.callback, None)
    before = time.monotonic()
    world.stop()
    assert world.stopped.wait(2)
    assert time.monotonic() - before < 0.3
    for client in clients:
        client.settimeout(2)
        assert client.recv(100) == b"", "an orderly end, no reset"
        client.close()


def test_a_reset_of_probes_harms_nobody(world: World):
    for _ in range(50):
        client = socket.create_connection(("127.0.0.1", world.port))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        client.close()
    until(lambda: world.call(lambda: len(world.status.front.sessions)) == 0)
    assert world.get("/health")[0] == 200


# ------------------------------------------------------------------------------ the real server


class Prober(threading.Thread):
    """Asks one path every 20 ms on a connection each, as a kubelet does; keeps codes and durations."""

    def __init__(self, server: RunningServer, path: str = "/health") -> None:
        super().__init__(daemon=True)
        self.server, self.path = server, path
        self.codes: list[tuple[float, int]] = []
        self.took: list[float] = []
        self.ended = threading.Event()
        self.start()

    def run(self) -> None:
        while not self.ended.is_set():
            before = time.monotonic()
            code = self.server.status(self.path)[0]
            self.codes.append((before, code))
            self.took.append(time.monotonic() - before)
            time.sleep(0.02)

    def end(self) -> set[int]:
        self.ended.set()
        self.join(5)
        return {code for _, code in self.codes}

    def p99(self) -> float:
        return statistics.quantiles(self.took, n=100)[98]


@pytest.mark.parametrize(("path", "seconds"), [("/wait", 4), ("/busy", 4)])
@pytest.mark.proves("I7")
def test_waiting_is_not_stuck(tmp_path, path: str, seconds: int):
    """A sleeping handler, and one that blocks its worker's loop with pure CPU, on every worker."""
    with serving(tmp_path, status={"stuck_after": "1s"}) as server:
        prober = Prober(server)
        calls = [Background(server.get, f"{path}?seconds={seconds}") for _ in range(4)]
        assert {call.result()[0] for call in calls} == {200}
        assert prober.end() == {200}
        assert len(prober.codes) > 50


@pytest.mark.proves("I8", "F5:running")
def test_stopped_workers_that_hold_calls_are_stuck_and_recover(tmp_path):
    with serving(tmp_path, status={"stuck_after": "2s"}, endure={"grace_period": "5s"}) as server:
        calls = [Background(server.get, "/wait?seconds=3") for _ in range(8)]
        time.sleep(0.5)
        workers = server.workers()
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        stopped = time.monotonic()
        try:
            until(lambda: server.status("/health")[0] == 503, 10, why="/health did not notice")
            assert 1.5 < time.monotonic() - stopped < 3.5, "stuck_after + 1 s"
            code, headers, body = server.status("/health")
            assert headers["x-rr-lifecycle"] == "stuck"
            assert json.loads(body)[0]["error_message"].startswith("stuck: http: ")
        finally:
            for pid in workers:
                os.kill(pid, signal.SIGCONT)
        until(lambda: server.status("/health")[0] == 200, 5, why="/health did not recover")
        assert {call.result()[0] for call in calls} == {200}


@pytest.mark.proves("I8", "F3:running")
def test_no_worker_and_none_to_be_had_is_not_ready_at_once_and_dead_after_its_time(tmp_path):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    moved = tmp_path / "moved"
    port, status_port = free_port(), free_port()
    config = config_for("asgi_app:app", port=port, status_port=status_port, status={"stuck_after": "2s"})
    config["server"]["command"][0] = str(python)
    server = RunningServer(tmp_path, config, port=port, status_port=status_port)
    try:
        server.wait_ready()
        health = Prober(server)
        python.rename(moved)
        killed = time.monotonic()
        for pid in server.workers():
            os.kill(pid, signal.SIGKILL)
        until(lambda: server.status("/ready")[0] == 503, 1.5, why="/ready did not notice")
        until(lambda: server.status("/health")[0] == 503, 10, why="/health did not notice")
        assert 1.5 < time.monotonic() - killed < 4.5
        health.end()
        moved.rename(python)
        until(lambda: server.status("/ready")[0] == 200, 15, why="it did not recover")
        assert server.status("/health")[0] == 200
    finally:
        server.stop()
        server.kill()


@pytest.mark.proves("I9")
def test_answers_are_quick_while_the_pool_is_saturated_and_resetting(tmp_path):
    with serving(tmp_path, workers=2) as server:
        calls = [Background(server.get, "/busy?seconds=0.3") for _ in range(12)]
        probers = [Prober(server, "/health"), Prober(server, "/ready")]
        time.sleep(0.5)
        before = server.workers()
        server.signal(signal.SIGUSR2)
        assert {call.result()[0] for call in calls} == {200}
        until(lambda: not set(before) & set(server.workers()), 10, why="the workers were not replaced")
        for prober in probers:
            assert prober.end() == {200}
            assert prober.p99() < 0.1
        assert not [pid for pid in before if alive(pid)]


@pytest.mark.proves("I16", "F46:running")
def test_probes_are_never_in_flight(tmp_path):
    with serving(tmp_path) as server:
        _, headers, _ = server.status("/ready")
        poll = Background(server.status, "/ready", {"If-None-Match": headers["etag"], "Prefer": "wait=60"})
        idle = socket.create_connection(("127.0.0.1", server.status_port))
        time.sleep(0.2)
        signalled = server.signal()
        assert poll.result(2)[0] in (503, 0)
        assert server.wait(5) == 0
        assert time.monotonic() - signalled < 1.5
        idle.close()


def test_in_flight_and_the_deadline_are_told_while_draining(tmp_path):
    with serving(tmp_path, endure={"grace_period": "20s"}) as server:
        calls = [Background(server.get, "/wait?seconds=2") for _ in range(3)]
        time.sleep(0.5)
        server.signal()
        headers = until(lambda: _draining(server), 2)
        assert headers["x-rr-in-flight"] == "3"
        assert 10 <= int(headers["x-rr-drain-deadline"]) <= 16
        code, _, body = server.status("/health", {"Accept": "application/health+json"})
        checks = json.loads(body)["checks"]
        assert code == 200
        assert checks["http:inFlight"][0]["observedValue"] == 3
        assert 0.3 < checks["http:oldestRequestAge"][0]["observedValue"] < 2.5
        assert {call.result()[0] for call in calls} == {200}


def _draining(server: RunningServer) -> dict | None:
    _, headers, _ = server.status("/health")
    return headers if headers.get("x-rr-lifecycle", "").startswith("draining") else None


@pytest.fixture
def starved(tmp_path):
    """A server that may open no descriptor more, with clients that hold all there were."""
    with serving(tmp_path, admin={"socket": str(tmp_path / "admin.sock")}) as server:
        _, hard = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
        used = len(os.listdir(f"/proc/{server.pid}/fd"))
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (used + 10, hard))
        clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(30)]
        until(lambda: "EMFILE" in server.log(), why="the descriptors were not used up")
        try:
            yield server
        finally:
            for client in clients:
                client.close()


@pytest.mark.proves("F42:running")
def test_without_descriptors_health_is_still_told(starved):
    for path in ("/health", "/ready") * 10:
        begun = time.monotonic()
        assert starved.status(path)[0] == 200
        assert time.monotonic() - begun < 0.5
    together = [Background(starved.status, "/health") for _ in range(4)]
    assert {each.result()[0] for each in together} == {200}
    assert (
        len(os.listdir(f"/proc/{starved.pid}/fd")) <= resource.prlimit(starved.pid, resource.RLIMIT_NOFILE)[0]
    )


@pytest.mark.proves("F42:announce")
def test_without_descriptors_an_operator_is_heard_and_the_stop_is_told(starved, tmp_path):
    command = [
        sys.executable,
        "-m",
        "twisted_rr.cli.entry",
        "status",
        "--socket",
        str(tmp_path / "admin.sock"),
    ]
    assert subprocess.run(command, capture_output=True, timeout=20, check=False).returncode == 0
    starved.signal()
    assert starved.status("/ready")[0] == 503
    assert starved.status("/health")[0] == 200
    assert starved.wait(30) == 0
