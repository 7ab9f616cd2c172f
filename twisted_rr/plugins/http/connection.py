"""A connection as Twisted sees it: bytes straight to the session, the end of it too.

What a session does with them is `twisted_rr.http1`'s subject, who keeps the sessions `service`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer

from twisted_rr.http1.session import Session
from twisted_rr.http1.settings import SessionSettings

from .config import HttpSettings

if TYPE_CHECKING:
    from .service import HttpFront


class HttpProtocol(Protocol):
    """Twisted's view of a session."""

    def __init__(self, front: HttpFront) -> None:
        self._front = front
        self._session: Session | None = None

    def connectionMade(self) -> None:
        """Open the session; what comes goes straight to it, for that is on the path of every request."""
        self._session = self._front.opened(self.transport)
        self.dataReceived = self._session.data_received  # type: ignore[method-assign]

    def connectionLost(self, reason: Any = None) -> None:
        """The connection is gone."""
        if self._session is not None:
            self._session.connection_lost()


@implementer(IHalfCloseableProtocol)
class HalfCloseProtocol(HttpProtocol):
    """The same where a client's FIN is no abort (``http.half_close``)."""

    def readConnectionLost(self) -> None:
        """The client sends no more."""
        if self._session is not None:
            self._session.eof_received()

    def writeConnectionLost(self) -> None:
        """We send no more: the session asked for it."""


class HttpFactory(Factory):
    """Makes a protocol for each connection."""

    noisy = False

    def __init__(self, front: HttpFront, half_close: bool) -> None:
        self._front = front
        self.half_close = half_close

    def buildProtocol(self, addr: Any) -> Protocol:
        """A connection was accepted."""
        return HalfCloseProtocol(self._front) if self.half_close else HttpProtocol(self._front)


#: For a peer Envoy, which then ejects this host without waiting for its health checks (drain.md 5.5).
IMMEDIATE_FAIL = b"x-envoy-immediate-health-check-fail: true\r\n"


def session_settings(settings: HttpSettings, drain: Any = None) -> SessionSettings:
    """The session's numbers out of the section; *drain* is the section of that name, if it is there."""
    return SessionSettings(
        header_timeout=settings.timeouts.header,
        body_timeout=settings.timeouts.body,
        keep_alive_timeout=settings.timeouts.keepalive,
        write_timeout=settings.timeouts.write,
        max_header_bytes=settings.max_header_bytes,
        max_fields=settings.max_headers,
        max_request_size=settings.max_body,
        half_close=settings.half_close,
        farewell=IMMEDIATE_FAIL if getattr(drain, "envoy_immediate_fail", False) else b"",
    )


def address_of(address: Any) -> tuple[str, int] | None:
    """Host and port of Twisted's address object, None for a unix socket."""
    host = getattr(address, "host", None)
    return None if host is None else (host, address.port)
