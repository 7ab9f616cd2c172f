"""What a pool says of itself to whoever asks for health; never blocks, never raises.

How the answers become status codes is plugins/status's subject.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zope.interface import implementer

from twisted_rr.interfaces import IHealth
from twisted_rr.pool.usage import cpu_ticks, state_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twisted_rr.pool.pool import WorkerPool
    from twisted_rr.pool.worker import Worker

STUCK_AFTER = 10.0  # seconds; drain.md 5.2
SAMPLE = 0.5  # seconds between two looks at /proc, however often it is asked


class Halted:
    """Since when workers are stopped (SIGSTOP, a debugger) or in a system call that does not end.

    It has to be asked about once a second, as the status plugin does.
    """

    def __init__(self) -> None:
        self._seen: dict[int, tuple[int, float]] = {}
        self._sampled = float("-inf")

    def look(self, workers: Iterable[Worker], now: float) -> None:
        """Read the states of *workers*; the others are forgotten."""
        if now - self._sampled < SAMPLE:
            return
        self._sampled = now
        seen, self._seen = self._seen, {}
        for worker in workers:
            state, ticks = state_of(worker.pid, worker.told_pid)
            if state in ("T", "t", "D"):
                # Heavy input and output shows D at every look, and uses CPU time in between.
                before = seen.get(worker.pid)
                self._seen[worker.pid] = before if before and before[0] == ticks else (ticks, now)

    def halted_for(self, worker: Worker, now: float) -> float:
        """Seconds, 0 when it was not at the last look."""
        seen = self._seen.get(worker.pid)
        return now - seen[1] if seen else 0.0


@implementer(IHealth)
class PoolHealth:
    """See `IHealth`. ``stuck_after``: seconds without any hope of progress that count as stuck."""

    def __init__(self, pool: WorkerPool, stuck_after: float = STUCK_AFTER) -> None:
        self.stuck_after = stuck_after
        self._pool = pool
        self._halted = Halted()

    @property
    def name(self) -> str:
        return str(self._pool.name)

    def alive(self) -> str | None:
        """Waiting is not stuck, nor is a crash loop: the next start may be the good one."""
        pool = self._pool
        crew = pool.crew
        now = pool.now()
        if pool.hopeless():
            last = crew.failures.last
            return f"no worker can be started: {last.reason if last else 'unknown'}"
        holding = [worker for worker in crew.workers if worker.end is not None and worker.end.load]
        self._halted.look(holding, now)
        if holding and all(self._stuck_for(worker, now) >= self.stuck_after for worker in holding):
            return "no worker that holds a call is running, or answers heartbeats and uses CPU time"
        return None

    def _stuck_for(self, worker: Worker, now: float) -> float:
        return max(worker.still_for(now), self._halted.halted_for(worker, now))

    def ready(self) -> str | None:
        pool = self._pool
        crew = pool.crew
        if pool.start_error is not None:
            return str(pool.start_error)
        if crew.starting:
            return "the workers are starting"
        if not pool.running or crew.stopping:
            return "the pool is stopped"
        if not crew.counts()[0] and not pool.settings.debug:
            return "no worker is alive"
        return None

    def saturated(self) -> str | None:
        """Why the next call would have to wait, or would be refused; None when it would run at once."""
        if self._pool.full():
            return "the queue is full"
        return "all workers are busy" if self._pool.busy() else None

    def counts(self) -> tuple[int, int]:
        """Workers that live, and that there should be."""
        return self._pool.counts()

    def activity(self) -> int:
        """A number that changes with every byte, heartbeat and tick of CPU time of the workers; reads /proc."""
        return sum(
            worker.received + worker.jobs + cpu_ticks(worker.pid) for worker in self._pool.crew.workers
        )
