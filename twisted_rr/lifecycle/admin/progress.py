"""What an operator is told: the lifecycle, what is in flight, fronts and pools, as plain data.

This door is the operator's, so methods, paths and process ids are in it; queries and bodies never are.
"""

from __future__ import annotations

import os
from typing import Any

import twisted_rr
from twisted_rr.compiled import in_short
from twisted_rr.lifecycle.blockers import blockers_of
from twisted_rr.lifecycle.drain import DRAINED
from twisted_rr.lifecycle.phases import FRONT, name_of
from twisted_rr.lifecycle.report import Tally
from twisted_rr.lifecycle.server import Server

#: So many calls are told one by one, the oldest first.
MOST_CALLS = 100


class Progress:
    """Tells about one server; the counts are of the drain that is under way."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._begun: Tally | None = None
        server.drain.watch(self._changed)

    def _changed(self, state: str) -> None:
        if not self._server.drain.leaving:
            self._begun = None
        elif self._begun is None:
            self._begun = self.tally()

    def tally(self) -> Tally:
        """All counters, since the start."""
        return Tally.of(self._in_flights())

    def in_flight(self) -> int:
        """How many calls are in flight."""
        return sum(each.count() for each in self._in_flights())

    def _in_flights(self) -> list[Any]:
        return [front.in_flight for front in self._server.fronts()]

    def drain(self) -> dict[str, Any]:
        """For ``GET /drain``, and with every answer about a drain."""
        drain = self._server.drain
        now = self._server.clock.seconds()
        counts = self.tally().since(self._begun) if self._begun is not None else Tally()
        oldest = max((age for each in self._in_flights() if (age := each.oldest()) is not None), default=None)
        calls = blockers_of(self._in_flights(), now, MOST_CALLS)
        return {
            "state": drain.state,
            "cause": drain.cause,
            "since": round(now - drain.since, 3),
            "reversible": drain.state == DRAINED,
            "deadline_in": round(drain.remaining(), 3) if drain.draining else None,
            "exit_in": round(max(0.0, drain.end - now), 3) if drain.draining else None,
            "in_flight": self.in_flight(),
            "protocols": {each.name: each.count() for each in self._in_flights()},
            "oldest": None if oldest is None else round(oldest, 3),
            "calls": [each.record() for each in calls],
            "finished": counts.finished,
            "cut": counts.cut,
            "lost": counts.lost,
            "refused": counts.refused,
            "last_connection_ago": self._ago(drain.last_arrival, now),
        }

    @staticmethod
    def _ago(moment: float | None, now: float) -> float | None:
        return None if moment is None else round(now - moment, 3)

    def status(self) -> dict[str, Any]:
        """For ``GET /status``: the whole server."""
        fronts = [
            {
                "name": name_of(child),
                "address": str(getattr(child, "address", "")),
                "in_flight": child.in_flight.count() if hasattr(child, "in_flight") else 0,
            }
            for child in self._server.phase(FRONT)
        ]
        return {
            "version": twisted_rr.__version__,
            "build": in_short(),
            "pid": os.getpid(),
            "drain": self.drain(),
            "fronts": fronts,
            "pools": [pool_of(pool) for pool in self._server.pools()],
        }


def pool_of(pool: Any) -> dict[str, Any]:
    """A pool, its queue and its workers."""
    return {
        "name": pool.name,
        "waiting": pool.waiting(),
        "oldest": round(pool.waited(), 3),
        "shed": pool.shed,
        "workers": workers_of(pool),
        "template": template_of(pool),
    }


def template_of(pool: Any) -> dict[str, Any] | None:
    """The template of a pool, or why its workers are not preloaded; None where nobody asks for it."""
    info = pool.template()
    if info is None:
        return None
    if info.reason:
        return {"reason": info.reason}
    return {"pid": info.pid, "ready": info.ready, "seconds": round(info.seconds, 3)}


def workers_of(pool: Any) -> list[dict[str, Any]]:
    """A pool's workers."""
    return [
        {
            "pid": each.pid,
            "state": each.status_text,
            "calls": each.open_calls,
            "limit": each.limit,
            "abandoned": each.abandoned,
            "served": each.num_execs,
            "memory": each.memory,
            "cpu": each.cpu,
        }
        for each in pool.workers()
    ]
