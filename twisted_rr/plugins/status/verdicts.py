"""What the facts mean to a probe: drain.md 5.2 as pure functions. How it is written down is in `answers`."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from twisted_rr.lifecycle.drain import ANNOUNCE, BOOTING, DRAINED, FINISH, RUNNING, STARTING
from twisted_rr.plugins.status.config import StatusSettings
from twisted_rr.plugins.status.facts import LIFECYCLE, Facts, PluginFacts

PASS, WARN, FAIL = "pass", "warn", "fail"

#: States in which missing progress is not by plan. Later the workers are being stopped.
_WORKING = frozenset((RUNNING, DRAINED, ANNOUNCE, FINISH))


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


def health(facts: Facts, wanted: Sequence[str], settings: StatusSettings) -> Verdict:
    """Liveness: no only on proof that the server cannot repair itself. Waiting is not stuck."""
    judged = [_health_of(plugin, facts, settings) for plugin in facts.plugins]
    return _verdict(_lifecycle_health(facts, settings), judged, facts, wanted, settings)


def _health_of(plugin: PluginFacts, facts: Facts, settings: StatusSettings) -> Entry:
    if plugin.not_alive is None or facts.state not in _WORKING:
        return Entry(plugin.name, "", 200)
    lost = plugin.proved and settings.liveness != "always"
    return Entry(plugin.name, plugin.not_alive, settings.unavailable_status_code if lost else 200)


def _lifecycle_health(facts: Facts, settings: StatusSettings) -> Entry:
    proof = stuck(facts, settings)
    if proof is not None:
        text = f"stuck: {proof.name}: {proof.not_alive} for {proof.not_alive_for:.1f}s; in_flight={facts.in_flight}"
        return Entry(LIFECYCLE, text, settings.unavailable_status_code)
    return Entry(LIFECYCLE, describe(facts) if facts.state != RUNNING else "", 200)


def describe(facts: Facts) -> str:
    """The lifecycle in one line, such as ``draining:finish; in_flight=3; oldest=8.1s; deadline_in=13.9s``."""
    if not facts.draining:
        return facts.state
    parts = [facts.state, f"in_flight={facts.in_flight}"]
    if facts.oldest is not None:
        parts.append(f"oldest={facts.oldest:.1f}s")
    parts.append(f"deadline_in={facts.remaining:.1f}s")
    return "; ".join(parts)


def ready(facts: Facts, wanted: Sequence[str], settings: StatusSettings) -> Verdict:
    """Readiness: whether new work should come here."""
    why_not = _not_ready(facts)
    no = settings.unavailable_status_code
    judged = []
    for plugin in facts.plugins:
        message = why_not or plugin.not_ready or ""
        judged.append(Entry(plugin.name, message, no if message else 200))
    message = f"{facts.state} since {facts.state_age:.1f}s" if why_not else ""
    return _verdict(Entry(LIFECYCLE, message, no if why_not else 200), judged, facts, wanted, settings)


def _not_ready(facts: Facts) -> str:
    if facts.state == RUNNING:
        return ""
    if facts.draining:
        return "draining" if facts.flipped else ""
    return facts.state


def startup(facts: Facts, wanted: Sequence[str], settings: StatusSettings) -> Verdict:
    """No until the first time everything was ready, then yes for ever."""
    message = "" if facts.was_ready else BOOTING if facts.state == BOOTING else STARTING
    code = settings.unavailable_status_code if message else 200
    judged = [Entry(plugin.name, message, code) for plugin in facts.plugins]
    return _verdict(Entry(LIFECYCLE, message, code), judged, facts, wanted, settings)


def _verdict(
    lifecycle: Entry, judged: Sequence[Entry], facts: Facts, wanted: Sequence[str], settings: StatusSettings
) -> Verdict:
    chosen = _chosen(lifecycle, judged, wanted)
    bad = any(entry.status_code != 200 for entry in chosen)
    # Hidden, the lifecycle still decides: a server without plugins is not ready while it drains.
    bad = bad or (not wanted and lifecycle.status_code != 200)
    shown = chosen if wanted or settings.lifecycle_entry else chosen[1:]
    troubled = facts.draining or facts.state == DRAINED or any(entry.error_message for entry in chosen)
    word = FAIL if bad else WARN if troubled and facts.was_ready else PASS
    return Verdict(tuple(shown), settings.unavailable_status_code if bad else 200, word)


def _chosen(lifecycle: Entry, judged: Sequence[Entry], wanted: Sequence[str]) -> list[Entry]:
    if not wanted:
        return [lifecycle, *judged]
    known = {entry.plugin_name: entry for entry in (*judged, lifecycle)}
    # A name that nobody has is a mistake of the one who asks, and must not look like health.
    missing = "no such plugin"
    return [known.get(name) or Entry(name, missing, 404) for name in dict.fromkeys(wanted)]
