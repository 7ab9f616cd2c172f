"""Signals at every instant of the start, also to PID 1, in bursts, and to the whole process group."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rig import BIN, Background, RunningServer, alive, children, config_for, free_port, serving, until

UNSHARE = ["unshare", "-Urpf", "--mount-proc", "--kill-child"]


def can_unshare() -> bool:
    try:
        return (
            subprocess.run([*UNSHARE, "true"], capture_output=True, timeout=10, check=False).returncode == 0
        )
    except OSError:
        return False


def catches(pid: int, number: int) -> bool:
    """Whether the process has a handler for a signal."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    mask = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(mask >> (number - 1) & 1)


def family(pid: int) -> list[int]:
    """*pid* and everything below it."""
    found = [pid]
    for each in found:
        try:
            found += children(each)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


@pytest.fixture
def starting(tmp_path) -> Iterator:
    """Starts servers, with a prefix to the command if wanted, and ends them."""
    servers: list[RunningServer] = []

    def start(prefix: list[str]) -> RunningServer:
        port, status_port = free_port(), free_port()
        config = config_for("asgi_app:app", port=port, status_port=status_port)
        command = [*prefix, str(BIN / "twisted-rr"), "serve", "-c", str(tmp_path / "rr.yaml")]
        servers.append(RunningServer(tmp_path, config, port=port, status_port=status_port, command=command))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


@pytest.mark.skipif(not can_unshare(), reason="needs user and pid namespaces")
@pytest.mark.proves("I14", "F28:start-up")
def test_term_to_pid_1_at_any_instant_after_the_handlers_are_there(starting):
    for offset in (0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 2.4):
        server = starting(UNSHARE)
        first = until(lambda server=server: children(server.pid), why="no PID 1")[0]
        until(lambda first=first: catches(first, signal.SIGTERM), 20, why="no handler")
        time.sleep(offset)
        everybody = family(first)
        os.kill(first, signal.SIGTERM)
        assert server.wait(10) == 0, (offset, server.log()[-2000:])
        until(
            lambda everybody=everybody: not any(alive(pid) for pid in everybody),
            2,
            why=f"orphans at {offset}",
        )


@pytest.mark.proves("I14", "F28:start-up")
def test_the_handlers_come_early_in_the_start(starting):
    server = starting([])
    until(lambda: catches(server.pid, signal.SIGTERM), 10)
    assert server.process.poll() is None
    assert not children(server.pid), "workers were started before a signal could be caught"
    server.signal()
    assert server.wait(10) == 0


@pytest.mark.proves("I15", "F29:finish", "F30:finish")
def test_a_burst_of_all_signals_is_one_stop(tmp_path):
    chance = random.Random(4)
    with serving(tmp_path) as server:
        workers = server.workers()
        call = Background(server.get, "/wait?seconds=2")
        time.sleep(0.3)
        server.signal(signal.SIGTERM)
        for _ in range(100):
            server.signal(
                chance.choice([signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
            )
            time.sleep(0.002)
        assert call.result()[0] == 200
        assert server.wait(5) == 0
        assert not [pid for pid in workers if alive(pid)]


@pytest.mark.proves("F41:announce")
def test_term_to_the_whole_group_lets_the_request_finish(tmp_path):
    """As a terminal's or a cgroup's signal does: workers have groups of their own and go on."""
    with serving(tmp_path) as server:
        call = Background(server.get, "/wait?seconds=2")
        time.sleep(0.3)
        os.killpg(server.pid, signal.SIGTERM)
        assert call.result()[0] == 200
        assert server.wait(5) == 0


@pytest.mark.proves("I11", "F31:finish")
def test_a_server_stopped_past_its_deadline_goes_at_once(tmp_path):
    with serving(tmp_path, endure={"grace_period": "3s"}) as server:
        workers = server.workers()
        call = Background(server.get, "/wait?seconds=60")
        time.sleep(0.3)
        server.signal(signal.SIGTERM)
        time.sleep(0.3)
        server.signal(signal.SIGSTOP)
        time.sleep(4)
        continued = server.signal(signal.SIGCONT)
        assert server.wait(5) == 3
        assert time.monotonic() - continued < 2.0
        assert call.result()[0] == 503
        assert not [pid for pid in workers if alive(pid)]


@pytest.mark.proves("F6:stop", "I11")
def test_a_worker_that_ignores_everything_is_killed_on_schedule(tmp_path):
    script = tmp_path / "stubborn.py"
    script.write_text(
        "import signal\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] == 'lifespan':\n"
        "        await receive(); await send({'type': 'lifespan.startup.complete'})\n"
        "        import time\n"
        "        await receive()\n"
        "        while True: time.sleep(1)\n"
        "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': b'x'})\n"
    )
    environ = {"PYTHONPATH": str(tmp_path)}
    with serving(tmp_path, "stubborn:app", workers=1, env=environ, endure={"grace_period": "5s"}) as server:
        assert server.get("/")[0] == 200
        workers = server.workers()
        started = server.signal()
        assert server.wait(8) == 5
        assert time.monotonic() - started < 5.0
        assert not [pid for pid in workers if alive(pid)]


@pytest.mark.proves("I2", "I3", "I17")
def test_under_kubernetes_listeners_stay_open_through_the_announce(tmp_path):
    """Readiness fails at once, connections are served for two more seconds, then they are refused."""
    with serving(tmp_path, env={"KUBERNETES_SERVICE_HOST": "10.0.0.1"}) as server:
        started = server.signal()
        until(lambda: server.status("/ready")[0] == 503, 0.5, why="readiness did not flip")
        flipped = time.monotonic()
        served = 0
        while time.monotonic() - started < 1.5:
            status, headers, _ = server.get("/hello")
            assert (status, headers["connection"]) == (200, "close")
            served += 1
            time.sleep(0.05)
        assert served > 5
        refused = until(lambda: _refused(server.port), 6, 0.05, "the listener stayed open")
        assert refused and time.monotonic() - flipped > 1.8
        assert server.wait(5) == 0


def _refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except ConnectionRefusedError:
        return True
    return False
