"""The front: it keeps the connections, and sees them out when the server stops.

What every front does alike is `lifecycle.front`'s subject, what happens within a connection is `twisted_rr.http2`'s, within a call `exchange`'s subject.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import attrs

from twisted_rr.errors import ApplicationError
from twisted_rr.http2.codes import NO_ERROR
from twisted_rr.http2.codes import name as code_name
from twisted_rr.http2.goaway import STAYING
from twisted_rr.http2.head import Head
from twisted_rr.http2.session import Session
from twisted_rr.http2.streams import Stream
from twisted_rr.lifecycle.front import Front
from twisted_rr.net import ports
from twisted_rr.wire.grpc_status import DELIMITER

from .access import AccessLog
from .answers import Ends
from .config import GrpcSettings
from .connection import Connection, GrpcFactory, TlsGrpcProtocol, address_of, session_settings
from .deadlines import Deadlines
from .exchange import Exchange, begin_whole
from .head import derive
from .health import SERVICE as HEALTH
from .health import Health
from .local import LocalExchange
from .metrics import OTHERS, GrpcMetrics
from .reflection import SERVICES as REFLECTION
from .reflection import Reflection
from .routes import Routes
from .status import UNIMPLEMENTED
from .upload import Openings

STAY: Final = 1.0
"""Seconds that a connection of the announce has before it is told to go. A GOAWAY that comes to grpc-go while it is about to
send a call makes it try another connection, but only once: told to go there too, the call fails."""

SETTLE: Final = 0.05
"""Between two looks at whether all connections are on their way out."""

GREETING: Final = 10.0
"""Seconds for a TLS handshake."""

CERTIFICATES: Final = 10
"""Sweeps between two looks at the TLS files."""

JITTER: Final = 0.1
"""By this part connections differ in how old they get, lest all clients come again at once."""


class GrpcFront(Front):
    """One address, its connections, and the pool behind them. See `Front`.

    :ivar in_flight: the calls of workers that are open.
    :ivar connections: what is known of each, by its session.
    :ivar max_send: bytes of one message to a client; ``max_receive`` of one of a client's.
    :ivar local: the services that are answered here: name to methods to what makes their handlers.
    """

    exchanges = "calls"
    records = True

    def __init__(
        self,
        settings: GrpcSettings,
        pool: Any,
        host: Any,
        tls: Any = None,
        bind: Callable[[str], Any] = ports.bind,
        random: Callable[[], float] = lambda: 0.5,
        pool_of: Callable[[str, int], Any] | None = None,
    ) -> None:
        """*tls* is a `tls.ServerTls`, None for cleartext. *random* answers from 0 to 1. *pool_of* gives the pools
        that ``grpc.routes`` name: by name, and the route's number."""
        self._tls = tls
        self.settings = settings
        super().__init__("grpc", settings.listen, self._factory(host), host, pool, bind)
        self.limit_silence(settings.timeout)
        self.begin_whole = partial(begin_whole, self)
        self.metrics = GrpcMetrics(self.in_flight)
        self.deadlines = Deadlines(host.clock, self.log)
        self.ends = Ends()
        self.openings = Openings(self.turn)
        self.max_send = settings.max_send
        self.max_receive = settings.max_receive
        self.routes = Routes(settings.routes, pool, pool_of) if settings.routes and pool_of else None
        if self.routes is not None:
            self.pools = self.routes.pools
        self.health = Health(
            host,
            lambda: self.listening and not self.draining,
            settings.protos.services,
            settings.health.rr_compat,
        )
        self.local: dict[str, Any] = {HEALTH: self.health.methods()}
        self._random = random
        self._limits = session_settings(settings)
        self._access = AccessLog(host.log("access")) if settings.access_logs else None
        self._local_calls: dict[LocalExchange, None] = {}
        self._greeting: dict[TlsGrpcProtocol, float] = {}
        self._sweeps = 0
        self._reflect()

    def _factory(self, host: Any) -> Any:
        factory = GrpcFactory(self, self._tls is not None)
        if self._tls is None:
            return factory
        from twisted.protocols.tls import TLSMemoryBIOFactory

        # Without a clock it would import the global reactor.
        return TLSMemoryBIOFactory(self._tls, False, factory, clock=host.reactor)

    def _reflect(self) -> None:
        protos = self.settings.protos
        for missing in protos.missing:
            self.log.info("{missing}", missing=missing)
        if not (protos.files and self.settings.reflection):
            return
        reflection = Reflection(protos, (HEALTH, *REFLECTION))
        for dropped in reflection.descriptors.dropped:
            self.log.info("reflection leaves out {what}, which is in no file", what=dropped)
        for name in REFLECTION:
            self.local[name] = reflection.methods()

    def use(self, settings: GrpcSettings) -> None:
        """Go by these settings from now on, as far as `plugin.LIVE` has them; connections keep their limits."""
        # The files may have changed under the same names: what is served stays as it was announced.
        self.settings = attrs.evolve(settings, proto=self.settings.proto)
        self.max_send = settings.max_send
        self.max_receive = settings.max_receive
        self._limits = session_settings(settings)
        self.limit_silence(settings.timeout)
        self._access = AccessLog(self.host.log("access")) if settings.access_logs else None
        for session, connection in self.connections.items():
            connection.known.clear()
            session.forget_heads()

    # ------------------------------------------------------------------------- connections

    def greets(self, protocol: TlsGrpcProtocol) -> None:
        """A TLS handshake has begun."""
        self._greeting[protocol] = self.seconds() + GREETING

    def greeted(self, protocol: TlsGrpcProtocol) -> None:
        """It is over."""
        self._greeting.pop(protocol, None)

    def no_h2(self, peer: str) -> None:
        """A TLS client does not speak HTTP/2."""
        self.log.info("{peer}: closed, its TLS handshake did not agree on h2 (ALPN)", peer=peer)

    def opened(self, transport: Any, auth_type: str) -> Session:
        """A connection speaks HTTP/2."""
        session = Session(transport, self, self._limits, self.seconds)
        session.max_age *= 1 + JITTER * (2 * self._random() - 1)
        peer = address_of(transport.getPeer())
        self.connections[session] = Connection(session, transport, peer, auth_type, self.seconds())
        session.start()
        return session

    def begin(self, session: Any, stream: Stream, head: Head, end: bool) -> Any:
        """A request's head is complete. See ``http2.contract``."""
        judged = head.derived
        if judged is None:
            judged = head.derived = derive(self, self.connections[session], head)
        derived, timeout = judged
        if derived.local is not None and derived.refusal is None:
            return self._begin_local(session, LocalExchange(self, stream, derived, timeout), end)
        exchange = Exchange(self, stream, derived, timeout)
        self.in_flight.begin(exchange)
        try:
            if derived.refusal is not None:
                exchange.refuse(derived.refusal)
            elif exchange.since >= self.late_at:
                exchange.turn_away()
            else:
                exchange.start(end)
        except Exception:
            exchange.broken()
        if self.draining:
            self._send_off(session)
        return exchange

    def _begin_local(self, session: Any, exchange: LocalExchange, end: bool) -> LocalExchange:
        self._local_calls[exchange] = None
        exchange.start(end)
        if self.draining:
            self._send_off(session)
        return exchange

    def _send_off(self, session: Any) -> None:
        """Tell a connection that came during the announce to go, now that it was of use; see `STAY`."""
        if self.finishing or self.seconds() - self.connections[session].since >= STAY:
            session.drain()

    def dirty(self, session: Any) -> None:
        """There is output."""
        self.turn.add(session)

    def refused(self, session: Any, stream: int, code: int, reason: str) -> None:
        """The session ends a stream, or itself: the client's fault."""
        connection = self.connections.get(session)
        self.log.debug(
            "{peer}: {what} {code}: {reason}",
            peer=connection.peer if connection else "",
            what=f"stream {stream}" if stream else "connection",
            code=code_name(code),
            reason=reason,
        )

    def transport_of(self, connection: Session) -> Any:
        """See `Front`."""
        return self.connections[connection].transport

    def activity(self) -> int:
        """A number that changes with every byte of the answers in flight, for ``status.liveness: strict``."""
        answered = sum(exchange.size + exchange.received for exchange in self.in_flight.items())
        return int(answered + sum(session.written for session in self.connections))

    # ------------------------------------------------------------------------------- calls

    def over(self, exchange: Exchange, lost: object) -> None:
        """See `Front`."""
        if lost or exchange.code or exchange.cut or exchange.refused:
            super().over(exchange, lost)
            return
        # Most calls.
        self.in_flight.end(exchange)
        derived = exchange.derived
        tally = derived.tally
        if tally is None:
            tally = derived.tally = self.metrics.tally(derived.path)
        duration = self.seconds() - exchange.since
        tally.add(0, duration)
        if self._access is not None:
            self._access.record(exchange, duration, True)

    def record(self, exchange: Exchange, lost: object) -> None:
        """The metrics, and a line of the access log."""
        duration = self.seconds() - exchange.since
        self.metrics.record(self._label(exchange), exchange.code, duration)
        if self._access is not None:
            self._access.record(exchange, duration, not lost)

    def _label(self, exchange: Exchange) -> str:
        """Under which name a call is counted. A client can call any: its own has one that there is, as a .proto file
        says or an answer of a worker does."""
        path = exchange.derived.path
        if exchange.answered and exchange.code != UNIMPLEMENTED:
            return path
        if self.metrics.knows(path) or path.encode("latin-1") in self.settings.protos.methods:
            return path
        return OTHERS

    def local_over(self, exchange: LocalExchange) -> None:
        """A call that was answered here has ended."""
        self._local_calls.pop(exchange, None)

    def failed(self, exchange: Exchange, error: Exception) -> None:
        """See `Front`. A status that the application told is no failure."""
        if isinstance(error, ApplicationError) and DELIMITER in error.text and not exchange.pool.mux:
            return
        super().failed(exchange, error)

    # -------------------------------------------------------------------------------- stop

    def swept(self, now: float) -> None:
        """Handshakes, health and certificates."""
        for protocol, until in list(self._greeting.items()):
            if now >= until:
                protocol.abort()
        self.health.refresh()
        self._sweeps += 1
        if self._tls is not None and not self._sweeps % CERTIFICATES:
            self._tls.look()

    def changed(self, state: str) -> None:
        """Health tells what readiness tells."""
        super().changed(state)
        self.health.refresh()

    def announce(self) -> None:
        """Say NOT_SERVING to those who watch, then tell clients to go; go on accepting."""
        super().announce()
        self.health.refresh()
        for session in list(self.connections):
            # Written now, because frames of the connection, such as GOAWAY, overtake those of streams (drain.md I19).
            session.flush()
            session.drain()

    def finished(self) -> None:
        """End what watches; calls go on."""
        # Those who came with the last of the queue are told too.
        self.announce()
        for local in list(self._local_calls):
            local.end_for_stop()
        if getattr(self.drain, "brisk", False):
            for exchange in self.in_flight.items():
                if exchange.derived.lasting:
                    exchange.hurry()

    def hurried(self) -> None:
        """Every connection goes, and what its client did not take by now."""
        for local in list(self._local_calls):
            local.end_for_stop()
        for session in list(self.connections):
            session.close(NO_ERROR, "the server is stopping")
            # At once, because whoever hurries may not come to the end of this turn.
            session.flush()
        for exchange in self.in_flight.items():
            exchange.let_go()

    def see_out(self) -> float | None:
        """Tell everybody to go; see `Front`."""
        for session in list(self.connections):
            if session.departure.state == STAYING:
                session.drain()  # it came with the last of the queue
        # The sweep gives up on clients that do not acknowledge.
        return None if all(session.is_closing for session in self.connections) else SETTLE

    def released(self) -> None:
        """The last handshakes and deadlines."""
        for protocol in list(self._greeting):
            protocol.abort()
        self.deadlines.stop()
