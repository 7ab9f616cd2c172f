"""What a stop did: who finished, who was cut, how long it took, and the exit code that says so.

Counting is the fronts' (`InFlight`); this only takes the difference over a drain.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from twisted_rr.interfaces import IInFlight
from twisted_rr.lifecycle.advice import Advice, sentences
from twisted_rr.lifecycle.blockers import Blocker
from twisted_rr.lifecycle.exits import EXIT_CUT, EXIT_DRAINED, EXIT_FAILED, EXIT_FORCED, EXIT_KILLED

DRAINED, FAILED, CUT, FORCED, KILLED = "drained", "failed", "cut", "forced", "killed"

#: The exit code of each outcome (drain.md 2.2).
EXIT_CODES = {
    DRAINED: EXIT_DRAINED,
    FAILED: EXIT_FAILED,
    CUT: EXIT_CUT,
    FORCED: EXIT_FORCED,
    KILLED: EXIT_KILLED,
}


@attrs.frozen(kw_only=True)
class Report:
    """The end of one drain.

    :ivar cause: what began it.
    :ivar outcome: ``drained``, ``cut`` (by the deadline), ``forced``, ``killed`` (a worker needed
        SIGKILL although no work was cut) or ``failed``.
    :ivar reason: why it failed, where it did.
    :ivar duration: seconds from the signal on.
    :ivar finished: exchanges that were, or came, in flight and got a complete answer.
    :ivar cut: those the server cut.
    :ivar cut_by: how many of these by what: ``deadline``, ``forced``, ``worker`` (one that died in an answer).
    :ivar lost: those their clients gave up.
    :ivar refused: late ones that were turned away.
    :ivar killed: workers that needed SIGKILL.
    :ivar last_connection: when the last new connection came, seconds from the signal; None if none did.
    :ivar blockers: what was in flight when it was cut, the oldest first, at most ten.
    :ivar unstopped: services whose stop had not ended when their time was over.
    :ivar advice: which keys would have helped.
    """

    cause: str
    outcome: str
    duration: float
    finished: int = 0
    cut: int = 0
    cut_by: Mapping[str, int] = attrs.field(factory=dict)
    lost: int = 0
    refused: int = 0
    killed: int = 0
    last_connection: float | None = None
    blockers: tuple[Blocker, ...] = ()
    unstopped: tuple[str, ...] = ()
    advice: tuple[Advice, ...] = ()
    reason: str = ""

    @property
    def code(self) -> int:
        """The process's exit code."""
        return EXIT_CODES[self.outcome]

    def record(self) -> dict[str, Any]:
        """The whole as plain data: one JSON object."""
        last = self.last_connection
        return {
            "cause": self.cause,
            "outcome": self.outcome,
            "reason": self.reason,
            "code": self.code,
            "duration": round(self.duration, 3),
            "finished": self.finished,
            "cut": self.cut,
            "cut_by": dict(self.cut_by),
            "lost": self.lost,
            "refused": self.refused,
            "killed": self.killed,
            "last_connection": None if last is None else round(last, 3),
            "blockers": [one.record() for one in self.blockers],
            "unstopped": list(self.unstopped),
            "advice": sentences(self.advice),
        }


def outcome_of(*, failed: bool, forced: bool, cut: int, killed: int) -> str:
    """The one word for the end of a drain.

    Work that the deadline cut comes before a worker that needed SIGKILL: the one explains the other.
    """
    if failed:
        return FAILED
    if forced:
        return FORCED
    if cut:
        return CUT
    return KILLED if killed else DRAINED


@attrs.frozen
class Tally:
    """The counters of all fronts at one moment."""

    finished: int = 0
    cut: int = 0
    lost: int = 0
    refused: int = 0

    @classmethod
    def of(cls, counted: Iterable[IInFlight]) -> Tally:
        """The sums; an IInFlight of somebody else's making may lack some of the counters."""
        sets = list(counted)

        def total(name: str) -> int:
            return sum(int(getattr(one, name, 0)) for one in sets)

        return cls(total("finished"), total("cut"), total("lost"), total("refused"))

    def since(self, before: Tally) -> Tally:
        """What was counted after *before*."""
        return Tally(
            self.finished - before.finished,
            self.cut - before.cut,
            self.lost - before.lost,
            self.refused - before.refused,
        )
