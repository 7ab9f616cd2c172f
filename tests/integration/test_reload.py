"""Reload of the real thing: under load, refused, failed, interrupted by a stop, behind a link."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml
from activation import Client
from admin_rig import administered, verb
from rig import BIN, Background, RunningServer, alive, config_for, free_port, until

APP = """
import asyncio, os, time
time.sleep(float(os.environ.get("SLOW_START", "0")))
GENERATION = os.environ.get("GENERATION", "first")
if GENERATION == "broken":
    raise RuntimeError("this release is broken")

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["path"] == "/slow":
        await asyncio.sleep(2)
    body = f"{GENERATION} {os.getpid()} {os.path.basename(os.getcwd())}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""


class Rewritten:
    """A server whose configuration the test changes."""

    def __init__(self, server: RunningServer, folder: Path) -> None:
        self.server = server
        self.folder = folder

    def write(self, *, env: dict | None = None, **sections) -> None:
        """Change sections of its file; *env* is the workers'."""
        config = yaml.safe_load(self.server.file.read_text())
        for name, section in sections.items():
            config[name] = {**config.get(name, {}), **section}
        config["server"]["env"] = {**config["server"].get("env", {}), **(env or {})}
        self.server.file.write_text(yaml.safe_dump(config, sort_keys=False))

    def told(self) -> list[str]:
        """What the log says of reloads."""
        return [one["msg"] for one in self.server.records() if one["logger"] == "reload"]

    def reload(self, number: int = signal.SIGHUP, text: str = "reloaded for", seconds: float = 30) -> str:
        """Send the signal; the line that begins with *text*, once it is there."""
        before = len(self.told())
        self.server.signal(number)
        found = until(
            lambda: [line for line in self.told()[before:] if line.startswith(text)],
            seconds,
            0.02,
            f"no {text!r} in {self.told()}",
        )
        return found[0]

    def generation(self) -> str:
        status, _, body = self.server.get("/")
        assert status == 200
        return body.split()[0].decode()


@pytest.fixture
def app_folder(tmp_path):
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


@pytest.fixture
def server(app_folder):
    with administered(app_folder, "app:app", server={"env": {"PYTHONPATH": str(app_folder)}}) as running:
        yield Rewritten(running, app_folder)


class Poller(threading.Thread):
    """Asks /health and /ready all the time and keeps every answer that is not 200."""

    def __init__(self, server: RunningServer) -> None:
        super().__init__(daemon=True)
        self.bad: list[tuple[str, int]] = []
        self.asked = 0
        self._server = server
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.02):
            for path in ("/health", "/ready"):
                self.asked += 1
                status = self._server.status(path)[0]
                if status != 200:
                    self.bad.append((path, status))

    def end(self) -> None:
        self._over.set()
        self.join(10)


def test_reloads_under_load_lose_nothing_and_are_not_seen_by_probes(server):
    running = server.server
    old = running.workers()
    clients = [Client(running.port, keep=number % 2 == 0) for number in range(4)]
    poller = Poller(running)
    for thread in [*clients, poller]:
        thread.start()
    for generation in ("second", "third"):
        slow = Background(running.get, "/slow")
        time.sleep(0.3)
        server.write(env={"GENERATION": generation})
        line = server.reload()
        assert "changed: server.env.GENERATION; workers replaced: http" in line
        assert server.generation() == generation
        status, _, body = slow.result()
        assert (status, int(body.split()[1]) in old) == (200, True)  # it ended where it was
        until(lambda: len(running.workers()) == 2, 10, why="the old workers did not go")
        assert not set(old) & set(running.workers())
        old = running.workers()
    poller.end()
    seen: Counter = Counter()
    for client in clients:
        seen += client.end().seen
        assert client.troubles == []
    assert set(seen) <= {"connects", 200}
    assert seen[200] > 200
    assert poller.bad == []
    assert poller.asked > 20


def test_settings_change_while_it_serves_and_workers_stay(server):
    running = server.server
    workers = running.workers()
    kept = http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)
    kept.request("GET", "/")
    kept.getresponse().read()
    log = server.folder / "other.log"
    server.write(
        http={
            "timeouts": {"keepalive": "1s"},
            "access_logs": True,
            "pool": {"num_workers": 2, "max_jobs": 500},
        },
        endure={"grace_period": "7s"},
        logs={"channels": {"http": {"output": [str(log)]}}},
        status={"unavailable_status_code": 500},
    )
    line = server.reload()
    for key in ("http.timeouts.keepalive", "http.access_logs", "http.pool.max_jobs", "logs.channels.http"):
        assert key in line
    assert "replaced" not in line
    assert running.workers() == workers
    assert running.get("/")[0] == 200
    until(lambda: log.exists() and "GET" in log.read_text(), 5, why="no access log")
    # The connection that was open goes by the new time-out too.
    started = time.monotonic()
    kept.sock.settimeout(10)
    assert kept.sock.recv(1) == b""
    assert time.monotonic() - started < 5
    running.signal()
    assert running.wait(10) == 0
    assert any("exit within 7 s" in one["msg"] for one in running.records())


