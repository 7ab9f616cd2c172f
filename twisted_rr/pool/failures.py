"""Starts that fail, as a pool remembers them: how long to pause, why nobody should wait, and what has been said already.

When workers are started is the crew's affair, and who is told that none comes is the pool's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted_rr.errors import WorkerStartError, last_words
from twisted_rr.pool.limits import ALONE, LONGEST, Backoff
from twisted_rr.pool.worker import Worker

TRIP = 5  # starts that fail one after the other until nobody waits for the next
LISTEN = 3.0  # seconds that a start says nothing to the log when others start beside it
DIFFERENT = 16  # last words that are remembered


class Failures:
    """Starts go on whatever it says, one a step; the first that succeeds ends it all.

    :ivar count: workers that did not start since the last one that did.
    :ivar impossible_since: when it began that a worker's program is not even reached; None: it is, or nobody tried.
    :ivar last: why the last one did not start.
    """

    def __init__(self, clock: Any, random: Callable[[], float], log: Any) -> None:
        self.count = 0
        self.impossible_since: float | None = None
        self.last: WorkerStartError | None = None
        self.backoff = Backoff(random)
        self._clock = clock
        self._log = log
        self._burst: set[tuple[str, ...]] = set()  # what workers that failed have said, and the log has
        self._took = 0.0  # seconds that the last start took to fail
        self._listening: Any = None

    @property
    def pausing(self) -> bool:
        """The last worker that ended had not answered anybody: the next start waits for `pause`."""
        return self.backoff.failures > 0

    def pause(self, alive: int) -> float:
        """Short while no worker is alive, but never shorter than a try takes: half a processor is left to others."""
        return self.backoff.pause(LONGEST if alive else max(ALONE, self._took))

    def tripped(self, alive: int) -> bool:
        """No worker is alive and one start after the other fails: nobody is to wait for the next."""
        return self.count >= TRIP and not alive

    # ------------------------------------------------------------------ what happens

    def forget(self) -> None:
        """What failed so far is no reason to wait any more: another program is started now."""
        self.backoff.succeeded()
        self.impossible_since = None
        self.count = 0
        self._burst.clear()

    def restart(self) -> None:
        """The pool starts."""
        self.last = None
        self.impossible_since = None
        self.backoff.succeeded()

    def started(self, worker: Worker) -> None:
        """*worker* answered the handshake."""
        self.impossible_since = None
        if self.count >= TRIP:
            self._log.info("workers start again, after {failures} that did not", failures=self.count)
        self.count = 0
        worker.process.release()

    def answered(self) -> bool:
        """Some worker gave its first answer. True: that ends a pause."""
        if not self.pausing:
            return False
        self.backoff.succeeded()
        self._burst.clear()
        return True

    def ended(self, worker: Worker, alive: int) -> None:
        """*worker* has been reaped, and nobody had told it to go."""
        if worker.answered or worker.planned:
            return
        self.backoff.failed()
        if worker.error is not None:
            # The other kind is the pool's to judge.
            self.count += not worker.unreachable
            self._took = self._clock.seconds() - worker.born
        if not worker.unreachable:
            self.impossible_since = None  # its program runs, so a start is possible
        elif self.impossible_since is None:
            self.impossible_since = self._clock.seconds()
        if worker.error is not None:
            self._tell(worker.error, alive)

    def _tell(self, error: WorkerStartError, alive: int) -> None:
        """The last lines of standard error went to the log as they came; the reason is one line more."""
        self._log.error(
            "{error}; try {failures}, the next in about {pause:.1f} s",
            error=str(error),
            failures=self.backoff.failures,
            pause=self.pause(alive),
        )

    def tell_tripped(self, error: WorkerStartError) -> None:
        """Nobody waits from now on."""
        self._log.error(
            "no worker is alive and {failures} starts have failed: calls are refused until one succeeds; it said: {said}",
            event="crash_loop",
            failures=self.count,
            said=last_words(error.stderr) or "nothing",
            stderr=error.stderr,
        )

    # ------------------------------------------------------------------ what they say

    def hush(self, made: Sequence[Worker]) -> None:
        """Where one of *made* does not start, the others as a rule say the same: nothing is logged yet.

        A start that takes long is followed, in one of those that were started together.
        """
        for worker in made:
            worker.process.hold()
        if not self.pausing and self._listening is None:
            self._listening = self._clock.callLater(LISTEN, self._listen, made[:1])

    def _listen(self, made: Sequence[Worker]) -> None:
        self._listening = None
        for worker in made:
            if not self.pausing:
                worker.process.release()

    def hear_out(self, worker: Worker) -> None:
        """The last words of one that is gone are in the log once, however many say the same."""
        said = worker.process.said()
        worker.process.release(drop=bool(worker.error) and said in self._burst)
        if worker.error is not None and said and len(self._burst) < DIFFERENT:
            self._burst.add(said)

    def stop(self) -> None:
        """The pool stops."""
        if self._listening is not None and self._listening.active():
            self._listening.cancel()
        self._listening = None
