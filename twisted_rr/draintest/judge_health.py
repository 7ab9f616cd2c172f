"""Verdicts on what the health channels told: I1, I2, I7 to I10, I24, I29, I30."""

from __future__ import annotations

from collections.abc import Sequence

from twisted_rr.draintest import faults
from twisted_rr.draintest.records import Evidence, Probe
from twisted_rr.draintest.verdicts import Verdict, broken, holds, not_run

_MOST = 0.1
# Between the last answer and the exit: the interpreter's own end, which is the longer the busier the machine.
_LAST = 0.2
_TURN = 0.15


def not_ready_again(evidence: Evidence) -> Verdict:
    """I1."""
    if evidence.signalled is None or faults.KILLED in evidence.effects:
        return not_run("nothing was drained")
    flip = evidence.after_signal(_TURN) + evidence.terms.ready_flip
    answers = [
        probe for probe in evidence.channel("ready") if probe.at >= evidence.signalled and probe.code > 0
    ]
    failed = next((probe for probe in answers if probe.code >= 500), None)
    for probe in answers:
        late = probe.at > flip or (failed is not None and probe.at > failed.ended)
        if late and 200 <= probe.code < 300:
            return broken(f"/ready was {probe.code} {probe.at - evidence.signalled:.2f} s after the signal")
    if failed is None:
        return not_run("the server was gone before it could be asked")
    return holds(f"503 after {1000 * (failed.ended - evidence.signalled):.0f} ms, {len(answers)} answers")


def ready_before_close(evidence: Evidence) -> Verdict:
    """I2."""
    refused = evidence.first_refused()
    if evidence.signalled is None or refused is None or faults.KILLED in evidence.effects:
        return not_run("no listener was seen to close")
    failed = next(
        (
            probe.ended
            for probe in evidence.channel("ready")
            if probe.at >= evidence.signalled - 1 and probe.ended >= evidence.signalled and probe.code >= 500
        ),
        None,
    )
    if failed is None:
        return broken("the listener closed and /ready never failed")
    early = {faults.EARLY, faults.HELD, faults.FORCED, faults.FLOOD} & evidence.effects
    # Without an announce both happen in one turn, and the probes look every 20 ms.
    between = evidence.terms.announce - max(0.2, evidence.terms.ready_flip)
    least = -0.1 if early else max(-0.1, between) - evidence.lag(evidence.signalled, refused)
    gap = refused - failed
    if gap < least:
        return broken(
            f"/ready failed only {gap:.2f} s before the first refused connect, expected {least:.2f} s"
        )
    return holds(f"/ready failed {gap:.2f} s before the first refused connect")


def _excused(evidence: Evidence, probe: Probe) -> bool:
    """Whether the rig itself is why this probe failed."""
    if evidence.held(probe.at, probe.ended, 1.0):
        return True
    if probe.code == 503 and any(begun + _soon(evidence) < probe.ended for begun in evidence.hangs):
        # The others have finished: every worker that holds a call is the stopped one.
        return probe.state == "stuck"
    return any(
        begun + _soon(evidence) < probe.ended and probe.at < over + 1.5 for begun, over in evidence.outages
    )


def _soon(evidence: Evidence) -> float:
    """After what time an outage may be told: when no worker can be had at all, at once."""
    return 0.0 if faults.UNANSWERED in evidence.effects else evidence.terms.stuck_after * 0.8


def alive(evidence: Evidence) -> Verdict:
    """I7."""
    if evidence.ready is None:
        return not_run("it never was ready")
    end = _last_moment(evidence)
    seen = [probe for probe in evidence.channel("health") if evidence.ready <= probe.at and probe.ended < end]
    for probe in seen:
        if not 200 <= probe.code < 300 and not _excused(evidence, probe):
            if probe.code == -1 and evidence.own_time(probe) < 0.5:
                continue
            return broken(
                f"/health: {_said(probe)} {_when(evidence, probe.at)} (state {probe.state or 'unknown'})"
            )
    if not seen:
        return not_run("no probe fell into its life")
    odd = _odd(evidence, end)
    if odd:
        return broken(f"/health: {odd}")
    return holds(f"{len(seen)} answers, all 200")


def _odd(evidence: Evidence, end: float) -> str:
    """Which of the unusual clients of F46 did not get its 200, empty when all did; where something else disturbs, too."""
    if evidence.effects:
        return ""
    for name, began, ended, status in evidence.facts.get("odd probes", ()):
        late = status == -1 and evidence.lag(began, ended) + evidence.starved(began, ended) > 0.5
        if status != 200 and ended < end and not late:
            return f"a client by {name} got {_CODES.get(status, str(status))} {_when(evidence, began)}"
    return ""


def _last_moment(evidence: Evidence) -> float:
    """Until when the status listener has to answer."""
    exited = evidence.exited or float("inf")
    if faults.KILLED in evidence.effects or faults.FORCED in evidence.effects:
        return min(exited, evidence.forced or exited) - 0.05
    return exited - _LAST - evidence.lag(exited - 1.0, exited) - evidence.starved(exited - 1.0, exited)


_CODES = {0: "refused", -1: "no answer within 1 s", -2: "the connection broke"}


