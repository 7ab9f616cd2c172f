"""gRPC in the integration tests: the real server with a worker, and grpcio's client in a process of its own."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rig import RunningServer, free_port

GRPC_APPS = Path(__file__).resolve().parent / "grpc_apps"
PROTO = str(GRPC_APPS / "interop.proto")


@functools.cache
def generated() -> str:
    """A folder with the classes of interop.proto."""
    folder = tempfile.mkdtemp(prefix="rr-grpc-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    subprocess.run([sys.executable, str(GRPC_APPS / "generated.py"), folder], check=True, timeout=60)
    return folder


def environment(**more: str) -> dict[str, str]:
    """For workers and clients: where the classes are."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join((generated(), str(GRPC_APPS))), **more}


def grpc_config(command: list[str], *, port: int, status_port: int, workers: int = 2, **grpc: Any) -> dict:
    """A configuration of a gRPC front alone, with its status listener."""
    sections = {
        name: grpc.pop(name) for name in ("drain", "endure", "pools", "server", "status") if name in grpc
    }
    pool = {"num_workers": workers, **grpc.pop("pool", {})}
    return {
        "version": "3",
        "server": {"command": command, **sections.pop("server", {})},
        "grpc": {"listen": f"tcp://127.0.0.1:{port}", "pool": pool, "max_concurrent_streams": 200, **grpc},
        "status": {"address": f"127.0.0.1:{status_port}", **sections.pop("status", {})},
        "logs": {"mode": "production", "level": "debug"},
        **sections,
    }


@contextlib.contextmanager
def grpc_server(
    folder: Path, *arguments: str, worker: str = "servicer.py", **keys: Any
) -> Iterator[RunningServer]:
    """A ready server for *worker* (of grpc_apps) with *arguments*; stopped at the end."""
    port, status_port = free_port(), free_port()
    command = keys.pop("command", [sys.executable, str(GRPC_APPS / worker), *arguments])
    env = keys.pop("env", {})
    config = grpc_config(command, port=port, status_port=status_port, **keys)
    server = RunningServer(
        folder, config, port=port, status_port=status_port, env=environment(**env), cwd=GRPC_APPS
    )
    try:
        yield server.wait_ready()
        server.stop()
    except BaseException:
        sys.stderr.write(server.log()[-8000:])
        raise
    finally:
        server.kill()


class Client:
    """grpcio's client with some cases; `results` waits for its end."""

    def __init__(self, address: str | int, *cases: str, env: dict[str, str] | None = None) -> None:
        target = f"127.0.0.1:{address}" if isinstance(address, int) else address
        self.process = subprocess.Popen(
            [sys.executable, str(GRPC_APPS / "client.py"), target, *cases],
            stdout=subprocess.PIPE, text=True, env=environment(**(env or {})),
        )  # fmt: skip
        self.events: list[dict[str, Any]] = []

    def event(self, **wanted: Any) -> dict[str, Any]:
        """Read until an event with these values comes."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            found = json.loads(line)
            self.events.append(found)
            if all(found.get(name) == value for name, value in wanted.items()):
                return found
        raise AssertionError(f"no event {wanted}, only {self.events}")

    def results(self, seconds: float = 60.0) -> dict[str, Any]:
        """What came of each case."""
        watchdog = threading.Timer(seconds, self.process.kill)
        watchdog.start()
        try:
            assert self.process.stdout is not None
            self.events += [json.loads(line) for line in self.process.stdout]
            self.process.wait(seconds)
        finally:
            watchdog.cancel()
        assert self.events and "results" in self.events[-1], self.events
        return self.events[-1]["results"]


def run(server: RunningServer | str, *cases: str, env: dict[str, str] | None = None) -> dict[str, Any]:
    """The results of some cases, one after another."""
    return Client(server.port if isinstance(server, RunningServer) else server, *cases, env=env).results()
