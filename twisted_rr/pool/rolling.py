"""Workers replaced batch by batch, the new ones first, and what became of each.

Why they are replaced, by a reset or by other settings, is the caller's affair; how a worker retires is the crew's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet.defer import Deferred, DeferredList, FirstError, gatherResults

from twisted_rr.errors import Draining, WorkerStartError
from twisted_rr.pool.state import WorkerState
from twisted_rr.pool.worker import Worker

if TYPE_CHECKING:
    from twisted_rr.pool.pool import WorkerPool


@attrs.frozen
class Replaced:
    """One worker of a reset, and the one that came for it.

    :ivar old: its pid.
    :ivar new: the pid of its successor.
    :ivar seconds: from the successor's start until it took calls.
    """

    old: int
    new: int
    seconds: float


@attrs.frozen
class ResetReport:
    """What a reset did.

    :ivar replaced: in order.
    :ivar kept: pids of the workers of before that go on, because no other came for them.
    :ivar lost: calls that old workers still held when their time (``reset_timeout``) was over.
    """

    replaced: tuple[Replaced, ...] = ()
    kept: tuple[int, ...] = ()
    lost: int = 0

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return attrs.asdict(self)


class ResetFailed(WorkerStartError):
    """A new worker did not start: the old ones that had not been replaced stay.

    :ivar report: what was done until then.
    """

    def __init__(self, error: WorkerStartError, report: ResetReport) -> None:
        super().__init__(error.command, error.reason, error.stderr)
        self.report = report

    def __str__(self) -> str:
        done = f"{len(self.report.replaced)} replaced before" if self.report.replaced else "none replaced"
        stay = f"{len(self.report.kept)} old workers stay, {done}"
        return f"{super().__str__()}; {stay}"


class Rolling:
    """Replaces workers of *pool*, *size* at a time; ``replaced`` grows as it goes."""

    def __init__(self, pool: WorkerPool, size: int, limit: float, log: Any) -> None:
        """*limit*: seconds that a replaced worker may go on with its calls."""
        self.replaced: list[Replaced] = []
        self._pool = pool
        self._size = size
        self._limit = limit
        self._log = log

    async def replace(self, workers: Sequence[Worker]) -> None:
        """All of *workers*. Raises WorkerStartError, Draining and CancelledError: those not yet replaced stay."""
        left = deque(workers)
        while left:
            if self._pool.crew.draining:
                raise Draining()
            batch: list[Worker] = []
            while left and len(batch) < self._size:
                worker = left.popleft()
                # One that goes by itself has a successor already, or will have one.
                if not worker.left and not worker.replaced:
                    batch.append(worker)
            if batch:
                await self._batch(batch)

    async def _batch(self, batch: Sequence[Worker]) -> None:
        crew = self._pool.crew
        begun = self._pool.now()
        made = [crew.succeed(worker, WorkerState.DESTROYED, self._limit) for worker in batch]
        ready: list[tuple[Worker, float]] = []
        waits = []
        for new in made:
            wait = new.when_ready()
            wait.addCallback(lambda new: ready.append((new, self._pool.now() - begun)))
            waits.append(wait)
        outcomes: Any = await DeferredList(waits, consumeErrors=True)
        errors = [outcome.value for good, outcome in outcomes if not good]
        for (good, _), new in zip(outcomes, made, strict=True):
            if not good:
                new.stop()
        gone = [worker for worker in batch if worker.left]
        for worker, (new, seconds) in zip(gone, ready, strict=False):
            self.tell(worker, new, seconds)
        for worker in batch:
            if errors:
                crew.keep(worker)
        if errors:
            raise errors[0]

    def tell(self, worker: Worker, new: Worker, seconds: float) -> None:
        """Note and log that *new* has taken the place of *worker*."""
        self.replaced.append(Replaced(worker.pid, new.pid, round(seconds, 3)))
        self._log.info(
            "pool {pool}: worker {old} is replaced by {new}, which took {seconds:.2f} s to start",
            event="worker_replaced",
            pool=self._pool.name,
            old=worker.pid,
            new=new.pid,
            seconds=seconds,
        )


async def reset_all(pool: WorkerPool, log: Any) -> ResetReport:
    """Replace every worker of *pool*; over when the old ones are reaped. Raises ResetFailed, Draining."""
    # A reload replaces workers too: one after the other.
    await pool.replacing.acquire()
    try:
        old = [worker for worker in pool.crew.workers if worker.ready]
        rolling = await _replace_all(pool, old, log)
    finally:
        pool.replacing.release()
    await all_of([worker.when_gone() for worker in old if worker in pool.crew.workers])
    return ResetReport(tuple(rolling.replaced), lost=sum(worker.lost for worker in old))


async def _replace_all(pool: WorkerPool, old: Sequence[Worker], log: Any) -> Rolling:
    if pool.crew.draining:
        raise Draining()
    pool.renew_template(pool.plan)
    rolling = Rolling(pool, pool.settings.reset_batch, pool.settings.reset_timeout, log)
    try:
        await rolling.replace(old)
    except WorkerStartError as error:
        kept = tuple(worker.pid for worker in old if not worker.left)
        raise ResetFailed(error, ResetReport(tuple(rolling.replaced), kept)) from error
    return rolling


async def all_of(waits: Sequence[Deferred[Any]]) -> None:
    """Wait for all of them, or for the first that fails, whose error is raised."""
    try:
        await gatherResults(waits, consumeErrors=True)
    except FirstError as first:
        raise first.subFailure.value or first
