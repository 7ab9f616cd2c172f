"""What a pool does about a drain while its calls go on: its workers are told, and their time is limited.

When a drain begins and what it waits for is the lifecycle's affair, how a worker stops is the worker's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from twisted_rr.pool.host import PoolHost
from twisted_rr.pool.worker import Worker
from twisted_rr.wire.control import draining as draining_message

if TYPE_CHECKING:
    from twisted_rr.pool.pool import WorkerPool

FINISH: Final = "draining:finish"


class Parting:
    """Watches the drain for *pool* from `start` to `stop`."""

    def __init__(self, pool: WorkerPool, host: PoolHost, log: Any) -> None:
        self._pool = pool
        self._clock = host.reactor
        self._drain = host.drain
        self._log = log
        self._unwatch: Any = None
        self._timer: Any = None

    def start(self) -> None:
        """The pool starts."""
        if self._drain is not None:
            self._unwatch = self._drain.watch(self._changed)

    def stop(self) -> None:
        """The pool stops, and all its workers with it. Idempotent."""
        if self._unwatch is not None:
            self._unwatch()
            self._unwatch = None
        self._cancel()

    def _changed(self, state: str) -> None:
        crew = self._pool.crew
        if not crew.draining:
            self._cancel()
            crew.maintain()  # it was called off: who died or was due meanwhile is replaced now
            return
        if state == FINISH and self._timer is None:
            limit = self._pool.settings.destroy_timeout
            self._timer = self._clock.callLater(limit, self._overstayed, limit)
        if state.startswith("draining") and self._pool.mux:
            crew.each_ready(self.tell)

    def _cancel(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _overstayed(self, limit: float) -> None:
        """Whoever holds a call yet has had its time, although the drain would wait longer."""
        workers = self._pool.crew.workers
        holding = [worker for worker in workers if worker.end is not None and worker.end.load]
        if not holding:
            return
        self._log.warn(
            "pool {pool}: {calls} calls are open {limit:g} s after the listeners closed (destroy_timeout), "
            "their workers are stopped",
            event="overstayed",
            pool=self._pool.name,
            calls=sum(worker.end.load for worker in holding),
            limit=limit,
        )
        for worker in holding:
            worker.stop()

    def tell(self, worker: Worker) -> None:
        """How long work may still go on, and endless streams: so that applications can end by themselves."""
        if not self._pool.mux or "draining" not in worker.end.settings.caps:
            return
        left = min(self._drain.remaining(), self._of_its_own())
        budget = getattr(self._drain, "budget", None)
        grace = getattr(budget, "stream_grace", None)
        if grace is not None:
            grace = int(max(0.0, min(left, grace - self._drain.age())) * 1000)
        worker.end.control(draining_message(int(left * 1000), grace))

    def _of_its_own(self) -> float:
        """Seconds that the pool itself allows from now on."""
        if self._timer is None or not self._timer.active():
            return float("inf")
        return float(self._timer.getTime() - self._clock.seconds())
