"""The front: it listens, keeps the connections, and sees them out when the server stops.

What happens within a connection is `twisted_rr.http2`'s, within a call `exchange`'s subject.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_rr.errors import ApplicationError, Cancelled, Draining, NoFreeWorker, QueueFull
from twisted_rr.http2.codes import NO_ERROR
from twisted_rr.http2.codes import name as code_name
from twisted_rr.http2.goaway import STAYING
from twisted_rr.http2.head import Head
from twisted_rr.http2.session import Session
from twisted_rr.http2.streams import Stream
from twisted_rr.interfaces import IFront
from twisted_rr.lifecycle.in_flight import InFlight
from twisted_rr.lifecycle.listeners import Listener
from twisted_rr.net import ports
from twisted_rr.wire.grpc_status import DELIMITER

from .access import AccessLog
from .answers import Ends
from .config import GrpcSettings
from .connection import Connection, GrpcFactory, TlsGrpcProtocol, address_of, session_settings
from .deadlines import Deadlines
from .exchange import Exchange
from .head import derive
from .health import SERVICE as HEALTH
from .health import Health
from .local import LocalExchange
from .metrics import OTHERS, GrpcMetrics
from .reflection import SERVICES as REFLECTION
from .reflection import Reflection
from .status import UNIMPLEMENTED, Status

SWEEP: Final = 1.0
"""Seconds between two looks at every session's time-outs, and at health."""

SETTLE: Final = 0.05
"""Between two looks at whether all connections are on their way out."""

PARTING: Final = 0.5
"""How long the stop waits for clients to close after our FIN, lest a reset overtakes an answer."""

LAST_PARTING: Final = 0.05
"""The same when the stop is forced."""

GREETING: Final = 10.0
"""Seconds for a TLS handshake."""

CERTIFICATES: Final = 10
"""Sweeps between two looks at the TLS files."""

JITTER: Final = 0.1
"""By this part connections differ in how old they get, lest all clients come again at once."""

_OVERLOAD = (NoFreeWorker, QueueFull, Draining, Cancelled)


