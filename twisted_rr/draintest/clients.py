"""HTTP/1.1 clients with a ledger: every request sent is accounted for by exactly one outcome. gRPC's are in `grpc_clients`.

The ordinary load lives in `Load`; clients that misbehave, each a coroutine, are what the faults F12 to F20 use.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

import attrs

from twisted_rr.draintest import records
from twisted_rr.draintest.records import Exchange
from twisted_rr.draintest.wire import Address, Answer, Ended, Malformed, Wire, request


@attrs.frozen(kw_only=True)
class Paths:
    """Where the application does what the rig needs; None: it cannot.

    :ivar plain: any quick answer.
    :ivar long: answers after ``{seconds}``.
    :ivar big: an answer of ``{size}`` bytes.
    :ivar stream: events without end.
    """

    plain: str = "/"
    long: str | None = None
    big: str | None = None
    stream: str | None = None


class Ledger:
    """Opens lines, and fills them in as clients tell."""

    def __init__(self, lines: list[Exchange], protocol: str) -> None:
        self._lines = lines
        self._protocol = protocol
        self._numbers: Iterator[int] = itertools.count(len(lines))

    def open(
        self, client: str, reused: bool = False, by_plan: bool = False, counted: bool = True
    ) -> Exchange:
        """A new line."""
        line = Exchange(
            number=next(self._numbers),
            protocol=self._protocol,
            client=client,
            opened=time.monotonic(),
            reused=reused,
            by_plan=by_plan,
            counted=counted,
        )
        self._lines.append(line)
        return line

    def close(self, line: Exchange, outcome: str) -> None:
        """The line's outcome; the first counts."""
        if line.outcome == records.PENDING:
            line.outcome = outcome
            line.ended = time.monotonic()

    def judged(self, line: Exchange) -> _Judged:
        """Translates what ends the block early into the line's outcome."""
        return _Judged(self, line)


class _Judged:
    def __init__(self, ledger: Ledger, line: Exchange) -> None:
        self._ledger = ledger
        self._line = line

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if error is None:
            return False
        outcome = _outcome_of(self._line, error)
        if outcome:
            self._ledger.close(self._line, outcome)
        return bool(outcome) and not isinstance(error, asyncio.CancelledError)


def _outcome_of(line: Exchange, error: BaseException) -> str:
    """Empty for what is a mistake of ours."""
    if isinstance(error, Ended):
        return _outcome(line, error.reset)
    # The order counts: TimeoutError and ConnectionRefusedError are kinds of OSError.
    kinds: tuple[tuple[type[BaseException], str], ...] = (
        (ConnectionRefusedError, records.REFUSED),
        (TimeoutError, records.HUNG),
        (Malformed, records.CUT),
        (OSError, records.RESET),
        (asyncio.CancelledError, records.LEFT),
    )
    return next((outcome for kind, outcome in kinds if isinstance(error, kind)), "")


def _outcome(line: Exchange, reset: bool) -> str:
    if reset:
        return records.RESET
    return records.EMPTY if line.began is None else records.CUT


