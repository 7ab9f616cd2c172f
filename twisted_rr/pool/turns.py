"""Workers that are to go by plan, and wait: for their turn, and then for the worker that takes their place.

Why they go, and who is started for them, is the crew's affair.
"""

from __future__ import annotations

from collections import deque

from twisted_rr.pool.cpus import default_workers
from twisted_rr.pool.state import WorkerState
from twisted_rr.pool.worker import Worker

AT_ONCE = (
    4  # at most a fourth of the workers is being replaced at a time, and no more than start side by side
)


class Turns:
    """Who waits for its turn goes on as if nothing had been said; whose turn it is, is marked ``replaced``.

    Workers that began together reach their limits together, and workers that start take the CPU from those that
    serve: so the limits of a pool end few at a time.
    """

    def __init__(self) -> None:
        self._due: dict[Worker, tuple[WorkerState, float | None]] = {}
        self._outgoing: deque[tuple[Worker, WorkerState, float | None]] = deque()
        self._side_by_side = default_workers()[0]  # a start takes a processor for as long as it takes

    @property
    def waiting(self) -> bool:
        """Somebody waits for its turn."""
        return bool(self._due)

    def goes(self, worker: Worker) -> bool:
        """*worker* will go, when another is there or it is its turn."""
        return worker.replaced or worker in self._due

    def line_up(self, worker: Worker, state: WorkerState, limit: float | None) -> None:
        """*worker* goes when it is its turn, and has *limit* seconds for its calls then."""
        self._due[worker] = (state, limit)

    def take(self, target: int) -> list[Worker]:
        """Of *target* workers, so many at a time are replaced: those whose turn it is now.

        The wakers are a worker that is ready, and one that is gone.
        """
        room = max(1, min(target // AT_ONCE, self._side_by_side)) - len(self._outgoing)
        taken = list(self._due)[: max(0, room)]
        for worker in taken:
            state, limit = self._due.pop(worker)
            worker.replaced = True
            self._outgoing.append((worker, state, limit))
        return taken

    def put_first(self, worker: Worker, state: WorkerState, limit: float | None) -> None:
        """*worker* is the next to go, for somebody who does not wait for turns."""
        self._due.pop(worker, None)
        worker.replaced = True
        self._outgoing.appendleft((worker, state, limit))

    def let_go(self, surplus: int) -> None:
        """Enough others take calls: *surplus* workers that wait for their replacement retire."""
        while self._outgoing and surplus > 0:
            worker, state, limit = self._outgoing.popleft()
            if not worker.left:  # who has ended by itself is not among those that are too many
                worker.retire(state, limit)
                surplus -= 1

    def forget(self, worker: Worker) -> None:
        """*worker* is gone, or goes otherwise, or stays."""
        self._due.pop(worker, None)
        for entry in list(self._outgoing):
            if entry[0] is worker:
                self._outgoing.remove(entry)

    def clear(self) -> None:
        """The pool stops, and all its workers with it."""
        self._outgoing.clear()
        self._due.clear()
