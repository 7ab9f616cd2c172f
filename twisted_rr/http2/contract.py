"""What a session needs of its neighbours: the transport below it, the front and the exchanges above it.

Contracts only, as protocols, so that none of the three must import another. What they call in turn is
`twisted_rr.http2.session.Session` and `twisted_rr.http2.streams.Stream`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from twisted_rr.http2.head import Head
    from twisted_rr.http2.streams import Stream


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

    def abortConnection(self) -> None:
        """Close now; what is buffered is dropped. May call ``connection_lost`` before it returns."""


class Exchange(Protocol):
    """One request and its answer, as the front sees it.

    The session ends it by exactly one of `closed` and `reset`, unless the exchange itself called ``Stream.reset``:
    then it hears nothing more. Nothing is called before ``Front.begin`` has returned it.
    """

    def data(self, data: bytes, end: bool) -> bool:
        """A piece of the request's content; with *end* it is the last, and may be empty.

        True when it is consumed by now. Otherwise ``Stream.consumed(n)`` has to follow, at once or later, in one or
        several steps: the client may send no more than the stream's window beyond what was consumed.
        """

    def trailers(self, fields: list[tuple[bytes, bytes]]) -> None:
        """The request ends with these trailer fields, checked, names in lower case; in place of a last `data`."""

    def writable(self) -> None:
        """The answer flows again, after ``Stream.send`` or ``Stream.respond`` had answered False."""

    def closed(self) -> None:
        """The last byte of the complete answer was taken by the kernel; the exchange is over."""

    def reset(self, code: int) -> None:
        """The answer cannot be completed; the exchange is over and the stream takes no more of it.

        *code* (RFC 9113 section 7, `twisted_rr.http2.codes`): the client's RST_STREAM, the error that the client
        made, or CANCEL when the connection is lost.
        """


class Front(Protocol):
    """The owner of sessions."""

    def begin(self, session: Any, stream: Stream, head: Head, end: bool) -> Exchange:
        """A valid request head is complete, with *end* the whole request: answer with the exchange for it.

        It may be answered before this returns. *head* may be shared with other streams whose heads are the same:
        read only, but for its attribute ``derived``.
        """

    def begin_whole(self, session: Any, stream: Stream, head: Head, content: bytes) -> Exchange:
        """As `begin`, for a request of which everything came together: what ``Exchange.data(content, True)`` says
        after it is said with it. The content counts as consumed.
        """

    def dirty(self, session: Any) -> None:
        """There is output: call ``session.flush()`` before this reactor turn ends.

        Called once until `flush`. Any number of answers given in between leave as one write.
        """

    def refused(self, session: Any, stream: int, code: int, reason: str) -> None:
        """The session ends the stream with this number (0: the whole connection) by an error: for one debug line.

        *reason* is a fixed text and holds no byte of the client's.
        """

    def closed(self, session: Any) -> None:
        """The connection is gone; called once, after the exchanges' ``reset`` where any were open."""
