"""A client's end of a TCP connection that tells an orderly end (FIN) from a reset, and reads HTTP/1.1 answers.

It sends what it is told and judges nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time

import attrs

Address = tuple[str, int]


class Ended(Exception):
    """The connection ended where bytes were expected. *reset*: by a reset, else by a FIN."""

    def __init__(self, reset: bool) -> None:
        super().__init__(reset)
        self.reset = reset


class Malformed(Exception):
    """What came is no HTTP/1.1 answer."""


@attrs.frozen
class Answer:
    """One complete answer, header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes
    began: float

    @property
    def close(self) -> bool:
        """Whether the server says that it closes."""
        return "close" in self.headers.get("connection", "").lower()


class Wire(asyncio.Protocol):
    """One connection.

    :ivar eof: the peer sent a FIN.
    :ivar reset: the connection was reset before that.
    """

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.eof = False
        self.reset = False
        self._buffer = b""
        self._news = asyncio.Event()

    @classmethod
    async def open(
        cls, address: Address, timeout: float = 5.0, buffer: int = 0, tls: ssl.SSLContext | None = None
    ) -> Wire:
        """Connect; raises OSError, TimeoutError when nobody answers, and Ended when a TLS handshake ends by a FIN.

        *buffer*: of the kernel, for slow readers.
        """
        loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        client = socket.socket(family, socket.SOCK_STREAM)
        client.setblocking(False)
        try:
            if buffer:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            async with asyncio.timeout(timeout):
                await loop.sock_connect(client, address)
                name = None if tls is None else address[0]
                _, wire = await loop.create_connection(cls, sock=client, ssl=tls, server_hostname=name)
        except ConnectionResetError as error:
            client.close()
            if tls is not None and error.errno is None:
                # So asyncio calls a FIN where an answer to the hello was due.
                raise Ended(False) from None
            raise
        except BaseException:
            client.close()
            raise
        return wire

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._news.set()

    def eof_received(self) -> bool:
        self.eof = True
        self._news.set()
        # Half an end is the end of TLS.
        return self.transport is None or self.transport.get_extra_info("sslcontext") is None

    def connection_lost(self, error: Exception | None) -> None:
        if not self.eof:
            self.reset = error is not None
            self.eof = True
        self._news.set()

    @property
    def socket(self) -> socket.socket:
        """The socket below, for options."""
        assert self.transport is not None
        found: socket.socket = self.transport.get_extra_info("socket")
        return found

    def write(self, data: bytes) -> None:
        """Send; what the kernel does not take is kept."""
        assert self.transport is not None
        self.transport.write(data)

    def pause(self) -> None:
        """Read no more."""
        assert self.transport is not None
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        assert self.transport is not None
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def shut(self) -> None:
        """Send a FIN and go on reading."""
        assert self.transport is not None
        with contextlib.suppress(OSError):
            self.transport.write_eof()

    def close(self) -> None:
        """Leave."""
        if self.transport is not None:
            self.transport.abort() if self.eof else self.transport.close()

    async def ended(self) -> str:
        """Wait for the end: ``fin`` or ``reset``; what comes meanwhile is dropped."""
        while not self.eof:
            self._buffer = b""
            await self._more()
        return "reset" if self.reset else "fin"

    async def answer(self, head_only: bool = False) -> Answer:
        """One answer; raises `Ended` and `Malformed`."""
        head = await self._until(b"\r\n\r\n")
        began = time.monotonic()
        status, headers = parse_head(head)
        if 100 <= status < 200:
            return await self.answer(head_only)
        body = b"" if head_only or status in (204, 304) else await self._body(headers)
        return Answer(status, headers, body, began)

    async def piece(self) -> bytes:
        """Whatever comes next; empty at the end."""
        while not self._buffer and not self.eof:
            await self._more()
        piece, self._buffer = self._buffer, b""
        return piece

    async def first(self) -> bool:
        """Wait for the first byte; False when the connection ended without one."""
        while not self._buffer and not self.eof:
            await self._more()
        return bool(self._buffer)

    async def _body(self, headers: dict[str, str]) -> bytes:
        if "chunked" in headers.get("transfer-encoding", "").lower():
            return await self._chunks()
        if "content-length" in headers:
            return await self._exactly(int(headers["content-length"]))
        while not self.eof:
            await self._more()
        if self.reset:
            raise Ended(True)
        body, self._buffer = self._buffer, b""
        return body

    async def _chunks(self) -> bytes:
        body = b""
        while True:
            line = await self._until(b"\r\n")
            try:
                size = int(line.split(b";")[0], 16)
            except ValueError:
                raise Malformed(repr(line[:50])) from None
            if not size:
                while await self._until(b"\r\n") != b"\r\n":
                    pass
                return body
            body += (await self._exactly(size + 2))[:-2]

    async def _until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            if self.eof:
                raise Ended(self.reset)
            await self._more()
        at = self._buffer.index(mark) + len(mark)
        found, self._buffer = self._buffer[:at], self._buffer[at:]
        return found

    async def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            if self.eof:
                raise Ended(self.reset)
            await self._more()
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        return found

    async def _more(self) -> None:
        """Wakers: data, FIN and the loss of the connection."""
        self._news.clear()
        await self._news.wait()


def parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    """Status and headers of an answer's head; raises `Malformed`."""
    line, *fields = head.decode("latin-1").split("\r\n")[:-2]
    words = line.split(" ", 2)
    if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
        raise Malformed(line[:80])
    pairs = (field.partition(":") for field in fields)
    return int(words[1]), {name.strip().lower(): value.strip() for name, _, value in pairs}


def request(
    method: str, path: str, host: str, headers: dict[str, str] | None = None, body: bytes = b""
) -> bytes:
    """A request's bytes."""
    fields = {"Host": host, "User-Agent": "twisted-rr drain-test", **(headers or {})}
    if body and "Content-Length" not in fields:
        fields["Content-Length"] = str(len(body))
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode() + body


def h2_over_tls() -> ssl.SSLContext:
    """For clients that offer HTTP/2. Whose certificate it is, is not asked: the rig started the server itself."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context
