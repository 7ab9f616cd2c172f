"""Verdicts on what the clients saw: I3 to I6, I16, I17, I28."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from twisted_rr.draintest import faults, records
from twisted_rr.draintest.records import Evidence, Exchange
from twisted_rr.draintest.verdicts import Verdict, broken, holds, not_run

# A signal is handled some milliseconds after it was sent; what ends meanwhile may be counted either way.
_EDGE = 0.05

# Seconds between connect and request, from which on a client that gets no answer at the close has itself to thank.
_DAWDLES = 0.4


def served_in_announce(evidence: Evidence) -> Verdict:
    """I3."""
    refused = evidence.first_refused()
    if evidence.signalled is None or faults.KILLED in evidence.effects or faults.FORCED in evidence.effects:
        return not_run("there was no whole announce")
    if faults.STARVED in evidence.effects:
        return not_run(faults.STARVED)
    if faults.EARLY in evidence.effects or evidence.terms.announce <= 0:
        return not_run("no announce was promised")
    end = evidence.signalled + evidence.terms.announce - 0.05
    if refused is not None and refused < end - evidence.lag(evidence.signalled, end) - 0.05:
        return broken(f"a connect was refused {refused - evidence.signalled:.2f} s after the signal")
    fresh = [
        line
        for line in evidence.exchanges
        if evidence.signalled <= line.opened < end and not line.reused and not line.by_plan
    ]
    if len(fresh) < 5:
        return not_run("too few connections came in the announce")
    bad = [line for line in fresh if not _well(evidence, line)]
    if bad:
        return broken(f"{len(bad)} of {len(fresh)} new connections: {_outcomes(bad)}")
    return holds(f"{len(fresh)} new connections, all served")


def _well(evidence: Evidence, line: Exchange) -> bool:
    if line.outcome == records.COMPLETE:
        if line.status == 503 and _after_deadline(evidence, line):
            return True
        if line.status in (502, 503, 504):
            return bool({faults.LOSES_CALLS, faults.UNANSWERED, faults.CUTS, faults.FLOOD} & evidence.effects)
        return True
    if _after_deadline(evidence, line) or _crossed(evidence, line):
        return True
    if line.outcome == records.LEFT:
        return bool(evidence.effects)
    return line.outcome == records.EMPTY and faults.UNANSWERED in evidence.effects


def _outcomes(lines: Iterable[Exchange]) -> str:
    counts = Counter(
        f"{line.client} {line.outcome}{f' {line.status}' if line.outcome == records.COMPLETE else ''}"
        for line in lines
    )
    return ", ".join(f"{count} {name}" for name, count in counts.most_common(4))


def _after_deadline(evidence: Evidence, line: Exchange) -> bool:
    deadline = evidence.deadline()
    ended = line.ended if line.ended is not None else float("inf")
    return deadline is not None and ended >= deadline - 0.1


def complete_or_counted(evidence: Evidence) -> Verdict:
    """I4."""
    if evidence.signalled is None or faults.KILLED in evidence.effects:
        return not_run("nothing was drained")
    if faults.STARVED in evidence.effects:
        return not_run(faults.STARVED)
    asked = [line for line in evidence.exchanges if line.asked is not None and not line.by_plan]
    lost = [
        line for line in asked if line.outcome in (records.CUT, records.EMPTY, records.RESET, records.HUNG)
    ]
    crossed = [line for line in lost if _crossed(evidence, line)]
    lost = [line for line in lost if line not in crossed]
    counted = int((evidence.report or {}).get("cut", 0)) if evidence.report else None
    if faults.UNANSWERED in evidence.effects:
        lost = [line for line in lost if line.outcome != records.EMPTY]
    lost = [line for line in lost if not (_too_late(evidence, line) or _met_force(evidence, line))]
    # Whether those are too many is I5's to say.
    lost = [line for line in lost if not (line.outcome == records.RESET and _at_close(evidence, line))]
    away = _turned_away(evidence, asked)
    if away:
        return broken(f"{_outcomes(away)} although they came before the close and there was time")
    if not lost:
        more = f"; {len(crossed)} crossed the close (clean FIN before the first byte)" if crossed else ""
        return holds(f"{len(asked)} requests{more}")
    early = [] if evidence.effects else [each for each in lost if not _after_deadline(evidence, each)]
    early = [each for each in early if each.protocol == "http"]
    if early:
        # To count it does not make up for the time that was promised.
        return broken(f"{_outcomes(early)} before the deadline; the server counted {counted}")
    if counted is not None and len(lost) <= counted:
        return holds(f"{len(asked)} requests, {len(lost)} cut and counted")
    if faults.LOSES_CALLS in evidence.effects and all(line.outcome == records.CUT for line in lost):
        return holds(f"{len(asked)} requests, {len(lost)} cut in mid-answer with their worker")
    if counted is None and faults.NO_REPORT in evidence.effects:
        return not_run(f"{len(lost)} were cut, and {faults.NO_REPORT}")
    return broken(f"{_outcomes(lost)}; the server counted {counted}")


def _turned_away(evidence: Evidence, asked: Iterable[Exchange]) -> list[Exchange]:
    """What the server answered itself, with time left, to calls that it had before its listener closed."""
    excuses = {faults.LOSES_CALLS, faults.UNANSWERED, faults.CUTS, faults.FLOOD, faults.HELD, faults.FORCED}
    signalled = evidence.signalled or 0.0
    if excuses & evidence.effects:
        return []
    closed = _closed_since(evidence) or signalled
    before = [
        line for line in asked if (line.asked or 0.0) < (closed if line.protocol == "http" else signalled)
    ]
    # What it answered before the signal too is the application's, or want of workers.
    usual = {line.status for line in before if (line.ended or signalled) < signalled}
    return [
        line
        for line in before
        if line.outcome == records.COMPLETE and line.status in {502, 503} - usual
        and (line.ended or 0.0) >= signalled and not _after_deadline(evidence, line)
    ]  # fmt: skip


def _too_late(evidence: Evidence, line: Exchange) -> bool:
    """What came while the server was held past its deadline came too late for it."""
    deadline = evidence.deadline() or float("inf")
    asked = line.asked or 0.0
    return any(begun <= asked <= over and over > deadline - 0.1 for begun, over in evidence.holds)


def _met_force(evidence: Evidence, line: Exchange) -> bool:
    """What was asked in the instant of a forced end: the server was told to read no more."""
    return evidence.forced is not None and (line.asked or 0.0) >= evidence.forced - 0.1


def _crossed(evidence: Evidence, line: Exchange) -> bool:
    """A request that crossed the server's FIN: the next on a kept connection, for the client knows that nothing was done,
    or the first of a client that took its time after the connect, as on a busy machine the rig's do (F18).
    """
    closed = _closed_since(evidence)
    if line.outcome != records.EMPTY or closed is None or line.ended is None or line.ended < closed:
        return False
    return line.reused or (line.asked or 0.0) - line.opened > _DAWDLES


def _closed_since(evidence: Evidence) -> float | None:
    """From when on the listener may have been closed: it was after the last connect that was accepted began."""
    refused = evidence.first_refused()
    if refused is None:
        return None
    accepted = (each.at for each in evidence.connects if each.outcome == "accepted" and each.at < refused)
    return min(refused - 0.1, max(accepted, default=refused))


def no_resets(evidence: Evidence) -> Verdict:
    """I5."""
    if evidence.signalled is None or faults.KILLED in evidence.effects:
        return not_run("nothing was drained")
    if faults.STARVED in evidence.effects:
        return not_run(faults.STARVED)
    deadline = evidence.deadline() or float("inf")
    resets = [
        line
        for line in evidence.exchanges
        if (line.outcome == records.RESET or line.parting == "reset")
        and (line.ended or 0.0) < deadline - 0.05
    ]
    if faults.LOSES_CALLS in evidence.effects:
        # An answer that broke in its middle has to be broken off, or the client would take it for the whole.
        resets = [line for line in resets if line.began is None or line.parting == "reset"]
    at_close = [line for line in resets if _at_close(evidence, line)]
    other = [line for line in resets if line not in at_close]
    if other:
        first = other[0]
        return broken(
            f"{len(other)} resets: {_outcomes(other)}, the first {_since(evidence, first):.2f} s after the signal, "
            f"{(first.ended or 0.0) - first.opened:.2f} s after its connect"
        )
    tried = [line for line in evidence.exchanges if not line.reused]
    # Linux may reset a connect that crosses the close; it must stay the exception.
    if len(at_close) > max(1, len(tried) // 1000):
        return broken(f"{len(at_close)} connections were reset by the closing listener")
    return holds(f"{len(evidence.exchanges)} exchanges, {len(at_close)} resets at the close")


def _since(evidence: Evidence, line: Exchange) -> float:
    return (line.ended or 0.0) - (evidence.signalled or 0.0)


def _at_close(evidence: Evidence, line: Exchange) -> bool:
    """A fresh connection that crossed the closing of the listener."""
    refused = evidence.first_refused()
    if refused is None or line.reused or line.began is not None:
        return False
    return abs(line.opened - refused) < 0.6 or abs((line.ended or 0.0) - refused) < 0.3


def refused_at_once(evidence: Evidence) -> Verdict:
    """I6."""
    refused = evidence.first_refused()
    if evidence.holders:
        return broken(f"processes {evidence.holders} hold the listening socket beside the server")
    if refused is None:
        return not_run("no listener was seen to close")
    later = [each for each in evidence.connects if each.at > refused]
    for each in later:
        took = each.took - evidence.lag(each.at, each.at + each.took)
        if each.outcome == "hung" or (each.outcome == "refused" and took > 0.05):
            return broken(f"a connect was {each.outcome} after {took:.2f} s")
        if each.outcome == "accepted" and each.at < (evidence.exited or 0.0):
            return broken(f"a connect was accepted {each.at - refused:.2f} s after the first was refused")
    slowest = max((each.took for each in later), default=0.0)
    return holds(
        f"{len(later)} connects refused, the slowest in {1000 * slowest:.1f} ms; nobody else holds the socket"
    )


def reaches_zero(evidence: Evidence) -> Verdict:
    """I16."""
    counts = [probe for probe in evidence.probes if probe.in_flight is not None and probe.code > 0]
    cut = {faults.CUTS, faults.FORCED, faults.KILLED, faults.UNANSWERED, faults.HELD} & evidence.effects
    if not counts or cut:
        return not_run("work may be cut in this run" if cut else "the count is not told")
    done = max(
        (line.ended or 0.0 for line in evidence.exchanges if line.outcome == records.COMPLETE), default=0.0
    )
    last = max(counts, key=lambda probe: probe.ended)
    if last.in_flight and last.at > done:
        return broken(f"{last.in_flight} were in flight in the last answer")
    # An idle server waits for nobody: a forgotten exchange would hold it to the deadline.
    idle = (evidence.exited or 0.0) - max(done, evidence.first_refused() or 0.0)
    most = 1.5 + evidence.terms.worker_stop + (1.0 if faults.FLOOD in evidence.effects else 0.0)
    if idle > max(most, 2.5):
        return broken(f"it went on for {idle:.2f} s after the last answer")
    return holds(f"0 at the end, gone {idle:.2f} s after the last answer")


def says_close(evidence: Evidence) -> Verdict:
    """I17."""
    if evidence.signalled is None or faults.KILLED in evidence.effects:
        return not_run("nothing was drained")
    since = evidence.after_signal(_EDGE)
    deadline = evidence.deadline() or float("inf")
    answers = [
        line
        for line in evidence.exchanges
        if line.outcome == records.COMPLETE and line.status and line.client != "stream" and line.protocol == "http"
        and (line.began or 0.0) > since and (line.ended or 0.0) < deadline
    ]  # fmt: skip
    if not answers:
        return not_run("no answer came in the drain")
    kept = [line for line in answers if not line.close]
    if kept:
        first = (kept[0].began or 0.0) - evidence.signalled
        return broken(
            f"{len(kept)} of {len(answers)} answers do not say close, the first after {first:.2f} s"
        )
    # Between an answer and its FIN a server may be stopped, if only for the length of a system call.
    open_ones = [
        line
        for line in answers
        if line.parting == "reset" or (line.parting == "open" and _could_part(evidence, line.ended or 0.0))
    ]
    if open_ones:
        return broken(f"{len(open_ones)} connections were not closed with FIN after it")
    return holds(f"{len(answers)} answers, each with close and a FIN")


def _could_part(evidence: Evidence, answered: float) -> bool:
    """Whether the server got to run while the client waited for the end of the connection."""
    return evidence.free(answered, answered + records.PARTING) > 0.5


def report_is_right(evidence: Evidence) -> Verdict:
    """I28."""
    report, signalled = evidence.report, evidence.signalled
    if signalled is None or report is None:
        return not_run("no report was written that could be read")
    if {faults.HELD, faults.FLOOD, faults.STARVED} & evidence.effects:
        return not_run("clients that come and go at the signal cannot be counted exactly")
    seen = _seen_by_clients(evidence, signalled)
    # A client that does not get to run takes what was answered before the signal for an answer after it.
    near = _EDGE + evidence.lag(signalled - _EDGE, signalled + _EDGE)
    edge = sum(line.calls for line in evidence.exchanges if line.ended and abs(line.ended - signalled) < near)
    # Those who left by plan, or were not judged, may be counted as finished, cut or lost.
    unsure = edge + sum(
        line.calls for line in evidence.exchanges if line.by_plan and (line.ended or 0.0) > signalled
    )
    for name, more in (("finished", seen["turned away"]), ("cut", 0)):
        told = int(report.get(name, 0))
        # A 503 may be the application's own, or the server's for a call that it did not take.
        if not -unsure - _strays(evidence) <= told - seen[name] <= more + unsure + _strays(evidence):
            return broken(f"{name}: it reports {told}, the clients saw {seen[name]} (±{unsure})")
    return holds(f"finished {report.get('finished')}, cut {report.get('cut')}: as seen (±{unsure})")


def _strays(evidence: Evidence) -> int:
    """Connections that left in the middle of an exchange for reasons that only one side saw."""
    return sum(
        1 for line in evidence.exchanges if line.outcome in (records.LEFT, records.RESET, records.EMPTY)
    )


def _seen_by_clients(evidence: Evidence, signalled: float) -> Counter[str]:
    seen: Counter[str] = Counter()
    for line in evidence.exchanges:
        if line.by_plan or not line.counted or (line.ended or 0.0) < signalled:
            continue
        cut = line.outcome in (records.CUT, records.RESET) or (
            line.outcome == records.COMPLETE and line.status == 503 and _after_deadline(evidence, line)
        )
        if cut:
            seen["cut"] += 1
        elif line.outcome == records.COMPLETE:
            seen["turned away" if line.status == 503 else "finished"] += 1
    return seen
