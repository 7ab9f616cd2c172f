"""One pool on its way to other settings: first one worker is tried, then all are replaced, one after the other.

What has changed, and whether other parts of the server agree, is the reload's subject.
"""

from __future__ import annotations

from typing import Any, Final

import attrs
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_rr.errors import Draining, WorkerStartError
from twisted_rr.log import logger
from twisted_rr.pool.pool import WorkerPool
from twisted_rr.pool.rolling import Rolling
from twisted_rr.pool.settings import PoolSettings
from twisted_rr.pool.spec import PoolPlan
from twisted_rr.pool.state import WorkerState
from twisted_rr.pool.worker import Worker

#: Keys of ``<plugin>.pool`` that can change while the pool runs. A pool in debug mode has no workers of its own.
LIVE: Final = frozenset(field.name for field in attrs.fields(PoolSettings)) - {"debug"}

#: The same of ``server``. The others are about the server itself, its relay, or whom it may start workers as.
SERVER_LIVE: Final = frozenset(
    {
        "command",
        "preload",
        "env",
        "directory",
        "nice",
        "oom_score_adj",
        "affinity",
        "rlimits",
        "relay_timeout",
    }
)


class Succession:
    """`prove`, then either `commit` or `abandon`.

    Workers are replaced when they would be started otherwise than before (command, environment, folder, limits of
    the system), or when *always* says so. The rest of the settings applies at once.

    :ivar replaces: workers are to be replaced.
    """

    def __init__(self, pool: WorkerPool, plan: PoolPlan, always: bool = False) -> None:
        self._pool = pool
        self._plan = plan
        self.replaces = always or pool.spec(plan) != pool.spec(pool.plan)
        self._candidate: Worker | None = None
        self._locked = False
        self._took = 0.0
        self._log = logger("reload")

    @property
    def name(self) -> str:
        """The pool's."""
        return str(self._pool.name)

    @property
    def changes(self) -> bool:
        """There is anything to do."""
        return self.replaces or self._plan.settings != self._pool.plan.settings

    # ------------------------------------------------------------------ before it is decided

    def prove(self) -> Deferred[None]:
        """Start one worker of the new kind, which takes no calls yet.

        Fires when it answered the handshake; fails with WorkerStartError when it does not, with Draining in a drain.
        Nothing has changed either way.
        """
        return Deferred.fromCoroutine(self._prove())

    async def _prove(self) -> None:
        if not self.replaces:
            return
        await self._pool.replacing.acquire()
        self._locked = True
        if self._pool.crew.draining:
            raise Draining()
        if self._plan.settings.debug:
            return  # every call starts its own
        self._pool.renew_template(self._plan)
        begun = self._pool.now()
        self._candidate = self._pool.make_held(self._plan)
        await self._candidate.when_ready()
        self._took = self._pool.now() - begun

    def check(self) -> None:
        """Just before `commit`: raises WorkerStartError when the tried worker has ended meanwhile."""
        if self._candidate is not None and not self._candidate.ready:
            raise self._candidate.error or WorkerStartError(self._candidate.spec.command, "it ended at once")

    def abandon(self) -> None:
        """Leave everything as it was; the tried worker is stopped. Idempotent."""
        candidate, self._candidate = self._candidate, None
        if candidate is not None:
            candidate.stop()
        self._release()

    def _release(self) -> None:
        if self._locked:
            self._locked = False
            self._pool.replacing.release()

    # ------------------------------------------------------------------ after it is decided

    def commit(self) -> Deferred[None]:
        """Go by the new settings now, before this returns, and replace the workers.

        Fires when all that are wanted serve; those replaced may still finish their calls. Fails with
        WorkerStartError when some new one does not start: then the old ones not yet replaced go on. A cancel ends
        it there too.
        """
        if self.replaces and not self._plan.settings.debug:
            return Deferred.fromCoroutine(self._replace())
        return Deferred.fromCoroutine(self._resize())

    async def _resize(self) -> None:
        self._pool.apply(self._plan)
        self._release()
        self._pool.crew.shrink_to_fit()
        await _serving(self._added())

    async def _replace(self) -> None:
        try:
            settings = self._plan.settings
            rolling = Rolling(self._pool, settings.reset_batch, settings.reset_timeout, self._log)
            old, added = self._begin(rolling)
            await rolling.replace(old)
            await _serving(added)
        finally:
            self._release()

    def _added(self) -> list[Deferred[Any]]:
        """The workers that are missing, started; what is not waited for complains to nobody."""
        before = set(self._pool.crew.workers)
        self._pool.crew.maintain()
        added = [worker.when_ready() for worker in self._pool.crew.workers if worker not in before]
        for wait in added:
            wait.addErrback(_started_badly)
        return added

    def _begin(self, rolling: Rolling) -> tuple[list[Worker], list[Deferred[Any]]]:
        """The tried worker is one of all now; those that have yet to be replaced, and those started besides."""
        pool, crew, candidate = self._pool, self._pool.crew, self._candidate
        assert candidate is not None
        self._candidate = None
        old = [worker for worker in crew.workers if worker is not candidate]
        if pool.spec(pool.plan) != pool.spec(self._plan):
            pool.renew_template(pool.plan)  # nobody comes from it any more
        pool.apply(self._plan)
        crew.forgive()
        for worker in old:
            if worker.end is None:
                worker.stop()  # it is of the old kind, and holds nothing yet
        serving = [worker for worker in old if worker.ready and not worker.replaced]
        surplus = len(serving) - crew.target()
        if surplus >= 0 and serving:
            # The candidate takes the place of one, and whoever is too many goes without a successor.
            for worker in serving[: surplus + 1]:
                crew.follow(worker, WorkerState.DESTROYED, self._plan.settings.reset_timeout)
            rolling.tell(serving[0], candidate, self._took)
            serving = serving[surplus + 1 :]
        pool.admit(candidate)
        return serving, self._added()


def _started_badly(failure: Failure) -> Exception:
    assert isinstance(failure.value, Exception)
    return failure.value


async def _serving(added: list[Deferred[Any]]) -> None:
    for wait in added:
        outcome = await wait
        if isinstance(outcome, Exception):
            raise outcome
