"""What the facts mean to a probe: drain.md 5.2 as pure functions. How it is written down is in `answers`."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from twisted_rr.lifecycle.drain import ANNOUNCE, BOOTING, DRAINED, FINISH, RUNNING, STARTING
from twisted_rr.plugins.status.config import AnswerSettings, StatusSettings, is_success
from twisted_rr.plugins.status.facts import LIFECYCLE, Facts, PluginFacts

PASS, WARN, FAIL = "pass", "warn", "fail"

#: States in which missing progress is not by plan. Later the workers are being stopped.
_WORKING = frozenset((RUNNING, DRAINED, ANNOUNCE, FINISH))

_NOTHING_SAID = AnswerSettings()


@attrs.frozen
class Entry:
    """One line of the list: RoadRunner's three keys."""

    plugin_name: str
    error_message: str
    status_code: int


@attrs.frozen
class Verdict:
    """An answer before it is written.

    :ivar code: the HTTP status: the worst of the entries.
    :ivar word: pass, warn or fail.
    """

    entries: tuple[Entry, ...]
    code: int
    word: str


def stuck(facts: Facts, settings: StatusSettings) -> PluginFacts | None:
    """The plugin on whose evidence the server counts as stuck, None when it does not."""
    if settings.liveness == "always" or facts.state not in _WORKING:
        return None
    proved = [plugin for plugin in facts.plugins if plugin.proved]
    return max(proved, key=lambda plugin: plugin.not_alive_for, default=None)


def lifecycle_word(facts: Facts, settings: StatusSettings) -> str:
    """The state as probes see it: ``stuck`` stands for whatever state it is stuck in."""
    return facts.state if stuck(facts, settings) is None else "stuck"


def configured(facts: Facts, settings: StatusSettings) -> AnswerSettings:
    """What ``status.answers`` says of this state: the state itself before ``draining``."""
    if not settings.answers:
        return _NOTHING_SAID
    word = lifecycle_word(facts, settings).removeprefix("draining:")
    own = settings.answers.get(word, _NOTHING_SAID)
    if word == "stuck" or not facts.draining:
        return own
    common = settings.answers.get("draining", _NOTHING_SAID)
    return AnswerSettings(
        health=common.health if own.health is None else own.health,
        ready=common.ready if own.ready is None else own.ready,
        headers={**common.headers, **own.headers},
    )


# ------------------------------------------------------------------------------ liveness


def health(facts: Facts, wanted: Sequence[str], settings: StatusSettings) -> Verdict:
    """Liveness: no only on proof that the server cannot repair itself. Waiting is not stuck."""
    lifecycle = _lifecycle_health(facts, settings)
    judged = [_health_of(plugin, facts, settings, lifecycle.status_code) for plugin in facts.plugins]
    judged += _check_entries(facts, settings, "health")
    return _verdict(lifecycle, judged, facts, wanted, settings)


def _health_of(plugin: PluginFacts, facts: Facts, settings: StatusSettings, decided: int) -> Entry:
    if plugin.not_alive is None or facts.state not in _WORKING:
        # Fine in itself. A no of the state counts for each plugin that is asked about alone, but one plugin that
        # is stuck is not another's fault.
        code = 200 if stuck(facts, settings) is not None else decided
        return Entry(plugin.name, "", code)
    lost = plugin.proved and settings.liveness != "always"
    return Entry(plugin.name, plugin.not_alive, decided if lost else 200)


def _lifecycle_health(facts: Facts, settings: StatusSettings) -> Entry:
    mapped = configured(facts, settings).health
    proof = stuck(facts, settings)
    if proof is None:
        message = describe(facts) if facts.state != RUNNING else ""
        return Entry(LIFECYCLE, message, 200 if mapped is None else mapped)
    text = (
        f"stuck: {proof.name}: {proof.not_alive} for {proof.not_alive_for:.1f}s; in_flight={facts.in_flight}"
    )
    if proof.workers is not None:
        text += f"; workers alive={proof.workers[0]}/{proof.workers[1]}"
    return Entry(LIFECYCLE, text, settings.unavailable_status_code if mapped is None else mapped)


