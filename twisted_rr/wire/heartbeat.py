"""When one side of a mux relay asks the other whether it still runs (mux.md 6).

Sending PING and answering PONG, and what a miss means, belong to the ends.
"""

from __future__ import annotations

from typing import Final

SILENCE: Final = 5.0
"""Seconds without a byte, with calls open, after which a PING is due."""
PATIENCE: Final = 15.0
"""Seconds for the PONG; any other byte counts as well, since it proves the same."""


class Heartbeat:
    """The state of one side's heartbeat.

    The reading loop only sets a flag, so that it needs no clock.

    :ivar heard: bytes came since the last tick; set by the reader.
    :ivar missed: no answer came in time, and nothing else since.
    """

    __slots__ = ("heard", "missed", "_last", "_asked")

    def __init__(self) -> None:
        self.heard = True
        self.missed = False
        self._last = 0.0
        self._asked = -1.0

    def tick(self, now: float, busy: bool) -> bool:
        """Look at the time, monotonic seconds; *busy* when calls are open. True when a PING is due."""
        if self.heard or not busy:
            self.heard = False
            self.missed = False
            self._last = now
            self._asked = -1.0
            return False
        if self._asked >= 0:
            self.missed = now - self._asked >= PATIENCE
            return False
        if now - self._last < SILENCE:
            return False
        self._asked = now
        return True
