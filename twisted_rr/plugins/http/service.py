"""The front: it listens, keeps the sessions, and sees them out when the server stops.

What happens within a connection is `twisted_rr.http1`'s, within a request `exchange`'s subject.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_rr.errors import Cancelled, Draining, NoFreeWorker, QueueFull
from twisted_rr.http1.session import Session
from twisted_rr.interfaces import IFront
from twisted_rr.lifecycle.in_flight import InFlight
from twisted_rr.lifecycle.listeners import Listener
from twisted_rr.net import ports

from .access import AccessLog
from .answers import Answers
from .config import HttpSettings
from .connection import HttpFactory, address_of, session_settings
from .exchange import Exchange
from .forwarded import Forwarding
from .head import CODECS
from .uploads import UploadPolicy

SWEEP = 1.0
"""Seconds between two looks at every session's time-outs."""

HALF_OPEN = 2.0
"""How long a head that is not complete may hold the stop (drain.md I4)."""

SETTLE = 0.1
"""A connection this young has most likely sent a request that was not read yet."""

PARTING = 0.5
"""How long the stop waits for clients to close after our FIN, lest a reset overtakes an answer."""

LAST_PARTING = 0.05
"""The same when the stop is forced."""

UNUSED = 1.0
"""A connection that has not said a byte for so long is a spare one, or a scan: closed once the listeners are."""

LAST_SECONDS = 2.0
"""Idle connections are closed this long before the deadline at the latest (drain.md F14)."""

_OVERLOAD = (NoFreeWorker, QueueFull, Draining, Cancelled)