def test_more_and_fewer_workers(server):
    for wanted in (4, 1):
        server.write(http={"address": f"127.0.0.1:{server.server.port}", "pool": {"num_workers": wanted}})
        assert "http.pool.num_workers" in server.reload()
        until(lambda wanted=wanted: len(server.server.workers()) == wanted, 10)
        assert server.generation() == "first"


def test_nothing_changed_is_said(server):
    workers = server.server.workers()
    assert "nothing has changed" in server.reload()
    assert server.server.workers() == workers


@pytest.mark.parametrize(
    ("sections", "reasons"),
    [
        ({"http": {"adress": "x"}}, ["rr.yaml:", "http.adress"]),
        (
            {"status": {"address": "127.0.0.1:1"}, "server": {"relay": "tcp://127.0.0.1:0"}},
            ["status.address: cannot change", "server.relay: cannot change"],
        ),
        ({"endure": {"grace_period": "1s"}, "drain": {"finish": "5s"}}, ["do not fit into the budget of 1s"]),
        ({"logs": {"output": ["/nowhere/at/all.log"]}}, ["cannot open /nowhere/at/all.log"]),
    ],
)
def test_what_cannot_be_is_refused_whole(server, sections, reasons):
    workers = server.server.workers()
    server.write(env={"GENERATION": "second"}, **sections)
    line = server.reload(text="the configuration is not applied")
    for reason in reasons:
        assert reason in line
    assert server.generation() == "first"
    until(lambda: server.server.workers() == workers, 10, why="a worker that was tried stayed")
    assert server.server.status("/ready")[0] == 200


def test_new_workers_that_do_not_start_leave_the_old_ones(server):
    running = server.server
    workers = running.workers()
    server.write(env={"GENERATION": "broken"}, http={"timeouts": {"keepalive": "1s"}})
    line = server.reload(text="the reload for SIGHUP failed")
    assert "did not start" in line
    assert any("this release is broken" in one["msg"] for one in running.records())
    assert "the new workers do not start: nothing is changed, the old ones stay" in server.told()
    assert running.workers() == workers
    assert server.generation() == "first"
    server.write(env={"GENERATION": "repaired"})
    server.reload()
    assert server.generation() == "repaired"


def test_the_stop_ends_a_reload_and_both_kinds_are_reaped(server):
    running = server.server
    slow = Background(running.get, "/slow")
    time.sleep(0.3)
    everybody = set(running.workers())
    server.write(env={"GENERATION": "second", "SLOW_START": "20"})
    running.signal(signal.SIGHUP)
    until(lambda: len(running.workers()) == 3, 10, why="no new worker was tried")
    everybody |= set(running.workers())
    running.signal(signal.SIGTERM)
    until(lambda: any("draining" in one["msg"] for one in running.records()), 5)
    running.signal(signal.SIGHUP)
    assert slow.result()[0] == 200
    assert running.wait(10) == 0
    assert not [pid for pid in everybody if alive(pid)]
    assert any("ends where it is" in line for line in server.told())
    assert any(one["msg"] == "SIGHUP: refuse" for one in running.records())


def test_a_stop_in_the_middle_of_the_replacement(app_folder):
    """One of two workers is new, the other is about to be replaced."""
    with administered(app_folder, "app:app", server={"env": {"PYTHONPATH": str(app_folder)}}) as running:
        server = Rewritten(running, app_folder)
        old = set(running.workers())
        server.write(env={"GENERATION": "second", "SLOW_START": "1"})
        running.signal(signal.SIGHUP)
        until(lambda: len(set(running.workers()) - old) == 2, 15, why="the second was not started")
        everybody = old | set(running.workers())
        running.signal(signal.SIGTERM)
        assert running.wait(10) == 0
        assert not [pid for pid in everybody if alive(pid)]


