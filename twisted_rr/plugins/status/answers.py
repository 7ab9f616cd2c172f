"""From a request's method, target and header fields to an answer: routes, bodies and headers of drain.md 5.

No connection and no clock: facts come in, bytes go out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import parse_qs

import attrs
import msgspec

from twisted_rr.lifecycle.drain import ANNOUNCE, BOOTING, RUNNING, STARTING
from twisted_rr.plugins.status import verdicts
from twisted_rr.plugins.status.config import StatusSettings
from twisted_rr.plugins.status.facts import Facts
from twisted_rr.plugins.status.verdicts import Entry, Verdict

Headers = list[tuple[bytes, bytes]]
Judge = Callable[[Facts, Sequence[str], StatusSettings], Verdict]

HEALTH, READY, STARTUP, JOBS = "health", "ready", "startup", "jobs"

ROUTES: Mapping[str, str] = {
    "/health": HEALTH,
    "/livez": HEALTH,
    "/live": HEALTH,
    "/ready": READY,
    "/readyz": READY,
    "/startup": STARTUP,
    "/startupz": STARTUP,
    "/jobs": JOBS,
}

_JUDGES: Mapping[str, Judge] = {HEALTH: verdicts.health, READY: verdicts.ready, STARTUP: verdicts.startup}

HEALTH_JSON = "application/health+json"

#: No question waits longer for news than this, in seconds.
LONGEST_WAIT = 60.0

# RoadRunner's words (status/health.go, jobs.go).
_SHUTTING_DOWN = b"service is shutting down\n"
_NO_JOBS = b"jobs plugin not found\n"

_MOST_CHECKS = 50

#: A weight of nothing (RFC 9110 section 12.4.2).
_NOT_WANTED = re.compile(r"\s*q=0(\.0{0,3})?\s*")

_PLAIN = b"text/plain; charset=utf-8"


@attrs.frozen
class Question:
    """A request, read.

    :ivar route: HEALTH, READY, STARTUP or JOBS; empty for a path that is not served.
    :ivar allowed: the method is GET or HEAD.
    :ivar plugins: the names asked for, none for all.
    :ivar detailed: application/health+json was named in Accept, and not to say that it is not wanted.
    :ivar known_tags: the states the client knows (If-None-Match); ``*`` stands for any.
    :ivar wait: for how many seconds it would wait for another one (Prefer, RFC 7240).
    """

    route: str
    allowed: bool = True
    plugins: tuple[str, ...] = ()
    detailed: bool = False
    known_tags: tuple[str, ...] = ()
    wait: float = 0.0


@attrs.frozen
class Answer:
    """What to send; *tag* is the entity tag of what it tells."""

    status: int
    headers: Headers
    body: bytes
    tag: str = ""


def read(method: str, target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> Question:
    """The question in a request with *target* in origin form and lower-case header names. Never raises."""
    path, _, query = target.decode("latin-1").partition("?")
    fields: dict[bytes, str] = {}
    for name, value in headers:
        # A list may come in several fields (RFC 9110 section 5.3).
        text = value.decode("latin-1")
        fields[name] = f"{fields[name]},{text}" if name in fields else text
    return Question(
        route=ROUTES.get(path, ""),
        allowed=method in ("GET", "HEAD"),
        plugins=_plugins(query),
        detailed=any(map(_wants_health_json, fields.get(b"accept", "").lower().split(","))),
        known_tags=tuple(map(_tag, filter(str.strip, fields.get(b"if-none-match", "").split(",")))),
        wait=_wait(fields.get(b"prefer", "")),
    )


def _plugins(query: str) -> tuple[str, ...]:
    try:
        found = parse_qs(query, keep_blank_values=True, max_num_fields=100)
    except ValueError:  # more fields than anyone has plugins
        return ("?",)
    return tuple(found.get("plugin", ()))


def _wants_health_json(member: str) -> bool:
    kind, *parameters = member.split(";")
    return kind.strip() == HEALTH_JSON and not any(map(_NOT_WANTED.fullmatch, parameters))


def _tag(member: str) -> str:
    # None of ours holds a comma, so that a list may be split at each.
    return member.strip().removeprefix("W/").strip('"')


def _wait(prefer: str) -> float:
    for part in prefer.lower().split(","):
        name, _, value = part.partition(";")[0].partition("=")
        if name.strip() == "wait" and value.strip().isdecimal():
            return min(float(value.strip()[:9]), LONGEST_WAIT)
    return 0.0


def answer(question: Question, facts: Facts, settings: StatusSettings) -> Answer:
    """The answer to *question*, now."""
    if not question.route:
        return Answer(404, [(b"content-type", _PLAIN), *_always(facts, settings)], b"not found\n")
    if not question.allowed:
        headers = [(b"content-type", _PLAIN), (b"allow", b"GET, HEAD"), *_always(facts, settings)]
        return Answer(405, headers, b"only GET and HEAD are answered here\n")
    if question.route == JOBS:
        return _jobs(facts, settings)
    if facts.draining and settings.rr_strict_shutdown_body:
        return _shutting_down(question, facts, settings)
    verdict = _JUDGES[question.route](facts, question.plugins, settings)
    return _written(question, verdict, facts, settings)


def _written(question: Question, verdict: Verdict, facts: Facts, settings: StatusSettings) -> Answer:
    tag = _tag_of(verdict, facts, settings)
    headers = _headers(question, verdict, facts, settings)
    headers.append((b"etag", b'"' + tag.encode() + b'"'))
    # RFC 9110 section 13.2.1: a precondition counts only where the answer would be a success.
    if not {tag, "*"}.isdisjoint(question.known_tags) and 200 <= verdict.code < 300:
        return Answer(304, headers, b"", tag)
    if question.detailed:
        return Answer(
            verdict.code,
            [(b"content-type", HEALTH_JSON.encode()), *headers],
            _detailed(verdict, facts, settings),
            tag,
        )
    kind = _PLAIN if settings.rr_text_plain else b"application/json"
    return Answer(verdict.code, [(b"content-type", kind), *headers], _list(verdict.entries), tag)


def _tag_of(verdict: Verdict, facts: Facts, settings: StatusSettings) -> str:
    """The state, told apart where /ready changes within it."""
    word = verdicts.lifecycle_word(facts, settings)
    if facts.state == RUNNING and word == RUNNING and verdict.word == verdicts.FAIL:
        return f"{word}:unready"
    # Until drain.ready_flip.
    return f"{word}:ready" if facts.draining and not facts.flipped else word


def _headers(question: Question, verdict: Verdict, facts: Facts, settings: StatusSettings) -> Headers:
    headers = _always(facts, settings)
    if question.route == READY and verdict.word == verdicts.FAIL:
        soon = facts.state in (ANNOUNCE, RUNNING, STARTING, BOOTING)
        headers.append((b"retry-after", b"1" if soon else b"5"))
    if question.route == STARTUP and facts.previous_exit:
        headers.append((b"x-rr-previous-exit", facts.previous_exit.encode()))
    return headers


def _always(facts: Facts, settings: StatusSettings) -> Headers:
    headers = [
        (b"cache-control", b"no-store"),
        (b"vary", b"accept"),
        (b"x-content-type-options", b"nosniff"),
        (b"x-rr-lifecycle", verdicts.lifecycle_word(facts, settings).encode()),
    ]
    if facts.draining:
        headers.append((b"x-rr-in-flight", str(facts.in_flight).encode()))
        headers.append((b"x-rr-drain-deadline", str(math.ceil(facts.remaining)).encode()))
    if facts.immediate_fail:
        headers.append((b"x-envoy-immediate-health-check-fail", b"true"))
    own = verdicts.configured(facts, settings).headers
    if own:
        word = verdicts.lifecycle_word(facts, settings)
        theirs = {
            name.lower().encode(): value.replace("{state}", word).encode() for name, value in own.items()
        }
        headers = [(name, value) for name, value in headers if name not in theirs] + list(theirs.items())
    return headers


def _list(entries: Sequence[Entry]) -> bytes:
    return msgspec.json.encode(
        [
            {
                "plugin_name": each.plugin_name,
                "error_message": each.error_message,
                "status_code": each.status_code,
            }
            for each in entries
        ]
    )


def _shutting_down(question: Question, facts: Facts, settings: StatusSettings) -> Answer:
    code = 200 if question.route == HEALTH else settings.unavailable_status_code
    return Answer(code, [(b"content-type", _PLAIN), *_always(facts, settings)], _SHUTTING_DOWN, facts.state)


def _jobs(facts: Facts, settings: StatusSettings) -> Answer:
    body = _SHUTTING_DOWN if facts.draining else _NO_JOBS
    return Answer(
        settings.unavailable_status_code, [(b"content-type", _PLAIN), *_always(facts, settings)], body
    )


# ------------------------------------------------------------ application/health+json (drain.md 5.4)


def _detailed(verdict: Verdict, facts: Facts, settings: StatusSettings) -> bytes:
    body: dict[str, object] = {"status": verdict.word, "version": "1", "description": "twisted_rr"}
    word = verdicts.lifecycle_word(facts, settings)
    body["notes"] = [word]
    messages = [f"{each.plugin_name}: {each.error_message}" for each in verdict.entries if each.error_message]
    if messages:
        body["output"] = "; ".join(messages)
    body["checks"] = _folded(_checks(verdict, facts, word))
    return msgspec.json.encode(body)


def _checks(verdict: Verdict, facts: Facts, word: str) -> dict[str, list[dict[str, object]]]:
    leaving = verdicts.WARN if facts.draining else verdicts.PASS
    checks: dict[str, list[dict[str, object]]] = {
        "lifecycle:state": [{"componentType": "system", "observedValue": word, "status": verdict.word}]
    }
    for plugin in facts.plugins:
        trouble = plugin.not_alive or plugin.not_ready
        trouble = trouble or plugin.saturated
        level = verdicts.FAIL if plugin.proved else verdicts.WARN if trouble else verdicts.PASS
        checks[f"{plugin.name}:state"] = [{"componentType": "component", "status": level}]
        if plugin.workers is not None:
            alive, wanted = plugin.workers
            enough = verdicts.PASS if alive >= wanted else verdicts.WARN
            checks[f"{plugin.name}:workersAlive"] = [_observed(alive, "workers", enough)]
    for check in facts.checks:
        level = verdicts.FAIL if check.failing else verdicts.PASS if check.known else verdicts.WARN
        checks[f"{check.name}:check"] = [{"componentType": "datastore", "status": level}]
    for each in facts.protocols:
        checks[f"{each.name}:inFlight"] = [
            _observed(each.count, "requests", leaving if each.count else verdicts.PASS)
        ]
        if each.oldest is not None:
            checks[f"{each.name}:oldestRequestAge"] = [_observed(round(each.oldest, 1), "s", verdicts.PASS)]
    if facts.draining:
        checks["drain:deadline"] = [_observed(round(facts.remaining, 1), "s", verdicts.PASS)]
        cut = sum(each.cut for each in facts.protocols)
        checks["drain:cut"] = [_observed(cut, "requests", verdicts.WARN if cut else verdicts.PASS)]
        if facts.arrived_ago is not None:
            checks["drain:lastNewConnection"] = [_observed(round(facts.arrived_ago, 1), "s", verdicts.PASS)]
    return checks


def _folded(checks: dict[str, list[dict[str, object]]]) -> dict[str, list[dict[str, object]]]:
    """At most `_MOST_CHECKS`: the kubelet reads 10 KiB of a body and no more."""
    rest = len(checks) - _MOST_CHECKS
    if rest <= 0:
        return checks
    kept = dict(list(checks.items())[:_MOST_CHECKS])
    kept["folded:count"] = [_observed(rest, "checks", verdicts.WARN)]
    return kept


def _observed(value: float, unit: str, status: str) -> dict[str, object]:
    return {"observedValue": value, "observedUnit": unit, "status": status}
