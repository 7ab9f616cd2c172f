"""Clients that keep a ledger: each request sent is accounted for by exactly one outcome."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections import Counter
from dataclasses import dataclass, field


class Broken(Exception):
    """An answer that is not one complete answer."""


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """One complete HTTP/1.1 answer; Broken when it is cut."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").split("\r\n")[:-2]
        status = int(line.split(" ")[1])
        headers = {name.lower(): value.strip() for name, _, value in (item.partition(":") for item in fields)}
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while True:
                size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
                piece = await reader.readexactly(size + 2)
                body += piece[:-2]
                if not size:
                    return status, headers, body
        if "content-length" in headers:
            return status, headers, await reader.readexactly(int(headers["content-length"]))
        return status, headers, await reader.read()
    except (asyncio.IncompleteReadError, ConnectionError, ValueError, IndexError) as error:
        raise Broken(repr(error)) from error


@dataclass
class Ledger:
    """What the clients saw."""

    sent: int = 0
    statuses: Counter = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


async def steady(
    port: int, rate: float, seconds: float, target, ledger: Ledger, connections: int = 200
) -> None:
    """Open-loop load: *rate* requests a second, each for ``target(number)``, on keep-alive connections.

    Every answer must be complete; a 200 must end with the path that was asked for.
    """
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    tasks = set()
    begin = time.monotonic()

    async def one(number: int) -> None:
        reader, writer = idle.pop() if idle else await asyncio.open_connection("127.0.0.1", port)
        path = target(number)
        ledger.sent += 1
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
            status, headers, body = await read_answer(reader)
        except (Broken, ConnectionError) as error:
            ledger.broken.append(f"{path}: {error!r}")
            writer.close()
            return
        ledger.statuses[status] += 1
        if status == 200 and not body.endswith(path.split("?")[0].encode()):
            ledger.wrong.append(f"{path}: {body[:60]!r}")
        if headers.get("connection") == "close":
            writer.close()
        else:
            idle.append((reader, writer))

    total = int(rate * seconds)
    for number in range(total):
        delay = begin + number / rate - time.monotonic()
        if delay > 0:
            await asyncio.sleep(delay)
        task = asyncio.ensure_future(one(number))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    if tasks:
        await asyncio.wait(tasks, timeout=30)
    if tasks:
        ledger.broken.append(f"{len(tasks)} requests never ended")
    for _, writer in idle:
        writer.close()


@dataclass
class Progress:
    """Bytes moved by all clients, to find a second without any."""

    moved: int = 0
    stalls: int = 0
    transfers: int = 0
    errors: list[str] = field(default_factory=list)

    async def watch(self, seconds: float) -> None:
        last = -1
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.stalls += self.moved == last
            last = self.moved
            await asyncio.sleep(1.0)


async def upload(port: int, size: int, until: float, progress: Progress) -> None:
    """Upload a body of *size* again and again; the worker's size and SHA-256 must be ours."""
    body = bytes(i * 7 % 256 for i in range(997)) * (size // 997 + 1)
    body = body[:size]
    expected = f"{size} {hashlib.sha256(body).hexdigest()}".encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.closing(writer):
        while not progress.errors:
            writer.write(b"POST /digest HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % size)
            for at in range(0, size, 65536):
                writer.write(body[at : at + 65536])
                await writer.drain()
                progress.moved += min(65536, size - at)
            status, _, answer = await read_answer(reader)
            if (status, answer) != (200, expected):
                progress.errors.append(f"{status} {answer[:100]!r}")
            progress.transfers += 1
            if time.monotonic() >= until:
                return


async def download(port: int, size: int, until: float, progress: Progress) -> None:
    """Download *size* bytes again and again and check each of them."""
    block = bytes(range(256)) * 256
    whole = (block * (size // len(block) + 1))[:size]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.closing(writer):
        while True:
            writer.write(b"GET /big?size=%d HTTP/1.1\r\nHost: test\r\n\r\n" % size)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                progress.errors.append(repr(head[:200]))
                return
            at = 0
            while at < size:
                piece = await reader.read(min(65536, size - at))
                if not piece or piece != whole[at : at + len(piece)]:
                    progress.errors.append(f"byte {at} differs or the answer was cut")
                    return
                at += len(piece)
                progress.moved += len(piece)
            progress.transfers += 1
            if time.monotonic() >= until:
                return


async def transfers(port: int, kind, size: int, clients: int, seconds: float) -> Progress:
    """Run *clients* of *kind* side by side for *seconds* and watch that every second moves bytes."""
    progress = Progress()
    until = time.monotonic() + seconds
    watch = asyncio.ensure_future(progress.watch(seconds))
    results = await asyncio.wait_for(
        asyncio.gather(*(kind(port, size, until, progress) for _ in range(clients)), return_exceptions=True),
        seconds + 30 + size / 5_000_000,
    )
    progress.errors += [repr(result) for result in results if isinstance(result, BaseException)]
    await watch
    return progress
