"""What every front does alike: bind, listen once its pool is ready, count, sweep, and leave in order.

How a front is written on it is docs/fronts.md. What a connection says, and what is done with an exchange, is the
front's own; binding and emptying a port is `listeners`', the deadline of a stop `drain`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_rr.errors import Cancelled, Draining, NoFreeWorker, QueueFull
from twisted_rr.interfaces import IFront
from twisted_rr.lifecycle.in_flight import InFlight
from twisted_rr.lifecycle.listeners import Listener
from twisted_rr.net import ports

SWEEP: Final = 1.0
"""Seconds between two looks at every connection's time-outs."""

PARTING: Final = 0.5
"""How long the stop waits for clients to close after our FIN, lest a reset overtakes an answer."""

LAST_PARTING: Final = 0.05
"""The same when the stop is forced."""

SETTLE: Final = 0.1
"""What came in the last moment before the listener closed is read, and begun, within this time."""

_OVERLOAD = (NoFreeWorker, QueueFull, Draining, Cancelled)


@implementer(IFront)
class Front(Service):
    """One address and its connections: the base of a front. See `IFront`.

    Binds in ``privilegedStartService``, listens once the pool is ready (`started`). ``stopService`` closes the
    listener, waits until nothing is in flight, sees the connections out, and fires. May start again after that.

    A subclass puts each connection into `connections` and takes it out by `closed`; it begins each exchange in
    `in_flight` and ends it by `over`. It says how connections leave in `see_out`, and may add to `announce`,
    `finished`, `hurried`, `swept`, `changed` and `released`.

    :ivar pools: all that have to be ready first; a front that has more than its own adds them.
    :ivar in_flight: the exchanges that are open. Each has ``since``, ``describe()``, ``hurry()``, and the flags
        ``cut`` and ``refused``, by which `over` knows how it ended.
    :ivar connections: each, with its transport. Each has ``sweep(now)``, which looks at its time-outs.
    :ivar draining: clients are told to go elsewhere.
    :ivar finished_at: when the listener was closed, None before.
    :ivar late_at: from then on what comes is turned away (``drain.late_reject_after``).
    :ivar forced: `hurry` was called.
    """

    exchanges = "requests"
    """What they are called in the log."""

    records = False
    """Whether `record` hears of the end of each exchange; on the path of every request."""

    def __init__(
        self,
        name: str,
        address: str,
        factory: Any,
        host: Any,
        pool: Any = None,
        bind: Callable[[str], Any] = ports.bind,
    ) -> None:
        """*factory* makes a protocol for each connection. Without a *pool* it listens as soon as it is started."""
        self.setName(name)
        self.pool = pool
        self.pools: tuple[Any, ...] = () if pool is None else (pool,)
        self.host = host
        self.turn = host.turn
        self.clock = host.clock
        self.seconds: Callable[[], float] = host.clock.seconds
        self.drain = host.drain
        self.log = host.log(name)
        # Any, because compiled code asks for just the type that is written here, and the kit puts its own in this place.
        self.in_flight: Any = InFlight(name, self.seconds)
        self.connections: dict[Any, Any] = {}
        self.draining = False
        self.forced = False
        self.finished_at: float | None = None
        self.late_at = float("inf")
        self._listener = Listener(address, factory, host.reactor, host.drain, bind=bind)
        self._overload: dict[str, int] = {}
        self._started: list[Deferred[None]] = []
        self._failure: Failure | None = None
        self._sweeper: LoopingCall | None = None
        self._unwatch: Callable[[], None] | None = None
        self._wake: Deferred[None] | None = None

    # ------------------------------------------------------------------------------ start

    @property
    def address(self) -> str:
        """Where it is bound, with the real port."""
        return self._listener.address

    @property
    def listening(self) -> bool:
        """Whether connections are accepted."""
        return self._listener.listening

    @property
    def finishing(self) -> bool:
        """Whether the listener is closed because of the stop."""
        return self.finished_at is not None

    def limit_silence(self, seconds: float) -> None:
        """How long a peer may acknowledge nothing of what was sent before the kernel gives it up; 0: as it likes."""
        self._listener.limit_silence(seconds)

    def privilegedStartService(self) -> None:
        """Bind; raises `ListenError`."""
        self._listener.privilegedStartService()

    def startService(self) -> None:
        """Begin; `started` tells when it listens."""
        super().startService()
        self.draining = False
        self.forced = False
        self.finished_at = None
        self.late_at = float("inf")
        self._failure = None
        self._listener.startService()
        self._unwatch = self.drain.watch(self.changed)
        self._sweeper = LoopingCall(self._sweep)
        self._sweeper.clock = self.clock
        self._sweeper.start(SWEEP, now=False)
        ready = Deferred.fromCoroutine(self._pools_ready()).addCallback(self._listen)
        ready.addErrback(self._not_ready)

    async def _pools_ready(self) -> None:
        for pool in self.pools:
            await pool.ready()

    def started(self) -> Deferred[None]:
        """Fires when it listens; fails as the pool does, or with a `ListenError`: who is bound may still come too late."""
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
        # Whoever asked the pool is told by it; those who asked here, here. On Linux two may be bound, if neither
        # listens yet: the second one then learns of the other only when it listens.
        self._failure = failure
        started, self._started = self._started, []
        for waiter in started:
            waiter.errback(failure)

    # ------------------------------------------------------------ connections and exchanges

    def closed(self, connection: Any) -> None:
        """A connection is gone."""
        self.connections.pop(connection, None)
        if not self.connections:
            self._rouse()

    def transport_of(self, connection: Any) -> Any:
        """For a front that keeps more of a connection than its transport."""
        return self.connections[connection]

    def transports(self) -> list[Any]:
        """Of every connection."""
        return [self.transport_of(connection) for connection in self.connections]

    def over(self, exchange: Any, lost: object) -> None:
        """An exchange has ended: completely unless it was *lost*."""
        if exchange.cut:
            self.in_flight.end_cut(exchange)
        elif exchange.refused:
            self.in_flight.end_refused(exchange)
        elif lost:
            self.in_flight.end_lost(exchange)
        else:
            self.in_flight.end(exchange)
        if self.records:
            self.record(exchange, lost)

    def record(self, exchange: Any, lost: object) -> None:
        """The same, for logs and metrics, while `records` is set."""

    def failed(self, exchange: Any, error: Exception) -> None:
        """An exchange got no answer: a line for each, but one a second where it is the load."""
        if isinstance(error, Draining) or (isinstance(error, NoFreeWorker) and self.drain.draining):
            exchange.refused = True
        if isinstance(error, _OVERLOAD):
            reason = type(error).__name__
            self._overload[reason] = self._overload.get(reason, 0) + 1
        else:
            self.log.error(
                "{exchange} failed after {seconds:.2f} s: {error}",
                exchange=exchange.describe(),
                seconds=self.seconds() - exchange.since,
                error=error,
            )

    # ------------------------------------------------------------------------------- sweep

    def _sweep(self) -> None:
        now = self.seconds()
        for connection in list(self.connections):
            try:
                connection.sweep(now)
            except Exception:
                # The others still need their time-outs.
                self.log.failure("a connection failed at its time-outs and is closed")
                self.transport_of(connection).abortConnection()
        self.swept(now)
        overload, self._overload = self._overload, {}
        for reason, count in overload.items():
            text = "{count} {exchanges} were turned away: {reason}"
            self.log.warn(text, count=count, exchanges=self.exchanges, reason=reason)

    def swept(self, now: float) -> None:
        """Once a second, after the connections' time-outs."""

    # -------------------------------------------------------------------------------- stop

    def changed(self, state: str) -> None:
        """The lifecycle moved: an admin's drain can be taken back, and then clients may stay."""
        if not getattr(self.drain, "leaving", self.drain.draining):
            self.draining = False

    def announce(self) -> None:
        """Tell clients to go elsewhere; go on accepting."""
        self.draining = True

    def finish(self) -> None:
        """Take what waits in the accept queue and close; connections go on."""
        if self.finishing:
            return
        self.finished_at = self.seconds()
        late = getattr(getattr(self.drain, "budget", None), "late_reject", None)
        if late is not None:
            self.late_at = self.finished_at + late
        self._not_ready(Failure(Draining()))
        self._listener.finish()
        self.finished()

    def finished(self) -> None:
        """The listener is closed, and what was in its queue has been accepted."""

    def hurry(self) -> None:
        """Cut what is in flight, and do not wait for anybody."""
        self.forced = True
        self.draining = True
        for exchange in self.in_flight.items():
            exchange.hurry()
        self.hurried()
        self._rouse()

    def hurried(self) -> None:
        """Every exchange was cut: what else holds a connection goes now."""

    def stopService(self) -> Deferred[None]:
        """Stop in order; `hurry` shortens it."""
        if self.running:
            super().stopService()
        self.announce()
        self.finish()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        try:
            await self._drained()
            await self._pause(LAST_PARTING if self.forced else PARTING)
            for transport in self.transports():
                transport.loseConnection()
            if self.connections:
                await self._pause(0.0)
        finally:
            self._release()

    async def _drained(self) -> None:
        """Until every exchange is over and every connection on its way out."""
        while self.connections and not self.forced:
            await self.in_flight.idle()
            wait = self.see_out()
            if wait is None:
                return
            await self._pause(wait)

    def see_out(self) -> float | None:
        """Nothing is in flight: close the connections.

        None when every one is on its way out, else the seconds until the next look (also at what is in flight).
        """
        young = (self.finished_at or 0.0) + SETTLE - self.seconds()
        if young > 0:
            return young
        for transport in self.transports():
            transport.loseConnection()
        return None

    async def _pause(self, seconds: float) -> None:
        """Wakers: a timer, the last connection's end, `hurry`."""
        if seconds and not self.connections:
            return
        wake: Deferred[None] = Deferred()
        self._wake = wake
        timer = self.clock.callLater(seconds, self._rouse)
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
        for transport in self.transports():
            transport.abortConnection()
        self.released()

    def released(self) -> None:
        """It is over, the connections are aborted: timers and whatever else there is go now."""
