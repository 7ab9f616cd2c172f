"""The front: it keeps the sessions, and sees them out when the server stops.

What every front does alike is `lifecycle.front`'s subject, what happens within a connection is `twisted_rr.http1`'s, within a request `exchange`'s subject.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from twisted_rr.http1.session import Session
from twisted_rr.lifecycle.front import Front
from twisted_rr.net import ports

from .access import AccessLog
from .answers import Answers
from .config import HttpSettings
from .connection import HttpFactory, address_of, session_settings
from .exchange import Exchange, begin
from .forwarded import Forwarding
from .head import CODECS
from .routes import Routes
from .uploads import UploadPolicy

HALF_OPEN = 2.0
"""How long a head that is not complete may hold the stop (drain.md I4)."""

SETTLE = 0.1
"""A connection this young has most likely sent a request that was not read yet."""

FIRST_BYTE = 0.5
"""So long a busy client may take from its connect to its request before the end of a stop leaves it without an answer."""

UNUSED = 1.0
"""A connection that has not said a byte for so long is a spare one, or a scan: closed once the listeners are."""

LAST_SECONDS = 2.0
"""Idle connections are closed this long before the deadline at the latest (drain.md F14)."""

ABANDONED: Final[dict[object, int]] = {"malformed": 400, "too large": 413, "timeout": 408, "trailers": 431}
"""What the session has answered for an exchange that was lost so, with no answer of its own; else 499, as nginx says."""


class HttpFront(Front):
    """One address, its sessions, and the pool behind them. See `Front`.

    :ivar connections: the sessions, each with its transport.
    :ivar draining: answers say ``connection: close``.
    """

    def __init__(
        self,
        settings: HttpSettings,
        pool: Any,
        host: Any,
        forwarding: Forwarding | None = None,
        uploads: UploadPolicy | None = None,
        bind: Callable[[str], Any] = ports.bind,
        pool_of: Callable[[str, int], Any] | None = None,
    ) -> None:
        """*pool_of* gives the pools that ``http.routes`` name: by name, and the route's number."""
        self._factory = HttpFactory(self, settings.half_close)
        super().__init__("http", settings.address, self._factory, host, pool, bind)
        self.begin = partial(begin, self)
        self.answers = Answers()
        routes = None if pool_of is None else self.routes_for(settings, pool_of)
        if routes is not None:
            self.pools = routes.pools
        self._trusted: dict[str, bool] = {}
        self.use(
            settings,
            Forwarding() if forwarding is None else forwarding,
            UploadPolicy() if uploads is None else uploads,
            routes,
        )
        self._last_opened = float("-inf")
        self._heard = True
        self._upgrade_told = False

    def routes_for(self, settings: HttpSettings, pool_of: Callable[[str, int], Any]) -> Routes | None:
        """The table of *settings*; None when there is nothing to choose."""
        return Routes(settings.routes, self.pool, pool_of) if settings.routes else None

    def use(
        self,
        settings: HttpSettings,
        forwarding: Forwarding,
        uploads: UploadPolicy,
        routes: Routes | None = None,
    ) -> None:
        """Go by these settings from now on, all but the address; requests in hand end as they began."""
        self.routes = routes
        self.settings = settings
        self.forwarding = forwarding
        self.uploads = uploads
        self.codec = CODECS[settings.codec]
        self._factory.half_close = settings.half_close
        self._access = AccessLog(self.host.log("access")) if settings.access_logs else None
        self.records = settings.access_logs
        self._limits = session_settings(settings, self.host.setting("drain"))
        self.limit_silence(settings.timeouts.write)
        self._trusted.clear()
        for session in self.connections:
            session.use(self._limits)

    # ---------------------------------------------------------------------------- sessions

    def opened(self, transport: Any) -> Session:
        """A connection was accepted."""
        peer = address_of(transport.getPeer())
        session = Session(
            transport, self, self._limits, self.seconds, "http", peer, address_of(transport.getHost())
        )
        self.connections[session] = transport
        self._last_opened = self.seconds()
        if self._heard:
            # With a small budget the sweep closes idle connections from the first moment of `finish` on.
            self._heard = False
            self.clock.callLater(SETTLE, self._hear)
        return session

    def _hear(self) -> None:
        """What the connections have sent is read in the coming turn, however late this timer came."""
        self.clock.callLater(0, setattr, self, "_heard", True)

    def asks_to_upgrade(self, request: Any, exchange: Exchange) -> None:
        """Once: whose pages use WebSockets would look for the fault in the application, which answers 404."""
        if not self._upgrade_told and request.upgrade.lower() == b"websocket":
            self._upgrade_told = True
            text = "{request} asks for a WebSocket, which is not served: the application gets it as the GET that it is"
            self.log.warn(text, request=exchange.describe())

    def refused(self, session: Any, status: int, reason: str) -> None:
        """The session answers for itself: the client's fault."""
        peer = session.peer[0] if session.peer else "unix"
        self.log.debug("{peer}: {status} {reason}", peer=peer, status=status, reason=reason)
        if self._access is not None and status:
            self._access.refuse(peer, status, reason)

    def activity(self) -> int:
        """A number that changes with every byte of the answers in flight, for ``status.liveness: strict``."""
        answered = sum(exchange.size for exchange in self.in_flight.items())
        return int(answered - sum(transport.buffered() for transport in self.connections.values()))

    def trusts(self, peer: tuple[str, int] | None) -> bool:
        """Whether the peer may speak for its clients; remembered, because asking costs microseconds."""
        if peer is None:
            return self.forwarding.trusts(None)
        trusted = self._trusted.get(peer[0])
        if trusted is None:
            if len(self._trusted) >= 4096:
                self._trusted.clear()
            trusted = self._trusted[peer[0]] = self.forwarding.trusts(peer[0])
        return trusted

    # --------------------------------------------------------------------------- exchanges

    def record(self, exchange: Exchange, lost: object) -> None:
        """A line of the access log."""
        client = exchange.client()
        access: Any = self._access
        access.record(
            exchange.request,
            client[0] if client else "unix",
            exchange.status or ABANDONED.get(lost, 499),
            0 if exchange.request.method == "HEAD" else exchange.size,
            self.seconds() - exchange.since,
            not lost,
        )

    # -------------------------------------------------------------------------------- stop

    def swept(self, now: float) -> None:
        """The listener is closed: who never spoke goes now, who is idle near the deadline (drain.md F14, F18)."""
        if not self.finishing:
            return
        settled = self._heard and now - self._last_opened > SETTLE and not self._may_still_ask(now)
        if self.drain.remaining() <= LAST_SECONDS and settled:
            self._close_idle()
        for session in list(self.connections):
            session.close_unused(now, UNUSED)

    def finished(self) -> None:
        """A developer's stop waits for nobody who is idle."""
        if getattr(self.drain, "brisk", False):
            self._close_idle()

    def hurried(self) -> None:
        """Half a head does not count any more."""
        self._close_idle(True)

    def see_out(self) -> float | None:
        """Close who is idle; see `Front`."""
        now = self.seconds()
        young = self._last_opened + SETTLE - now
        if young > 0 or not self._heard:
            return max(young, 0.0)
        if self._may_still_ask(now):
            return SETTLE
        return None if self._close_idle(now >= (self.finished_at or now) + HALF_OPEN) else SETTLE

    def _may_still_ask(self, now: float) -> bool:
        """Whether a client that connected just now has not said a byte."""
        return now < self._last_opened + FIRST_BYTE and any(session.unused for session in self.connections)

    def _close_idle(self, half_received: bool = False) -> bool:
        """Close who has no exchange; whether all are closing now."""
        # Every one of them, whatever the others answer.
        return all([session.close_idle(half_received) for session in list(self.connections)])
