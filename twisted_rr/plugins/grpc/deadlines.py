"""Deadlines of calls: thousands of them for one timer, because nearly none is ever reached.

What happens at one is its owner's affair.
"""

from __future__ import annotations

import heapq
from typing import Any, Final, Protocol

TICKS: Final = 100
"""A second; so much later than asked for is the latest that a deadline is told."""

SPARE: Final = 64
"""So many ticks may lie in the heap beyond twice those that have a bucket, before it is made anew."""

LONGEST: Final = 3600.0
"""Seconds that one timer is set to at most: beyond some weeks the kernel's polls overflow."""

FAR: Final = 10.0**9
"""Seconds after which nobody waits any more: no deadline."""


class Expiring(Protocol):
    """Something with a deadline; hashable."""

    def expire(self) -> None:
        """The deadline has come."""


class Deadlines:
    """Items by the tick at which they expire.

    A bucket is freed with its last item, lest calls that are over take room until the hour that their clients gave
    them has passed. Its tick stays in the heap until more than half of that are such.
    """

    def __init__(self, clock: Any, log: Any) -> None:
        self._clock = clock
        self._log = log
        self._buckets: dict[int, dict[Expiring, None]] = {}
        self._heap: list[int] = []
        self._timer: Any = None
        self._due = 0

    def add(self, item: Expiring, at: float) -> int:
        """Tell *item* at monotonic *at*, at most 1/`TICKS` s later; the number is for `discard`."""
        tick = int(at * TICKS) + 1
        bucket = self._buckets.get(tick)
        if bucket is None:
            self._buckets[tick] = {item: None}
            heapq.heappush(self._heap, tick)
            if len(self._heap) > 2 * len(self._buckets) + SPARE:
                self._heap = list(self._buckets)
                heapq.heapify(self._heap)
            if self._timer is None or tick < self._due:
                self._schedule()
        else:
            bucket[item] = None
        return tick

    def discard(self, item: Expiring, tick: int) -> None:
        """*item* is over."""
        bucket = self._buckets.get(tick)
        if bucket is not None:
            bucket.pop(item, None)
            if not bucket:
                del self._buckets[tick]

    def stop(self) -> None:
        """Forget all."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._buckets.clear()
        self._heap.clear()

    def _schedule(self) -> None:
        """Set the timer to the first bucket."""
        heap = self._heap
        while heap and heap[0] not in self._buckets:
            heapq.heappop(heap)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if heap:
            self._due = heap[0]
            delay = heap[0] / TICKS - self._clock.seconds()
            self._timer = self._clock.callLater(min(max(delay, 0.0), LONGEST), self._expire)

    def _expire(self) -> None:
        self._timer = None
        now = self._clock.seconds() * TICKS
        expired: list[Expiring] = []
        while self._heap and self._heap[0] <= now:
            expired += self._buckets.pop(heapq.heappop(self._heap), ())
        self._schedule()
        for item in expired:
            try:
                item.expire()
            except Exception:
                # The others have nobody else to tell them.
                self._log.failure("a call could not be told that its deadline has come")
