"""The results as text: a table for the terminal, and plain data for JSON."""

from __future__ import annotations

import shutil
import textwrap
from collections import Counter
from collections.abc import Iterable
from typing import Any

from twisted_rr.draintest.campaign import Outcome, Results
from twisted_rr.draintest.invariants import INVARIANTS
from twisted_rr.draintest.records import Evidence
from twisted_rr.draintest.verdicts import BROKEN, HOLDS, NOT_RUN

# Reasons that the rows around say as well.
_SHORT = ("its protocol is not served yet", "needs a gRPC front")

_COLOURS = {HOLDS: "32", BROKEN: "31;1", NOT_RUN: "2"}


def table(results: Results, colour: bool, width: int = 0) -> str:
    """What the terminal shows: one line an invariant, then the count."""
    width = width or shutil.get_terminal_size((110, 24)).columns
    lines = []
    verdicts = results.verdicts()
    for name, invariant in INVARIANTS.items():
        verdict = verdicts[name]
        word = f"{verdict.word:<12}"
        if colour:
            word = f"\x1b[{_COLOURS[verdict.word]}m{word}\x1b[0m"
        text = invariant.text[0].upper() + invariant.text[1:]
        lines.append(f"{name:<4} {word} {textwrap.shorten(text, max(30, width - 18), placeholder=' …')}")
        if verdict.word != NOT_RUN or verdict.why not in _SHORT:
            indent = " " * 18
            lines += textwrap.wrap(
                verdict.why, max(50, width), initial_indent=indent, subsequent_indent=indent
            )
    lines.append("")
    lines.append(summary(results))
    return "\n".join(lines)


def summary(results: Results) -> str:
    """One sentence."""
    counts = Counter(verdict.word for verdict in results.verdicts().values())
    text = (
        f"{counts[HOLDS]} hold, {counts[BROKEN]} broken, {counts[NOT_RUN]} not run here; "
        f"{len(results.outcomes)} runs, {results.requests} requests, {results.probes} probes in {results.took:.0f} s, seed {results.seed}"
    )
    return text + "".join(f"\nnot made: {error.splitlines()[0]}" for error in results.errors)


def as_data(results: Results) -> dict[str, Any]:
    """The whole for ``--json``: verdicts, and each run's facts."""
    verdicts = results.verdicts()
    return {
        "version": 1,
        "seed": results.seed,
        "seconds": round(results.took, 1),
        "broken": results.broken,
        "errors": results.errors,
        "invariants": {
            name: {"text": invariant.text, "verdict": verdicts[name].word, "evidence": verdicts[name].why}
            for name, invariant in INVARIANTS.items()
        },
        "runs": [run_data(each) for each in results.outcomes],
    }


def run_data(outcome: Outcome) -> dict[str, Any]:
    """One run: what was injected, what was counted, what was judged. Times are seconds from the signal."""
    evidence = outcome.evidence
    zero = evidence.signalled if evidence.signalled is not None else evidence.began
    return {
        "name": evidence.name,
        "faults": evidence.faults,
        "not_injected": evidence.missed,
        "exit_code": evidence.code,
        "exit": None if evidence.exited is None else round(evidence.exited - zero, 3),
        "outcomes": _outcomes(evidence),
        "probes": _codes(evidence),
        "report": evidence.report,
        "events": [
            {"at": round(event.at - zero, 3), "kind": event.kind, "text": event.text}
            for event in sorted(evidence.events, key=lambda event: event.at)
        ],
        "verdicts": {
            name: {"verdict": verdict.word, "evidence": verdict.why}
            for name, verdict in outcome.verdicts.items()
            if verdict.word != NOT_RUN
        },
        # Where something is broken, the server's own words may tell why.
        "log": evidence.log[-20000:] if outcome.broken else "",
    }


def _outcomes(evidence: Evidence) -> dict[str, dict[str, int]]:
    found: dict[str, Counter[str]] = {}
    for line in evidence.exchanges:
        found.setdefault(line.client, Counter())[line.outcome] += 1
    return {client: dict(counts) for client, counts in sorted(found.items())}


def _codes(evidence: Evidence) -> dict[str, dict[str, int]]:
    names: Iterable[str] = dict.fromkeys(probe.channel for probe in evidence.probes)
    return {
        name: {str(code): count for code, count in Counter(p.code for p in evidence.channel(name)).items()}
        for name in names
    }
