"""Each fault in each phase where it says something: no invariant may be broken by it."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cells import check, outcome
from rig import APPS, Background, RunningServer, alive, config_for, free_port, serving, until

from twisted_rr.draintest.faults import FAULTS

proves = pytest.mark.proves

ALONE = [
    pytest.param(f"{fault.id}:{phase}", marks=proves(f"{fault.id.removesuffix(':int')}:{phase}"))
    for fault in FAULTS.values()
    if not fault.gentle
    for phase in fault.phases
]


def gentle(phase: str):
    """Faults of clients only do not disturb each other: one run for all."""
    cells = [f"{fault.id}:{phase}" for fault in FAULTS.values() if fault.gentle and phase in fault.phases]
    return pytest.param("+".join(cells), marks=proves(*cells), id=f"clients-{phase}")


@pytest.mark.parametrize(
    "cell", [*ALONE, *(gentle(phase) for phase in ("running", "announce", "finish", "stop"))]
)
def test_it_breaks_no_invariant(request, cell):
    check(outcome(request, cell))


#: At the budgets that a user gets: half a minute each.
REAL = (
    "plain", "F1:finish", "F4:finish", "F5:running", "F10:announce", "F19:running", "F26:announce", "F31:finish",
    "F35:finish", "F44:running",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1.0])
@pytest.mark.parametrize("cell", REAL)
def test_it_breaks_no_invariant_at_real_budgets(request, cell, scale):
    check(outcome(request, cell, scale))


# ------------------------------------------------- faults that need the worker's own help


@pytest.mark.parametrize(
    "when",
    [pytest.param("running", marks=proves("F7:running")), pytest.param("finish", marks=proves("F7:finish"))],
)
def test_a_grandchild_that_keeps_the_pipes_is_killed_with_its_group(tmp_path, when):
    with serving(tmp_path, "fault_app:app", endure={"grace_period": "4s"}) as server:
        if when == "finish":
            call = Background(server.get, "/wait?seconds=0.7")
            time.sleep(0.2)
            grandchild = int(server.get("/fork")[2])
            server.signal()
            assert call.result()[0] == 200
        else:
            grandchild = int(server.get("/fork")[2])
            server.signal()
        assert alive(grandchild)
        started = time.monotonic()
        assert server.wait(6) == 0
        assert time.monotonic() - started < 3
        until(lambda: not alive(grandchild), 10, why="the grandchild lives on")


@pytest.mark.parametrize(
    "path",
    [pytest.param("/garbage", marks=proves("F8:running")), pytest.param("/shut", marks=proves("F8:running"))],
)
def test_a_worker_that_breaks_its_relay_loses_its_own_calls_only(tmp_path, path):
    with serving(tmp_path, "fault_app:app") as server:
        before = server.workers()
        assert server.get(path)[0] == 502
        until(lambda: len(server.workers()) == 2 and server.workers() != before, 5, why="no new worker came")
        assert [server.get("/hello")[2] for _ in range(4)] == [b"hello"] * 4


@proves("F8:announce", "F8:finish")
def test_a_worker_that_writes_garbage_while_the_server_stops(tmp_path):
    with serving(tmp_path, "fault_app:app", endure={"grace_period": "4s"}) as server:
        call = Background(server.get, "/wait?seconds=0.8")
        broken = http_late(server, "/garbage", 0.4)
        time.sleep(0.2)
        started = server.signal()
        assert broken.result()[0] in (502, 503)
        assert call.result()[0] in (200, 502)
        assert server.wait(6) in (0, 3)
        assert time.monotonic() - started < 4.5


def http_late(server, path, delay):
    """A request on a connection that is there already, sent after *delay*."""
    connection = socket.create_connection(("127.0.0.1", server.port))

    def ask():
        connection.sendall(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200" in connection.recv(4096)
        time.sleep(delay)
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        connection.settimeout(10)
        answer = connection.recv(65536)
        connection.close()
        return int(answer.split()[1]), answer

    return Background(ask)


@proves("F9:running", "F9:stop")
def test_a_worker_whose_input_ends_goes_by_itself():
    ours, theirs = socket.socketpair()
    worker = subprocess.Popen(
        [sys.executable, "-m", "twisted_rr.worker", "asgi_app:app"],
        stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(APPS), "RR_RELAY": "pipes", "RR_MODE": "http"},
    )  # fmt: skip
    theirs.close()
    try:
        ours.shutdown(socket.SHUT_WR)
        assert worker.wait(10) == 0
    finally:
        if worker.poll() is None:
            worker.kill()
            worker.wait()
        ours.close()


class Group:
    """A control group of its own for one server, with one limit."""

    #: controller -> the file of its limit in version 1 and in version 2.
    FILES = {"pids": ("pids.max", "pids.max"), "memory": ("memory.limit_in_bytes", "memory.max")}

    def __init__(self, controller: str) -> None:
        self.path = self._make(controller)
        version = 0 if (self.path / self.FILES[controller][0]).exists() else 1
        self.limit = self.path / self.FILES[controller][version]
        if not self.limit.exists():
            self.path.rmdir()
            pytest.skip(f"needs a {controller} cgroup of its own")

    def _make(self, controller: str) -> Path:
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, names, inside = line.split(":", 2)
            if controller in names.split(",") or not names:
                root = Path("/sys/fs/cgroup", controller) if names else Path("/sys/fs/cgroup")
                path = root / inside.lstrip("/") / f"twisted-rr-test-{os.getpid()}"
                try:
                    path.mkdir()
                except OSError:
                    continue
                return path
        pytest.skip(f"needs a {controller} cgroup of its own")

    def take(self, pid: int) -> None:
        (self.path / "cgroup.procs").write_text(str(pid))

    def end(self) -> None:
        until(lambda: not (self.path / "cgroup.procs").read_text().strip(), 5, why="the group is not empty")
        self.path.rmdir()


@pytest.fixture
def group():
    groups = []

    def make(controller: str) -> Group:
        groups.append(Group(controller))
        return groups[-1]

    yield make
    for each in groups:
        each.end()


@proves("F11:announce", "F11:finish")
def test_no_process_can_be_started_while_the_server_stops(tmp_path, group):
    """EAGAIN at each start of a worker: no storm of starts, the living one goes on."""
    pids = group("pids")
    environ = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    with serving(tmp_path, endure={"grace_period": "6s"}, env=environ) as server:
        first, second = server.workers()
        for pid in (server.pid, first, second):
            pids.take(pid)
        waiting = [Background(server.get, "/wait?seconds=2") for _ in range(6)]
        time.sleep(0.5)
        pids.limit.write_text("1")
        started = server.signal()
        os.kill(first, signal.SIGKILL)
        codes = {each.result()[0] for each in waiting}
        assert 200 in codes and codes <= {200, 502}
        assert server.wait(8) in (0, 3)
        assert time.monotonic() - started < 6.5
        assert server.log().count("\n") < 150, "a storm of starts"
        assert not alive(second)


@proves("F43:announce", "F43:finish")
def test_the_server_outlives_a_worker_that_takes_all_memory(tmp_path, group):
    memory = group("memory")
    with serving(tmp_path, "fault_app:app", endure={"grace_period": "6s"}) as server:
        for pid in [server.pid, *server.workers()]:
            memory.take(pid)
        memory.limit.write_text(str(400 << 20))
        waiting = Background(server.get, "/wait?seconds=2")
        eaten = http_late(server, "/eat?megabytes=2000", 0.5)
        time.sleep(0.2)
        server.signal()
        assert eaten.result()[0] == 502
        assert waiting.result()[0] in (200, 502)
        assert server.wait(8) in (0, 3)


# ------------------------------------------------------------------------------- at the start


@proves("F3:start-up")
def test_workers_that_cannot_be_started_fail_the_start(tmp_path):
    port, status_port = free_port(), free_port()
    config = config_for("asgi_app:app", port=port, status_port=status_port)
    config["server"]["command"] = [str(tmp_path / "no-such-program")]
    server = RunningServer(tmp_path, config, port=port, status_port=status_port)
    try:
        assert server.wait(20) == 1
        assert "no-such-program" in server.log()
    finally:
        server.kill()


@proves("F10:start-up")
def test_a_worker_killed_while_it_starts_leaves_nobody(tmp_path):
    port, status_port = free_port(), free_port()
    server = RunningServer(
        tmp_path,
        config_for("asgi_app:app", port=port, status_port=status_port),
        port=port,
        status_port=status_port,
    )
    try:
        first = until(server.workers, 10)[0]
        os.kill(first, signal.SIGKILL)
        family = {first}

        def settled() -> bool:
            if server.process.poll() is None:
                family.update(server.workers())
            return server.process.poll() is not None or server.status("/ready")[0] == 200

        until(settled, 20)
        if server.process.poll() is None:
            server.signal()
            assert server.wait(10) == 0
        until(lambda: not [pid for pid in family if alive(pid)], 10, why="a worker lives on")
    finally:
        server.kill()


@proves("F32:start-up")
def test_a_server_killed_while_it_starts_takes_its_workers_along(tmp_path):
    port, status_port = free_port(), free_port()
    server = RunningServer(
        tmp_path,
        config_for("asgi_app:app", port=port, status_port=status_port),
        port=port,
        status_port=status_port,
    )
    try:
        family = until(server.workers, 10)
        os.kill(server.pid, signal.SIGKILL)
        until(lambda: not [pid for pid in family if alive(pid)], 10, why="a worker lives on")
    finally:
        server.kill()


@proves("F40:start-up")
def test_a_status_port_in_use_fails_the_start_at_once(tmp_path):
    port = free_port()
    with socket.create_server(("127.0.0.1", 0)) as other:
        status_port = other.getsockname()[1]
        server = RunningServer(
            tmp_path,
            config_for("asgi_app:app", port=port, status_port=status_port),
            port=port,
            status_port=status_port,
        )
        try:
            assert server.wait(10) == 1
            assert str(status_port) in server.log()
        finally:
            server.kill()
