"""What a session needs of its neighbours: the transport below it, the front and the exchanges above it.

Contracts only, as protocols, so that none of the three must import another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from twisted_rr.http1.request import Request


class Transport(Protocol):
    """A byte stream to the client. After a loss, every call is harmless."""

    def write(self, data: bytes) -> None:
        """Send now what the kernel takes, keep the rest."""

    def buffered(self) -> int:
        """How many bytes were written and not yet taken by the kernel."""

    def on_flush(self, callback: Callable[[], None]) -> None:
        """Call *callback* once, as soon as nothing is buffered; at once when nothing is."""

    def close_lingering(self, seconds: float) -> None:
        """Send what is buffered, then FIN, then read and drop until the client's FIN or for *seconds*."""

    def loseConnection(self) -> None:
        """Send what is buffered, then close."""

    def abortConnection(self) -> None:
        """Close now; what is buffered is dropped. May call ``connection_lost`` before it returns."""

    def pauseProducing(self) -> None:
        """Stop reading."""

    def resumeProducing(self) -> None:
        """Read again."""

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Call ``pauseProducing`` and ``resumeProducing`` of *producer* as the buffer fills and drains."""

    def unregisterProducer(self) -> None:
        """Forget the producer."""


class Exchange(Protocol):
    """One request and its answer, as the front sees it.

    The session ends it by exactly one of `sent` and `lost`; nothing is called after that, and nothing is called
    before ``Front.begin`` has returned it.
    """

    def body(self, data: bytes, more: bool) -> bool:
        """A piece of the request's content; the last has ``more=False`` (and may be empty).

        Not called at all for a request of length 0. Bytes that came with the head are handed over right after
        ``begin`` has returned, in the same turn. Once it answers False it is not called again before
        ``Session.resume_body()``, which may also come from inside this call.
        """

    def pause(self) -> None:
        """The answer backs up: produce no more of it until `resume`."""

    def resume(self) -> None:
        """The answer flows again."""

    def sent(self) -> None:
        """The last byte of the answer was taken by the kernel; the exchange is over."""

    def lost(self, reason: str) -> None:
        """The answer can not be completed; the exchange is over and the session takes no more of it.

        *reason* is a short word: ``client`` (it went away), ``timeout`` (it neither sent nor took a byte for too
        long), ``malformed``, ``too large`` or ``trailers`` (the rest of its body, or trailers that are too large; it
        was answered 400, 413 or 431 if nothing had been sent yet), ``length`` (what was sent contradicts the
        content-length), ``cut`` (by `Session.cut`).
        """


class Front(Protocol):
    """The owner of sessions."""

    #: True while the server is stopping: each answer then says ``connection: close``, and the connection ends after
    #: it. Read when an answer's head is sent.
    draining: bool

    def begin(self, session: Any, request: Request) -> Exchange:
        """A head is complete: answer with the exchange for it. It may be answered before this returns."""

    def refused(self, session: Any, status: int, reason: str) -> None:
        """The session itself answers *status*, or just closes (status 0), because of *reason*: for one debug line.

        *reason* is a fixed text and holds no byte of the client's.
        """

    def closed(self, session: Any) -> None:
        """The connection is gone; called once, after the exchange's ``lost`` if one was open."""