class Clients:
    """What clients of every protocol have: a ledger, an address, a load, and tasks that are ended together.

    :cvar name: of the protocol.
    :cvar closing: what the ledger calls a client with a connection of its own.
    """

    name = ""
    closing = "closing"

    def __init__(self, lines: list[Exchange], address: Address, timeout: float) -> None:
        self.ledger = Ledger(lines, self.name)
        self.address = address
        self.timeout = timeout
        self.active = True
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, client: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a client beside the others."""
        task = asyncio.ensure_future(client)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def load(self, rate: float) -> None:
        """The ordinary load: half of *rate* on connections of their own, half on kept ones."""
        self.spawn(self._closing(rate / 2))
        kept = max(2, int(rate / 20))
        for number in range(kept):
            self.spawn(self._keeping(kept / (rate / 2), number))

    async def _closing(self, rate: float) -> None:
        while self.active:
            self.spawn(self.once(self.closing))
            await asyncio.sleep(1 / rate)

    async def once(self, client: str) -> Exchange:
        """One request or call on a connection of its own."""
        raise NotImplementedError

    async def _keeping(self, pause: float, number: int) -> None:
        """Ask on a kept connection every *pause* seconds, on another once the server has ended it."""
        raise NotImplementedError

    async def finish(self, seconds: float) -> None:
        """Begin nothing new, give what is open *seconds*, then leave."""
        self.active = False
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        left = list(self._tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


class HttpClients(Clients):
    """Clients of one HTTP/1.1 address."""

    name = "http"

    def __init__(self, lines: list[Exchange], address: Address, paths: Paths, timeout: float) -> None:
        super().__init__(lines, address, timeout)
        self.paths = paths
        self._host = f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"

    async def _keeping(self, pause: float, number: int) -> None:
        """Asks on one connection until the server closes it, then on another."""
        await asyncio.sleep(pause * number / 10)
        while self.active:
            wire: Wire | None = None
            try:
                wire = await self._series(pause)
            finally:
                if wire is not None:
                    wire.close()
            await asyncio.sleep(pause)

    async def _series(self, pause: float) -> Wire | None:
        line = self.ledger.open("keep-alive")
        wire = await self._open(line)
        if wire is None:
            return None
        answer = await self.ask(wire, line, self.paths.plain)
        while answer is not None and self.active:
            if answer.close:
                await self._part(wire, line)
                break
            await asyncio.sleep(pause)
            if wire.eof:
                break
            line = self.ledger.open("keep-alive", reused=True)
            answer = await self.ask(wire, line, self.paths.plain)
        return wire

    # ------------------------------------------------------------- one request

    async def _open(self, line: Exchange, buffer: int = 0) -> Wire | None:
        with self.ledger.judged(line):
            return await Wire.open(self.address, self.timeout, buffer)
        return None

    async def ask(
        self, wire: Wire, line: Exchange, path: str, method: str = "GET", body: bytes = b""
    ) -> Answer | None:
        """Send a request and read its answer into the line; None when there was no complete one."""
        wire.write(request(method, path, self._host, {}, body))
        line.asked = time.monotonic()
        return await self.read(wire, line)

    async def read(self, wire: Wire, line: Exchange) -> Answer | None:
        """Read the answer into the line."""
        with self.ledger.judged(line):
            async with asyncio.timeout(self.timeout):
                line.began = time.monotonic() if await wire.first() else None
                answer = await wire.answer()
            line.status, line.close = answer.status, answer.close
            self.ledger.close(line, records.COMPLETE)
            return answer
        return None

    async def _part(self, wire: Wire, line: Exchange) -> None:
        """After an answer that said close: the server has to."""
        try:
            async with asyncio.timeout(records.PARTING):
                line.parting = await wire.ended()
        except TimeoutError:
            line.parting = "open"

    async def once(
        self,
        client: str,
        path: str | None = None,
        method: str = "GET",
        body: bytes = b"",
        by_plan: bool = False,
    ) -> Exchange:
        """One request on a connection of its own."""
        line = self.ledger.open(client, by_plan=by_plan)
        wire = await self._open(line)
        if wire is not None:
            with contextlib.closing(wire):
                answer = await self.ask(wire, line, path or self.paths.plain, method, body)
                if answer is not None and answer.close:
                    await self._part(wire, line)
        return line

    def long(self, seconds: float, client: str = "long", by_plan: bool = False) -> asyncio.Task[Any]:
        """A request that stays in flight for *seconds*: by the application, else by a body that comes slowly."""
        if self.paths.long is not None:
            path = self.paths.long.format(seconds=f"{seconds:.3f}")
            return self.spawn(self.once(client, path, by_plan=by_plan))
        return self.spawn(self.slow_body(seconds, client, by_plan))

    # --------------------------------------------------------- unusual clients

    async def slow_body(self, seconds: float, client: str = "slow body", by_plan: bool = False) -> None:
        """F13: a body of one byte now and then."""
        line = self.ledger.open(client, by_plan=by_plan)
        wire = await self._open(line)
        if wire is None:
            return
        size = 20
        with contextlib.closing(wire):
            wire.write(request("POST", self.paths.plain, self._host, {"Content-Length": str(size)}))
            line.asked = time.monotonic()
            feeder = asyncio.ensure_future(self._feed(wire, size, seconds))
            answer = await self.read(wire, line)
            feeder.cancel()
            if answer is not None and answer.close:
                await self._part(wire, line)

    async def _feed(self, wire: Wire, size: int, seconds: float) -> None:
        for _ in range(size):
            await asyncio.sleep(seconds / size)
            if wire.eof:
                return
            wire.write(b"x")

    async def slow_head(self) -> None:
        """F13: a head that never gets complete; the server may close it when it likes."""
        line = self.ledger.open("slow head", by_plan=True)
        wire = await self._open(line)
        if wire is not None:
            with contextlib.closing(wire), self.ledger.judged(line):
                wire.write(b"GET / HTTP/1.1\r\nHost: slow\r\nX-Slow: ")
                while not wire.eof and self.active:
                    wire.write(b"x")
                    await asyncio.sleep(0.1)
                self.ledger.close(line, records.RESET if wire.reset else records.EMPTY)

    async def slow_reader(self, size: int, by_plan: bool = True) -> None:
        """F12: takes a big answer byte by byte."""
        assert self.paths.big is not None
        line = self.ledger.open("slow reader", by_plan=by_plan)
        wire = await self._open(line, 4096)
        if wire is None:
            return
        with contextlib.closing(wire), self.ledger.judged(line):
            wire.write(request("GET", self.paths.big.format(size=size), self._host))
            line.asked = time.monotonic()
            while await wire.piece():
                line.began = line.began or time.monotonic()
                wire.pause()
                await asyncio.sleep(0.05)
                wire.resume()
            self.ledger.close(line, records.RESET if wire.reset else records.CUT)

    async def idle(self) -> None:
        """F14: one answer, then silence on a kept connection."""
        line = self.ledger.open("idle")
        wire = await self._open(line)
        if wire is not None:
            with contextlib.closing(wire):
                if await self.ask(wire, line, self.paths.plain) is not None:
                    line.parting = await wire.ended()

    async def silent(self) -> None:
        """F18: connects and never sends a byte."""
        line = self.ledger.open("silent", by_plan=True)
        wire = await self._open(line)
        if wire is not None:
            with contextlib.closing(wire), self.ledger.judged(line):
                ended = await wire.ended()
                line.parting = ended
                self.ledger.close(line, records.RESET if ended == "reset" else records.EMPTY)

    async def half_closing(self) -> None:
        """F16: shuts its sending side right after the request; an abort, unless the server is told otherwise."""
        line = self.ledger.open("half-closing", by_plan=True)
        wire = await self._open(line)
        if wire is not None:
            with contextlib.closing(wire):
                wire.write(request("GET", self.paths.plain, self._host))
                line.asked = time.monotonic()
                wire.shut()
                await self.read(wire, line)

    async def vanishing(self, seconds: float) -> None:
        """F17: a peer that is gone without a FIN (TCP_REPAIR; needs CAP_NET_ADMIN)."""
        line = self.ledger.open("vanished", by_plan=True)
        wire = await self._open(line)
        if wire is None:
            return
        path = (self.paths.long or self.paths.plain).format(seconds=f"{seconds:.3f}")
        wire.write(request("GET", path, self._host))
        line.asked = time.monotonic()
        await asyncio.sleep(0.1)
        vanish(wire.socket)
        wire.close()
        self.ledger.close(line, records.LEFT)

    async def streaming(self) -> None:
        """F20: reads an endless stream as long as it comes."""
        assert self.paths.stream is not None
        line = self.ledger.open("stream", by_plan=True)
        wire = await self._open(line)
        if wire is None:
            return
        with contextlib.closing(wire), self.ledger.judged(line):
            wire.write(request("GET", self.paths.stream, self._host))
            line.asked = time.monotonic()
            tail = b""
            while piece := await wire.piece():
                line.began = line.began or time.monotonic()
                tail = (tail + piece)[-5:]
            whole = tail == b"0\r\n\r\n"
            line.status = 200 if line.began else 0
            self.ledger.close(
                line, records.COMPLETE if whole else records.RESET if wire.reset else records.CUT
            )

    async def knocking(self, until: Callable[[], bool], clients: int = 16) -> None:
        """F15, F26: connections one after the other, as fast as they go, until *until*."""

        async def knock() -> None:
            while self.active and not until():
                await self.once("knocking")

        await asyncio.gather(*(knock() for _ in range(clients)))

    async def together(self, count: int, wait: Callable[[], Awaitable[None]]) -> None:
        """F26: *count* connections that connect and send while the server does not run, then are answered."""

        async def one() -> None:
            line = self.ledger.open("queued")
            wire = await self._open(line)
            if wire is not None:
                with contextlib.closing(wire):
                    wire.write(request("GET", self.paths.plain, self._host))
                    line.asked = time.monotonic()
                    await wait()
                    answer = await self.read(wire, line)
                    if answer is not None and answer.close:
                        await self._part(wire, line)

        await asyncio.gather(*(one() for _ in range(count)))


def can_vanish() -> bool:
    """Whether this process may put a socket into repair mode."""
    probe = socket.socket()
    try:
        probe.setsockopt(socket.IPPROTO_TCP, 19, 1)
    except OSError:
        return False
    finally:
        probe.close()
    return True


def vanish(connection: socket.socket) -> None:
    """Make *connection*'s close silent: TCP_REPAIR (19) sends neither FIN nor reset."""
    connection.setsockopt(socket.IPPROTO_TCP, 19, 1)


def abort(connection: socket.socket) -> None:
    """Make *connection*'s close a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
