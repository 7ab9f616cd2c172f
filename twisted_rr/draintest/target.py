"""The server under test as a process of ours: its command, its addresses, what it promised, its log.

From a configuration, or from a command line that the user gave. Nothing is sent to it here but signals.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import attrs

from twisted_rr.draintest import processes
from twisted_rr.draintest.records import Terms
from twisted_rr.draintest.wire import Address
from twisted_rr.errors import RRError

_LEAST_TOTAL, _LEAST_ANNOUNCE, _LEAST_STUCK = 3.0, 0.6, 0.8


@attrs.frozen(kw_only=True)
class Launch:
    """What to start.

    :ivar command: the command line.
    :ivar folder: where it runs.
    :ivar app: the address whose listener is watched: HTTP's where there is HTTP.
    :ivar status: the status endpoints'.
    :ivar terms: what it promised.
    :ivar config: the configuration's path for the command line tools, empty for a foreign command.
    :ivar overrides: what the rig changed in it.
    :ivar admin: the admin socket, empty where there is none.
    :ivar grpc: the address of the gRPC front, None where there is none.
    :ivar grpc_tls: whether it speaks TLS there.
    :ivar http: whether ``app`` speaks HTTP/1.1.
    :ivar gate: a script that every worker is started through; without it no worker can be started.
    """

    command: tuple[str, ...]
    folder: str
    app: Address
    status: Address
    terms: Terms
    config: str = ""
    overrides: tuple[str, ...] = ()
    admin: str = ""
    gate: str = ""
    grpc: Address | None = None
    grpc_tls: bool = False
    http: bool = True
    environ: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def protocols(self) -> frozenset[str]:
        """What clients can speak to it: ``http``, ``grpc``."""
        return frozenset(name for name, there in (("http", self.http), ("grpc", self.grpc)) if there)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def from_config(
    file: str,
    scale: float,
    scratch: str,
    overrides: Sequence[str] = (),
    entry: Sequence[str] = (sys.executable, "-m", "twisted_rr.cli.entry"),
    environ: Mapping[str, str] | None = None,
    *,
    check_only: bool = False,
) -> Launch:
    """The server of a configuration, on free ports, with its budgets times *scale*; raises `RRError`.

    Where it would not announce, it is made to: what an announce is for is half of what is tested.

    :param scratch: a folder for the gate and the admin socket.
    :param check_only: write nothing.
    :param entry: what runs ``serve``.
    """
    path = Path(file).resolve()
    # The server runs there, so what the configuration names is looked for there.
    with contextlib.chdir(path.parent):
        return _from_config(path, scale, scratch, overrides, entry, environ, check_only)


def _from_config(
    path: Path,
    scale: float,
    scratch: str,
    overrides: Sequence[str],
    entry: Sequence[str],
    environ: Mapping[str, str] | None,
    check_only: bool,
) -> Launch:
    from twisted_rr.build import read_config
    from twisted_rr.lifecycle.budget import plan
    from twisted_rr.lifecycle.settings import DrainSettings

    environ = dict(os.environ if environ is None else environ)
    read = read_config(str(path), overrides=overrides, environ=environ)
    budget, _ = plan(read.settings("drain") or DrainSettings(), read.settings("endure"), environ)
    total = max(_LEAST_TOTAL, budget.total * scale)
    announce = max(_LEAST_ANNOUNCE, (budget.announce_min or 2.0) * scale)
    stuck = max(_LEAST_STUCK, getattr(read.settings("status"), "stuck_after", 10.0) * scale)
    status, http, grpc, fronts = ("127.0.0.1", free_port()), None, None, []
    if read.settings("http") is not None:
        http = ("127.0.0.1", free_port())
        fronts.append(f"http.address={http[0]}:{http[1]}")
    settings = read.settings("grpc")
    if settings is not None:
        # Out of the way of a running server, also when the rig's clients cannot speak to it.
        address = ("127.0.0.1", free_port())
        fronts.append(f"grpc.listen=tcp://{address[0]}:{address[1]}")
        grpc = None if settings.tls is not None and settings.tls.needs_certificate else address
    app = http or grpc
    if app is None:
        raise RRError(
            "drain-test speaks HTTP in the clear and gRPC without certificates of clients: neither is here"
        )
    changed = [
        *overrides,
        *fronts,
        f"status.address={status[0]}:{status[1]}",
        f"status.stuck_after={stuck:.2f}s",
        f"endure.grace_period={total:.2f}s",
        f"drain.announce.min={announce:.2f}s",
        f"drain.announce.max={announce * 1.5:.2f}s",
        f"drain.announce.quiet={announce / 3:.2f}s",
        f"admin.socket={scratch}/admin.sock",
        "logs.mode=production",
        "logs.output=stderr",
    ]
    server = read.settings("server")
    gate = ""
    if server is not None and server.command:
        gate = f"{scratch}/worker-program"
        if not check_only:
            _make_gate(gate, server.command[0], environ)
        rest = ", ".join(json.dumps(word) for word in server.command[1:])
        changed.append(f"server.command=[{json.dumps(gate)}{', ' if rest else ''}{rest}]")
    scaled = read_config(str(path), overrides=changed, environ=environ)
    actual, _ = plan(scaled.settings("drain"), scaled.settings("endure"), environ)
    options = [word for override in changed for word in ("-o", override)]
    return Launch(
        command=(*entry, "serve", "-c", str(path), *options),
        folder=str(path.parent),
        app=app,
        status=status,
        terms=Terms(
            total=actual.total,
            cut=actual.cut,
            announce=actual.announce_min,
            announce_max=actual.announce_max,
            ready_flip=actual.announce_max if actual.ready_flip is None else actual.ready_flip,
            stuck_after=stuck,
            worker_stop=actual.worker_stop,
            goaway_start=actual.announce_max if actual.goaway_start is None else actual.goaway_start,
        ),
        grpc=grpc,
        grpc_tls=grpc is not None and settings.tls is not None,
        http=http is not None,
        config=str(path),
        overrides=tuple(changed),
        admin=f"{scratch}/admin.sock",
        gate=gate,
    )


def _make_gate(file: str, program: str, environ: Mapping[str, str]) -> None:
    """A script that stands in for the workers' program, so that it can be taken away without harm."""
    real = shutil.which(program, path=environ.get("PATH")) or program
    gate = Path(file)
    # F35 is about the server's clock: processes that share libfaketime hold each other up.
    forget = 'case "$LD_PRELOAD" in *libfaketime*) unset LD_PRELOAD;; esac'
    gate.write_text(f'#!/bin/sh\n{forget}\nexec {shell_quoted(real)} "$@"\n')
    gate.chmod(0o755)


