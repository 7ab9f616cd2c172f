"""A rolling restart of two servers behind a real HAProxy, at 500 requests a second: none may fail.

`RR_RESTARTS` sets how many restarts (3 by default; 10 is the figure the documentation quotes).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections import Counter

import pytest
from rig import BIN, ROOT, RunningServer, free_port, until

from twisted_rr.draintest.clients import HttpClients, Paths
from twisted_rr.draintest.records import COMPLETE, LEFT, Exchange

EXAMPLE = ROOT / "examples" / "haproxy"
RESTARTS = int(os.environ.get("RR_RESTARTS", "3"))
RATE = 500.0

pytestmark = pytest.mark.skipif(shutil.which("haproxy") is None, reason="needs haproxy")


class Pair:
    """The two servers and the HAProxy in front of them."""

    def __init__(self, folder) -> None:
        self.folder = folder
        self.front = free_port()
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
            ["haproxy", "-db", "-f", str(EXAMPLE / "haproxy.cfg")],
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
            "PATH": f"{BIN}:{os.environ['PATH']}",
        }
        command = [
            sys.executable, "-m", "twisted_rr.cli.entry", "serve", "-c", str(EXAMPLE / ".rr.yaml"),
            "-o", f"admin.socket={folder}/admin.sock",
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
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.proxy.wait(5)
        if self.proxy.poll() is None:
            self.proxy.kill()
        for server in self.servers.values():
            server.kill()


@pytest.fixture
def pair(tmp_path):
    made = Pair(tmp_path)
    yield made
    made.end()


@pytest.mark.proves("I1", "I2", "I3", "I4", "I5", "I17")
def test_a_rolling_restart_fails_no_request(pair):
    lines: list[Exchange] = []

    async def run() -> list[int]:
        clients = HttpClients(lines, ("127.0.0.1", pair.front), Paths(plain="/hello"), 10.0)
        until(lambda: answers(pair.front), 10, why="HAProxy did not answer")
        clients.load(RATE)
        await asyncio.sleep(1.0)
        codes = []
        for number in range(RESTARTS):
            name = ("one", "two")[number % 2]
            codes.append(await asyncio.get_running_loop().run_in_executor(None, pair.restart, name))
        await asyncio.sleep(1.0)
        await clients.finish(5.0)
        return codes

    begun = time.monotonic()
    codes = asyncio.run(run())
    took = time.monotonic() - begun
    assert codes == [0] * RESTARTS
    failed = [
        line
        for line in lines
        if line.outcome != LEFT and not (line.outcome == COMPLETE and line.status == 200)
    ]
    kinds = Counter((line.client, line.outcome, line.status) for line in failed)
    assert not failed, f"{len(failed)} of {len(lines)}: {kinds}"
    assert len(lines) / took > RATE * 0.5, f"only {len(lines) / took:.0f} requests a second"


def answers(port: int) -> bool:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
