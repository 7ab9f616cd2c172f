"""Checks that connect: ``tcp`` wants a connection, ``http`` an answer of 2xx or 3xx to a GET.

No TLS, no redirects followed, and of an answer only its first line is read.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint
from twisted.internet.protocol import Factory, Protocol

from twisted_rr.errors import RRError
from twisted_rr.net.address import UnixAddress, parse_address

_LONGEST_LINE: Final = 1024


class CheckFailed(RRError):
    """Why a check failed, for the log."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


def endpoint_of(reactor: Any, address: str, timeout: float) -> Any:
    """The client endpoint for an address of the configuration."""
    parsed = parse_address(address)
    if isinstance(parsed, UnixAddress):
        return UNIXClientEndpoint(reactor, parsed.name, timeout=timeout)
    return HostnameEndpoint(reactor, parsed.host or "127.0.0.1", parsed.port, timeout=timeout)


async def ask_tcp(reactor: Any, address: str, timeout: float, endpoint: Any = endpoint_of) -> None:
    """Connect and leave; raises what the connect raised."""
    protocol = await endpoint(reactor, address, timeout).connect(Factory.forProtocol(Protocol))
    protocol.transport.abortConnection()


class _FirstLine(Protocol):
    """Asks, and fires `line` with the first line of the answer."""

    def __init__(self, question: bytes) -> None:
        self._question = question
        self._received = b""
        self.line: Deferred[bytes] = Deferred(lambda _: self._leave())

    def connectionMade(self) -> None:
        self.transport.write(self._question)  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\n")
        if end >= 0 or len(self._received) > _LONGEST_LINE:
            self._tell(self._received[:end] if end >= 0 else self._received[:_LONGEST_LINE])

    def connectionLost(self, reason: Any = None) -> None:
        self._tell(self._received)

    def _tell(self, line: bytes) -> None:
        if not self.line.called:
            self.line.callback(line)
            self._leave()

    def _leave(self) -> None:
        self.transport.abortConnection()  # type: ignore[union-attr]


async def ask_http(reactor: Any, url: str, timeout: float, endpoint: Any = endpoint_of) -> None:
    """GET *url*; raises `CheckFailed` for an answer that is not 2xx or 3xx."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in str(parts.hostname) else parts.hostname
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    question = (
        f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nUser-Agent: twisted_rr-check\r\n"
        "Accept: */*\r\nConnection: close\r\n\r\n"
    ).encode("ascii")
    asked = _FirstLine(question)
    factory = Factory.forProtocol(lambda: asked)
    await endpoint(reactor, f"{host}:{parts.port or 80}", timeout).connect(factory)
    line = await asked.line
    # Without a reason many servers leave out the space before it too, and the line ends in a CR.
    status = line.split()[1:2] if line.startswith(b"HTTP/1.") else []
    if not status or not status[0].isdigit() or not 200 <= int(status[0]) <= 399:
        raise CheckFailed(f"it answered {line[:80]!r}")
