"""The relay on an event loop: what the kernel takes, what it leaves, and when it is over."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from twisted_rr.wire.buffer import without
from twisted_rr.worker.descriptors import Relay
from twisted_rr.worker.loop import RelayLoop


class End:
    """Gives *pieces* once each, lists of bytes; notes what it is fed."""

    def __init__(self, pieces: list[list[bytes]]) -> None:
        self.pieces = pieces
        self.heard: list[bytes] = []
        self.ended = False

    def take_parts(self) -> list[bytes]:
        return self.pieces.pop(0) if self.pieces else []

    def feed(self, data: bytes) -> None:
        self.heard.append(data)

    def eof(self) -> None:
        self.ended = True


class Owner:
    def __init__(self) -> None:
        self.flushes = 0
        self.reasons: list[str] = []

    def flushed(self) -> None:
        self.flushes += 1

    def lost(self, reason: str) -> None:
        self.reasons.append(reason)


def run(end: End, test: Callable[[RelayLoop, socket.socket, Owner], Coroutine[Any, Any, None]]) -> Owner:
    """*test* with a relay of *end* and the server's side of it."""
    owner = Owner()

    async def scene() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.setblocking(False)
            relay = RelayLoop(Relay(ours.fileno(), ours.fileno()), asyncio.get_running_loop(), owner)
            relay.start(end, b"")
            await test(relay, theirs, owner)
            relay.close()

    asyncio.run(asyncio.wait_for(scene(), 20))
    return owner


async def everything(sock: socket.socket, size: int) -> bytes:
    loop = asyncio.get_running_loop()
    got = bytearray()
    while len(got) < size:
        got += await loop.sock_recv(sock, 65536)
    return bytes(got)


def test_large_pieces_arrive_whole_and_in_order_through_a_full_socket() -> None:
    rng = random.Random(7)
    pieces = [[rng.randbytes(rng.choice((0, 1, 20, 300000))) for _ in range(5)] for _ in range(20)]
    sent = b"".join(b"".join(parts) for parts in pieces)

    async def test(relay: RelayLoop, theirs: socket.socket, owner: Owner) -> None:
        relay.schedule()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert owner.flushes == 0  # the kernel cannot hold it all
        assert await everything(theirs, len(sent)) == sent
        while not owner.flushes:
            await asyncio.sleep(0)

    run(End([list(parts) for parts in pieces]), test)


def test_small_pieces_of_a_turn_are_flushed_once() -> None:
    async def test(relay: RelayLoop, theirs: socket.socket, owner: Owner) -> None:
        relay.schedule()
        relay.schedule()
        assert await everything(theirs, 5) == b"abcde"
        assert owner.flushes == 1

    run(End([[b"ab", b"c"], [b"de"]]), test)


def test_what_came_is_read_on_in_larger_pieces_while_reads_fill_up() -> None:
    async def test(relay: RelayLoop, theirs: socket.socket, owner: Owner) -> None:
        sent = theirs.send(bytes(180000))
        while sum(map(len, end.heard)) < sent:
            await asyncio.sleep(0)
        assert [len(data) for data in end.heard[:2]] == [65536, sent - 65536]

    end = End([])
    run(end, test)


def test_a_server_that_is_gone_is_told_once_while_output_waits() -> None:
    async def test(relay: RelayLoop, theirs: socket.socket, owner: Owner) -> None:
        relay.schedule()
        await asyncio.sleep(0)
        theirs.close()
        while not owner.reasons:
            await asyncio.sleep(0)
        assert relay.over
        await asyncio.sleep(0)

    assert run(End([[bytes(3000000)]]), test).reasons == [""]


@pytest.mark.parametrize(
    ("count", "left"), [(0, b"abcdef"), (1, b"bcdef"), (2, b"cdef"), (3, b"def"), (5, b"f"), (6, b"")]
)
def test_what_the_kernel_took_is_left_out(count: int, left: bytes) -> None:
    parts = without([b"ab", b"", memoryview(b"cde"), b"f"], count)
    assert b"".join(parts) == left
    assert not left or parts[0]
