"""A real server with its admin socket in a folder of the test's own, and the verbs of the command line for it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

from rig import BIN, RunningServer, config_for, free_port

# The path of a socket has room for 107 bytes, and the folders of tests have long names.
_FOLDERS = tempfile.TemporaryDirectory(prefix="rr-")


def runtime(folder: Path) -> dict[str, str]:
    """The environment in which the sockets of *folder*'s server are made and found, and no others."""
    where = Path(_FOLDERS.name) / f"{zlib.crc32(str(folder).encode()):x}"
    where.mkdir(mode=0o700, exist_ok=True)
    return {"RUNTIME_DIRECTORY": str(where), "XDG_RUNTIME_DIR": "", "TMPDIR": str(where)}


def start(
    folder: Path, app: str = "asgi_app:app", *, command: list[str] | None = None, **sections
) -> RunningServer:
    """A server of the configuration in *folder*; not waited for."""
    port, status_port = free_port(), free_port()
    config = config_for(app, port=port, status_port=status_port, **sections)
    return RunningServer(
        folder, config, port=port, status_port=status_port, env=runtime(folder), command=command
    )


@contextlib.contextmanager
def administered(folder: Path, app: str = "asgi_app:app", **sections) -> Iterator[RunningServer]:
    """A ready server; stopped, or killed, at the end."""
    server = start(folder, app, **sections)
    try:
        yield server.wait_ready()
        server.stop()
    finally:
        server.kill()


def socket_of(server: RunningServer) -> str:
    """The path of its admin socket, by the log."""
    (told,) = [one for one in server.records() if one["logger"] == "admin" and "socket" in one][-1:]
    return str(told["socket"])


def verb(
    server: RunningServer, *arguments: str, env: dict[str, str] | None = None, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """`twisted-rr ARGUMENTS -c ITS-FILE`, in any folder."""
    return subprocess.run(
        [str(BIN / "twisted-rr"), arguments[0], "-c", str(server.file), *arguments[1:]],
        env={**os.environ, **runtime(server.file.parent), **(env or {})},
        cwd="/",
        text=True,
        capture_output=True,
        timeout=timeout,
    )


def ask(server: RunningServer, method: str, target: str) -> tuple[int, dict]:
    """Status and body of one request to the admin socket."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(30)
    client.connect(socket_of(server))
    client.sendall(f"{method} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
    data = b""
    with client:
        while piece := client.recv(65536):
            data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def report_of(server: RunningServer) -> dict:
    """The record of the stop in its log."""
    (told,) = [one for one in server.records() if one.get("event") == "stopped"]
    return told


def in_flight(server: RunningServer, count: int, seconds: float = 10.0) -> None:
    """Wait until *count* calls are in flight, with a worker each."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        calls = ask(server, "GET", "/drain")[1]["calls"]
        if len(calls) == count and all(call["pid"] for call in calls):
            return
        time.sleep(0.02)
    raise AssertionError(f"never {count} in flight")
