"""How much a client may ask for that brings nothing, and how long it may let us wait.

Numbers are in `settings`; what happens when one is exceeded is decided by the session.
"""

from __future__ import annotations

from typing import Final

#: How often a client without a stream may send PING where that is not allowed at its usual pace, in seconds.
IDLE_PING_INTERVAL: Final = 7200.0


class Allowance:
    """So many events a second in the long run, and so many more at once (a token bucket)."""

    __slots__ = ("_burst", "_left", "_rate", "_since")

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._left = float(burst)
        self._since = 0.0

    def exceeded(self, now: float, cost: int = 1) -> bool:
        """Count an event; True when it was one too many."""
        self._left = min(self._burst, self._left + (now - self._since) * self._rate)
        self._since = now
        if self._left < cost:
            return True
        self._left -= cost
        return False


class PingPolicy:
    """Whether a client's PINGs come too often, as gRPC servers judge it (gRFC A8).

    A PING earlier than *interval* after the one before is a strike; an answer sent in between takes all strikes back,
    because clients measure the bandwidth that way.
    """

    __slots__ = ("_answers", "_interval", "_last", "_max_strikes", "_strikes", "_without_streams")

    def __init__(self, interval: float, without_streams: bool, max_strikes: int) -> None:
        self._interval = interval
        self._without_streams = without_streams
        self._max_strikes = max_strikes
        self._strikes = 0
        self._last = -1.0
        self._answers = 0

    def exceeded(self, now: float, streams: int, answers: int) -> bool:
        """Count a PING; *streams* are open now, *answers* is a count of what was sent so far."""
        if not self._interval:
            return False
        last = self._last
        self._last = now
        if answers != self._answers:
            self._answers = answers
            self._strikes = 0
            return False
        allowed = self._interval if streams or self._without_streams else IDLE_PING_INTERVAL
        if last >= 0 and now < last + allowed:
            self._strikes += 1
        return self._strikes > self._max_strikes


class Wait:
    """For how long something has been waited for without progress, as seen by sweeps.

    No clock is read for the many waits that are short: one begins at the first sweep that finds it.
    """

    __slots__ = ("_progress", "_since")

    def __init__(self) -> None:
        self._since = -1.0
        self._progress = 0

    def seconds(self, now: float, waiting: bool, progress: int) -> float:
        """0.0 when nothing is waited for, or *progress* has changed since the last sweep."""
        if not waiting:
            self._since = -1.0
        elif self._since < 0 or progress != self._progress:
            self._since = now
        self._progress = progress
        return now - self._since if self._since >= 0 else 0.0
