"""A service manager in small: it holds listening sockets and starts servers that inherit them, as systemd does."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import yaml
from rig import APPS, BIN, until

# What systemd does between fork and exec: descriptors from 3 on, and variables with the pid of the program.
EXEC = """
import fcntl, os, sys
fds = [int(word) for word in sys.argv[1].split(",")]
high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in fds]
os.closerange(3, 100)
for number, fd in enumerate(high):
    os.dup2(fd, 3 + number, inheritable=True)
os.closerange(100, max(high) + 1)
os.environ.update(LISTEN_FDS=str(len(fds)), LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""


class Holder:
    """Holds the sockets *named* (name to socket) and runs one server at a time on them."""

    def __init__(self, folder: Path, config: dict, named: dict[str, socket.socket]) -> None:
        self.folder = folder
        self.named = named
        self.file = folder / "rr.yaml"
        self.write(config)
        self.log_file = folder / "server.log"
        self._log = self.log_file.open("ab")
        self.process: subprocess.Popen | None = None

    def write(self, config: dict) -> None:
        self.file.write_text(yaml.safe_dump(config, sort_keys=False))

    def start(self, *command: str, names: str | None = None) -> Holder:
        """Start a server (or *command*) that inherits the sockets; `serving` tells when it is up."""
        command = command or (str(BIN / "twisted-rr"), "serve", "-w", str(APPS), "-c", str(self.file))
        fds = [sock.fileno() for sock in self.named.values()]
        env = {**os.environ, "PYTHONPATH": str(APPS)}
        env["LISTEN_FDNAMES"] = ":".join(self.named) if names is None else names
        self.process = subprocess.Popen(
            [sys.executable, "-c", EXEC, ",".join(map(str, fds)), *command],
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, cwd=str(APPS), env=env,
            pass_fds=fds, start_new_session=True,
        )  # fmt: skip
        return self

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def wait_for(self, text: str, times: int = 1, seconds: float = 30.0) -> None:
        """Until the log has *text* so often."""

        def there() -> bool:
            assert self.process is not None and self.process.poll() is None, self.log()[-4000:]
            return self.log().count(text) >= times

        until(there, seconds, 0.02, f"no {text!r} in the log")

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        assert self.process is not None
        os.kill(self.pid, signal.SIGTERM)
        return self.process.wait(30)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self.process.wait(10)
        for sock in self.named.values():
            sock.close()
        self._log.close()


def listening(family: int = socket.AF_INET, name: object = ("127.0.0.1", 0)) -> socket.socket:
    sock = socket.socket(family)
    sock.bind(name)  # type: ignore[arg-type]
    sock.listen(1024)
    return sock


class Client(threading.Thread):
    """Asks one question after the other and counts what becomes of it.

    *keep*: it keeps its connection until an answer says ``Connection: close``; else each question has its own.
    """

    def __init__(self, port: int, keep: bool, pause: float = 0.002) -> None:
        super().__init__(daemon=True)
        self.seen: Counter = Counter()
        self.troubles: list[str] = []
        self._port, self._keep, self._pause = port, keep, pause
        self._over = threading.Event()

    def run(self) -> None:
        connection: http.client.HTTPConnection | None = None
        while not self._over.is_set():
            try:
                if connection is None:
                    connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
                    connection.connect()
                    self.seen["connects"] += 1
                if not self._ask(connection):
                    connection = None
            except (OSError, http.client.HTTPException) as error:
                self.troubles.append(repr(error))
                connection = None
            time.sleep(self._pause)
        if connection is not None:
            connection.close()

    def _ask(self, connection: http.client.HTTPConnection) -> bool:
        """One question; whether the connection goes on."""
        connection.request("GET", "/hello", headers={} if self._keep else {"Connection": "close"})
        answer = connection.getresponse()
        answer.read()
        self.seen[answer.status] += 1
        if self._keep and answer.getheader("Connection", "") != "close":
            return True
        connection.close()
        return False

    def end(self) -> Client:
        self._over.set()
        self.join(60)
        return self
