"""Whether a client has stopped taking what is sent to it."""

from __future__ import annotations


class Stall:
    """Compares, sweep by sweep, how many bytes were taken.

    Growth of the buffer is no progress and its shrinking is not the only sign of it, so bytes taken are counted:
    those written less those still buffered.
    """

    __slots__ = ("_taken", "_since")

    def __init__(self) -> None:
        self._taken = 0
        self._since = -1.0

    def seconds(self, now: float, written: int, buffered: int) -> float:
        """For how long nothing was taken although something is waiting; 0.0 when all is well."""
        taken = written - buffered
        if not buffered:
            self._since = -1.0
        elif self._since < 0 or taken != self._taken:
            self._since = now
        self._taken = taken
        return now - self._since if self._since >= 0 else 0.0