def shell_quoted(text: str) -> str:
    """*text* as one word of a shell."""
    return "'" + text.replace("'", "'\\''") + "'"


class Target:
    """One life of the server.

    :ivar pid: of the server process.
    :ivar code: its exit code, None while it runs; a signal is negative.
    """

    def __init__(
        self, launch: Launch, environ: Mapping[str, str] | None = None, *, piped: bool = False
    ) -> None:
        self.launch = launch
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._pipe = -1
        out: Any = self._log
        if piped:
            self._pipe, out = os.pipe()
        # Its own session: what a terminal sends to our group must not reach it.
        self._process = subprocess.Popen(
            launch.command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            cwd=launch.folder,
            env={**os.environ, **launch.environ, **(environ or {})},
            start_new_session=True,
        )
        if piped:
            os.close(out)
        self.pid = self._process.pid
        self._family: dict[int, int] = {}

    @property
    def code(self) -> int | None:
        return self._process.poll()

    def signal(self, number: int) -> None:
        """Send a signal to the server alone."""
        self._process.send_signal(number)

    def signal_group(self, number: int) -> None:
        """Send a signal to its process group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def break_pipe(self) -> None:
        """Nobody reads its output any more."""
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1

    def workers(self) -> list[int]:
        """Its living children."""
        return [pid for pid in processes.children(self.pid) if processes.alive(pid)]

    def note_family(self) -> None:
        """Remember who is below the server now."""
        for pid in processes.descendants(self.pid):
            self._family.setdefault(pid, processes.born(pid))

    def left_behind(self) -> list[int]:
        """Those who were below the server once and still live."""
        return [
            pid for pid, born in self._family.items() if processes.alive(pid) and processes.born(pid) == born
        ]

    def log(self) -> str:
        """What it wrote so far."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def end(self) -> None:
        """Kill what is left of it, each by its pid, and release everything."""
        self.break_pipe()
        self.note_family()
        if self._process.poll() is None:
            self._process.kill()
        for pid in self.left_behind():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        self._log.close()


def reports_in(log: str) -> list[dict[str, Any]]:
    """The server's own reports of its stops, from JSON lines."""
    found = []
    for line in log.splitlines():
        if line.startswith("{") and '"stopped"' in line:
            with contextlib.suppress(ValueError):
                record = json.loads(line)
                if record.get("event") == "stopped":
                    found.append(record)
    return found
