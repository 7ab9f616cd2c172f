"""Two servers of an example behind a real HAProxy, of which one can be restarted as a supervisor does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from rig import BIN, ROOT, RunningServer, free_port

EXAMPLE = ROOT / "examples" / "haproxy"
RESTARTS = int(os.environ.get("RR_RESTARTS", "3"))

needs_haproxy = pytest.mark.skipif(shutil.which("haproxy") is None, reason="needs haproxy")


def serving_example(
    folder: Path, config: str, port: int, status: int, environ: Mapping[str, str], *options: str
) -> RunningServer:
    """A server of the example on these ports."""
    addresses = {"APP": f"127.0.0.1:{port}", "STATUS": f"127.0.0.1:{status}"}
    command = [
        sys.executable, "-m", "twisted_rr.cli.entry", "serve", "-c", str(EXAMPLE / config),
        "-o", f"admin.socket={folder}/admin.sock", *options,
    ]  # fmt: skip
    environ = {**addresses, "PATH": f"{BIN}:{os.environ['PATH']}", **environ}
    return RunningServer(folder, {}, port=port, status_port=status, command=command, env=environ, cwd=EXAMPLE)


class Pair:
    """The two servers and the HAProxy in front of them.

    :param proxy: HAProxy's configuration, and *config* the servers', both of the example.
    :param environ: more variables of the servers. *options* are keys of theirs that differ.
    :ivar front: HAProxy's port.
    """

    def __init__(
        self, folder: Path, proxy: str, config: str, environ: Mapping[str, str], options: tuple[str, ...] = ()
    ) -> None:
        self.folder = folder
        self.front = free_port()
        self.ports = {name: (free_port(), free_port()) for name in ("one", "two")}
        self._config = config
        self._environ = dict(environ)
        self._options = [word for option in options for word in ("-o", option)]
        self.servers = {name: self.start(name) for name in self.ports}
        for server in self.servers.values():
            server.wait_ready()
        self.proxy = subprocess.Popen(
            ["haproxy", "-db", "-f", str(EXAMPLE / proxy)],
            env=self._addresses(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _addresses(self) -> dict[str, str]:
        found = {**os.environ, "FRONT": f"127.0.0.1:{self.front}"}
        for name, (port, status) in self.ports.items():
            found[name.upper()] = f"127.0.0.1:{port}"
            found[f"{name.upper()}_STATUS_HOST"] = "127.0.0.1"
            found[f"{name.upper()}_STATUS_PORT"] = str(status)
        return found

    def start(self, name: str) -> RunningServer:
        folder = self.folder / f"{name}-{time.monotonic_ns()}"
        folder.mkdir()
        return serving_example(folder, self._config, *self.ports[name], self._environ, *self._options)

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
