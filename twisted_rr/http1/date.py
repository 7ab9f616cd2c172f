"""The Date line of answers, made once a second (RFC 9110 section 6.6.1)."""

from __future__ import annotations

from collections.abc import Callable
from time import gmtime, time

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def format_date(seconds: float) -> bytes:
    """An IMF-fixdate, whatever the locale: ``Sun, 06 Nov 1994 08:49:37 GMT``."""
    year, month, day, hour, minute, second, weekday, _, _ = gmtime(seconds)
    text = f"{_DAYS[weekday]}, {day:02} {_MONTHS[month - 1]} {year:04} {hour:02}:{minute:02}:{second:02} GMT"
    return text.encode("ascii")


class DateLine:
    """``date: ...`` with its CRLF, kept until the wall clock's next second.

    The question costs a comparison of the monotonic clock the caller has anyway; the wall clock is read once a
    second.
    """

    __slots__ = ("_wall", "_line", "_last", "_since", "_until")

    def __init__(self, wall: Callable[[], float] = time) -> None:
        self._wall = wall
        self._line = b""
        self._last = b""
        self._since = 0.0
        self._until = -1.0

    def at(self, now: float) -> bytes:
        """The line for *now*, seconds of a monotonic clock."""
        if not self._since <= now < self._until:
            wall = self._wall()
            self._line = b"date: " + format_date(wall) + b"\r\n"
            self._since = now
            self._until = now + 1.0 - wall % 1.0
            self._last = self._line + b"\r\n"
        return self._line

    def last(self, now: float) -> bytes:
        """The same as the last line of a head, with the empty line behind it."""
        if not self._since <= now < self._until:
            self.at(now)
        return self._last
