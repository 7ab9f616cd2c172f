"""gRPC clients with a ledger: unary calls on fresh and on kept connections, long calls, and those that misbehave (F22 to F24).

What a health service tells is `grpc_health`'s subject.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import Iterator
from typing import Any

import attrs

from twisted_rr.draintest import records
from twisted_rr.draintest.clients import Clients
from twisted_rr.draintest.h2 import DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, WIDE, Connection, Stream
from twisted_rr.draintest.records import Channel, Exchange
from twisted_rr.draintest.wire import Address

HEALTH = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"
REFLECTION = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"

_LIST_SERVICES = b"\x3a\x00"

# What a status means to a ledger whose judges think in HTTP. Any other is the application's own answer.
_AS_HTTP = {UNAVAILABLE: 503, INTERNAL: 502, DEADLINE_EXCEEDED: 504}

# Streams that a client resets in one go, that one who reads nothing begins, and that one who crosses a GOAWAY has open.
_STORM, _DEAF, _MANY = 100, 20, 99


@attrs.frozen(kw_only=True)
class Methods:
    """What may be called, as ``/package.Service/Method``; None: there is nothing. Messages are empty.

    :ivar unary: takes one message and answers one; without it the load consists of health checks.
    :ivar stream: takes messages as long as the client likes.
    """

    unary: str | None = None
    stream: str | None = None


class GrpcClients(Clients):
    """Clients of one gRPC address.

    :param channels: where every connection is written down.
    :param tls: how they speak TLS, None for in the clear.
    """

    name = "grpc"
    closing = "grpc closing"

    def __init__(
        self,
        lines: list[Exchange],
        channels: list[Channel],
        address: Address,
        methods: Methods,
        timeout: float,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(lines, address, timeout)
        self.methods = methods
        self._tls = tls
        self._channels = channels

    # ---------------------------------------------------------------------------------- load

    async def _keeping(self, pause: float, number: int) -> None:
        """Calls on one connection until it is told to go, then on another."""
        await asyncio.sleep(pause * number / 10)
        while self.active:
            line = self._line("grpc kept")
            connection = await self._open(line)
            if connection is not None:
                with contextlib.closing(connection):
                    await self.ask(connection, line)
                    await asyncio.sleep(pause)
                    while self.active and not connection.leaving:
                        await self.ask(connection, self._line("grpc kept", reused=True))
                        await asyncio.sleep(pause)
            else:
                await asyncio.sleep(pause)

    async def once(self, client: str) -> Exchange:
        """One call on a connection of its own."""
        line = self._line(client)
        connection = await self._open(line)
        if connection is not None:
            with contextlib.closing(connection):
                await self.ask(connection, line)
        return line

    def long(self, seconds: float, client: str = "grpc long", by_plan: bool = False) -> asyncio.Task[Any]:
        """A call that stays in flight for *seconds*: its message comes late."""
        return self.spawn(self._long(seconds, client, by_plan))

    async def _long(self, seconds: float, client: str, by_plan: bool) -> None:
        line = self._line(client, by_plan=by_plan)
        connection = await self._open(line)
        if connection is not None:
            with contextlib.closing(connection):
                await self._slow(connection, line, seconds)

    async def _slow(self, connection: Connection, line: Exchange, seconds: float) -> None:
        stream = self._begin(connection, line, None)
        waiting = asyncio.ensure_future(self._end(connection, line, stream))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await stream.over()
        if not stream.done:
            connection.send(stream, b"")
        await waiting

    # -------------------------------------------------------------------------------- one call

    @property
    def _method(self) -> str:
        return self.methods.unary or HEALTH

    def _line(self, client: str, reused: bool = False, by_plan: bool = False) -> Exchange:
        return self.ledger.open(client, reused, by_plan, counted=self.methods.unary is not None)

    async def _open(
        self,
        line: Exchange,
        window: int = WIDE,
        acknowledge: bool = True,
        by_plan: bool = False,
    ) -> Connection | None:
        record = Channel(address=self.address, client=line.client, opened=line.opened, by_plan=by_plan)
        with self.ledger.judged(line):
            connection = await Connection.open(
                self.address, record, self.timeout, window, acknowledge, self._tls
            )
            self._channels.append(record)
            return connection
        return None

    def _begin(
        self, connection: Connection, line: Exchange, message: bytes | None, method: str = ""
    ) -> Stream:
        stream = connection.call(method or self._method, message)
        connection.record.streams[stream.number] = line
        line.asked = time.monotonic()
        return stream

    async def ask(self, connection: Connection, line: Exchange) -> None:
        """Call, and take the answer into the line."""
        await self._end(connection, line, self._begin(connection, line, b""))

    async def _end(self, connection: Connection, line: Exchange, stream: Stream) -> None:
        """Wait for the end of a call, and write it into its line."""
        with self.ledger.judged(line):
            async with asyncio.timeout(self.timeout):
                await stream.over()
        line.began = stream.began
        if stream.status is not None:
            line.status = _AS_HTTP.get(stream.status, 200)
        self.ledger.close(line, _outcome(connection, stream))

    # ------------------------------------------------------------------------- unusual clients

    async def crossing(self, seconds: float) -> None:
        """F22: many streams, one more that crosses the first GOAWAY, and one that comes after the second."""
        line = self._line("grpc crossing")
        connection = await self._open(line)
        if connection is None:
            return
        tasks: list[asyncio.Task[None]] = []

        def told(count: int) -> None:
            late = self._line("grpc crossing" if count == 1 else "grpc too late", True, count > 1)
            stream = self._begin(connection, late, b"")
            tasks.append(self.spawn(self._end(connection, late, stream)))

        with contextlib.closing(connection):
            connection.record.on_goaway = told
            tasks.append(self.spawn(self._slow(connection, line, seconds)))
            for _ in range(_MANY - 1):
                another = self._line("grpc crossing", reused=True)
                tasks.append(self.spawn(self._slow(connection, another, seconds)))
            while not connection.ended and any(not task.done() for task in list(tasks)):
                await asyncio.sleep(0.02)

    async def ignoring(self, acknowledge: bool) -> None:
        """F23: begins call after call on one connection, whatever the server says, until it is closed."""
        line = self._line("grpc ignoring", by_plan=True)
        connection = await self._open(line, acknowledge=acknowledge, by_plan=True)
        if connection is None:
            return
        with contextlib.closing(connection):
            while self.active and not connection.ended:
                await self.ask(connection, line)
                await asyncio.sleep(0.02)
                line = self._line("grpc ignoring", reused=True, by_plan=True)
            self.ledger.close(line, records.LEFT)

    async def not_reading(self) -> None:
        """F23: a window of nothing: its answer can never be sent."""
        line = self._line("grpc not reading", by_plan=True)
        connection = await self._open(line, window=0, by_plan=True)
        if connection is not None:
            with contextlib.closing(connection):
                await self.ask(connection, line)

    async def deaf(self) -> None:
        """F23: does not read from its socket either, not even what it is told at the end."""
        line = self._line("grpc deaf", by_plan=True)
        connection = await self._open(line, by_plan=True)
        if connection is not None:
            with contextlib.closing(connection):
                connection.pause()
                line.calls = _DEAF
                for _ in range(_DEAF):
                    connection.call(self._method, b"")
                while self.active:
                    await asyncio.sleep(0.1)
                self.ledger.close(line, records.LEFT)

    async def storm(self) -> None:
        """F23: begins calls and resets them at once, again and again; a server may lose its patience."""
        while self.active:
            line = self._line("grpc storm", by_plan=True)
            connection = await self._open(line, by_plan=True)
            if connection is None:
                return
            with contextlib.closing(connection):
                while self.active and not connection.ended:
                    line.calls = _STORM
                    for _ in range(_STORM):
                        connection.cancel(connection.call(self._method, None))
                    await asyncio.sleep(0.1)
                    self.ledger.close(line, records.LEFT)
                    line = self._line("grpc storm", reused=True, by_plan=True)
                self.ledger.close(line, records.LEFT)

    async def endless(self, method: str) -> None:
        """F24: a call whose messages never end, or one that only listens."""
        own = method == self.methods.stream
        line = self.ledger.open("grpc endless", by_plan=True, counted=own)
        connection = await self._open(line)
        if connection is not None:
            with contextlib.closing(connection):
                stream = self._begin(connection, line, None, method)
                connection.send(stream, _LIST_SERVICES if method == REFLECTION else b"", end=method == WATCH)
                await self._end(connection, line, stream)


def _outcome(connection: Connection, stream: Stream) -> str:
    if stream.status is not None:
        return records.COMPLETE
    if stream.refused:
        return records.REFUSED
    if stream.began is not None:
        return records.CUT
    if stream.reset is not None or connection.how == "reset":
        return records.RESET
    return records.EMPTY


def endings(channels: list[Channel], method_lines: list[Exchange]) -> Iterator[tuple[Exchange, int | None]]:
    """The status that each of the lines ended with, as gRPC has it."""
    wanted = {id(line) for line in method_lines}
    for channel in channels:
        for _, kind, number, value in channel.said:
            line = channel.streams.get(number) if kind == "end" else None
            if line is not None and id(line) in wanted:
                yield line, value
