"""The time-outs of a connection, as sweeps see them. What follows from one is done by the session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twisted_rr.http2.codes import CANCEL, NO_ERROR, PROTOCOL_ERROR, SETTINGS_TIMEOUT
from twisted_rr.http2.goaway import STAYING
from twisted_rr.http2.intake import COMPLETE
from twisted_rr.http2.limits import Wait
from twisted_rr.http2.states import OPEN
from twisted_rr.http2.streams import WINDOW, Stream

if TYPE_CHECKING:
    from twisted_rr.http2.session import Session

_ALIVE: Final = b"alive?!?"


class Watch:
    """When one connection began, and for how long it has been waiting for its client."""

    __slots__ = ("_block", "_idle", "_session", "_silence", "_stall", "asked_at", "began")

    def __init__(self, session: Session) -> None:
        self._session = session
        self.began = session.clock()
        self.asked_at = -1.0  # when a sign of life was asked for
        self._stall = Wait()
        self._block = Wait()
        self._idle = Wait()
        self._silence = Wait()

    def sweep(self, now: float) -> None:
        """Look at everything that the client may let us wait for; the first that is too late ends it."""
        session = self._session
        if self._is_stalled(now):
            session.abort("the client takes nothing")
        elif self._is_block_late(now):
            session.fail(PROTOCOL_ERROR, "a header block did not come in time")
        elif self._is_silent(now):
            session.abort("the client shows no sign of life")
        else:
            self._greeting(now)
            self._age(now)
            self._rest(now)
            self._watch_streams(now)

    def _is_stalled(self, now: float) -> bool:
        session = self._session
        buffered = session.transport.buffered()
        limit = session.settings.write_timeout
        seconds = self._stall.seconds(now, buffered > 0, session.written - buffered)
        return 0 < limit <= seconds

    def _greeting(self, now: float) -> None:
        """The preface, then the acknowledgement of our SETTINGS."""
        session = self._session
        settings = session.settings
        since = now - self.began
        intake = session.intake
        if intake.stage != COMPLETE:
            if 0 < settings.preface_timeout <= since:
                session.fail(PROTOCOL_ERROR, "the preface did not come in time")
        elif not intake.control.is_acked and 0 < settings.settings_timeout <= since:
            session.fail(SETTINGS_TIMEOUT, "SETTINGS were not acknowledged in time")

    def _is_block_late(self, now: float) -> bool:
        session = self._session
        limit = session.settings.header_timeout
        return 0 < limit <= self._block.seconds(now, session.intake.is_in_block(), 0)

    def _is_silent(self, now: float) -> bool:
        """Whether the client has not answered; it is asked after a time of silence."""
        session = self._session
        settings = session.settings
        silence = self._silence.seconds(now, True, session.intake.heard)
        if not 0 < settings.keepalive_time <= silence:
            self.asked_at = -1.0
        elif self.asked_at < 0:
            self.asked_at = now
            session.ask(_ALIVE)
        else:
            return now - self.asked_at >= settings.keepalive_timeout
        return False

    def _age(self, now: float) -> None:
        session = self._session
        settings = session.settings
        age = now - self.began
        if 0 < session.max_age <= age:
            session.drain()
            if settings.max_age_grace and age >= session.max_age + settings.max_age_grace:
                session.close(NO_ERROR, "max_age")

    def _rest(self, now: float) -> None:
        """Idle connections are told to go; those told to go, told for good."""
        session = self._session
        settings = session.settings
        idle = self._idle.seconds(now, not session.streams, session.intake.numbers.last)
        if session.departure.state == STAYING and 0 < settings.idle_timeout <= idle:
            session.drain()
        if session.departure.is_overdue(now, settings.drain_ping):
            session.leave()

    def _watch_streams(self, now: float) -> None:
        session = self._session
        body_limit = session.settings.body_timeout
        window_limit = session.settings.window_timeout
        if not body_limit and not window_limit:
            return
        for stream in list(session.streams.values()):
            if body_limit and _body_seconds(stream, now) >= body_limit:
                session.reset_stream(stream.id, CANCEL, "the content of a request did not come in time")
            elif window_limit and _window_seconds(stream, now) >= window_limit:
                session.reset_stream(stream.id, CANCEL, "no window for an answer came in time")


def _body_seconds(stream: Stream, now: float) -> float:
    """For how long content has been waited for that the client could send."""
    wait = stream.body_wait
    if wait is None:
        wait = stream.body_wait = Wait()
    return wait.seconds(now, stream.state == OPEN and stream.window > 0 and not stream.held, stream.received)


def _window_seconds(stream: Stream, now: float) -> float:
    """For how long an answer has waited for the stream's own window."""
    wait = stream.window_wait
    if wait is None:
        wait = stream.window_wait = Wait()
    return wait.seconds(now, stream.waits == WINDOW, stream.queued)
