"""The connections of the admin socket: who is at the other end, and HTTP in both directions."""

from __future__ import annotations

import functools
import os
import socket
import struct
from collections.abc import Callable
from typing import Any

import msgspec

from twisted_rr.http1.answered import Answered
from twisted_rr.http1.response import render
from twisted_rr.http1.session import Session
from twisted_rr.http1.settings import SessionSettings
from twisted_rr.lifecycle.admin.verbs import Verbs
from twisted_rr.lifecycle.admin.waits import Waits
from twisted_rr.lifecycle.sessions import SessionProtocol
from twisted_rr.log import logger

#: More are closed at once: preStop hooks and probes are few.
MOST = 128

_CREDENTIALS = struct.Struct("3i")

SETTINGS = SessionSettings(
    header_timeout=5.0,
    body_timeout=5.0,
    write_timeout=5.0,
    keep_alive_timeout=15.0,
    linger=0.5,
    max_header_bytes=16384,
    max_request_size=65536,
)


def credentials_of(transport: Any) -> tuple[int, int]:
    """Process and user at the other end of a unix socket, as the kernel noted them at the connect."""
    packed = transport.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(packed)
    return pid, uid


class AdminFront:
    """Answers the sessions of all connections.

    :ivar draining: answers say ``connection: close``.
    :ivar sessions: the open ones, each with the words for who it is.
    :ivar on_empty: called when the last one is gone.
    """

    def __init__(self, verbs: Verbs, waits: Waits, state: Callable[[], str]) -> None:
        self.draining = False
        self.sessions: dict[Session, str] = {}
        self.on_empty: Callable[[], None] = lambda: None
        self._verbs = verbs
        self._waits = waits
        self._state = state
        self._log = logger("admin")
        self._strangers: set[int] = set()

    def begin(self, session: Session, request: Any) -> Answered:
        """A request is complete up to its content, which no verb has a use for."""
        who = self.sessions.get(session, "somebody")
        wait = self._verbs.begin(
            request.method, request.target, who, lambda status, told: self._answer(session, status, told)
        )
        return Answered(None if wait is None else functools.partial(self._waits.forget, wait))

    def _answer(self, session: Session, status: int, told: dict[str, Any]) -> None:
        headers = [
            (b"content-type", b"application/json"),
            (b"cache-control", b"no-store"),
            (b"x-rr-lifecycle", self._state().encode()),
        ]
        if status == 405:
            headers.append((b"allow", ", ".join(told.get("allow", ())).encode()))
        session.respond(render(status, headers), msgspec.json.encode(told) + b"\n", False)

    def refused(self, session: Session, status: int, reason: str) -> None:
        """The session refused a malformed request."""
        self._log.debug("a malformed request: {status} {reason}", status=status, reason=reason)

    def closed(self, session: Session) -> None:
        """A connection is gone."""
        self.sessions.pop(session, None)
        if not self.sessions:
            self.on_empty()

    def admits(self, transport: Any) -> str:
        """Who is there in words, empty for a stranger: only root and the server's own user are served."""
        pid, uid = credentials_of(transport)
        if uid in (0, os.geteuid()):
            return f"process {pid} of user {uid}"
        if uid not in self._strangers and len(self._strangers) < 64:
            self._strangers.add(uid)
            self._log.warn("user {uid} may not use the admin socket", uid=uid)
        return ""


class AdminFactory:
    """Makes connections, up to `MOST`."""

    noisy = False

    def __init__(self, front: AdminFront, clock: Callable[[], float]) -> None:
        self._front = front
        self._clock = clock

    def buildProtocol(self, address: Any) -> SessionProtocol | None:
        """A connection was accepted."""
        return SessionProtocol(self._begin) if len(self._front.sessions) < MOST else None

    def _begin(self, transport: Any) -> Session | None:
        who = self._front.admits(transport)
        if not who:
            transport.abortConnection()
            return None
        session = Session(transport, self._front, SETTINGS, self._clock, "http", None, None)
        self._front.sessions[session] = who
        return session

    def doStart(self) -> None:  # noqa: N802
        """Nothing to prepare."""

    def doStop(self) -> None:  # noqa: N802
        """The service closes the connections."""
