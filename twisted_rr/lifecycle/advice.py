"""What a stop teaches about the settings: which key was too small, and the value it needed (drain.md B7).

Numbers come in, sentences go out; nothing is measured here. A Ctrl-C in a terminal teaches nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs

from twisted_rr.lifecycle.budget import Budget

# A call that was cut had this much of the time it would have needed: more cannot be known, and a second cut
# for want of a few seconds would be worse than a budget that is too large.
_NEARLY_HALF_DONE = 1.75
# The last part of the announce in which no connection should come any more.
_LATE_SHARE = 0.2
_NICE = (
    1,
    2,
    3,
    5,
    8,
    10,
    12,
    15,
    20,
    25,
    30,
    45,
    60,
    90,
    120,
    180,
    240,
    300,
    420,
    600,
    900,
    1200,
    1800,
    3600,
)
_PLATFORM_MARGIN = 5


@attrs.frozen(kw_only=True)
class Seen:
    """What was observed during one stop; times are seconds from the signal.

    :ivar oldest_cut: the age of the oldest call that the deadline cut, None when it cut none.
    :ivar killed: workers that needed SIGKILL although no work was cut.
    :ivar closed: when the listeners closed, None when they never did.
    :ivar last_connection: when the last new connection came, None when none did.
    """

    oldest_cut: float | None = None
    killed: int = 0
    closed: float | None = None
    last_connection: float | None = None


@attrs.frozen(kw_only=True)
class Advice:
    """One key to change.

    :ivar key: its path.
    :ivar now: what it amounts to now, as one writes it.
    :ivar value: what to set it to.
    :ivar text: the whole as a sentence.
    """

    key: str
    now: str
    value: str
    text: str

    def __str__(self) -> str:
        return self.text


def advise(seen: Seen, budget: Budget) -> list[Advice]:
    """What to change, so that the next stop loses nothing; empty when all was well."""
    found = []
    if seen.oldest_cut is not None:
        found.append(_longer(seen.oldest_cut, budget))
    elif seen.killed:
        found.append(_patience(seen.killed, budget))
    if _came_late(seen, budget):
        found.append(_announce(seen, budget))
    return found


def nice(seconds: float) -> int:
    """The next number above *seconds* that people write into configurations."""
    for step in _NICE:
        if step >= seconds:
            return step
    return math.ceil(seconds / 3600) * 3600


def _longer(oldest: float, budget: Budget) -> Advice:
    reserve = budget.total - budget.cut
    if budget.finish is not None:
        needed = nice(max(oldest * _NEARLY_HALF_DONE, budget.finish))
        total = nice(needed + budget.announce_max + reserve)
        rest = f", endure.grace_period to at least {total}s"
        return _cut_advice("drain.finish", budget.finish, needed, rest, total, oldest)
    whole = max(oldest * _NEARLY_HALF_DONE + reserve, budget.total * 1.01)
    if budget.follows:
        return _platform_advice(whole, oldest, budget)
    total = nice(whole)
    return _cut_advice("endure.grace_period", budget.total, total, "", total, oldest)


def _cut_advice(key: str, now: float, value: int, rest: str, total: int, oldest: float) -> Advice:
    return Advice(
        key=key,
        now=f"{now:g}s",
        value=f"{value}s",
        text=(
            f"{key} was {now:g}s, the longest cut call was {oldest:.1f} s old and needed more: "
            f"set {key}: {value}s{rest} and terminationGracePeriodSeconds: {total + _PLATFORM_MARGIN}"
        ),
    )


def _platform_advice(whole: float, oldest: float, budget: Budget) -> Advice:
    """Where the budget follows the platform's deadline: a second number would contradict it."""
    now = budget.platform_deadline or 0.0
    needed = nice(whole + now - budget.total)
    value = f"{needed}s"
    return Advice(
        key=budget.follows,
        now=f"{now:g}s",
        value=value,
        text=(
            f"{budget.follows} was {now:g}s, which leaves {budget.total:g} s for a stop; the longest cut call was "
            f"{oldest:.1f} s old and needed more: set {budget.follows}: {value} and "
            f"terminationGracePeriodSeconds: {needed}"
        ),
    )


def _patience(killed: int, budget: Budget) -> Advice:
    needed = nice(2 * budget.term + 1)
    workers = "a worker" if killed == 1 else f"{killed} workers"
    return Advice(
        key="drain.worker_stop.term",
        now=f"{budget.term:g}s",
        value=f"{needed}s",
        text=(
            f"{workers} did not end within {budget.worker_stop:g} s and had to be killed: "
            f"set drain.worker_stop.term: {needed}s (now {budget.term:g}s)"
        ),
    )


def _came_late(seen: Seen, budget: Budget) -> bool:
    if seen.closed is None or seen.last_connection is None:
        return False
    return seen.closed - seen.last_connection <= _LATE_SHARE * max(seen.closed, budget.announce_max)


def _announce(seen: Seen, budget: Budget) -> Advice:
    last = seen.last_connection or 0.0
    now = budget.announce_max
    needed = nice(max(1.5 * last, last + 2.0, 1.01 * now)) if now else 5
    whole = _grace_for(needed, budget)
    return Advice(
        key="drain.announce.max",
        now=f"{now:g}s",
        value=f"{needed}s",
        text=(
            f"the last new connection came {last:.1f} s after the stop began and the listeners closed at "
            f"{seen.closed:.1f} s, so that later ones were refused: behind a load balancer set "
            f"drain.announce.max: {needed}s (now {now:g}s){whole}"
        ),
    )


def _grace_for(announce: int, budget: Budget) -> str:
    """What has to be raised too when the announce would eat more than half of the whole."""
    if announce <= 0.5 * budget.cut:
        return ""
    if budget.follows:
        return f" and {budget.follows}: {nice((budget.platform_deadline or budget.total) + announce)}s"
    return f" and endure.grace_period: {nice(budget.total + announce)}s"


def sentences(advice: Sequence[Advice]) -> list[str]:
    """The texts, for records."""
    return [one.text for one in advice]