def test_the_command_says_how_it_went(server):
    done = verb(server.server, "reload")
    assert (done.returncode, done.stdout) == (0, "nothing has changed\n"), done.stderr
    workers = server.server.workers()
    done = verb(server.server, "reload", "--workers")
    assert (done.returncode, done.stdout) == (0, "workers replaced: http\n")
    until(lambda: not set(workers) & set(server.server.workers()), 10)
    server.write(env={"GENERATION": "second"}, status={"address": "127.0.0.1:1"})
    done = verb(server.server, "reload")
    assert done.returncode == 1
    assert "status.address: cannot change while the server runs: restart it" in done.stderr
    done = verb(server.server, "reload", "--json")
    assert json.loads(done.stdout)["problems"][0]["path"] == "status.address"


def test_systemd_is_told(app_folder):
    path = str(app_folder / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(20)
        port, status_port = free_port(), free_port()
        config = config_for("app:app", port=port, status_port=status_port)
        config["server"]["env"] = {"PYTHONPATH": str(app_folder)}
        running = RunningServer(
            app_folder, config, port=port, status_port=status_port, env={"NOTIFY_SOCKET": path}
        )
        try:
            while not manager.recv(4096).startswith(b"READY=1"):
                continue
            before = time.monotonic()
            running.signal(signal.SIGHUP)
            first, second = manager.recv(4096).decode(), manager.recv(4096).decode()
            words = dict(line.split("=", 1) for line in first.splitlines())
            assert words["RELOADING"] == "1"
            assert before - 1 < int(words["MONOTONIC_USEC"]) / 1e6 < time.monotonic()
            assert second.startswith("READY=1")
            running.stop()
        finally:
            running.kill()


@contextlib.contextmanager
def released(folder: Path, arguments, **options):
    """A server started through the link ``current``, which leads to release 41.

    *arguments*: of the command, or what makes them of the ports.
    """
    port, status_port = free_port(), free_port()
    if callable(arguments):
        arguments = arguments(str(port), str(status_port))
    config = config_for("app:app", port=port, status_port=status_port)
    for number in ("41", "42"):
        (folder / number).mkdir()
        (folder / number / "app.py").write_text(APP)
        (folder / number / "rr.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (folder / "current").symlink_to("41")
    running = RunningServer(
        folder,
        config,
        port=port,
        status_port=status_port,
        command=[str(BIN / "twisted-rr"), *arguments],
        **options,
    )
    try:
        yield running.wait_ready()
        running.stop()
    finally:
        running.kill()


def flip(folder: Path) -> None:
    (folder / "next").symlink_to("42")
    os.replace(folder / "next", folder / "current")


@pytest.mark.parametrize("absolute", [True, False])
def test_workers_follow_a_link_to_the_next_release(tmp_path, absolute):
    current = tmp_path / "current"
    arguments = ["serve", "-c", str(current / "rr.yaml") if absolute else "rr.yaml"]
    where = {} if absolute else {"cwd": current, "env": {"PWD": str(current)}}
    with released(tmp_path, arguments, **where) as running:
        server = Rewritten(running, tmp_path)
        assert running.get("/")[2].split()[2] == b"41"
        flip(tmp_path)
        assert running.get("/")[2].split()[2] == b"41"
        assert "workers replaced: http" in server.reload(signal.SIGUSR2)
        for _ in range(8):
            assert running.get("/")[2].split()[2] == b"42"


def test_an_application_without_a_file_follows_its_folder(tmp_path):
    current = tmp_path / "current"

    def arguments(port: str, status_port: str) -> list[str]:
        chosen = ["--port", port, "--status", f"127.0.0.1:{status_port}", "--workers", "2"]
        return ["serve", "app:app", "-w", str(current), *chosen]

    with released(tmp_path, arguments) as running:
        server = Rewritten(running, tmp_path)
        assert running.get("/")[2].split()[2] == b"41"
        flip(tmp_path)
        server.reload(signal.SIGUSR2)
        assert {running.get("/")[2].split()[2] for _ in range(8)} == {b"42"}


def test_under_twistd(app_folder):
    port, status_port = free_port(), free_port()
    config = config_for("app:app", port=port, status_port=status_port)
    config["server"]["env"] = {"PYTHONPATH": str(app_folder)}
    command = [str(BIN / "twistd"), "-n", f"--pidfile={app_folder / 'pid'}", "rr", "-c", "rr.yaml"]
    running = RunningServer(
        app_folder, config, port=port, status_port=status_port, command=command, cwd=app_folder
    )
    try:
        running.wait_ready()
        server = Rewritten(running, app_folder)
        server.write(env={"GENERATION": "second"})
        assert "workers replaced: http" in server.reload()
        assert server.generation() == "second"
        running.stop()
    finally:
        running.kill()
