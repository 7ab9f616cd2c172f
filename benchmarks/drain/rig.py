"""Servers under test, their CPU time, and a client that polls the status endpoints."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.contender import BIN, Contender, free_port

HERE = Path(__file__).resolve().parent


class Server:
    """One running server, in the folder *where*: the modules there come before all others in its workers."""

    def __init__(
        self,
        folder: Path,
        *,
        app: str = "apps:app",
        bookkeeping: bool = True,
        sdk: tuple[str, ...] = (),
        where: Path = HERE,
        **sections: dict,
    ) -> None:
        self.status_port = free_port()

        def config(port: int) -> str:
            return json.dumps(
                {
                    "version": "3",
                    "server": {"command": [sys.executable, "-m", "twisted_rr.worker", *sdk, app]},
                    "http": {"address": f"127.0.0.1:{port}", "pool": {"num_workers": 2}},
                    "status": {"address": f"127.0.0.1:{self.status_port}"},
                    "logs": {"mode": "production"},
                    **sections,
                }
            )

        program = (
            [str(BIN / "twisted-rr")]
            if bookkeeping
            else [sys.executable, str(HERE / "without_bookkeeping.py")]
        )
        serve = [*program, "serve", "-w", str(where), "-c", "{folder}/{name}.yaml"]
        contender = Contender(f"drain-{self.status_port}", serve, HERE, config, self._is_ready)
        contender.start(folder)
        assert contender.process is not None
        self.port, self.process, self.pid = contender.port, contender.process, contender.process.pid

    def _is_ready(self, port: int) -> bool:
        return Poller(self.status_port, "/ready").ask() == 200

    def cpu(self) -> float:
        """CPU seconds of the server process so far, all its threads and none of its workers; OSError once it is gone."""
        # CPU clock of another process: clock_getcpuclockid(3), which Python does not offer.
        return time.clock_gettime((~self.pid << 3) | 2)

    def cpu_until_gone(self) -> float:
        """The same at its end, as far as looks 2 ms apart can see; reaps it."""
        last = 0.0
        while self.process.poll() is None:
            try:
                last = self.cpu()
            except OSError:
                break
            time.sleep(0.002)
        self.process.wait()
        return last

    def workers(self) -> list[int]:
        """Its child processes, whichever of its threads started them."""
        tasks = Path(f"/proc/{self.pid}/task").glob("*/children")
        return [int(word) for task in tasks for word in task.read_text().split()]

    def signal(self, number: int = signal.SIGTERM) -> float:
        """Send *number*; when that was."""
        at = time.monotonic()
        os.kill(self.pid, number)
        return at

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
            self.process.wait()

    def load(self, rate: int, seconds: float, connections: int = 32) -> subprocess.Popen:
        """Requests at a fixed rate in the background, by h2load."""
        each = max(1, round(rate / connections))
        command = ["h2load", "--h1", "-t1", f"-c{connections}", f"--rps={each}", f"-D{seconds:g}"]
        return subprocess.Popen(
            [*command, f"http://127.0.0.1:{self.port}/"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )


class Poller:
    """One kept connection that asks one status path."""

    def __init__(self, port: int, path: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 5)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._question = f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()

    def ask(self) -> int:
        """The status code; OSError when the server is gone."""
        self._socket.sendall(self._question)
        data = self._socket.recv(65536)
        while b"\r\n\r\n" not in data:
            more = self._socket.recv(65536)
            if not more:
                raise ConnectionResetError
            data += more
        return int(data.split(b" ", 2)[1])

    def close(self) -> None:
        self._socket.close()


def percentiles(times: list[float]) -> dict[str, float]:
    """p50, p99 and the longest, in milliseconds."""
    ordered = sorted(times)
    at = {"p50_ms": 0.5, "p99_ms": 0.99, "max_ms": 1.0}
    return {
        name: round(ordered[min(len(ordered) - 1, int(len(ordered) * part))] * 1000, 2)
        for name, part in at.items()
    }
