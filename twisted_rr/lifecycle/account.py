"""What becomes of the work in hand during one stop: counted from its first instant, told in a `Report` at its end.

Counting one exchange is its front's (`InFlight`), one worker its pool's; here is the difference, and who is to blame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted_rr.errors import for_log
from twisted_rr.lifecycle.advice import Seen, advise
from twisted_rr.lifecycle.blockers import Blocker, blockers_of
from twisted_rr.lifecycle.report import DRAINED, Report, Tally, outcome_of
from twisted_rr.log import logger

if TYPE_CHECKING:
    from twisted_rr.lifecycle.server import Server

_MOST_BLOCKERS = 10
_LONGEST_REASON = 1000


class Account:
    """One stop of *server*, which begins now.

    :param tell: whether the report is logged.
    :ivar closed: when the listeners closed, in seconds from the signal; None before.
    :ivar blockers: what was in flight when it was cut.
    :ivar unstopped: services whose stop had not ended when their time was over.
    """

    def __init__(self, server: Server, tell: bool) -> None:
        self.closed: float | None = None
        self.blockers: tuple[Blocker, ...] = ()
        self.unstopped: list[str] = []
        self._server = server
        self._drain = server.drain
        self._loud = tell
        self._log = logger("drain")
        self._before = Tally.of(self._in_flights())
        self._killed_before = self._of_pools("killed")
        self._stranded_before = self._of_pools("stranded")
        # Calls cut before anybody was forced: by workers that died. None until then.
        self._cut_by_workers: int | None = None
        self._forced_first = False

    def _in_flights(self) -> list[Any]:
        return [front.in_flight for front in self._server.fronts()]

    def _of_pools(self, name: str) -> int:
        return sum(int(getattr(pool, name, 0)) for pool in self._server.phase("WORKERS"))

    def blocking(self) -> tuple[Blocker, ...]:
        """What is in flight now, the oldest first, at most ten."""
        return tuple(blockers_of(self._in_flights(), self._server.clock.seconds(), _MOST_BLOCKERS))

    def note_force(self) -> None:
        """From now on what is cut is cut by us."""
        if self._cut_by_workers is None:
            self._cut_by_workers = Tally.of(self._in_flights()).since(self._before).cut
            self._forced_first = self._drain.hurried

    # ---------------------------------------------------------------- report

    def report(self) -> Report:
        """The stop as it stands, to be asked for once the workers are gone; it is logged."""
        drain = self._drain
        assert drain.begun is not None
        counts = Tally.of(self._in_flights()).since(self._before)
        killed = self._of_pools("killed") - self._killed_before
        # Calls that no worker could be had for: as bad an end as a worker that had to be killed.
        stranded = self._of_pools("stranded") - self._stranded_before
        cut_by = self._cut_by(counts.cut)
        last = self._last_connection()
        report = Report(
            cause=drain.cause,
            outcome=outcome_of(
                failed=self._server.failure is not None,
                forced=drain.hurried,
                cut=counts.cut,
                killed=killed + stranded,
            ),
            reason=""
            if self._server.failure is None
            else for_log(self._server.failure.value)[:_LONGEST_REASON],
            duration=drain.age(),
            finished=counts.finished,
            cut=counts.cut,
            cut_by=cut_by,
            lost=counts.lost,
            refused=counts.refused,
            killed=killed,
            last_connection=last,
            blockers=self.blockers,
            unstopped=tuple(self.unstopped),
            advice=() if drain.brisk else tuple(advise(self._seen(cut_by, killed, last), drain.plan)),
        )
        if self._loud:
            self._tell(report)
        return report

    def _last_connection(self) -> float | None:
        begun, arrived = self._drain.begun, self._drain.last_arrival
        return None if begun is None or arrived is None or arrived < begun else arrived - begun

    def _cut_by(self, cut: int) -> dict[str, int]:
        by_workers = cut if self._cut_by_workers is None else self._cut_by_workers
        by_us = "forced" if self._forced_first else "deadline"
        return {name: count for name, count in (("worker", by_workers), (by_us, cut - by_workers)) if count}

    def _seen(self, cut_by: dict[str, int], killed: int, last: float | None) -> Seen:
        cut = self.blockers if cut_by.get("deadline") else ()
        return Seen(
            oldest_cut=max((one.age for one in cut), default=None),
            killed=0 if cut_by or self._drain.hurried else killed,
            closed=self.closed,
            last_connection=last,
        )

    def _tell(self, report: Report) -> None:
        say = self._log.info if report.outcome == DRAINED else self._log.warn
        why = ": {reason}" if report.reason else ""
        say(
            "stopped by {cause} in {duration:.2f} s: {outcome}"
            + why
            + "; finished={finished} cut={cut} lost={lost} "
            "refused={refused} killed={killed}",
            event="stopped",
            # What is empty would only be noise on a terminal.
            **{name: value for name, value in report.record().items() if value not in (None, [], {}, "")},
        )
        for advice in report.advice:
            say("{advice}", advice=advice.text)
