"""The numbers of a pool for the metrics page, under RoadRunner's names where it has them (features.md 4).

Requests are counted by the fronts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from zope.interface import implementer

from twisted_rr.interfaces import IMetrics

if TYPE_CHECKING:
    from twisted_rr.pool.pool import WorkerPool

Sample = tuple[str, str, str, Mapping[str, str], float]


@implementer(IMetrics)
class PoolMetrics:
    """See `IMetrics`. A named pool has the label ``pool``; a plugin's own has none, as RoadRunner's."""

    def __init__(self, pool: WorkerPool, mode: str) -> None:
        """*mode* is the plugin that the workers serve, which is part of every name."""
        self._pool = pool
        self._prefix = f"rr_{mode}"
        self._labels = {} if pool.name == mode else {"pool": str(pool.name)}

    def samples(self) -> Iterable[Sample]:
        """See `IMetrics`; reads /proc once a worker."""
        workers = self._pool.workers()
        states = Counter(each.status_text for each in workers)
        yield self._gauge("total_workers", "Workers.", len(workers))
        yield self._gauge(
            "workers_memory_bytes", "Resident memory of all workers.", sum(each.memory for each in workers)
        )
        for state in ("ready", "working", "invalid"):
            yield self._gauge(f"workers_{state}", f"Workers whose state is {state}.", states[state])
        for each in workers:
            yield self._gauge("worker_memory_bytes", "Resident memory.", each.memory, pid=str(each.pid))
            yield self._gauge("worker_state", "0.", 0, pid=str(each.pid), state=each.status_text)
        yield from self._calls(
            sum(each.open_calls for each in workers), sum(each.abandoned for each in workers)
        )

    def _calls(self, held: int, abandoned: int) -> Iterable[Sample]:
        pool = self._pool
        yield self._gauge("calls_held", "Calls that workers hold.", held)
        yield self._gauge("calls_abandoned", "Those of them that nobody waits for any more.", abandoned)
        yield self._gauge("calls_waiting", "Calls that wait for a worker.", pool.waiting())
        yield self._gauge("calls_waiting_seconds", "For how long the first of them has.", pool.waited())
        name = f"{self._prefix}_calls_shed_total"
        yield name, "counter", "Calls that waited too long and were turned away.", self._labels, pool.shed

    def _gauge(self, name: str, about: str, value: float, **labels: str) -> Sample:
        return f"{self._prefix}_{name}", "gauge", about, {**self._labels, **labels}, value
