"""The status listener: the first to serve, the last to stop, and alone in its phase.

Every answer is computed in the turn its question arrives, so a busy or resetting pool cannot delay it.
Its connections are never counted as in flight, and none can hold the exit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

import msgspec
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Protocol
from zope.interface import implementer

from twisted_rr.http1.answered import Answered
from twisted_rr.http1.response import render
from twisted_rr.http1.session import Session
from twisted_rr.http1.settings import SessionSettings
from twisted_rr.interfaces import IHost, IReloadable
from twisted_rr.lifecycle.sessions import SessionProtocol, settle
from twisted_rr.net import ports
from twisted_rr.plugins.status import answers, verdicts
from twisted_rr.plugins.status.answers import Answer, Question
from twisted_rr.plugins.status.checks.runner import Run, Runner, no_checks
from twisted_rr.plugins.status.config import StatusSettings
from twisted_rr.plugins.status.facts import Collector
from twisted_rr.plugins.status.waiting import Waiter, WaitingRoom

_SWEEP = 1.0

# Probes at once that are answered when the process has no file descriptors left.
_SPARE = 6

# At the stop: how long a connection that was just accepted may take to send its question, and when the last
# is aborted. Together below the 200 ms that may lie between the last answer and the exit (I10).
_LAST_QUESTIONS = 0.05
_LAST_ANSWERS = 0.1


_REFUSAL_LINGER = 0.5
_MOST_REFUSALS = 64


def _host_of(peer: Any) -> str:
    """Who asks, without the port; all of a unix socket are one."""
    return str(getattr(peer, "host", "unix"))


def _agent(headers: Any) -> str:
    for name, value in headers:
        if name == b"user-agent":
            return str(value.decode("latin-1"))
    return ""


_ANSWERED = Answered()


class StatusFront:
    """Answers the sessions of all status connections."""

    def __init__(
        self, host: IHost, settings: StatusSettings, collector: Collector, room: WaitingRoom
    ) -> None:
        #: For the session: answers then say ``connection: close``.
        self.draining = False
        self._settings = settings
        self._collector = collector
        self._room = room
        self._log = host.log("status")
        self._probed = getattr(host.drain, "probed", None)
        #: Open connections with their transports, the oldest first; those that are being closed are in ``leaving``.
        self.sessions: dict[Session, Any] = {}
        self.leaving: dict[Session, Any] = {}
        #: Called when the last connection is gone.
        self.on_empty: Callable[[], None] = lambda: None

    def use(self, settings: StatusSettings) -> None:
        """Answer by these settings from now on."""
        self._settings = settings

    def begin(self, session: Session, request: Any) -> Any:
        """Answer, or hold the question when its client asked for that and nothing has changed."""
        question = answers.read(request.method, request.target, request.headers)
        if self._probed is not None and question.route:
            self._probed(_host_of(session.peer), _agent(request.headers))
        first = self._answer(question)
        if question.wait and question.route and first.tag in question.known_tags:
            waiter = Waiter(
                first.tag,
                lambda: self._answer(question).tag,
                lambda: self._send(session, self._answer(question)),
            )
            if self._room.hold(waiter, question.wait):
                return Answered(functools.partial(self._room.forget, waiter))
        self._send(session, first)
        return _ANSWERED

    def refused(self, session: Session, status: int, reason: str) -> None:
        """The session refused a request."""
        self._log.debug("a malformed question: {status} {reason}", status=status, reason=reason)

    def closed(self, session: Session) -> None:
        """A connection is gone."""
        self.sessions.pop(session, None)
        self.leaving.pop(session, None)
        if not self.sessions and not self.leaving:
            self.on_empty()

    def make_room(self) -> bool:
        """Close the longest open connection that is idle, else of those that never end their question; or False."""
        return self._close_one(half_received=False) or self._close_one(half_received=True)

    def _close_one(self, half_received: bool) -> bool:
        for session, transport in list(self.sessions.items()):
            if session.close_idle(half_received):
                # It may be gone already, or linger for a moment.
                if self.sessions.pop(session, None) is not None:
                    self.leaving[session] = transport
                return True
        return False

    def hasten(self, most: int) -> None:
        """Let at most *most* connections linger: who comes may be a probe, who leaves has had its answer."""
        while len(self.leaving) > most:
            session = next(iter(self.leaving))
            self.leaving.pop(session).abortConnection()

    def _answer(self, question: Question) -> Answer:
        return answers.answer(question, self._collector.collect(), self._settings)

    def _send(self, session: Session, answer: Answer) -> None:
        session.respond(render(answer.status, answer.headers), answer.body, False)


#: The answer to a connection too many. Nothing was asked, so nothing is told but that.
_TOO_MANY = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n"
    b"cache-control: no-store\r\nretry-after: 1\r\nconnection: close\r\n\r\n%b"
)
_TOO_MANY_TEXT = b"too many connections to the status listener\n"


class _TooMany(Protocol):
    """A connection beyond the limit: a clear word, and the end of it."""

    def __init__(self, factory: _Factory) -> None:
        self._factory = factory

    def connectionMade(self) -> None:
        self._factory.refused += 1
        transport: Any = self.transport
        transport.write(_TOO_MANY % (len(_TOO_MANY_TEXT), _TOO_MANY_TEXT))
        transport.close_lingering(_REFUSAL_LINGER)

    def connectionLost(self, reason: Any = None) -> None:
        self._factory.refused -= 1


class _Factory:
    """Makes connections, up to a number.

    :ivar refused: connections that are being told that they are too many.
    """

    noisy = False

    def __init__(self, front: StatusFront, settings: StatusSettings, clock: Callable[[], float]) -> None:
        self._front = front
        self._most = settings.max_connections
        self.refused = 0
        # A probe sends its question at once and reads the answer at once; nobody else is expected here.
        patience = max(settings.patience, 0.1)
        self._session_settings = SessionSettings(
            header_timeout=patience,
            body_timeout=patience,
            write_timeout=max(patience, 5.0),
            linger=0.5,
            max_header_bytes=16384,
            max_request_size=65536,
        )
        self._clock = clock

    def buildProtocol(self, address: Any) -> Protocol | None:
        if len(self._front.sessions) >= self._most and not self._front.make_room():
            # Bounded too: a flood is just closed.
            return _TooMany(self) if self.refused < _MOST_REFUSALS else None
        self._front.hasten(max(self._most, _MOST_REFUSALS))
        return SessionProtocol(self._begin)

    def _begin(self, transport: Any) -> Session:
        peer, host = transport.getPeer(), transport.getHost()
        session = Session(transport, self._front, self._session_settings, self._clock, "http", peer, host)
        self._front.sessions[session] = transport
        return session

    def doStart(self) -> None:  # noqa: N802
        """Nothing to prepare."""

    def doStop(self) -> None:  # noqa: N802
        """The service closes the connections."""


#: What can change while it answers; the others are about its listener, or counted from the start.
LIVE: Final = frozenset(
    {
        "unavailable_status_code",
        "liveness",
        "on_saturation",
        "answers",
        "lifecycle_entry",
        "rr_text_plain",
        "rr_strict_shutdown_body",
    }
)


@implementer(IReloadable)
class StatusService(Service):
    """Listens from ``startService`` on; ``stopService`` ends within 150 ms."""

    def __init__(
        self,
        host: IHost,
        settings: StatusSettings,
        bind: Callable[[str], Any] = ports.bind,
        run: Run = no_checks,
    ) -> None:
        """*run* runs one of ``status.checks`` once."""
        self.setName("status")
        self.section = "status"
        self.live = LIVE
        self._host = host
        self._settings = settings
        self._bind = bind
        self._checks = Runner(settings.checks, settings.patience, host.clock, run, host.log("status"))
        self._collector = Collector(host, settings, host.log("status"), self._checks.facts)
        self._room = WaitingRoom(host.clock, settings.max_waiting)
        self.front = StatusFront(host, settings, self._collector, self._room)
        self._port: Any = None
        self._timer: IDelayedCall | None = None
        self._unwatch: Callable[[], None] | None = None

    def prepare(self, settings: StatusSettings) -> Callable[[], None]:
        """See `IReloadable`; every value was checked when the section was read."""
        return lambda: self.use(settings)

    def use(self, settings: StatusSettings) -> None:
        """Answer by these settings from now on (`live` says which of them)."""
        self._settings = settings
        self.front.use(settings)
        self._collector.use(settings)
        self._room.look_again()

    @property
    def address(self) -> str:
        """Where it is bound, with the real port; as configured before and after."""
        return self._settings.address if self._port is None else str(self._port.address)

    def healthy(self) -> bool:
        """Whether /health is 200 now; for the watchdog."""
        return verdicts.health(self._collector.collect(), (), self._settings).code == 200

    def probe(self, target: str) -> tuple[int, list[Any]]:
        """What a GET of *target* would be answered now: code and list; for the operator's own probes."""
        question = answers.read("GET", target.encode("latin-1"), ())
        given = answers.answer(question, self._collector.collect(), self._settings)
        try:
            told = msgspec.json.decode(given.body)
        except msgspec.DecodeError:  # RoadRunner's text, by option
            told = [given.body.decode().strip()]
        return given.status, told

    def privilegedStartService(self) -> None:
        """Bind; raises `ListenError`."""
        if self._port is None:
            self._port = self._bind(self._settings.address)

    def startService(self) -> None:
        """Listen at once: a probe that comes early is told ``booting``."""
        self.privilegedStartService()
        super().startService()
        factory = _Factory(self.front, self._settings, self._host.clock.seconds)
        self._port.listen(factory, self._host.reactor, spare=_SPARE)
        self._collector.start()
        self._checks.start()
        self._unwatch = self._host.drain.watch(self._changed)
        self._changed(self._host.drain.state)
        self._tick()

    def _changed(self, state: str) -> None:
        self.front.draining = self._host.drain.draining
        self._room.look_again()

    def _tick(self) -> None:
        self._timer = self._host.clock.callLater(_SWEEP, self._tick)
        now = self._host.clock.seconds()
        for session in list(self.front.sessions):
            session.sweep(now)
        # Evidence is timed between probes too, or it would take two of them to see anything.
        self._collector.collect()
        self._room.look_again()

    def stopService(self) -> Deferred[None]:
        """Accept what is in the queue, answer everything, close."""
        if self.running:
            super().stopService()
        self._stop_watching()
        self._checks.stop()
        port, self._port = self._port, None
        if port is not None:
            if port.listening:
                port.finish()
            port.close()
        self._room.empty()
        return Deferred.fromCoroutine(self._close_sessions())

    def _stop_watching(self) -> None:
        if self._unwatch is not None:
            self._unwatch()
            self._unwatch = None
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    async def _close_sessions(self) -> None:
        await self._settle(_LAST_QUESTIONS)
        for session in list(self.front.sessions):
            session.close_idle(half_received=True)
        await self._settle(_LAST_ANSWERS)
        for session in [*self.front.sessions, *self.front.leaving]:
            session.cut()

    async def _settle(self, seconds: float) -> None:
        if self.front.sessions or self.front.leaving:
            await settle(self.front, self._host.clock, seconds)
