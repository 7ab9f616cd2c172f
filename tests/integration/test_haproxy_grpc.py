"""A rolling restart of two gRPC servers behind a real HAProxy that speaks HTTP/2 on both sides: no call may fail.

The client makes a call once more after UNAVAILABLE only, and the workers' notes show that such a call had not begun.
`RR_RESTARTS` sets how many restarts (3 by default).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from grpc_rig import GRPC_APPS, run
from rig import BIN, ROOT, RunningServer, free_port

EXAMPLE = ROOT / "examples" / "haproxy"
RESTARTS = int(os.environ.get("RR_RESTARTS", "3"))
RATE = 300.0
THREADS = 16

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("haproxy") is None, reason="needs haproxy"),
]


class Pair:
    """The two servers and the HAProxy in front of them."""

    def __init__(self, folder: Path, *options: str) -> None:
        pytest.importorskip("grpc")
        self.folder = folder
        self.options = [word for option in options for word in ("-o", option)]
        self.front = free_port()
        self.notes = folder / "notes"
        self.ports = {name: (free_port(), free_port()) for name in ("one", "two")}
        self.servers = {name: self.start(name) for name in self.ports}
        for server in self.servers.values():
            server.wait_ready()
        environ = {**os.environ, "FRONT": f"127.0.0.1:{self.front}"}
        for name, (port, status) in self.ports.items():
            environ[name.upper()] = f"127.0.0.1:{port}"
            environ[f"{name.upper()}_STATUS_HOST"] = "127.0.0.1"
            environ[f"{name.upper()}_STATUS_PORT"] = str(status)
        self.proxy = subprocess.Popen(
            ["haproxy", "-db", "-f", str(EXAMPLE / "grpc.cfg")],
            env=environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def start(self, name: str) -> RunningServer:
        port, status = self.ports[name]
        folder = self.folder / f"{name}-{time.monotonic_ns()}"
        folder.mkdir()
        environ = {
            "APP": f"127.0.0.1:{port}",
            "STATUS": f"127.0.0.1:{status}",
            "WORKER": str(GRPC_APPS / "numbered.py"),
            "NOTES": str(self.notes),
            "PATH": f"{BIN}:{os.environ['PATH']}",
        }
        command = [
            sys.executable, "-m", "twisted_rr.cli.entry", "serve", "-c", str(EXAMPLE / "grpc.yaml"),
            "-o", f"admin.socket={folder}/admin.sock", *self.options,
        ]  # fmt: skip
        return RunningServer(
            folder, {}, port=port, status_port=status, command=command, env=environ, cwd=EXAMPLE
        )

    def restart(self, name: str) -> int:
        """Stop one as a supervisor does, start it again, and wait until HAProxy has seen it."""
        old = self.servers[name]
        old.signal()
        code = old.wait(20)
        old.kill()
        self.servers[name] = self.start(name).wait_ready()
        time.sleep(0.6)
        return code

    def end(self) -> None:
        self.proxy.terminate()
        try:
            self.proxy.wait(5)
        except subprocess.TimeoutExpired:
            self.proxy.kill()
            self.proxy.wait()
        for server in self.servers.values():
            server.kill()


#: Without an announce HAProxy hears of a stop by GOAWAY and by connections that are refused, and not before.
UNANNOUNCED = ("drain.announce.min=0", "drain.announce.max=0")


@pytest.fixture(params=[(), UNANNOUNCED], ids=["announced", "unannounced"])
def pair(request: Any, tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path, *request.param)
    yield made
    made.end()


class Client:
    """Numbered calls from a process of their own."""

    def __init__(self, port: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(GRPC_APPS / "numbering.py"), f"127.0.0.1:{port}", str(THREADS), str(RATE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.process.stdout.readline()

    def results(self) -> dict[str, Any]:
        watchdog = threading.Timer(60, self.process.kill)
        watchdog.start()
        try:
            out, _ = self.process.communicate()
        finally:
            watchdog.cancel()
        return dict(json.loads(out))


@pytest.mark.proves("I18")
def test_a_rolling_restart_fails_no_call(pair: Pair) -> None:
    client = Client(pair.front)
    begun = time.monotonic()
    time.sleep(1)
    codes = [pair.restart(("one", "two")[number % 2]) for number in range(RESTARTS)]
    time.sleep(1)
    took = time.monotonic() - begun
    found = client.results()
    assert codes == [0] * RESTARTS
    assert not found["failed"], f"{len(found['failed'])} of {found['done']}: {found['failed'][:5]}"
    noted = Counter(int(line) for line in pair.notes.read_text().splitlines())
    assert {number for number, times in noted.items() if times > 1} == set()
    assert len(noted) == found["done"]
    assert found["done"] / took > RATE * 0.3, f"only {found['done'] / took:.0f} calls a second"
    print(f"{found['done']} calls, made once more: {found['retried']}")


def test_the_examples_own_worker_answers(tmp_path: Path) -> None:
    port, status = free_port(), free_port()
    command = [
        sys.executable, "-m", "twisted_rr.cli.entry", "serve", "-c", str(EXAMPLE / "grpc.yaml"),
        "-o", f"admin.socket={tmp_path}/admin.sock",
    ]  # fmt: skip
    environ = {
        "APP": f"127.0.0.1:{port}",
        "STATUS": f"127.0.0.1:{status}",
        "PATH": f"{BIN}:{os.environ['PATH']}",
    }
    server = RunningServer(
        tmp_path, {}, port=port, status_port=status, command=command, env=environ, cwd=EXAMPLE
    )
    try:
        server.wait_ready()
        assert run(server, "raw:/echo.Echo/Say,hello")["raw"]["answer"] == "hello"
        assert server.stop() == 0
    finally:
        server.kill()