def describe(facts: Facts) -> str:
    """The lifecycle in one line, such as ``draining:finish; in_flight=3; oldest=8.1s; deadline_in=13.9s``."""
    if not facts.draining:
        return facts.state
    parts = [facts.state, f"in_flight={facts.in_flight}"]
    if facts.oldest is not None:
        parts.append(f"oldest={facts.oldest:.1f}s")
    parts.append(f"deadline_in={facts.remaining:.1f}s")
    return "; ".join(parts)


# ----------------------------------------------------------------------------- readiness


def ready(facts: Facts, wanted: Sequence[str], settings: StatusSettings) -> Verdict:
    """Readiness: whether new work should come here."""
    why_not = _not_ready(facts)
    no = settings.unavailable_status_code
    mapped = configured(facts, settings).ready
    decided = (no if why_not else 200) if mapped is None else mapped
    if not why_not and facts.state != RUNNING:
        decided = 200  # the announce before drain.ready_flip: the mapping is for what is told after it
    judged = [_ready_of(plugin, why_not, decided, no) for plugin in facts.plugins]
    judged += _check_entries(facts, settings, "ready")
    message = f"{facts.state} since {facts.state_age:.1f}s" if why_not else ""
    return _verdict(Entry(LIFECYCLE, message, decided), judged, facts, wanted, settings)


def _ready_of(plugin: PluginFacts, why_not: str, decided: int, no: int) -> Entry:
    if why_not:
        return Entry(plugin.name, why_not, decided)
    if plugin.not_ready is not None:
        return Entry(plugin.name, plugin.not_ready, no)
    # Visible at once, a no only when it has lasted: leaving the rotation under load helps nobody (drain.md B16).
    return Entry(plugin.name, plugin.saturated or "", no if plugin.overloaded else decided)


def _not_ready(facts: Facts) -> str:
    if facts.state == RUNNING:
        return ""
    if facts.draining:
        return "draining" if facts.flipped else ""
    return facts.state


def _check_entries(facts: Facts, settings: StatusSettings, question: str) -> list[Entry]:
    """The user's checks, by name only: their reasons are in the log.

    A stop is not shortened by a check, so while draining none of them says no to /health.
    """
    spared = question == "health" and (facts.draining or settings.liveness == "always")
    entries = []
    for check in facts.checks:
        message = "it fails" if check.failing else "" if check.known else "it has not succeeded yet"
        failing = check.failing if question == "health" else bool(message)
        counts = failing and check.needed == question and not spared
        entries.append(Entry(check.name, message, settings.unavailable_status_code if counts else 200))
    return entries


def startup(facts: Facts, wanted: Sequence[str], settings: StatusSettings) -> Verdict:
    """No until the first time everything was ready, then yes for ever."""
    message = "" if facts.was_ready else BOOTING if facts.state == BOOTING else STARTING
    code = settings.unavailable_status_code if message else 200
    judged = [Entry(plugin.name, message, code) for plugin in facts.plugins]
    return _verdict(Entry(LIFECYCLE, message, code), judged, facts, wanted, settings)


# ------------------------------------------------------------------------------- together


def _verdict(
    lifecycle: Entry, judged: Sequence[Entry], facts: Facts, wanted: Sequence[str], settings: StatusSettings
) -> Verdict:
    # Hidden, the lifecycle still decides: a server without plugins is not ready while it drains.
    chosen = _chosen(lifecycle, judged, wanted)
    bad = [entry.status_code for entry in chosen if not is_success(entry.status_code)]
    shown = chosen if wanted or settings.lifecycle_entry else chosen[1:]
    troubled = facts.draining or facts.state == DRAINED or any(entry.error_message for entry in chosen)
    word = FAIL if bad else WARN if troubled and facts.was_ready else PASS
    return Verdict(tuple(shown), _code(bad, chosen, settings), word)


def _code(bad: Sequence[int], chosen: Sequence[Entry], settings: StatusSettings) -> int:
    """The first no. A name that nobody has is the server's own no, whatever its line says."""
    if not bad:
        return chosen[0].status_code
    return next((code for code in bad if code != 404), settings.unavailable_status_code)


def _chosen(lifecycle: Entry, judged: Sequence[Entry], wanted: Sequence[str]) -> list[Entry]:
    if not wanted:
        return [lifecycle, *judged]
    known = {entry.plugin_name: entry for entry in (*judged, lifecycle)}
    # A name that nobody has is a mistake of the one who asks, and must not look like health.
    missing = "no such plugin"
    return [known.get(name) or Entry(name, missing, 404) for name in dict.fromkeys(wanted)]
