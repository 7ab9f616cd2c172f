"""Endless messages without a byte, against the real server: who does not take them holds back who sends them."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from grpc_rig import grpc_server
from rig import memory_kib, until

from twisted_rr.http2.blocks import encode
from twisted_rr.http2.frames import frame
from twisted_rr.plugins.grpc.framing import framed

pytestmark = pytest.mark.integration

COUNT = 700_000
"""More than anything between the client and the handler holds."""
MOST = 524_288 + 16_384 + 1000
"""Those that a worker gives and nobody takes: the window of the relay, its own queue, and how coarse its notes are."""
KIB = 16384

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST, SETTINGS, PING, GOAWAY, WINDOW = 0, 1, 3, 4, 6, 7, 8


class Client:
    """A connection with one call on stream 1, which takes and sends no more than it is told to."""

    def __init__(self, connection: socket.socket, method: str) -> None:
        self.connection = connection
        self.content = bytearray()
        self.ended = False
        self.windows = {0: 65535, 1: 65535}
        self._rest = b""
        fields = [
            (b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/test.Empties/" + method.encode()),
            (b":authority", b"test"), (b"content-type", b"application/grpc"), (b"te", b"trailers"),
        ]  # fmt: skip
        self.connection.sendall(PREFACE + frame(SETTINGS, 0, 0, b"") + frame(HEADERS, 4, 1, encode(fields)))

    def send(self, content: bytes, end: bool = False) -> bytes:
        """Send as much of *content* as the windows allow; what is left of it."""
        while content:
            size = min(len(content), 16384, *self.windows.values())
            if not size:
                return content
            piece, content = content[:size], content[size:]
            for number in self.windows:
                self.windows[number] -= size
            self.connection.sendall(frame(DATA, 1 if end and not content else 0, 1, piece))
        return content

    def read(self, seconds: float) -> bool:
        """Take in what comes within so many seconds; whether anything came."""
        self.connection.settimeout(seconds)
        try:
            data = self.connection.recv(262144)
        except TimeoutError:
            return False
        assert data, "the server closed the connection"
        data = self._rest + data
        while len(data) >= 9 and len(data) >= 9 + int.from_bytes(data[:3]):
            size = int.from_bytes(data[:3])
            self._frame(data[3], data[4], int.from_bytes(data[5:9]), data[9 : 9 + size])
            data = data[9 + size :]
        self._rest = data
        return True

    def _frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        assert kind not in (RST, GOAWAY), payload
        if kind == DATA:
            self.content += payload
        elif kind == WINDOW:
            self.windows[number] += int.from_bytes(payload)
        elif kind == PING and not flags & 1:
            self.connection.sendall(frame(PING, 1, 0, payload))
        elif kind == SETTINGS and not flags & 1:
            settings = {
                payload[at + 1]: int.from_bytes(payload[at + 2 : at + 6]) for at in range(0, len(payload), 6)
            }
            self.windows[1] += settings.get(4, 65535) - 65535
            self.connection.sendall(frame(SETTINGS, 1, 0, b""))
        if kind in (DATA, HEADERS) and flags & 1:
            self.ended = True

    def open_windows(self) -> None:
        more = (0x7FFFFFFF - 65535).to_bytes(4)
        self.connection.sendall(frame(WINDOW, 0, 0, more) + frame(WINDOW, 0, 1, more))


def messages() -> bytes:
    return b"".join(framed(b"" if number % 1000 else b"%d" % number) for number in range(COUNT))


class Rig:
    def __init__(self, folder: Path, server: object) -> None:
        self.server = server
        self.go = folder / "go"
        self.notes = folder / "notes"
        self.pids = [server.pid, *server.workers()]  # type: ignore[attr-defined]
        self._before = [memory_kib(pid) for pid in self.pids]

    def given(self) -> int:
        """How many the handler has given, once it gives no more."""
        seen = [-1]

        def stands() -> bool:
            seen.append(int(self.notes.read_text() or 0) if self.notes.exists() else 0)
            return seen[-1] == seen[-2] > 0

        until(stands, 30, 0.5, "the handler gives more and more")
        return seen[-1]

    def grown(self) -> list[int]:
        """KiB that server and worker have grown by."""
        return [memory_kib(pid) - was for pid, was in zip(self.pids, self._before, strict=True)]


@contextlib.contextmanager
def rig(folder: Path, kind: str) -> Iterator[Rig]:
    env = {"NOTES": str(folder / "notes"), "GO": str(folder / "go")}
    with grpc_server(folder, kind, worker="empties.py", workers=1, env=env) as server:
        yield Rig(folder, server)


@pytest.mark.parametrize("kind", ("threads", "async"))
def test_a_client_that_takes_no_empty_messages_makes_the_handler_wait(tmp_path: Path, kind: str) -> None:
    with rig(tmp_path, kind) as world, socket.create_connection(("127.0.0.1", world.server.port)) as socket_:
        client = Client(socket_, "Give")
        client.send(framed(b"%d" % COUNT), end=True)
        assert world.given() <= MOST
        grown = world.grown()
        assert max(grown) < KIB, grown
        client.open_windows()
        while not client.ended:
            assert client.read(30)
        assert client.content == messages()


@pytest.mark.parametrize("kind", ("threads", "async"))
def test_a_handler_that_takes_no_empty_messages_makes_the_client_wait(tmp_path: Path, kind: str) -> None:
    with rig(tmp_path, kind) as world, socket.create_connection(("127.0.0.1", world.server.port)) as socket_:
        client = Client(socket_, "Take")
        content = messages()
        left = content
        while client.read(1.0):  # as long as windows are opened
            left = client.send(left, end=True)
        assert left, "the client was never held"
        grown = world.grown()
        assert max(grown) < KIB, grown
        world.go.touch()
        until_ = time.monotonic() + 60
        while not client.ended:
            assert time.monotonic() < until_
            assert client.read(30)
            left = client.send(left, end=True)
        assert client.content == framed(b"%d" % COUNT)
