"""Who runs, with which command line. Two worker processes each unless the name says otherwise; access logs off."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

BIN = Path(sys.executable).parent
HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


@dataclass
class Contender:
    """One server under test: its command with ``{port}`` and, once started, its process."""

    name: str
    command: list[str]
    port: int = 0
    process: subprocess.Popen | None = field(default=None, repr=False)

    def start(self, folder: Path) -> None:
        self.port = free_port()
        command = [word.format(port=self.port, folder=folder, name=self.name) for word in self.command]
        if command[0].endswith("twisted-rr"):
            (folder / f"{self.name}.yaml").write_text(rr_config(self.name, self.port))
        log = (folder / f"{self.name}.log").open("wb")
        self.process = subprocess.Popen(
            command,
            cwd=HERE,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(HERE)},
        )
        log.close()
        self._wait(folder)

    def _wait(self, folder: Path) -> None:
        for _ in range(600):
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as probe:
                    probe.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                    if probe.recv(100).startswith(b"HTTP/1.1 200"):
                        return
            except OSError:
                pass
            time.sleep(0.05)
        raise SystemExit(f"{self.name} does not answer:\n{(folder / f'{self.name}.log').read_text()[-2000:]}")

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()

    def pss(self) -> dict[str, float]:
        """PSS in MiB of the first process and of its whole family."""
        assert self.process is not None
        family = [self.process.pid]
        for pid in family:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            family += [int(word) for word in children]
        sizes = [_pss(pid) for pid in family]
        return {"server": round(sizes[0], 1), "all": round(sum(sizes), 1), "processes": len(sizes)}


def _pss(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def rr_config(name: str, port: int) -> str:
    """Our configuration: WSGI goes one call a time, ASGI many calls on a relay."""
    worker = ["--no-mux", "apps:wsgi"] if name == "rr-wsgi" else ["apps:asgi"]
    command = [sys.executable, "-m", "twisted_rr.worker", *worker]
    listed = "".join(f"    - {word!r}\n" for word in command)
    return (
        f'version: "3"\nserver:\n  command:\n{listed}http:\n  address: 127.0.0.1:{port}\n'
        f"  pool:\n    num_workers: 2\nstatus:\n  address: 127.0.0.1:{free_port()}\nlogs:\n  level: warn\n"
    )


def contenders() -> list[Contender]:
    def rr(name: str) -> Contender:
        return Contender(
            name, [str(BIN / "twisted-rr"), "serve", "-w", str(HERE), "-c", "{folder}/{name}.yaml"]
        )

    def gunicorn(name: str, *options: str) -> Contender:
        return Contender(
            name,
            [str(BIN / "gunicorn"), "--bind", "127.0.0.1:{port}", "--workers", "2", *options, "apps:wsgi"],
        )

    def uvicorn(name: str, workers: str) -> Contender:
        return Contender(
            name,
            [
                str(BIN / "uvicorn"),
                "--port",
                "{port}",
                "--workers",
                workers,
                "--no-access-log",
                "--log-level",
                "warning",
                "apps:asgi",
            ],
        )

    def granian(name: str, interface: str, app: str) -> Contender:
        return Contender(
            name,
            [
                str(BIN / "granian"),
                "--interface",
                interface,
                "--port",
                "{port}",
                "--workers",
                "2",
                "--no-access-log",
                "--log-level",
                "warning",
                app,
            ],
        )

    return [
        rr("rr-asgi"),
        rr("rr-wsgi"),
        gunicorn("gunicorn-sync"),
        gunicorn("gunicorn-gthread", "--worker-class", "gthread", "--threads", "4"),
        uvicorn("uvicorn-1", "1"),
        uvicorn("uvicorn-2", "2"),
        granian("granian-asgi", "asgi", "apps:asgi"),
        granian("granian-wsgi", "wsgi", "apps:wsgi"),
    ]