def _said(probe: Probe) -> str:
    return _CODES.get(probe.code, str(probe.code))


def _when(evidence: Evidence, at: float) -> str:
    if evidence.signalled is None or at < evidence.signalled:
        return f"{at - evidence.began:.2f} s after the start"
    return f"{at - evidence.signalled:.2f} s after the signal"


def stuck_is_told(evidence: Evidence) -> Verdict:
    """I8."""
    outages = [span for span in evidence.outages]
    if not outages:
        return not_run("needs F3 or F5")
    begun, over = outages[0]
    due = begun + evidence.terms.stuck_after + 1.0
    end = min(over, evidence.exited or over, evidence.deadline() or over)
    told = next(
        (probe for probe in evidence.channel("health") if begun <= probe.at < end and probe.code >= 500), None
    )
    if told is not None and told.ended <= due + evidence.lag(begun, due):
        return holds(f"/health failed {told.ended - begun:.2f} s after the last worker was stopped")
    if end < due:
        return not_run("the outage ended before it had to be told")
    if told is None:
        return broken(f"/health stayed 200 for {end - begun:.2f} s without a worker that could go on")
    return broken(f"/health failed only after {told.ended - begun:.2f} s")


def quick(evidence: Evidence) -> Verdict:
    """I9."""
    if faults.FLOOD in evidence.effects:
        return _quick_enough(evidence, 1.0, "the machine is busy by plan: ")
    return _quick_enough(evidence, _MOST, "")


def _quick_enough(evidence: Evidence, most: float, note: str) -> Verdict:
    took = sorted(
        evidence.own_time(probe)
        for channel in ("health", "ready")
        for probe in evidence.channel(channel)
        if probe.code > 0 and evidence.ready is not None and probe.at >= evidence.ready
        and not evidence.held(probe.at, probe.ended)
    )  # fmt: skip
    if len(took) < 20:
        return not_run("too few probes")
    p99 = _quantile(took, 0.99)
    text = f"{note}p50 {1000 * _quantile(took, 0.5):.1f} ms, p99 {1000 * p99:.1f} ms of {len(took)}"
    return holds(text) if p99 < most else broken(text)


def _quantile(values: Sequence[float], part: float) -> float:
    return values[min(len(values) - 1, int(part * len(values)))]


def closes_last(evidence: Evidence) -> Verdict:
    """I10."""
    if evidence.exited is None or evidence.signalled is None or faults.KILLED in evidence.effects:
        return not_run("nothing was drained")
    answered = [probe for name in ("health", "ready") for probe in evidence.channel(name) if probe.code > 0]
    if not answered:
        return not_run("the status endpoints never answered")
    last = max(probe.ended for probe in answered)
    gap = evidence.exited - last
    workers = [
        life for life in evidence.lives.values() if life.gone is not None and life.gone > evidence.signalled
    ]
    last_worker = max((life.gone or 0.0 for life in workers), default=0.0)
    # The census, the probes and the wait for the exit look every few hundredths of a second.
    slack = 0.1 + evidence.lag(last - 0.2, evidence.exited) + evidence.starved(last, evidence.exited)
    if faults.FLOOD in evidence.effects or faults.HELD in evidence.effects:
        slack += 0.5
    if gap > _LAST + slack:
        return broken(f"its last answer came {gap:.2f} s before the exit")
    if last_worker and last < last_worker - slack:
        return broken(f"its last answer came {last_worker - last:.2f} s before the last worker was gone")
    return holds(f"its last answer came {1000 * gap:.0f} ms before the exit")


def startup_latched(evidence: Evidence) -> Verdict:
    """I24."""
    answers = [probe for probe in evidence.channel("startup") if probe.code > 0]
    first = next((number for number, probe in enumerate(answers) if probe.code == 200), None)
    if first is None:
        return not_run("/startup was never 200")
    for probe in answers[first:]:
        if probe.code != 200:
            return broken(f"/startup was {probe.code} {_when(evidence, probe.at)}")
    ready = next((probe.at for probe in evidence.channel("ready") if probe.code == 200), None)
    if ready is not None and answers[first].ended < ready - 0.5:
        return broken("/startup was 200 before /ready")
    return holds(f"{first} answers 503, then {len(answers) - first} answers 200")


def unknown_plugin(evidence: Evidence) -> Verdict:
    """I29."""
    answers = [probe for probe in evidence.channel("unknown") if probe.code > 0 and probe.entries is not None]
    if not answers:
        return not_run("no list to look at")
    for probe in answers:
        if probe.code < 400 or 404 not in (probe.entries or ()):
            return broken(f"code {probe.code}, entries {probe.entries}")
    return holds(f"503 with a 404 in the list, {len(answers)} times")


def body_agrees(evidence: Evidence) -> Verdict:
    """I30."""
    judged = [probe for probe in evidence.probes if probe.code > 0 and probe.code != 304 and probe.entries]
    for probe in judged:
        bad = any(code >= 400 for code in probe.entries or ())
        if bad != (probe.code >= 400):
            return broken(f"{probe.channel} answered {probe.code} with entries {probe.entries}")
    return holds(f"{len(judged)} answers") if judged else not_run("no list to look at")
