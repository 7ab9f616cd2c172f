"""A connection as Twisted sees it: bytes straight to the session, the end of it too.

What a session does with them is `twisted_rr.http2`'s subject, who keeps the sessions `service`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer

from twisted_rr.http2.session import Session
from twisted_rr.http2.settings import SessionSettings

from .config import GrpcSettings
from .head import MOST_HEADS, Derived

H2 = b"h2"

if TYPE_CHECKING:
    from .service import GrpcFront


class Connection:
    """A session with what is known of its client.

    :ivar peer: host and port as one text, ``unix:`` for a unix socket.
    :ivar auth_type: ``tls``, or empty.
    :ivar since: monotonic seconds.
    :ivar known: what heads came to, by all of them but the time they give. It belongs to one connection, because one
        that is shared would tell by its speed what others send.
    """

    __slots__ = ("auth_type", "known", "peer", "session", "since", "transport")

    def __init__(self, session: Session, transport: Any, peer: str, auth_type: str, since: float) -> None:
        self.session = session
        self.transport = transport
        self.peer = peer
        self.auth_type = auth_type
        self.since = since
        self.known: dict[Any, Derived] = {}

    def remember(self, key: Any, derived: Derived) -> None:
        """Keep what a head came to, in the place of the one that was kept first when there are many."""
        known = self.known
        if len(known) >= MOST_HEADS:
            del known[next(iter(known))]
        known[key] = derived


class GrpcProtocol(Protocol):
    """Twisted's view of a session."""

    auth_type = ""

    def __init__(self, front: GrpcFront) -> None:
        self._front = front
        self._session: Session | None = None

    def connectionMade(self) -> None:
        """Open the session."""
        self._open()

    def _open(self) -> None:
        self._session = self._front.opened(self.transport, self.auth_type)
        # What comes goes straight to it, for that is on the path of every call.
        self.dataReceived = self._session.receive  # type: ignore[method-assign]

    def connectionLost(self, reason: Any = None) -> None:
        """The connection is gone."""
        if self._session is not None:
            self._session.connection_lost()


@implementer(IHandshakeListener)
class TlsGrpcProtocol(GrpcProtocol):
    """The same over TLS: there is a session once the handshake is done and ALPN has agreed on ``h2``."""

    auth_type = "tls"

    def connectionMade(self) -> None:
        """The handshake begins."""
        self._front.greets(self)

    def handshakeCompleted(self) -> None:  # noqa: N802
        """The handshake is done (RFC 9113 section 3.2)."""
        transport: Any = self.transport
        self._front.greeted(self)
        if transport.negotiatedProtocol == H2:
            self._open()
        else:
            self._front.no_h2(address_of(transport.getPeer()))
            transport.abortConnection()

    def abort(self) -> None:
        """The handshake takes too long, or nobody waits for it any more: a FIN, because there is no TLS to say it in."""
        transport: Any = self.transport
        below = getattr(transport, "transport", transport)
        if getattr(below, "disconnecting", False):
            transport.abortConnection()  # it did not even take what it had been sent
        else:
            below.loseConnection()

    def connectionLost(self, reason: Any = None) -> None:
        """The connection is gone."""
        self._front.greeted(self)
        super().connectionLost(reason)


class GrpcFactory(Factory):
    """Makes a protocol for each connection."""

    noisy = False

    def __init__(self, front: GrpcFront, secure: bool) -> None:
        self._front = front
        self._secure = secure

    def buildProtocol(self, addr: Any) -> Protocol:
        """A connection was accepted."""
        return TlsGrpcProtocol(self._front) if self._secure else GrpcProtocol(self._front)


def session_settings(settings: GrpcSettings) -> SessionSettings:
    """The session's numbers out of the section."""
    return SessionSettings(
        idle_timeout=settings.max_connection_idle,
        keepalive_time=settings.ping_time,
        keepalive_timeout=settings.timeout,
        max_age=settings.max_connection_age,
        max_age_grace=settings.max_connection_age_grace,
        max_streams=settings.max_concurrent_streams or 10,
    )


def address_of(address: Any) -> str:
    """Host and port of Twisted's address object as one text."""
    host = getattr(address, "host", None)
    if host is None:
        return "unix:"
    return f"[{host}]:{address.port}" if ":" in host else f"{host}:{address.port}"
