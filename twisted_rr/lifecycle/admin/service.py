"""The admin socket as a service of phase CONTROL: it answers before any worker starts and after the last was reaped.

Its listener closes with that phase; who waits for the end of the stop is answered in the flush, with the report.
The state file beside the socket is kept here too, because both belong to one running server.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall

from twisted_rr.errors import ListenError
from twisted_rr.lifecycle.admin.connections import AdminFactory, AdminFront
from twisted_rr.lifecycle.admin.place import Place
from twisted_rr.lifecycle.admin.progress import Progress
from twisted_rr.lifecycle.admin.verbs import Verbs
from twisted_rr.lifecycle.admin.waits import Waits
from twisted_rr.lifecycle.drain import STOPPING
from twisted_rr.lifecycle.previous_exit import CLEAN, FAILED, PreviousExit, StateFile
from twisted_rr.lifecycle.server import Server
from twisted_rr.lifecycle.sessions import settle
from twisted_rr.log import logger
from twisted_rr.net import ports

_SWEEP = 1.0
# How often the state file says that the server lives: so exact is what the next run tells about a kill.
_SIGN_OF_LIFE = 10
# For the last answers, of the time that the flush has.
_LAST_ANSWERS = 0.15
_MODE = 0o600
# Operators at once that are answered when the process has no file descriptors left.
_SPARE = 2


class AdminService(Service):
    """See the module.

    :param places: asked at the start: where the socket may be, the best first (`place.places`), or the one place
        that was configured.
    :param configured: that place was asked for: a start that cannot have it fails. Else the server goes on without.
    :param facts: folder, configuration and so on, for the state file and ``GET /status``.
    :param stop: how the process is stopped; None stops the service alone (embedding).
    :ivar previous: how the run before ended, None when that is not known.
    """

    def __init__(
        self,
        server: Server,
        places: Callable[[], Sequence[Place]],
        *,
        configured: bool = False,
        facts: Mapping[str, Any] | None = None,
        stop: Callable[[str], object] | None = None,
        bind: Callable[..., Any] = ports.bind,
        state_file: Callable[[str], StateFile] = StateFile,
    ) -> None:
        self.setName("admin")
        self.previous: PreviousExit | None = None
        self._server = server
        self._places = places
        self._configured = configured
        self._given = dict(facts or {})
        self._stop = self._stop_service if stop is None else stop
        self._bind = bind
        self._make_state_file = state_file
        self._log = logger("admin")
        progress = Progress(server)
        self._waits = Waits(server, progress)
        verbs = Verbs(server, progress, self._waits, self._stop, self._facts)
        self.front = AdminFront(verbs, self._waits, lambda: server.drain.state)
        self._port: Any = None
        self._state: StateFile | None = None
        self._is_second = False
        self._timer: IDelayedCall | None = None
        self._sweeps = 0
        server.drain.watch(self._changed)
        server.at_end(self._end)

    @property
    def socket(self) -> str:
        """The path of the socket, or ``@name``; empty while there is none."""
        return "" if self._port is None else str(self._port.address).removeprefix("unix://")

    def _facts(self) -> dict[str, Any]:
        previous = self.previous
        told = None if previous is None else {"reason": previous.label, "text": str(previous)}
        return {**self._given, "socket": self.socket, "previous_exit": told}

    # ------------------------------------------------------------------ start

    def privilegedStartService(self) -> None:
        """A configured socket is bound here, so that one in use fails the start in the foreground."""
        if self._configured:
            self._open()

    def startService(self) -> None:
        """Listen. Later than the other ports are bound: a server that gives up its privileges owns the socket then."""
        super().startService()
        if self._port is None:
            self._open()
        if self._port is not None:
            factory = AdminFactory(self.front, self._server.clock.seconds)
            self._port.listen(factory, self._server.reactor, spare=_SPARE)
            self._log.info("operators are served at {socket}", socket=self.socket)
        self._begin_record()
        self._tick()

    def _open(self) -> None:
        """Take the first place that can be had; raises `ListenError` for a configured one."""
        problems = []
        for place in self._places():
            try:
                self._take(place)
                return
            except ListenError as error:
                if self._configured:
                    raise
                problems.append(str(error))
        self._log.warn(
            "there is no admin socket: {problems}", problems="; ".join(problems) or "no place for it"
        )

    def _take(self, place: Place) -> None:
        state = self._make_state_file(place.state) if place.state else None
        taken = state is not None and not state.open()
        try:
            if taken:
                raise ListenError(place.socket, "another server of this configuration has it")
            self._port = self._bind(f"unix://{place.socket}", _MODE)
            self._state = state
            if not (self._configured or self._is_second):
                remove_dead(place)
        except ListenError as error:
            if state is not None:
                state.close()
            # Somebody lives there. Only a name that we chose ourselves may become another one.
            if self._configured or self._is_second or not (taken or "EADDRINUSE" in error.reason):
                raise
            self._take_second(place)

    def _take_second(self, place: Place) -> None:
        self._is_second = True
        try:
            second = place.second(os.getpid())
            self._take(second)
        finally:
            self._is_second = self._port is not None
        self._log.warn(
            "another server of this configuration has {first}; this one's socket is {second}",
            first=place.socket,
            second=second.socket,
        )

    def _begin_record(self) -> None:
        if self._state is None:
            return
        self.previous = self._state.previous
        self._state.begin({**self._given, "socket": self.socket}, self._server.drain.state)
        if self._state.trouble:
            self._log.info(
                "how this run ends will not be known: {path}: {trouble}",
                path=self._state.path,
                trouble=self._state.trouble,
            )
        if self.previous is not None and self.previous.unclean:
            self._log.warn(
                "the previous run did not end in order: {previous}",
                previous=str(self.previous),
                reason=self.previous.label,
                state=self.previous.state,
                pid=self.previous.pid,
                ago=round(self.previous.ago, 1),
            )

    def _tick(self) -> None:
        self._timer = self._server.clock.callLater(_SWEEP, self._tick)
        now = self._server.clock.seconds()
        for session in list(self.front.sessions):
            session.sweep(now)
        self._sweeps += 1
        if self._state is not None and self._sweeps % _SIGN_OF_LIFE == 0:
            self._state.seen()

    def _changed(self, state: str) -> None:
        self.front.draining = self._server.drain.draining
        if self._state is not None and self.running:
            self._state.enter(state)

    # ------------------------------------------------------------------- stop

    def _stop_service(self, cause: str) -> None:
        stopped = maybeDeferred(self._server.stopService)
        stopped.addErrback(lambda failure: self._log.failure("the stop failed", failure=failure))

    def stopService(self) -> None:
        """Close the listener. Who is connected stays until the flush, unless there will be none (a failed start)."""
        if self.running:
            super().stopService()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        port, self._port = self._port, None
        if port is not None:
            if port.listening:
                port.finish()
            port.close()
        if self._server.drain.state != STOPPING:
            for session in list(self.front.sessions):
                # Nothing to wait for, and nobody sweeps any more: an idle one would stay for good.
                if not session.close_idle(half_received=True):
                    session.cut()
            self._end_record(FAILED, "failed start")

    def hurry(self) -> None:
        """Nothing here takes time."""

    def _end(self) -> Deferred[None]:
        """The flush: everybody who waits hears how the stop went."""
        report = self._server.report
        self._waits.end(report)
        outcome = "" if report is None else report.outcome
        self._end_record(FAILED if outcome == FAILED else CLEAN, outcome)
        return Deferred.fromCoroutine(self._see_out())

    def _end_record(self, reason: str, outcome: str) -> None:
        state, self._state = self._state, None
        if state is not None:
            state.end(reason, outcome)
            state.close(remove=self._is_second)
        self._is_second = False

    async def _see_out(self) -> None:
        for session in list(self.front.sessions):
            session.close_idle(half_received=True)
        if self.front.sessions:
            await settle(self.front, self._server.clock, _LAST_ANSWERS)
        for session in list(self.front.sessions):
            session.cut()


def remove_dead(place: Place) -> None:
    """Remove what second servers of *place* left when they were killed."""
    base = place.socket.removesuffix(".sock")
    for path in glob.glob(f"{glob.escape(base)}.*.sock.state"):
        state = StateFile(path)
        if state.open():
            try:
                os.unlink(path.removesuffix(".state"))
            except OSError:
                pass  # It never came to a socket.
            state.close(remove=True)
