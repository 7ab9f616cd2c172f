"""The real server under test: started as a user would, watched from outside, ended by its pid."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
APPS = Path(__file__).resolve().parent / "apps"
BIN = Path(sys.executable).parent


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(what, seconds: float = 10.0, pause: float = 0.01, why: str = "it did not happen"):
    """Poll *what* until it is true and return it; fail with *why* after *seconds*."""
    deadline = time.monotonic() + seconds
    while True:
        value = what()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{why} within {seconds} s")
        time.sleep(pause)


def alive(pid: int) -> bool:
    """Whether *pid* is a process that is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def children(pid: int) -> list[int]:
    """The child processes of *pid*, zombies too; none when it is gone."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                found += [int(word) for word in (task / "children").read_text().split()]
    return sorted(found)


def running(command: str) -> list[int]:
    """The processes that have *command*, its words with spaces between, in their command line."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if command in line:
                found.append(int(folder.name))
    return [pid for pid in found if alive(pid)]


def memory_kib(pid: int, field: str = "Pss") -> int:
    """PSS (or another field of smaps_rollup) in KiB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise AssertionError(f"no {field} for {pid}")


class RunningServer:
    """One `twisted-rr serve` process with its configuration, ports and log."""

    def __init__(
        self,
        folder: Path,
        config: dict,
        *,
        port: int,
        status_port: int,
        command: list[str] | None = None,
        env: dict | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.port, self.status_port = port, status_port
        self.file = folder / "rr.yaml"
        self.file.write_text(yaml.safe_dump(config, sort_keys=False))
        self.log_file = folder / "server.log"
        self._log = self.log_file.open("ab")
        self.command = command or [
            str(BIN / "twisted-rr"),
            "serve",
            "-w",
            str(cwd or APPS),
            "-c",
            str(self.file),
        ]
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, cwd=str(cwd or APPS),
            env={**os.environ, "PYTHONPATH": str(APPS), **(env or {})}, start_new_session=True,
        )  # fmt: skip
        self.pid = self.process.pid
        self.code: int | None = None

    def wait_ready(self, seconds: float = 30.0) -> RunningServer:
        def ready() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended with {self.process.returncode}:\n{self.log()}")
            return self.status("/ready")[0] == 200

        until(ready, seconds, 0.02, "the server did not get ready")
        return self

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def records(self) -> list[dict]:
        """The log's JSON lines."""
        return [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]

    def status(self, path: str = "/ready", headers: dict | None = None) -> tuple[int, dict, bytes]:
        """Status answer: code (0 when refused), headers with lower-case names, body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.status_port, timeout=5)
        try:
            connection.request("GET", path, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        except (ConnectionError, http.client.HTTPException, TimeoutError):
            return 0, {}, b""
        finally:
            connection.close()

    def get(self, path: str = "/", **kw) -> tuple[int, dict, bytes]:
        return self.request("GET", path, **kw)

    def request(
        self, method: str, path: str, body=None, headers: dict | None = None, timeout: float = 30
    ) -> tuple[int, dict, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def workers(self) -> list[int]:
        """Living worker processes."""
        return [pid for pid in children(self.pid) if alive(pid)]

    def signal(self, number: int = signal.SIGTERM) -> float:
        os.kill(self.pid, number)
        return time.monotonic()

    def wait(self, seconds: float = 30.0) -> int:
        """Wait for the end; the exit code."""
        self.code = self.process.wait(seconds)
        return self.code

    def stop(self) -> int:
        if self.process.poll() is None:
            self.signal()
            try:
                return self.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError(f"the server did not stop:\n{self.log()[-4000:]}") from None
        return self.process.returncode

    def kill(self) -> None:
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self.process.wait(10)
        self._log.close()


def config_for(
    app: str, *, port: int, status_port: int, workers: int = 2, sdk: tuple[str, ...] = (), **sections
) -> dict:
    """A configuration that serves *app* (``module:attribute`` of tests/integration/apps) with the Python SDK."""
    config: dict = {
        "version": "3",
        "server": {"command": [sys.executable, "-m", "twisted_rr.worker", *sdk, app]},
        "http": {"address": f"127.0.0.1:{port}", "pool": {"num_workers": workers}},
        "status": {"address": f"127.0.0.1:{status_port}"},
        "logs": {"mode": "production"},
    }
    for name, section in sections.items():
        config[name] = {**config.get(name, {}), **section}
    return config


@contextlib.contextmanager
def serving(
    folder: Path,
    app: str = "asgi_app:app",
    *,
    workers: int = 2,
    sdk: tuple[str, ...] = (),
    env: dict | None = None,
    **sections,
) -> Iterator[RunningServer]:
    """A ready server for *app*; stopped (and killed if it must be) at the end."""
    port, status_port = free_port(), free_port()
    server = RunningServer(
        folder,
        config_for(app, port=port, status_port=status_port, workers=workers, sdk=sdk, **sections),
        port=port,
        status_port=status_port,
        env=env,
    )
    try:
        yield server.wait_ready()
        server.stop()
    except BaseException:
        sys.stderr.write(server.log()[-6000:])
        raise
    finally:
        server.kill()


class Background(threading.Thread):
    """Runs one call in a thread and hands over its result or exception."""

    def __init__(self, function, *args, **kw) -> None:
        super().__init__(daemon=True)
        self._job = (function, args, kw)
        self._result = None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        function, args, kw = self._job
        try:
            self._result = function(*args, **kw)
        except BaseException as error:
            self._error = error

    def result(self, seconds: float = 60.0):
        self.join(seconds)
        if self.is_alive():
            raise AssertionError("still running")
        if self._error is not None:
            raise self._error
        return self._result
