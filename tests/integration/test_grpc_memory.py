"""What clients can make the real server keep in memory."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest
from grpc_rig import PROTO, grpc_server
from rig import memory_kib

from twisted_rr.http2.blocks import encode
from twisted_rr.http2.frames import frame
from twisted_rr.plugins.grpc.framing import framed

pytestmark = pytest.mark.integration

STREAMS = 10
SIZE = 60_000
MESSAGES = 4000
"""Of each stream: 240 MB, if the server took all that its worker gives."""

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
GREETING = PREFACE + frame(4, 0, 0, b"\0\4\x7f\xff\xff\xff") + frame(8, 0, 0, b"\x7f\xff\0\0")
HEAD = encode(
    [
        (b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/rr.interop.Interop/StreamingOutputCall"),
        (b":authority", b"test"), (b"content-type", b"application/grpc"), (b"te", b"trailers"),
    ]
)  # fmt: skip


def varint(number: int) -> bytes:
    octets = bytearray()
    while number > 127:
        octets.append(number & 127 | 128)
        number >>= 7
    return bytes((*octets, number))


def asking() -> bytes:
    """A request for all those messages: `sizes`, packed."""
    sizes = varint(SIZE) * MESSAGES
    return framed(b"\x32" + varint(len(sizes)) + sizes)


def test_a_client_that_never_reads_holds_little_memory(tmp_path: Path) -> None:
    with grpc_server(tmp_path, proto=[PROTO], workers=1) as server:
        pids = [server.pid, *server.workers()]
        before = [memory_kib(pid) for pid in pids]
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(GREETING)
            content = asking()
            for number in range(1, 2 * STREAMS, 2):
                client.sendall(frame(1, 4, number, HEAD) + frame(0, 1, number, content))
            time.sleep(3)
            # A window of the relay and the queue of the session for each stream, and what malloc keeps of it.
            grown = [memory_kib(pid) - was for pid, was in zip(pids, before, strict=True)]
            assert server.status("/ready")[0] == 200
            client.settimeout(10)
            came = 0
            while came < 1_000_000:  # there was much to be read
                came += len(client.recv(65536))
        print(f"grown by {grown} KiB")
        assert max(grown) < 16384, grown
