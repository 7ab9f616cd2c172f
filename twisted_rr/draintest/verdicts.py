"""The verdict on one invariant, and how those of several runs become one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from twisted_rr.draintest.records import Evidence

HOLDS, BROKEN, NOT_RUN = "holds", "broken", "not run here"


@attrs.frozen
class Verdict:
    """*why* is the evidence: a count, a moment, the reason it was not judged."""

    word: str
    why: str


@attrs.frozen
class Invariant:
    """One invariant of the drain.

    :ivar judge: from the evidence of a run to a verdict; None for what no run can show.
    :ivar needs: why it is not judged then.
    """

    id: str
    text: str
    judge: Callable[[Evidence], Verdict] | None = None
    needs: str = ""

    def of(self, evidence: Evidence) -> Verdict:
        """The verdict of one run."""
        return Verdict(NOT_RUN, self.needs) if self.judge is None else self.judge(evidence)


def holds(why: str) -> Verdict:
    """It held, and *why* it counts as tried."""
    return Verdict(HOLDS, why)


def broken(why: str) -> Verdict:
    """It did not hold."""
    return Verdict(BROKEN, why)


def not_run(why: str) -> Verdict:
    """This run says nothing about it."""
    return Verdict(NOT_RUN, why)


def together(verdicts: Sequence[tuple[str, Verdict]]) -> Verdict:
    """One verdict of many, each with its run's name: one that is broken decides, one that holds says it was tried."""
    for name, verdict in verdicts:
        if verdict.word == BROKEN:
            return Verdict(BROKEN, f"{name}: {verdict.why}")
    held = [verdict for _, verdict in verdicts if verdict.word == HOLDS]
    if held:
        more = f" (and {len(held) - 1} runs more)" if len(held) > 1 else ""
        return Verdict(HOLDS, held[0].why + more)
    # A run that came near says more than one that never meant to.
    reasons = sorted((verdict.why for _, verdict in verdicts), key=lambda why: why.startswith("needs"))
    return Verdict(NOT_RUN, reasons[0] if reasons else "no run")
