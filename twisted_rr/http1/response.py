"""Heads of answers, rendered once and sent often."""

from __future__ import annotations

from collections.abc import Iterable

from twisted_rr.errors import RRError


class BadResponse(RRError):
    """An answer that must not be sent: the application's fault.

    :ivar reason: which rule it breaks.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class ResponseHead:
    """A validated head, immutable: it can be kept and sent on any session, for any request.

    :ivar status: 100 to 599.
    :ivar length: what content-length says, -1 when there is none.
    :ivar close: the application asked for ``connection: close``.
    :ivar trailer: trailers were announced by ``trailer:``.
    """

    __slots__ = ("status", "length", "close", "trailer", "head", "dated", "content")

    def __init__(self, status: int) -> None:
        self.status = status
        self.length = -1
        self.close = False
        self.trailer = False
        self.head = b""
        self.dated = False
        self.content = True


def render(status: int, headers: Iterable[tuple[bytes, bytes]]) -> ResponseHead:
    """Validate and render the head of an answer.

    Names may be in any case and are sent as given; hop-by-hop fields are dropped (``connection: close`` is kept as
    `ResponseHead.close`); framing, ``date`` and ``connection`` are added when it is sent.

    :raises BadResponse: status outside 100..599 or 101, a name that is no token, CR, LF, NUL or another control
        byte in a value, content-length malformed or twice.
    """
    raise NotImplementedError
