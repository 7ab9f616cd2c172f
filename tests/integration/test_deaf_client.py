"""One client that asks for a gigabyte and never reads it: what it costs the others, and the server's memory."""

import asyncio
import socket
import time

import pytest
from load import Ledger
from rig import alive, memory_kib, serving

CLIENTS, ROUNDS, SECONDS = 99, 3, 1.0


async def steady_one(port: int, ledger: Ledger) -> None:
    """Fifty requests on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(50):
        writer.write(b"GET /hello HTTP/1.1\r\nHost: test\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head or await reader.readexactly(5) != b"hello":
            ledger.broken.append(repr(head))
            break
        ledger.sent += 1
    writer.close()


async def answered(port: int) -> int:
    """How many requests are answered in a while, of clients that ask as fast as they can."""
    ledger = Ledger()
    ends = time.monotonic() + SECONDS

    async def client():
        while time.monotonic() < ends:
            await steady_one(port, ledger)

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    assert not ledger.broken
    return ledger.sent


def deaf_client(port: int) -> socket.socket:
    """Asks, and never reads."""
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.connect(("127.0.0.1", port))
    deaf.sendall(b"GET /big?size=%d HTTP/1.1\r\nHost: test\r\n\r\n" % (1 << 30))
    return deaf


@pytest.mark.slow
@pytest.mark.proves("F12:running")
def test_one_client_that_never_reads_holds_back_nobody(tmp_path):
    with serving(tmp_path, workers=1) as server:
        asyncio.run(answered(server.port))
        before = memory_kib(server.pid)
        alone, beside = [], []
        # In turns, so that a busy neighbour of the machine slows both.
        for _ in range(ROUNDS):
            alone.append(asyncio.run(answered(server.port)))
            with deaf_client(server.port):
                time.sleep(0.3)
                beside.append(asyncio.run(answered(server.port)))
        grown = memory_kib(server.pid) - before
        assert max(beside) > max(alone) * 0.7, (alone, beside)
        assert grown < 3 * 1024, f"{grown} KiB"
        assert all(alive(pid) for pid in server.workers())
