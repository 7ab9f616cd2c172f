"""The arithmetic of flow control (RFC 9113 section 5.2 and 6.9): what may be granted, and when.

Where the numbers are kept: by `streams` for a stream, by the session and the outbox for the connection.
"""

from __future__ import annotations

from typing import Final

from twisted_rr.http2.settings import MAX_WINDOW

#: Below any window: one begins at 0 or above and is lowered by no more than it can be large.
OVERFLOW: Final = -(2**32)


def grown(window: int, increment: int) -> int:
    """A send *window* after a WINDOW_UPDATE or a change of SETTINGS; OVERFLOW beyond what a window may be.

    It may be negative (section 6.9.2).
    """
    window += increment
    return window if window <= MAX_WINDOW else OVERFLOW


def is_grant_due(window: int, consumed: int) -> bool:
    """Whether the client should get back what was *consumed*, with *window* left to it.

    *window* + *consumed* + what is held by the front is constant. When nothing is held this is true as soon as half
    of it is consumed; less would cost a frame for each piece of data. When much is held, it is true earlier, so that
    the rest can still flow: a client never waits for a window while as much as it has left could be granted.
    """
    return 0 < consumed >= window
