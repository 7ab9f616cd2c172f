"""Whether a stop moves: the evidence on which systemd is asked for more time. Who asks is `notify`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

# A stop that finishes something every few seconds is going on; one second without a sign is no evidence.
_PATIENCE = 5.0


class Movement:
    """Whether work has moved lately: less in flight, more completed, or more bytes answered.

    Work that only *arrives* is no movement.

    :param in_flights: the `InFlight` of every front.
    :param patience: for how many seconds one sign counts.
    """

    def __init__(self, in_flights: Callable[[], Iterable[Any]], patience: float = _PATIENCE) -> None:
        self._in_flights = in_flights
        self._patience = patience
        self._at: float | None = None
        self._done = self._answered = 0

    def mark(self, now: float) -> None:
        """Something moved that is not counted here, such as the lifecycle's state."""
        self._at = now
        self._look()

    def moved(self, now: float) -> bool:
        """Whether the last sign, of those since the last call too, is young enough at monotonic *now*."""
        if self._look():
            self._at = now
        return self._at is not None and now - self._at < self._patience

    def _look(self) -> bool:
        """Compare with the last look. Whatever leaves the set is counted as done, one way or another."""
        sets = list(self._in_flights())
        done = sum(int(getattr(each, name, 0)) for each in sets for name in ("finished", "cut", "lost"))
        items = [item for each in sets for item in getattr(each, "items", list)()]
        answered = sum(int(getattr(item, "size", 0)) for item in items)
        # Bytes of an exchange that is over leave the sum, but then something was done.
        moved = done > self._done or answered > self._answered
        self._done, self._answered = done, answered
        return moved
