"""The numbers by which a pool holds back: a worker's calls, and the pauses between failing starts.

Time and chance are given by the caller.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

JITTER: Final = 15  # percent, exclusive (protocol.md 3.7)
FIRST: Final = 0.1
LONGEST: Final = 5.0
ALONE: Final = 0.5  # while no worker is alive every moment counts
EXACT: Final = 8  # below this many jobs RoadRunner's jitter is nothing, and users count on the number


def jobs_limit(max_jobs: int, random: Callable[[], float]) -> int:
    """Calls after which one worker is replaced, 0 for never: max_jobs and 0 to 14 % on top.

    So workers that were started together are not replaced together.
    """
    return max_jobs + max_jobs * int(random() * JITTER) // 100


class Backoff:
    """The pause before the next start: none while workers come to an answer, else 0.1 s doubling to 5 s.

    Each pause is shortened by up to a quarter, by chance.
    """

    __slots__ = ("_random", "failures")

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self.failures = 0

    def failed(self) -> None:
        """A worker ended before its first answer."""
        self.failures += 1

    def succeeded(self) -> None:
        """A worker gave its first answer."""
        self.failures = 0

    def pause(self, most: float = LONGEST) -> float:
        """Seconds to wait before the next start, *most* at most."""
        if not self.failures:
            return 0.0
        # The exponent is capped too: 2.0 ** 2000 overflows after some hours of a crash loop.
        longest = min(LONGEST, most, FIRST * 2.0 ** min(self.failures - 1, 16))
        return longest * (1 - self._random() / 4)
