"""Verdicts on HTTP/2 and gRPC: I18 and I19."""

from __future__ import annotations

from collections.abc import Iterator

from twisted_rr.draintest import faults, records
from twisted_rr.draintest.grpc_clients import endings
from twisted_rr.draintest.grpc_health import NOT_SERVING, SERVING, status_of
from twisted_rr.draintest.h2 import UNAVAILABLE
from twisted_rr.draintest.records import Channel, Evidence
from twisted_rr.draintest.verdicts import Verdict, broken, holds, not_run
from twisted_rr.http2.codes import NO_ERROR
from twisted_rr.http2.frames import MAX_ID

_TURN = 0.2
_NEEDS = "needs a gRPC front"


def goes_away_twice(evidence: Evidence) -> Verdict:
    """I18."""
    excuse = _excuse(evidence)
    if excuse:
        return not_run(excuse)
    judged = [channel for channel in evidence.channels if not channel.by_plan]
    for channel in judged:
        fault = _untold(evidence, channel) or _wrong_goaway(evidence, channel) or _dropped(evidence, channel)
        if fault:
            return broken(f"{channel.client}, opened {_when(evidence, channel.opened)}: {fault}")
    twice = [channel for channel in judged if len(channel.goaways) > 1]
    if not twice:
        return not_run("no client stayed to be told twice")
    served = sum(len(channel.streams) for channel in judged)
    return holds(f"{len(twice)} connections told twice, {served} streams on {len(judged)}, none dropped")


def _excuse(evidence: Evidence) -> str:
    if not evidence.channels:
        return _NEEDS
    if evidence.signalled is None or faults.KILLED in evidence.effects:
        return "nothing was drained"
    if faults.STARVED in evidence.effects:
        return faults.STARVED
    return ""


def _untold(evidence: Evidence, channel: Channel) -> str:
    assert evidence.signalled is not None
    due = evidence.after_signal(_TURN) + evidence.terms.goaway_start
    forced = {faults.FORCED, faults.HELD} & evidence.effects
    open_then = channel.opened < evidence.signalled and (channel.ended or due + 1) > due
    if channel.goaways or forced or not open_then or due > (evidence.exited or 0.0):
        return ""
    return f"no GOAWAY within {due - evidence.signalled:.2f} s after the signal"


def _wrong_goaway(evidence: Evidence, channel: Channel) -> str:
    if not channel.goaways:
        return ""
    if any(code != NO_ERROR for _, _, code in channel.goaways):
        return f"GOAWAY with code {channel.goaways[-1][2]}"
    at, last, _ = channel.goaways[0]
    deadline = evidence.deadline() or float("inf")
    if last != MAX_ID and at < deadline - 0.1 and not {faults.HELD, faults.FORCED} & evidence.effects:
        return f"the first GOAWAY names stream {last}"
    lasts = [last for _, last, _ in channel.goaways]
    if lasts != sorted(lasts, reverse=True):
        return f"GOAWAYs name the streams {lasts}"
    if channel.answered_beyond:
        return f"stream {channel.answered_beyond[0]} got an answer, beyond the last of {lasts[-1]}"
    return ""


def _dropped(evidence: Evidence, channel: Channel) -> str:
    """A stream that the server had promised to serve, and did not."""
    deadline = evidence.deadline() or float("inf")
    last = channel.goaways[-1][1] if channel.goaways else MAX_ID
    lost = (records.EMPTY, records.CUT, records.RESET, records.REFUSED, records.HUNG)
    for number, line in channel.streams.items():
        if line is None or number > last or line.by_plan or line.outcome not in lost:
            continue
        if (line.ended or 0.0) < deadline - 0.1 and faults.LOSES_CALLS not in evidence.effects:
            return f"stream {number} was {line.outcome}, at or below the last of {last}"
    return ""


def health_goes_first(evidence: Evidence) -> Verdict:
    """I19."""
    excuse = _excuse(evidence)
    if excuse:
        return not_run(excuse)
    watches = [channel for channel in evidence.channels if channel.watches and _was_there(evidence, channel)]
    if not watches:
        return not_run("nobody watched at the signal")
    for channel in watches:
        fault = _watched(evidence, channel)
        if fault:
            return broken(f"Watch of {channel.watches}: {fault}")
    fault = _polled(evidence) or next(_endless(evidence), "")
    if fault:
        return broken(fault)
    asked = sum(1 for probe in evidence.probes if probe.channel.startswith("grpc ") and probe.code > 0)
    return holds(f"{len(watches)} Watch calls told before their GOAWAY and ended, {asked} answers")


def _was_there(evidence: Evidence, channel: Channel) -> bool:
    """Whether a Watch had begun at the signal."""
    signalled = evidence.signalled or 0.0
    return any(at < signalled for at, kind, *_ in channel.said if kind == "message")


def _watched(evidence: Evidence, channel: Channel) -> str:
    signalled = evidence.signalled or 0.0
    told = [(kind, value) for at, kind, _, value in channel.said if at >= signalled]
    statuses = [status_of(value) for kind, value in told if kind == "message"]
    if channel.watches == "liveness":
        if NOT_SERVING in statuses and not evidence.outages and not evidence.hangs:
            return "NOT_SERVING"
    elif not {faults.FORCED, faults.HELD} & evidence.effects:
        if SERVING in statuses:
            return "SERVING again after the signal"
        first = next((kind for kind, _ in told if kind in ("message", "goaway")), "")
        early = evidence.terms.ready_flip <= evidence.terms.goaway_start
        if first == "goaway" and early:
            return "the GOAWAY came before NOT_SERVING"
    ends = [value for kind, value in told if kind == "end"]
    if not ends and faults.FORCED not in evidence.effects:
        return f"the server did not end it, but its connection ({channel.ending or 'open'})"
    return "" if all(end == UNAVAILABLE for end in ends) else f"ended with status {ends}"


def _polled(evidence: Evidence) -> str:
    """What Check and List told."""
    flip = evidence.after_signal(_TURN) + evidence.terms.ready_flip
    for name in ("grpc readiness", "grpc list"):
        for probe in evidence.channel(name):
            if probe.at > flip and probe.code == 200:
                return f"{name}: SERVING {_when(evidence, probe.at)}"
    for probe in evidence.channel("grpc liveness"):
        if probe.code == 503 and not evidence.outages and not evidence.hangs:
            return f"grpc liveness: NOT_SERVING {_when(evidence, probe.at)}"
    return ""


def _endless(evidence: Evidence) -> Iterator[str]:
    """Calls without end (F24)."""
    lines = [line for line in evidence.exchanges if line.client == "grpc endless" and line.began is not None]
    for line, status in endings(evidence.channels, lines):
        if status != UNAVAILABLE and (line.ended or 0.0) > (evidence.signalled or 0.0):
            yield f"a call without end ended with status {status}, not UNAVAILABLE"


def _when(evidence: Evidence, at: float) -> str:
    return f"{at - (evidence.signalled or 0.0):+.2f} s from the signal"