@implementer(IFront)
class HttpFront(Service):
    """One address, its sessions, and the pool behind them. See `IFront`.

    Binds in ``privilegedStartService``, listens once the pool is ready (`started`). ``stopService`` closes the
    listener, waits until nothing is in flight, sees the connections out, and fires.

    :ivar in_flight: the exchanges that are open.
    :ivar sessions: the connections, each with its transport.
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
    ) -> None:
        self.setName("http")
        self.pool = pool
        self.turn = host.turn
        self.seconds: Callable[[], float] = host.clock.seconds
        self.log = host.log("http")
        self.in_flight = InFlight("http", self.seconds)
        self.answers = Answers()
        self._host = host
        self.debug = settings.pool.debug
        self.draining = False
        self.sessions: dict[Any, Any] = {}
        self._trusted: dict[str, bool] = {}
        self._clock = host.clock
        self._drain = host.drain
        self._factory = HttpFactory(self, settings.half_close)
        self._listener = Listener(settings.address, self._factory, host.reactor, host.drain, bind=bind)
        self.use(
            settings,
            Forwarding() if forwarding is None else forwarding,
            UploadPolicy() if uploads is None else uploads,
        )
        self._overload: dict[str, int] = {}
        self._started: list[Deferred[None]] = []
        self._failure: Failure | None = None
        self._sweeper: LoopingCall | None = None
        self._unwatch: Callable[[], None] | None = None
        self._finished_at: float | None = None
        self._late_at = float("inf")
        self._last_opened = float("-inf")
        self._heard = True
        self._hurried = False
        self._wake: Deferred[None] | None = None

    def use(self, settings: HttpSettings, forwarding: Forwarding, uploads: UploadPolicy) -> None:
        """Go by these settings from now on, all but the address; requests in hand end as they began."""
        self.settings = settings
        self.forwarding = forwarding
        self.uploads = uploads
        self.codec = CODECS[settings.codec]
        self._factory.half_close = settings.half_close
        self._access = AccessLog(self._host.log("access")) if settings.access_logs else None
        self._limits = session_settings(settings, self._host.setting("drain"))
        self._trusted.clear()
        for session in self.sessions:
            session.use(self._limits)

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
        self._hurried = False
        self._finished_at = None
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
        if self.running and self._finished_at is None and self._listener.listen():
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

    # ---------------------------------------------------------------------------- sessions

    def opened(self, transport: Any) -> Session:
        """A connection was accepted."""
        peer = address_of(transport.getPeer())
        session = Session(
            transport, self, self._limits, self.seconds, "http", peer, address_of(transport.getHost())
        )
        self.sessions[session] = transport
        self._last_opened = self.seconds()
        if self._heard:
            # With a small budget the sweep closes idle connections from the first moment of `finish` on.
            self._heard = False
            self._clock.callLater(SETTLE, self._hear)
        return session

    def _hear(self) -> None:
        """What the connections have sent is read in the coming turn, however late this timer came."""
        self._clock.callLater(0, setattr, self, "_heard", True)

    def begin(self, session: Any, request: Any) -> Exchange:
        """A head is complete."""
        exchange = Exchange(self, session, request)
        self.in_flight.begin(exchange)
        try:
            if exchange.since >= self._late_at:
                self.draining = True  # whatever drain.goaway_start says: nothing is served any more
                exchange.turn_away()
            else:
                exchange.start()
        except Exception:
            # A fault of ours. The session does not know the exchange yet: nobody else would ever end it.
            self.log.failure("{request} could not be started", request=exchange.describe())
            exchange.fault()
        return exchange

    def refused(self, session: Any, status: int, reason: str) -> None:
        """The session answers for itself: the client's fault."""
        self.log.debug(
            "{peer}: {status} {reason}", peer=session.peer and session.peer[0], status=status, reason=reason
        )

    def closed(self, session: Any) -> None:
        """A connection is gone."""
        self.sessions.pop(session, None)
        if not self.sessions:
            self._rouse()

    def activity(self) -> int:
        """A number that changes with every byte of the answers in flight, for ``status.liveness: strict``."""
        answered = sum(exchange.size for exchange in self.in_flight.items())
        return int(answered - sum(transport.buffered() for transport in self.sessions.values()))

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

    def over(self, exchange: Exchange, lost: str) -> None:
        """An exchange has ended: completely when *lost* is empty."""
        if exchange.cut:
            self.in_flight.end_cut(exchange)
        elif exchange.refused:
            self.in_flight.end_refused(exchange)
        elif lost:
            self.in_flight.end_lost(exchange)
        else:
            self.in_flight.end(exchange)
        if self._access is not None:
            self._record(self._access, exchange, lost)

    def _record(self, access: AccessLog, exchange: Exchange, lost: str) -> None:
        client = exchange.head.derived().client
        access.record(
            exchange.request,
            client[0] if client else "unix",
            exchange.status or 499,
            0 if exchange.request.method == "HEAD" else exchange.size,
            self.seconds() - exchange.since,
            not lost,
        )

    def failed(self, exchange: Exchange, error: Exception) -> None:
        """A call got no answer: a line for each, but one a second where it is the load."""
        if isinstance(error, Draining) or (isinstance(error, NoFreeWorker) and self._drain.draining):
            exchange.refused = True
        if isinstance(error, _OVERLOAD):
            reason = type(error).__name__
            self._overload[reason] = self._overload.get(reason, 0) + 1
        else:
            self.log.error(
                "{request} failed after {seconds:.2f} s: {error}",
                request=exchange.describe(),
                seconds=self.seconds() - exchange.since,
                error=error,
            )

    # ------------------------------------------------------------------------------- sweep

    def _sweep(self) -> None:
        now = self.seconds()
        for session, transport in list(self.sessions.items()):
            try:
                session.sweep(now)
            except Exception:
                # The others still need their time-outs.
                self.log.failure("a connection failed at its time-outs and is closed")
                transport.abortConnection()
        if self._finished_at is not None:
            self._see_off(now)
        overload, self._overload = self._overload, {}
        for reason, count in overload.items():
            self.log.warn("{count} requests were turned away: {reason}", count=count, reason=reason)

    def _see_off(self, now: float) -> None:
        """The listeners are closed: who never spoke goes now, who is idle near the deadline (drain.md F14, F18)."""
        if self._drain.remaining() <= LAST_SECONDS and self._heard and now - self._last_opened > SETTLE:
            self._close_idle()
        for session in list(self.sessions):
            session.close_unused(now, UNUSED)

    def _close_idle(self, half_received: bool = False) -> bool:
        """Close who has no exchange; whether all are closing now."""
        # Every one of them, whatever the others answer.
        return all([session.close_idle(half_received) for session in list(self.sessions)])

    # -------------------------------------------------------------------------------- stop

    def _changed(self, state: str) -> None:
        """The lifecycle moved: an admin's drain can be taken back, and then clients may stay."""
        if not getattr(self._drain, "leaving", self._drain.draining):
            self.draining = False

    def announce(self) -> None:
        """Tell clients to go elsewhere; go on accepting."""
        self.draining = True

    def finish(self) -> None:
        """Take what waits in the accept queue and close; connections go on."""
        if self._finished_at is None:
            self._finished_at = self.seconds()
            late = getattr(getattr(self._drain, "budget", None), "late_reject", None)
            if late is not None:
                self._late_at = self._finished_at + late
            self._not_ready(Failure(Draining()))
            self._listener.finish()
            if getattr(self._drain, "brisk", False):
                self._close_idle()

    def hurry(self) -> None:
        """Cut what is in flight, and do not wait for anybody."""
        self._hurried = True
        self.draining = True
        for exchange in self.in_flight.items():
            exchange.hurry()
        self._close_idle(True)
        self._rouse()

    def stopService(self) -> Deferred[None]:
        """Stop in order; `hurry` shortens it."""
        if self.running:
            super().stopService()
        self.draining = True
        self.finish()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        try:
            await self._drained()
            await self._pause(LAST_PARTING if self._hurried else PARTING)
            for transport in list(self.sessions.values()):
                transport.loseConnection()
            if self.sessions:
                await self._pause(0.0)
        finally:
            self._release()

    async def _drained(self) -> None:
        """Until every request is answered and every connection on its way out."""
        while self.sessions and not self._hurried:
            await self.in_flight.idle()
            now = self.seconds()
            young = self._last_opened + SETTLE - now
            if young > 0 or not self._heard:
                await self._pause(max(young, 0.0))
                continue
            if self._close_idle(now >= (self._finished_at or now) + HALF_OPEN):
                return
            await self._pause(SETTLE)

    async def _pause(self, seconds: float) -> None:
        """Wakers: a timer, the last connection's end, `hurry`."""
        if seconds and not self.sessions:
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
        for transport in list(self.sessions.values()):
            transport.abortConnection()