@implementer(IFront)
class GrpcFront(Service):
    """One address, its connections, and the pool behind them. See `IFront`.

    Binds in ``privilegedStartService``, listens once the pool is ready (`started`). ``stopService`` closes the
    listener, waits until nothing is in flight, sees the connections out, and fires.

    :ivar in_flight: the calls of workers that are open.
    :ivar connections: by their sessions.
    :ivar draining: clients are told to go.
    :ivar finishing: the listener is closed.
    :ivar local: the services that are answered here: name to methods to what makes their handlers.
    """

    def __init__(
        self,
        settings: GrpcSettings,
        pool: Any,
        host: Any,
        tls: Any = None,
        bind: Callable[[str], Any] = ports.bind,
        random: Callable[[], float] = lambda: 0.5,
    ) -> None:
        """*tls* is a `tls.ServerTls`, None for cleartext. *random* answers from 0 to 1."""
        self.setName("grpc")
        self.settings = settings
        self.pool = pool
        self.turn = host.turn
        self.seconds: Callable[[], float] = host.clock.seconds
        self.log = host.log("grpc")
        self.in_flight = InFlight("grpc", self.seconds)
        self.metrics = GrpcMetrics(self.in_flight)
        self.deadlines = Deadlines(host.clock)
        self.ends = Ends()
        self.debug = settings.pool.debug
        self.draining = False
        self.finishing = False
        self.connections: dict[Any, Connection] = {}
        self.health = Health(
            host,
            lambda: self.listening and not self.draining,
            settings.protos.services,
            settings.health.rr_compat,
        )
        self.local: dict[str, Any] = {HEALTH: self.health.methods()}
        self._host = host
        self._clock = host.clock
        self._drain = host.drain
        self._tls = tls
        self._random = random
        self._limits = session_settings(settings)
        self._access = AccessLog(host.log("access")) if settings.access_logs else None
        self._listener = Listener(settings.listen, self._factory(host), host.reactor, host.drain, bind=bind)
        self._local_calls: dict[LocalExchange, None] = {}
        self._greeting: dict[TlsGrpcProtocol, float] = {}
        self._overload: dict[str, int] = {}
        self._started: list[Deferred[None]] = []
        self._failure: Failure | None = None
        self._sweeper: LoopingCall | None = None
        self._sweeps = 0
        self._unwatch: Callable[[], None] | None = None
        self._late_at = float("inf")
        self._hurried = False
        self._wake: Deferred[None] | None = None
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
        self._limits = session_settings(settings)
        self._access = AccessLog(self._host.log("access")) if settings.access_logs else None

    # ------------------------------------------------------------------------------ start

    @property
    def address(self) -> str:
        """Where it is bound, with the real port."""
        return self._listener.address

    @property
    def listening(self) -> bool:
        """Whether connections are accepted."""
        return self._listener.listening

    def privilegedStartService(self) -> None:
        """Bind; raises `ListenError`."""
        self._listener.privilegedStartService()

    def startService(self) -> None:
        """Begin; `started` tells when it listens."""
        super().startService()
        self.draining = False
        self.finishing = False
        self._hurried = False
        self._late_at = float("inf")
        self._failure = None
        self._listener.startService()
        self._unwatch = self._drain.watch(self._changed)
        self._sweeper = LoopingCall(self._sweep)
        self._sweeper.clock = self._clock
        self._sweeper.start(SWEEP, now=False)
        self.pool.ready().addCallbacks(self._listen, self._not_ready)

    def started(self) -> Deferred[None]:
        """Fires when it listens; fails as the pool does."""
        if self._listener.listening:
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        if self._failure is not None:
            waiter.errback(self._failure)
        else:
            self._started.append(waiter)
        return waiter

    def _listen(self, _: Any) -> None:
        # A stop may have come first; then nobody is told, and nobody waits.
        if self.running and not self.finishing and self._listener.listen():
            self.log.info("listening on {address}", address=self.address)
            started, self._started = self._started, []
            for waiter in started:
                waiter.callback(None)

    def _not_ready(self, failure: Failure) -> None:
        # Whoever asked the pool is told by it; those who asked here, here.
        self._failure = failure
        started, self._started = self._started, []
        for waiter in started:
            waiter.errback(failure)

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
        self.connections[session] = Connection(session, transport, address_of(transport.getPeer()), auth_type)
        session.start()
        return session

    def begin(self, session: Any, stream: Stream, head: Head, end: bool) -> Any:
        """A request's head is complete. See ``http2.contract``."""
        derived = head.derived
        if derived is None:
            derived = head.derived = derive(self, self.connections[session], head)
        if derived.local is not None and derived.refusal is None:
            return self._begin_local(session, stream, derived, end)
        exchange = Exchange(self, stream, derived)
        self.in_flight.begin(exchange)
        try:
            if derived.refusal is not None:
                exchange.refuse(derived.refusal)
            elif exchange.since >= self._late_at:
                exchange.turn_away()
            else:
                exchange.start(end)
        except Exception:
            # A fault of ours. The session does not know the exchange yet: nobody else would ever end it.
            self.log.failure("{call} could not be started", call=exchange.describe())
            exchange.fault()
        if self.draining:
            # A connection that came during the announce is told to go now that it was of use.
            session.drain()
        return exchange

    def _begin_local(self, session: Any, stream: Stream, derived: Any, end: bool) -> LocalExchange:
        exchange = LocalExchange(self, stream, derived)
        self._local_calls[exchange] = None
        exchange.start(end)
        if self.draining:
            session.drain()
        return exchange

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

    def closed(self, session: Any) -> None:
        """A connection is gone."""
        self.connections.pop(session, None)
        if not self.connections:
            self._rouse()

    def activity(self) -> int:
        """A number that changes with every byte of the answers in flight, for ``status.liveness: strict``."""
        answered = sum(exchange.size + exchange.received for exchange in self.in_flight.items())
        return int(answered + sum(session.written for session in self.connections))

    # ------------------------------------------------------------------------------- calls

    def over(self, exchange: Exchange, lost: bool) -> None:
        """A call has ended: completely unless it was *lost*."""
        if exchange.cut:
            self.in_flight.end_cut(exchange)
        elif exchange.refused:
            self.in_flight.end_refused(exchange)
        elif lost:
            self.in_flight.end_lost(exchange)
        else:
            self.in_flight.end(exchange)
        duration = self.seconds() - exchange.since
        method = OTHERS if exchange.code == UNIMPLEMENTED else exchange.derived.path
        self.metrics.record(method, exchange.code, duration)
        if self._access is not None:
            self._access.record(exchange, duration, not lost)

    def local_over(self, exchange: LocalExchange) -> None:
        """A call that was answered here has ended."""
        self._local_calls.pop(exchange, None)

    def failed(self, exchange: Exchange, error: Exception, status: Status) -> None:
        """A call got no answer: a line for each, but one a second where it is the load."""
        if isinstance(error, Draining) or (isinstance(error, NoFreeWorker) and self._drain.draining):
            exchange.refused = True
        if isinstance(error, _OVERLOAD):
            reason = type(error).__name__
            self._overload[reason] = self._overload.get(reason, 0) + 1
        elif isinstance(error, ApplicationError) and DELIMITER in error.text and not self.pool.mux:
            """A status that the application told."""
        else:
            self.log.error(
                "{call} failed after {seconds:.2f} s: {error}",
                call=exchange.describe(),
                seconds=self.seconds() - exchange.since,
                error=error,
            )

    # ------------------------------------------------------------------------------- sweep

    def _sweep(self) -> None:
        now = self.seconds()
        for session, connection in list(self.connections.items()):
            try:
                session.sweep(now)
            except Exception:
                # The others still need their time-outs.
                self.log.failure("a connection failed at its time-outs and is closed")
                connection.transport.abortConnection()
        for protocol, until in list(self._greeting.items()):
            if now >= until:
                protocol.abort()
        self.health.refresh()
        self._sweeps += 1
        if self._tls is not None and not self._sweeps % CERTIFICATES:
            self._tls.look()
        overload, self._overload = self._overload, {}
        for reason, count in overload.items():
            self.log.warn("{count} calls were turned away: {reason}", count=count, reason=reason)

    # -------------------------------------------------------------------------------- stop

    def _changed(self, state: str) -> None:
        """The lifecycle moved: an admin's drain can be taken back, and then clients may stay."""
        if not getattr(self._drain, "leaving", self._drain.draining):
            self.draining = False
        self.health.refresh()

    def announce(self) -> None:
        """Say NOT_SERVING to those who watch, then tell clients to go; go on accepting."""
        self.draining = True
        self.health.refresh()
        for session in list(self.connections):
            # Written now, because frames of the connection, such as GOAWAY, overtake those of streams (drain.md I19).
            session.flush()
            session.drain()

    def finish(self) -> None:
        """Take what waits in the accept queue and close; end what watches; calls go on."""
        if self.finishing:
            return
        self.finishing = True
        late = getattr(getattr(self._drain, "budget", None), "late_reject", None)
        if late is not None:
            self._late_at = self.seconds() + late
        self._not_ready(Failure(Draining()))
        self._listener.finish()
        self.announce()
        for local in list(self._local_calls):
            local.end_for_stop()
        if getattr(self._drain, "brisk", False):
            for exchange in self.in_flight.items():
                if exchange.derived.lasting:
                    exchange.hurry()

    def hurry(self) -> None:
        """Cut what is in flight, and do not wait for anybody."""
        self._hurried = True
        self.draining = True
        for exchange in self.in_flight.items():
            exchange.hurry()
        for local in list(self._local_calls):
            local.end_for_stop()
        for session in list(self.connections):
            session.close(NO_ERROR, "the server is stopping")
            # At once, because whoever hurries may not come to the end of this turn.
            session.flush()
        for exchange in self.in_flight.items():
            exchange.let_go()
        self._rouse()

    def stopService(self) -> Deferred[None]:
        """Stop in order; `hurry` shortens it."""
        if self.running:
            super().stopService()
        self.finish()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        try:
            await self._drained()
            await self._pause(LAST_PARTING if self._hurried else PARTING)
            for connection in list(self.connections.values()):
                connection.transport.loseConnection()
            if self.connections:
                await self._pause(0.0)
        finally:
            self._release()

    async def _drained(self) -> None:
        """Until every call is answered and every connection on its way out."""
        while self.connections and not self._hurried:
            await self.in_flight.idle()
            for session in list(self.connections):
                if session.departure.state == STAYING:
                    session.drain()  # it came with the last of the queue
            if all(session.is_closing for session in self.connections):
                return
            # The sweep gives up on clients that do not acknowledge.
            await self._pause(SETTLE)

    async def _pause(self, seconds: float) -> None:
        """Wakers: a timer, the last connection's end, `hurry`."""
        if seconds and not self.connections:
            return
        wake: Deferred[None] = Deferred()
        self._wake = wake
        timer = self._clock.callLater(seconds, self._rouse)
        await wake
        if timer.active():
            timer.cancel()

    def _rouse(self) -> None:
        wake, self._wake = self._wake, None
        if wake is not None:
            wake.callback(None)

    def _release(self) -> None:
        self._listener.stopService()
        if self._sweeper is not None and self._sweeper.running:
            self._sweeper.stop()
        if self._unwatch is not None:
            self._unwatch()
            self._unwatch = None
        for protocol in list(self._greeting):
            protocol.abort()
        for connection in list(self.connections.values()):
            connection.transport.abortConnection()
        self.deadlines.stop()
