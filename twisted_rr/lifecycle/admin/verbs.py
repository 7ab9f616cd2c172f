"""What the admin socket can be asked, and what each verb does to the server.

A verb answers at once, or hands its request to `Waits`. Bytes and connections are the service's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
from twisted.internet.defer import DeferredList
from twisted.python.failure import Failure

from twisted_rr.errors import ConfigError, Draining
from twisted_rr.lifecycle.admin.progress import Progress, workers_of
from twisted_rr.lifecycle.admin.requests import Asked, Refusal, parameters, split
from twisted_rr.lifecycle.admin.waits import Answer, Wait, Waits
from twisted_rr.lifecycle.drain import ANNOUNCE, DRAINED, FINISH, RUNNING, STARTING, WrongState
from twisted_rr.lifecycle.phases import STATUS
from twisted_rr.lifecycle.server import Server
from twisted_rr.log import logger

#: What a drain or a stop by this door is called in logs and reports.
CAUSE = "admin"

#: States in which a worker that is gone is not gone by plan.
_WORKING = (RUNNING, DRAINED, ANNOUNCE, FINISH)


@attrs.frozen
class Verb:
    """One method and path: the parameters it takes, and what carries it out.

    *carry_out* gets the parameters and the answer to call, once; it may return the wait it began.
    """

    takes: tuple[str, ...]
    carry_out: Callable[[Asked, Answer], Wait | None]


class Verbs:
    """The verbs of one server.

    :param stop: stops whatever the server runs in: the process as its signal would, or the service alone.
    :param facts: more about the server, for ``GET /status``.
    """

    def __init__(
        self,
        server: Server,
        progress: Progress,
        waits: Waits,
        stop: Callable[[str], object],
        facts: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._server = server
        self._progress = progress
        self._waits = waits
        self._stop = stop
        self._facts = facts
        self._log = logger("admin")
        waiting = ("wait", "deadline")
        self._table: dict[tuple[str, str], Verb] = {
            ("POST", "/drain"): Verb((*waiting, "quiet"), self._drain),
            ("POST", "/undrain"): Verb((), self._undrain),
            ("POST", "/stop"): Verb((*waiting, "force"), self._stop_server),
            ("POST", "/reset"): Verb((*waiting, "pool"), self._reset),
            ("POST", "/reload"): Verb(("deadline", "workers"), self._reload),
            ("GET", "/drain"): Verb((), self._tell_drain),
            ("GET", "/status"): Verb((), self._tell_status),
        }

    def begin(self, method: str, target: bytes, who: str, answer: Answer) -> Wait | None:
        """Carry out a request of *who* and see to its *answer*; the wait it began, if it has to wait."""
        path, query = split(target)
        try:
            probe = self._probe(method, path, query)
            if probe is not None:
                answer(*probe)
                return None
            verb = self._verb(method, path)
            asked = parameters(query, verb.takes)
            if method == "POST":
                self._log.info(
                    "{who} asks for {verb}", who=who, verb=f"{path[1:]}{'?' + query if query else ''}"
                )
            return verb.carry_out(asked, answer)
        except Refusal as refusal:
            answer(
                refusal.status, {"error": refusal.reason, "state": self._server.drain.state, **refusal.more}
            )
        except WrongState as error:
            answer(409, {"error": str(error), "state": error.state})
        return None

    def _verb(self, method: str, path: str) -> Verb:
        verb = self._table.get(("GET" if method == "HEAD" else method, path))
        if verb is not None:
            return verb
        methods = [known for known, at in self._table if at == path]
        if methods:
            raise Refusal(405, f"{path} takes {' and '.join(methods)}", allow=methods)
        known = ", ".join(f"{method} {at}" for method, at in self._table)
        raise Refusal(404, f"nothing is at {path}; there are {known}, GET /health, /ready and /startup")

    # ----------------------------------------------------------------- drain

    def _drain(self, asked: Asked, answer: Answer) -> Wait | None:
        drain = self._server.drain
        # A stop under way is a drain already: one drain, and its deadline holds (I15).
        if not drain.draining and drain.state != DRAINED:
            drain.hold(CAUSE)
        if not asked.waits:
            answer(200, {"done": not self._progress.in_flight(), **self._progress.drain()})
            return None
        return self._hold(asked, answer, for_drain=True)

    def _undrain(self, asked: Asked, answer: Answer) -> None:
        self._server.drain.undrain()
        answer(200, self._progress.drain())

    def _tell_drain(self, asked: Asked, answer: Answer) -> None:
        answer(200, {"waiting": len(self._waits), **self._progress.drain()})

    def _hold(self, asked: Asked, answer: Answer, for_drain: bool = False) -> Wait:
        now = self._server.clock.seconds()
        until = None if asked.deadline is None else now + asked.deadline
        wait = Wait(answer, until=until, quiet=asked.quiet, for_drain=for_drain, force=asked.force)
        self._waits.add(wait)
        return wait

    # ------------------------------------------------------------------ stop

    def _stop_server(self, asked: Asked, answer: Answer) -> Wait | None:
        drain = self._server.drain
        drain.begin(CAUSE)
        wait = self._hold(asked, answer) if asked.waits else None
        if wait is None:
            # Before the stop, which may be over when it returns.
            answer(202, {**self._progress.drain(), **({"deadline_in": 0.0} if asked.force else {})})
        if asked.force:
            drain.hurry()
        self._stop(CAUSE)
        return wait

    # ----------------------------------------------------------------- reset

    def _reset(self, asked: Asked, answer: Answer) -> Wait | None:
        drain = self._server.drain
        if drain.state not in (RUNNING, DRAINED):
            raise WrongState("reset", drain.state)
        pools = [pool for pool in self._server.pools() if asked.pool in ("", pool.name)]
        if not pools:
            known = ", ".join(pool.name for pool in self._server.pools()) or "none"
            raise Refusal(400, f"there is no pool {asked.pool!r}; expected one of: {known}")
        over = _Once(answer)
        wait = self._hold(asked, over) if asked.waits else None
        if wait is None:
            over(202, {"state": drain.state, "pools": [pool.name for pool in pools]})
        resets = DeferredList([pool.replace() for pool in pools], consumeErrors=True)
        resets.addCallback(self._was_reset, pools, wait, over)
        return wait

    def _was_reset(
        self, results: list[tuple[bool, Any]], pools: list[Any], wait: Wait | None, answer: Answer
    ) -> None:
        if wait is not None:
            self._waits.forget(wait)
        failures = [(pool, failure) for pool, (done, failure) in zip(pools, results, strict=True) if not done]
        for pool, failure in failures:
            assert isinstance(failure, Failure)
            reason = str(failure.value)
            self._log.error("the reset of pool {pool} failed: {reason}", pool=pool.name, reason=reason)
        told = {
            "done": not failures,
            "state": self._server.drain.state,
            "pools": [
                {"name": pool.name, **_reported(outcome), "workers": workers_of(pool)}
                for pool, (_, outcome) in zip(pools, results, strict=True)
            ],
        }
        if failures:
            told["reason"] = "; ".join(f"{pool.name}: {failure.value}" for pool, failure in failures)
        answer(500 if failures else 200, told)

    # ---------------------------------------------------------------- reload

    def _reload(self, asked: Asked, answer: Answer) -> Wait | None:
        """Always waits: what came of it is all that one wants to know."""
        if self._server.reload is None:
            raise Refusal(501, "the configuration of this server cannot be read again")
        if self._server.drain.draining:
            raise WrongState("reload", self._server.drain.state)
        over = _Once(answer)
        wait = self._hold(asked, over)
        self._server.reload(CAUSE, asked.workers).addBoth(self._reloaded, wait, over)
        return wait

    def _reloaded(self, outcome: Any, wait: Wait, answer: Answer) -> None:
        self._waits.forget(wait)
        state = self._server.drain.state
        if not isinstance(outcome, Failure):
            told = {"changed": outcome.changed, "replaced": outcome.replaced}
            answer(200, {"done": True, "state": state, **told})
            return
        error = outcome.value
        told = {"done": False, "state": state, "error": str(error)}
        if isinstance(error, ConfigError):
            problems = [(each.path, each.reason, each.where) for each in error.problems]
            told["problems"] = [
                dict(zip(("path", "reason", "where"), each, strict=True)) for each in problems
            ]
        answer(_status_of(error), told)

    # ---------------------------------------------------------------- status

    def _tell_status(self, asked: Asked, answer: Answer) -> None:
        told = {**self._facts(), **self._progress.status()}
        for route in ("health", "ready"):
            probed = self._probe("GET", f"/{route}", "")
            told[route] = probed[0] if probed is not None else None
        answer(200, told)

    def _probe(self, method: str, path: str, query: str) -> tuple[int, dict[str, Any]] | None:
        """The status endpoints' own answer where there are such, else one from what the pools say."""
        if path not in ("/health", "/ready", "/startup") or method not in ("GET", "HEAD"):
            return None
        for child in self._server.phase(STATUS):
            if hasattr(child, "probe"):
                code, plugins = child.probe(f"{path}?{query}" if query else path)
                return code, {"state": self._server.drain.state, "code": code, "plugins": plugins}
        reason = self._trouble(path)
        return (503 if reason else 200), {"state": self._server.drain.state, "reason": reason}

    def _trouble(self, path: str) -> str:
        drain = self._server.drain
        if path == "/startup":
            return "" if drain.was_ready else STARTING
        if path == "/ready" and drain.state != RUNNING:
            return "" if drain.draining and not drain.ready_flipped else str(drain.state)
        if drain.state not in _WORKING:
            return ""
        for pool in self._server.pools():
            health = getattr(pool, "health", None)
            if health is not None:
                told = health.alive() if path == "/health" else health.ready()
                if told is not None:
                    return f"{pool.name}: {told}"
        return ""


def _status_of(error: BaseException | None) -> int:
    """The status of a reload that failed: the file's fault, the moment's, or the application's and ours."""
    if isinstance(error, ConfigError):
        return 422
    return 409 if isinstance(error, WrongState | Draining) else 500


def _reported(outcome: Any) -> dict[str, Any]:
    """What became of each worker, of a reset that went through or did not."""
    report = getattr(outcome.value, "report", None) if isinstance(outcome, Failure) else outcome
    return {} if report is None else dict(report.record())


class _Once:
    """An answer that counts once: what comes first, the end of the work or of the patience."""

    def __init__(self, answer: Answer) -> None:
        self._answer: Answer | None = answer

    def __call__(self, status: int, told: dict[str, Any]) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            answer(status, told)
