"""The states of streams as one table: what becomes of each frame in each state (RFC 9113 section 5.1).

A server that never pushes needs few: when it has answered before the request's end it resets the stream, so that
"half-closed (local)" does not last. What a frame does once it is accepted is the session's.
"""

from __future__ import annotations

from typing import Final

from twisted_rr.http2.frames import DATA, HEADERS, PRIORITY, RST_STREAM, WINDOW_UPDATE

# States. Only OPEN and HALF_CLOSED streams have a `Stream` in the session.
OPEN: Final = 0  #: the request is still coming
HALF_CLOSED: Final = 1  #: the request is complete
IDLE: Final = 2  #: not opened yet
CLOSED: Final = 3  #: ended by both, or reset by the client
RESET: Final = 4  #: reset by us, lately: the client may not know yet
SKIPPED: Final = 5  #: passed over by the client, which closes it (section 5.1.1)
FOREIGN: Final = 6  #: an even number: a client cannot open it
CONNECTION: Final = 7  #: number 0

# What becomes of a frame.
ACCEPT: Final = 0
IGNORE: Final = 1
REFUSE: Final = 2  #: stream error STREAM_CLOSED
STREAM_ENDED: Final = 3  #: connection error STREAM_CLOSED
NOT_ALLOWED: Final = 4  #: connection error PROTOCOL_ERROR

#: ``RULES[state][frame type]``, for the frames that belong to streams.
RULES: Final[tuple[dict[int, int], ...]] = (
    # OPEN: HEADERS are trailers here
    {HEADERS: ACCEPT, DATA: ACCEPT, RST_STREAM: ACCEPT, WINDOW_UPDATE: ACCEPT, PRIORITY: IGNORE},
    # HALF_CLOSED
    {HEADERS: REFUSE, DATA: REFUSE, RST_STREAM: ACCEPT, WINDOW_UPDATE: ACCEPT, PRIORITY: IGNORE},
    # IDLE
    {HEADERS: ACCEPT, DATA: NOT_ALLOWED, RST_STREAM: NOT_ALLOWED, WINDOW_UPDATE: NOT_ALLOWED, PRIORITY: IGNORE},
    # CLOSED
    {HEADERS: STREAM_ENDED, DATA: REFUSE, RST_STREAM: IGNORE, WINDOW_UPDATE: IGNORE, PRIORITY: IGNORE},
    # RESET
    {HEADERS: IGNORE, DATA: IGNORE, RST_STREAM: IGNORE, WINDOW_UPDATE: IGNORE, PRIORITY: IGNORE},
    # SKIPPED
    {HEADERS: NOT_ALLOWED, DATA: REFUSE, RST_STREAM: IGNORE, WINDOW_UPDATE: IGNORE, PRIORITY: IGNORE},
    # FOREIGN
    {
        HEADERS: NOT_ALLOWED, DATA: NOT_ALLOWED, RST_STREAM: NOT_ALLOWED, WINDOW_UPDATE: NOT_ALLOWED,
        PRIORITY: IGNORE,
    },
    # CONNECTION: its WINDOW_UPDATE is not about a stream
    {
        HEADERS: NOT_ALLOWED, DATA: NOT_ALLOWED, RST_STREAM: NOT_ALLOWED, WINDOW_UPDATE: ACCEPT,
        PRIORITY: NOT_ALLOWED,
    },
)  # fmt: skip

#: So many numbers are remembered of streams that we reset, and of ranges that the client skipped.
MAX_RESETS: Final = 256
MAX_GAPS: Final = 64


class Numbers:
    """Which numbers of streams were used, and what became of those that are not open.

    :ivar last: the highest number that the client has opened; who sees the next one, higher by 2, may set it.
    """

    __slots__ = ("_gaps", "_resets", "last")

    def __init__(self) -> None:
        self.last = 0
        self._resets: dict[int, None] = {}
        self._gaps: list[tuple[int, int]] = []

    def skipped_to(self, number: int) -> None:
        """A new stream, with a number above `last` but not the next."""
        if number > self.last + 2:
            self._gaps.append((self.last, number))
            if len(self._gaps) > MAX_GAPS:
                del self._gaps[0]
        self.last = number

    def was_reset(self, number: int) -> None:
        """We sent RST_STREAM although the client may still be sending."""
        self._resets[number] = None
        if len(self._resets) > MAX_RESETS:
            del self._resets[next(iter(self._resets))]

    def state(self, number: int) -> int:
        """The state of a stream that is not open."""
        if not number:
            return CONNECTION
        if not number & 1:
            return FOREIGN
        if number > self.last:
            return IDLE
        if number in self._resets:
            return RESET
        for low, high in self._gaps:
            if low < number < high:
                return SKIPPED
        return CLOSED
