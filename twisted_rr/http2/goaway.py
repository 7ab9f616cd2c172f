"""Leaving without losing a request: GOAWAY twice, with a PING in between (RFC 9113 section 6.8).

The first GOAWAY names the highest number there is, so that streams which cross it are still served. When its PING is
acknowledged, the client has read it, and the second can name the last stream that will be.
"""

from __future__ import annotations

from typing import Final

from twisted_rr.http2.codes import NO_ERROR
from twisted_rr.http2.frames import MAX_ID, goaway, ping

STAYING: Final = 0
ANNOUNCED: Final = 1  #: the first GOAWAY is sent; the waker is its PING's acknowledgement, or a sweep
LEAVING: Final = 2  #: the second is sent: new streams are refused

PING_PAYLOAD: Final = b"goaway-1"


class Departure:
    """Where a connection is on its way out.

    :ivar state: one of the constants here.
    """

    __slots__ = ("_last", "_since", "state")

    def __init__(self) -> None:
        self.state = STAYING
        self._since = 0.0
        self._last = MAX_ID

    def last(self, number: int) -> int:
        """What a GOAWAY may name now that *number* is the last stream that came: never more than one before it did."""
        return number if number < self._last else self._last

    def announce(self, now: float) -> bytes:
        """The first GOAWAY with its PING; nothing when it was sent before."""
        if self.state != STAYING:
            return b""
        self.state = ANNOUNCED
        self._since = now
        return goaway(MAX_ID, NO_ERROR) + ping(PING_PAYLOAD)

    def is_overdue(self, now: float, patience: float) -> bool:
        """Whether the PING was not acknowledged in time."""
        return self.state == ANNOUNCED and now - self._since >= patience

    def settle(self, last: int) -> bytes:
        """The second GOAWAY, naming the *last* stream; nothing when it is not its time."""
        if self.state != ANNOUNCED:
            return b""
        self.state = LEAVING
        self._last = last
        return goaway(last, NO_ERROR)
