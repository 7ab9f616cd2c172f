"""What a pool says of itself to whoever asks for health; never blocks, never raises.

How the answers become status codes is plugins/status's subject.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zope.interface import implementer

from twisted_rr.interfaces import IHealth

if TYPE_CHECKING:
    from twisted_rr.pool.pool import WorkerPool

STUCK_AFTER = 10.0  # seconds; drain.md 5.2


@implementer(IHealth)
class PoolHealth:
    """See `IHealth`. ``stuck_after``: seconds without any hope of progress that count as stuck."""

    def __init__(self, pool: WorkerPool, stuck_after: float = STUCK_AFTER) -> None:
        self.stuck_after = stuck_after
        self._pool = pool

    @property
    def name(self) -> str:
        return str(self._pool.name)

    def alive(self) -> str | None:
        """Waiting is not stuck, nor is a crash loop: the next start may be the good one."""
        pool = self._pool
        crew = pool.crew
        now = pool.now()
        since = crew.impossible_since
        if since is not None and not crew.counts()[0] and now - since >= self.stuck_after:
            return f"no worker can be started: {crew.last_error.reason if crew.last_error else 'unknown'}"
        holding = [worker for worker in crew.workers if worker.end is not None and worker.end.load]
        if holding and all(worker.still_for(now) >= self.stuck_after for worker in holding):
            return "no worker that holds a call answers heartbeats or uses CPU time"
        return None

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
        if pool.full():
            return "the queue is full"
        return None
