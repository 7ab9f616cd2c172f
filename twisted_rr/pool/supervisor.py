"""What is looked at while a pool runs: heartbeats, calls that take too long, and workers past their limits.

Each finding is acted on by the crew or the worker; nothing here blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted_rr.errors import ExecTimeout
from twisted_rr.pool.host import PoolHost
from twisted_rr.pool.settings import PoolSettings, SupervisorSettings
from twisted_rr.pool.stacks import GRACE, ask
from twisted_rr.pool.state import WorkerState
from twisted_rr.pool.usage import usage
from twisted_rr.pool.worker import Worker
from twisted_rr.wire.call import Call

if TYPE_CHECKING:
    from twisted_rr.pool.pool import WorkerPool

TICK = 1.0
CANCEL = 10.0  # seconds a mux worker may take to end a cancelled call (mux.md 5)
MIB = 1 << 20


class Supervisor:
    """Looks once a second, and oftener where exec_ttl is short."""

    def __init__(self, pool: WorkerPool, host: PoolHost, settings: PoolSettings, log: Any) -> None:
        self._pool = pool
        self._clock = host.reactor
        self._limits = settings.supervisor or SupervisorSettings()
        self._supervised = settings.supervisor is not None
        self._stream_timeout = settings.stream_timeout
        self._log = log
        self._timer: Any = None
        self._asked: dict[Worker, float] = {}  # when for their stacks, not long ago
        self._fitted: set[Worker] = set()  # were seen within max_worker_memory
        self._told_large = False
        self._next_look = 0.0
        self._tick = TICK
        if self._limits.exec_ttl:
            self._tick = max(0.02, min(TICK, self._limits.exec_ttl / 4))

    def start(self) -> None:
        self._next_look = self._clock.seconds() + self._limits.watch_tick
        self._timer = self._clock.callLater(self._tick, self._run)

    def stop(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _run(self) -> None:
        self._timer = self._clock.callLater(self._tick, self._run)
        now = self._clock.seconds()
        for worker in list(self._pool.crew.workers):
            worker.tick(now)
            if worker.end is not None and (worker.end.load or worker.overdue):
                self._check_calls(worker, now)
        self._pool.look()
        if self._supervised and now >= self._next_look:
            self._next_look = now + self._limits.watch_tick
            self._look(now)

    # ------------------------------------------------------------------ calls

    def _check_calls(self, worker: Worker, now: float) -> None:
        calls = worker.open_calls()
        cancelled = [call for call in calls if call.cancelled]
        if cancelled or worker.overdue:
            self._check_cancelled(worker, cancelled, len(calls), now)
        if self._limits.exec_ttl:
            for call in calls:
                if not call.ended and not call.cancelled and self._late(worker, call, now):
                    self._cut(worker, call, now)

    def _late(self, worker: Worker, call: Call, now: float) -> bool:
        """The limit is for the answer's beginning; for one-call workers also for each pause within it."""
        if call.paused:
            call.since = now
            return False  # the client is slow, not the worker
        if call.answered:
            if worker.mux:
                return False
            if worker.received != worker.seen:
                worker.seen = worker.received
                call.since = now
        return now - call.since >= self._limits.exec_ttl

    def _cut(self, worker: Worker, call: Call, now: float) -> None:
        describe_id: Callable[[], str] | None = getattr(call.head, "request_id", None)
        request = describe_id() if describe_id is not None else ""
        self._log.error(
            "call {call} is cut after {age:.1f} s on worker {pid} (supervisor.exec_ttl)",
            call=call.head.describe() + (f" ({request})" if request else ""),
            age=now - call.since,
            pid=worker.pid,
            event="call_cut",
            request=request,
        )
        # Before the cancel, which would change what they show. Calls that hang together hang alike.
        self._asked = {each: when for each, when in self._asked.items() if now - when < CANCEL}
        asked = worker not in self._asked and ask(worker.pid, worker.told_pid)
        if asked:
            self._asked[worker] = now
        call.fail(ExecTimeout(self._limits.exec_ttl))
        if worker.mux:
            worker.end.cancel(call, "deadline")  # if it does not obey, it is replaced
        else:
            worker.kill_soon("exec_ttl", GRACE if asked else 0.0)

    def _check_cancelled(self, worker: Worker, cancelled: list[Call], total: int, now: float) -> None:
        worker.overdue = {call: worker.overdue.get(call, now) for call in cancelled}
        limit = CANCEL if worker.mux else self._stream_timeout
        if not any(now - since >= limit for since in worker.overdue.values()):
            return
        if not worker.mux:
            if worker.end.streaming:
                worker.kill("it goes on with a stream whose client left (stream_timeout)")
        elif not worker.left:
            ask(worker.pid, worker.told_pid)
            self._log.warn(
                "worker {pid} does not end cancelled calls, it is replaced: {calls}",
                event="worker_disobeys",
                pid=worker.pid,
                calls=", ".join(
                    f"{call.head.describe()} after {now - call.since:.1f} s" for call in cancelled[:5]
                ),
            )
            self._pool.crew.replace(worker, WorkerState.INVALID, warm=False)
        elif len(cancelled) == total:
            worker.stop()  # nothing else is left

    # ------------------------------------------------------------------ workers

    def _look(self, now: float) -> None:
        crew = self._pool.crew
        if crew.draining:
            return  # no worker is recycled then
        self._fitted.intersection_update(crew.workers)
        for worker in list(crew.workers):
            if worker.ready and not crew.goes(worker):
                state = self._past(worker, now)
                if state is not None:
                    crew.replace(worker, state)

    def _is_large(self, worker: Worker) -> bool:
        """It is above its memory, and its successor has a chance to be below for a while."""
        memory = usage(worker.pid, worker.told_pid, 1.0)[0]
        if memory < self._limits.max_worker_memory:
            self._fitted.add(worker)
            return False
        if not worker.jobs and worker not in self._fitted:
            self._tell_large(worker, memory)
            return False
        self._log.info("worker {pid} uses {memory} bytes, it is replaced", pid=worker.pid, memory=memory)
        return True

    def _tell_large(self, worker: Worker, memory: int) -> None:
        """A limit that no fresh worker keeps to would have them replaced for ever."""
        if self._told_large:
            return
        self._told_large = True
        self._log.warn(
            "worker {pid} uses {memory:.0f} MiB before its first call, more than supervisor.max_worker_memory "
            "({limit:.0f} MiB): each worker will be replaced once it has served a call",
            pid=worker.pid,
            memory=memory / MIB,
            limit=self._limits.max_worker_memory / MIB,
        )

    def _past(self, worker: Worker, now: float) -> WorkerState | None:
        """The first limit that *worker* has passed, in RoadRunner's order."""
        limits = self._limits
        if limits.ttl and now - worker.born >= limits.ttl:
            return WorkerState.TTL
        if limits.max_worker_memory and self._is_large(worker):
            return WorkerState.MAX_MEMORY
        if limits.idle_ttl and worker.jobs and not worker.end.load and now - worker.since >= limits.idle_ttl:
            return WorkerState.IDLE_TTL
        return None
