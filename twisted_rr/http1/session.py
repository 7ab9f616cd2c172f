"""One HTTP/1.1 connection, seen from the server: requests in, answers out, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted_rr.http1.contract import Front, Transport
from twisted_rr.http1.response import ResponseHead
from twisted_rr.http1.settings import SessionSettings


class Session:
    """The server's end of one connection (RFC 9112).

    At most one exchange is open at a time; the next request's head is looked at when the answer of the one before
    was taken by the kernel. Every answering method does nothing once the exchange is over.
    """

    def __init__(
        self,
        transport: Transport,
        front: Front,
        settings: SessionSettings,
        clock: Callable[[], float],
        scheme: str,
        peer: Any,
        host: Any,
    ) -> None:
        """*clock* is monotonic, in seconds; *scheme*, *peer* and *host* are kept for the front as attributes."""
        raise NotImplementedError

    # ------------------------------------------------------------------- from the transport

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""

    def eof_received(self) -> None:
        """The client's FIN: an abort while an answer is under way, unless ``settings.half_close``."""

    def connection_lost(self) -> None:
        """The connection is gone: ends the open exchange by ``lost("client")``, then ``front.closed``. Idempotent."""

    def pauseProducing(self) -> None:
        """The transport's buffer is full."""

    def resumeProducing(self) -> None:
        """The transport's buffer has room."""

    def stopProducing(self) -> None:
        """For IPushProducer; the loss itself is reported by `connection_lost`."""

    # ----------------------------------------------------------------------- from the front

    def sweep(self, now: float) -> None:
        """Look for time-outs; to be called about once a second with the clock's *now*."""

    def close_idle(self, half_received: bool = False) -> bool:
        """Close (FIN, lingering) when no exchange is open and no head half received; True when closed or closing.

        With *half_received* a half received head does not keep it open either: it is closed without an answer.
        """
        raise NotImplementedError

    def expect_continue(self) -> None:
        """The front wants the body now: ``100 (Continue)`` is sent if the client waits for it. Idempotent."""

    def resume_body(self) -> None:
        """After ``Exchange.body`` answered False: there is room again."""

    # ------------------------------------------------------------------------ from the exchange

    def respond(self, head: ResponseHead, body: bytes = b"", more: bool = False) -> None:
        """Send the final head with the first piece of content, as one write; ``more=False`` ends the answer.

        Content-length, chunking, connection and date are added as the request wants; content that must not be sent
        (HEAD, 204, 304) is dropped.

        :raises BadResponse: *head* is a 1xx, or *body* contradicts its content-length; nothing was sent then, and
            another answer can be given.
        """

    def send(self, body: bytes, more: bool) -> None:
        """Send a piece of the content. One that contradicts the content-length cuts: ``lost("length")``."""

    def trailers(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """End the answer with trailer fields; they are dropped where they cannot be sent (not chunked, not announced).

        :raises BadResponse: a name or value that must not be sent; the answer is still open then.
        """

    def interim(self, head: ResponseHead) -> None:
        """Send a 1xx head; dropped for HTTP/1.0 and once the final head was sent.

        :raises BadResponse: *head* is not a 1xx.
        """

    def simple(self, status: int, body: bytes = b"", headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """A whole small answer by the server itself, text/plain unless *headers* say otherwise.

        When a head was sent already, this is `cut`.
        """

    def cut(self) -> None:
        """Break the answer off: the connection is aborted, so that the client sees it is incomplete; ``lost("cut")``."""
