"""A server under test: its command, its process, its memory. Which servers there are is each benchmark's subject."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

BIN = Path(sys.executable).parent
ROOT = Path(__file__).resolve().parents[1]


def free_port() -> int:
    """A TCP port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def greets(port: int) -> bool:
    """Whether something accepts connections."""
    with socket.create_connection(("127.0.0.1", port), 1):
        return True


def serves_http(port: int) -> bool:
    """Whether ``GET /`` is answered with 200."""
    with socket.create_connection(("127.0.0.1", port), 1) as probe:
        probe.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return probe.recv(100).startswith(b"HTTP/1.1 200")


@dataclass
class Contender:
    """One server under test: its command with ``{port}``, ``{folder}`` and ``{name}``, and its process once started.

    *config* makes the text of ``{folder}/{name}.yaml`` of the port. *home* is where it runs, and where it imports from.
    *bodies* is False for those that answer hello and nothing else.
    """

    name: str
    command: list[str]
    home: Path
    config: Callable[[int], str] | None = None
    ready: Callable[[int], bool] = serves_http
    path: tuple[str, ...] = ()
    bodies: bool = True
    port: int = 0
    process: subprocess.Popen | None = field(default=None, repr=False)

    def start(self, folder: Path) -> None:
        """Start it, and wait until it is `ready`."""
        self.port = free_port()
        command = [word.format(port=self.port, folder=folder, name=self.name) for word in self.command]
        if self.config is not None:
            (folder / f"{self.name}.yaml").write_text(self.config(self.port))
        path = os.pathsep.join((str(self.home), *self.path))
        with (folder / f"{self.name}.log").open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": path},
            )
        self._wait(folder)

    def _wait(self, folder: Path) -> None:
        for _ in range(600):
            try:
                if self.ready(self.port):
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise SystemExit(f"{self.name} does not answer:\n{(folder / f'{self.name}.log').read_text()[-2000:]}")

    def stop(self) -> None:
        """End it, whatever it says."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()

    def family(self) -> list[int]:
        """The first process and all that descend from it."""
        assert self.process is not None
        family = [self.process.pid]
        for pid in family:
            for task in Path(f"/proc/{pid}/task").iterdir():
                family += [int(word) for word in (task / "children").read_text().split()]
        return family

    def pss(self) -> dict[str, float]:
        """PSS in MiB of the first process and of its whole family."""
        sizes = [_pss(pid) for pid in self.family()]
        return {"server": round(sizes[0], 1), "all": round(sum(sizes), 1), "processes": len(sizes)}

    def cpu(self) -> float:
        """CPU seconds that the family has used, in the kernel's ticks of 10 ms."""
        return sum(_cpu(pid) for pid in self.family())


def _cpu(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def _pss(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0
