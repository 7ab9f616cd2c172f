"""What one side of a mux call has to send: its queue, its credit, and cutting frames from them.

The taking side of credit is in credit.py; turns between calls are the ends' affair.
"""

from __future__ import annotations

from collections import deque


class Piece:
    """A queued part of a call that is more than plain bytes: it has a context, or is a message."""

    __slots__ = ("context", "data", "message", "text")

    def __init__(self, context: bytes, data: bytes, message: bool, text: bool) -> None:
        self.context = context
        self.data = data
        self.message = message
        self.text = text


class Flow:
    """One call's way out of this side.

    :ivar id: the call's id on the wire, 0 before it has one.
    :ivar queue: what was handed over and not framed yet, in order.
    :ivar queued: its bytes of body.
    :ivar more: the source may still add to it.
    :ivar credit_out: bytes that the peer accepts now.
    :ivar credit_in: bytes that we still accept.
    :ivar taken: bytes that our consumer took and that were not granted again yet.
    """

    __slots__ = (
        "id", "queue", "queued", "more", "credit_out", "credit_in", "taken",
        "active", "granting", "sent_end", "full", "assembly",
    )  # fmt: skip

    def __init__(self) -> None:
        self.id = 0
        self.queue: deque[bytes | Piece] = deque()
        self.queued = 0
        self.more = True
        self.credit_out = 0
        self.credit_in = 0
        self.taken = 0
        self.active = False
        self.granting = False
        self.sent_end = False
        self.full = False

    def drop(self) -> None:
        """Throw away what is queued."""
        self.queue.clear()
        self.queued = 0
