"""The results as one HTML file that needs nothing else: the verdicts, and a timeline of each run."""

from __future__ import annotations

from html import escape

import twisted_rr
from twisted_rr.draintest.campaign import Outcome, Results
from twisted_rr.draintest.drawing import timeline
from twisted_rr.draintest.invariants import INVARIANTS
from twisted_rr.draintest.table import summary
from twisted_rr.draintest.verdicts import BROKEN, HOLDS, NOT_RUN

_CLASS = {HOLDS: "ok", BROKEN: "bad", NOT_RUN: "na"}

_STYLE = """
:root { color-scheme: light dark; --ink: #1b2733; --soft: #5b6b7b; --line: #d9e0e7; --ground: #ffffff; --panel: #f6f8fa;
  --ok: #1a7f4b; --bad: #c62f2f; --na: #8a97a5; --warn: #c77700; --load: #3d6fb4; --worker: #8fb4d9; --mark: #7a3fb0; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4eaf0; --soft: #9aa9b8; --line: #33404d; --ground: #12181f;
  --panel: #1a222b; --ok: #4cc38a; --bad: #ff6b6b; --na: #6d7b89; --warn: #f0a33a; --load: #6ea3e8; --worker: #3e5f82; --mark: #c79bf2; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.5rem 4rem; max-width: 76rem; background: var(--ground); color: var(--ink);
  font: 15px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .2rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
.lead { color: var(--soft); margin: 0 0 1.2rem; }
.verdict { display: inline-block; padding: .25rem .7rem; border-radius: 1rem; color: #fff; font-weight: 600; margin-bottom: .6rem; }
.verdict.ok { background: var(--ok); } .verdict.bad { background: var(--bad); }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; vertical-align: top; padding: .32rem .6rem; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 500; font-size: .85rem; } td.id { font-variant-numeric: tabular-nums; white-space: nowrap; color: var(--soft); }
td.word { white-space: nowrap; font-weight: 600; } .ok td.word { color: var(--ok); } .bad td.word { color: var(--bad); }
.na td { color: var(--na); } .bad td { background: color-mix(in srgb, var(--bad) 8%, transparent); }
td.why { color: var(--soft); font-size: .9rem; }
details { border: 1px solid var(--line); border-radius: .5rem; margin: .5rem 0; background: var(--panel); }
summary { padding: .55rem .9rem; cursor: pointer; font-weight: 500; } summary .tag { float: right; font-weight: 600; }
summary .tag.ok { color: var(--ok); } summary .tag.bad { color: var(--bad); }
.run { padding: 0 .9rem .9rem; overflow-x: auto; } .run p { margin: .2rem 0 .6rem; color: var(--soft); font-size: .9rem; }
.run ul { margin: .3rem 0 .6rem 1.2rem; padding: 0; } .run li.bad { color: var(--bad); }
svg { display: block; width: 100%; min-width: 54rem; height: auto; } svg text { font: 11px system-ui, "DejaVu Sans", sans-serif; fill: var(--ink); }
svg .soft { fill: var(--soft); } svg .grid { stroke: var(--line); stroke-width: 1; } svg .axis { fill: var(--soft); font-size: 10px; }
svg .state { font-size: 10.5px; fill: #fff; } svg .ok { fill: var(--ok); } svg .bad { fill: var(--bad); } svg .na { fill: var(--na); }
svg .warn { fill: var(--warn); } svg .load { fill: var(--load); opacity: .75; } svg .worker { fill: var(--worker); }
svg .mark { stroke: var(--mark); stroke-width: 1.4; stroke-dasharray: 3 2; } svg .marktext { fill: var(--mark); font-weight: 600; }
svg .signal { stroke: var(--ink); stroke-width: 1.4; } svg .deadline { stroke: var(--bad); stroke-width: 1.2; stroke-dasharray: 5 3; }
svg .lane { fill: var(--ground); } svg .held { fill: var(--mark); opacity: .13; }
.key { display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; color: var(--soft); font-size: .85rem; margin: .6rem 0 0; }
.key i { display: inline-block; width: .75em; height: .75em; border-radius: 2px; margin-right: .35em; vertical-align: -.05em; }
"""

_KEY = (
    ("ok", "2xx, complete"),
    ("warn", "503 of /ready and /startup"),
    ("bad", "failed, cut, reset"),
    ("na", "refused: the listener is closed"),
    ("load", "requests in flight"),
    ("worker", "life of a process"),
    ("mark", "fault"),
)


def page(results: Results) -> str:
    """The whole page."""
    word, text = (
        ("bad", "An invariant is broken") if results.broken else ("ok", "All invariants that were tried hold")
    )
    runs = "".join(_run(number, outcome) for number, outcome in enumerate(results.shown()))
    keys = "".join(f'<span><i style="background: var(--{name})"></i>{text}</span>' for name, text in _KEY)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>drain-test: {escape(text.lower())}</title><style>{_STYLE}</style><body>"
        f'<h1>Drain test</h1><p class="lead">{escape(summary(results))} · twisted_rr {twisted_rr.__version__}</p>'
        f'<div class="verdict {word}">{text}</div>'
        f"{_verdicts(results)}<h2>Runs</h2>"
        f'<p class="lead">Times are seconds from the first signal. Every bar and tick is something that was observed from outside.</p>'
        f'<div class="key">{keys}</div>{runs}</body></html>'
    )


def _verdicts(results: Results) -> str:
    rows = []
    for name, verdict in results.verdicts().items():
        rows.append(
            f'<tr class="{_CLASS[verdict.word]}"><td class="id">{name}</td><td class="word">{verdict.word}</td>'
            f'<td>{escape(INVARIANTS[name].text)}</td><td class="why">{escape(verdict.why)}</td></tr>'
        )
    return (
        f"<table><tr><th></th><th>verdict</th><th>invariant</th><th>evidence</th></tr>{''.join(rows)}</table>"
    )


def _run(number: int, outcome: Outcome) -> str:
    evidence = outcome.evidence
    bad = {name: verdict for name, verdict in outcome.verdicts.items() if verdict.word == BROKEN}
    tag = f'<span class="tag bad">{", ".join(bad)}</span>' if bad else '<span class="tag ok">all hold</span>'
    items = "".join(f'<li class="bad">{name}: {escape(verdict.why)}</li>' for name, verdict in bad.items())
    items += "".join(f"<li>{name} not injected: {escape(why)}</li>" for name, why in evidence.missed.items())
    opened = " open" if bad or number == 0 else ""
    return (
        f"<details{opened}><summary>{escape(evidence.name)}{tag}</summary><div class='run'>"
        f"<p>{_facts(outcome)}</p>{f'<ul>{items}</ul>' if items else ''}{timeline(evidence)}</div></details>"
    )


def _facts(outcome: Outcome) -> str:
    evidence = outcome.evidence
    parts = [f"exit code {evidence.code}"]
    if evidence.signalled is not None and evidence.exited is not None:
        parts.append(f"{evidence.exited - evidence.signalled:.2f} s of {evidence.terms.total:g} s")
    if evidence.report is not None:
        told = evidence.report
        parts.append(
            f"it reports {told.get('outcome')}: {told.get('finished')} finished, {told.get('cut')} cut"
        )
    return escape(" · ".join(parts))
