"""Verdicts on the processes: I11 to I15, I22, I23, I25 to I27."""

from __future__ import annotations

from twisted_rr.draintest import faults
from twisted_rr.draintest.records import Evidence
from twisted_rr.draintest.verdicts import Verdict, broken, holds, not_run

_OVER = 1.0
# What the server logs of a drain that waits.
_ASKED = "drain?wait"


def within_budget(evidence: Evidence) -> Verdict:
    """I11."""
    if evidence.signalled is None:
        return not_run("nothing was drained")
    if evidence.code is None:
        return broken("it never ended")
    assert evidence.exited is not None
    took = evidence.exited - evidence.signalled
    most = evidence.terms.total + _OVER + evidence.lag(evidence.exited - 2.0, evidence.exited)
    late_hold = max((over for _, over in evidence.holds), default=0.0)
    if late_hold and late_hold > evidence.signalled:
        most = max(most, late_hold - evidence.signalled + evidence.terms.worker_stop + _OVER)
    text = f"exit after {took:.2f} s of {evidence.terms.total:g} s with code {evidence.code}"
    if took > most:
        return broken(text)
    wrong = _wrong_code(evidence)
    return broken(f"{text}: {wrong}") if wrong else holds(text)


def _wrong_code(evidence: Evidence) -> str:
    """Why the exit code lies, empty when it may be right."""
    code = evidence.code
    if faults.KILLED in evidence.effects:
        return ""
    allowed = {0}
    if {faults.CUTS, faults.LOSES_CALLS} & evidence.effects:
        allowed.add(3)
    if faults.KILLS in evidence.effects:
        allowed.add(5)
    if faults.FORCED in evidence.effects:
        allowed.add(4)
    report_cut = int((evidence.report or {}).get("cut", 0))
    if report_cut and code == 3:
        return ""
    return "" if code in allowed else f"expected {' or '.join(map(str, sorted(allowed)))}"


def nobody_left(evidence: Evidence) -> Verdict:
    """I12."""
    if evidence.exited is None or not evidence.lives:
        return not_run("no worker was seen")
    if evidence.left_behind:
        return broken(f"processes {evidence.left_behind} live on")
    lasted = evidence.facts.get("last process gone", evidence.exited) - evidence.exited
    return holds(f"{len(evidence.lives)} processes, all gone {max(0.0, lasted):.2f} s after the exit")


def forced_at_once(evidence: Evidence) -> Verdict:
    """I13."""
    if faults.FORCED not in evidence.effects or evidence.forced is None:
        return not_run("needs F29:int")
    if evidence.code is None or evidence.exited is None:
        return broken("it never ended")
    took = evidence.exited - evidence.forced
    text = f"exit {took:.2f} s after SIGINT with code {evidence.code}"
    quick = took < 1.0 + evidence.lag(evidence.forced, evidence.exited)
    return holds(text) if quick and evidence.code == 4 else broken(text)


def start_can_be_ended(evidence: Evidence) -> Verdict:
    """I14."""
    starts = evidence.facts.get("starts")
    if not starts:
        return not_run("needs a run of its own")
    for offset, code, left in starts:
        if code is None:
            return broken(f"SIGTERM {offset:.2f} s after the start was lost")
        if left:
            return broken(f"SIGTERM {offset:.2f} s after the start left {left} processes")
        # Before the interpreter has taken the signal, the kernel's default ends the process.
        if code not in (0, -15):
            return broken(f"SIGTERM {offset:.2f} s after the start: exit code {code}")
    return holds(f"{len(starts)} moments, each ended, no process left")


def one_drain(evidence: Evidence) -> Verdict:
    """I15."""
    repeated = [name for name in evidence.faults if name.split(":")[0] in ("F29", "F41", "F44", "F45")]
    if not repeated or evidence.signalled is None or evidence.exited is None:
        return not_run("needs F29, F41, F44 or F45")
    if evidence.report is not None and evidence.reports != 1:
        return broken(f"{evidence.reports} reports of one stop")
    took = evidence.exited - evidence.signalled
    if took > evidence.terms.total + _OVER:
        return broken(f"the first deadline did not hold: {took:.2f} s")
    waited = evidence.facts.get("drain --wait", 0)
    # A command that came when the server was gone had nothing to wait for: on a busy machine it takes its time to start.
    if waited != 0 and evidence.code == 0 and _ASKED in evidence.log:
        how = "did not end" if waited is None else f"ended with {waited}"
        return broken(f"drain --wait {how} although all was finished")
    return holds(f"one report, exit after {took:.2f} s")


def no_recycling(evidence: Evidence) -> Verdict:
    """I22."""
    signalled = evidence.signalled
    if signalled is None or not evidence.lives:
        return not_run("no worker was seen")
    if {faults.NEW_WORKERS, faults.KILLED} & evidence.effects:
        return not_run("workers were lost in this run")
    fresh = [life for life in evidence.lives.values() if life.born > signalled + 0.1]
    if fresh:
        return broken(f"{len(fresh)} processes were started after the signal")
    return holds(f"{len(evidence.lives)} processes before the signal, none after")


def undrain(evidence: Evidence) -> Verdict:
    """I23."""
    verbs = evidence.facts.get("verbs")
    stopping = evidence.facts.get("undrain while stopping")
    if verbs is None and stopping is None:
        return not_run("needs F44")
    if stopping is not None and stopping == 0:
        return broken("undrain was accepted after a signal")
    if verbs is not None:
        failed = [verb for verb, _, code, _ in verbs if code != 0]
        if failed:
            return broken(f"twisted-rr {failed[0]} failed")
        took = _ready_after(evidence, verbs[-1][3])
        if took is None or took > 1.0:
            return broken("/ready was not 200 within 1 s of undrain")
        return holds(f"/ready 200 again {max(took, 0.0):.2f} s after undrain")
    return holds("refused after the signal")


def _ready_after(evidence: Evidence, at: float) -> float | None:
    return next(
        (probe.ended - at for probe in evidence.channel("ready") if probe.at >= at and probe.code == 200),
        None,
    )


def _undisturbed(evidence: Evidence, fault: str) -> Verdict:
    """The fault may not show in the exit."""
    if not any(name.split(":")[0] == fault for name in evidence.faults):
        return not_run(f"needs {fault}")
    verdict = within_budget(evidence)
    if verdict.why.startswith("nothing"):
        return verdict
    return holds(verdict.why) if verdict.word == "holds" else broken(verdict.why)


def clock_jumps(evidence: Evidence) -> Verdict:
    """I25."""
    return _undisturbed(evidence, "F35")


def output_gone(evidence: Evidence) -> Verdict:
    """I26."""
    verdict = _undisturbed(evidence, "F33")
    return _undisturbed(evidence, "F34") if verdict.word == "not run here" else verdict


def budget_refused(evidence: Evidence) -> Verdict:
    """I27."""
    refused = evidence.facts.get("impossible budget")
    if refused is None:
        return not_run("needs a configuration")
    code, text = refused
    if code == 0 or "do not fit" not in text:
        return broken(f"exit code {code}: {text[:100]!r}")
    return holds(f"refused: {text.strip().splitlines()[-1][:90]}")
