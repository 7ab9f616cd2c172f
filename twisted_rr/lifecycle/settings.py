"""The section ``drain`` as frozen settings (drain.md 5.7); ``endure`` is one of `config.sections`.

A duration that is None was not written by the user: `budget` then derives it from the whole, so that a
small ``endure.grace_period`` needs no other key. Nothing is computed here.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from twisted_rr.config import key, kinds
from twisted_rr.config.kinds.units import parse_duration
from twisted_rr.lifecycle.load_balancers import PRESETS


def _duration_or(word: str) -> Callable[[str], float | str]:
    """Reads a duration or *word*."""

    def parse(text: str) -> float | str:
        return word if text.lower() == word else parse_duration("0s" if text == "0" else text)

    return parse


@attrs.frozen(kw_only=True)
class AnnounceSettings:
    """``drain.announce``: how long listeners stay open after the signal."""

    min: float | None = key(
        kinds.duration(), default=None, doc="The shortest announce (2s under Kubernetes, else 0s)."
    )
    max: float | None = key(
        kinds.duration(), default=None, doc="The longest announce (5s under Kubernetes, else 0s)."
    )
    quiet: float | None = key(
        kinds.duration(), default=None, doc="It ends early when no connection came for this long (2s)."
    )
    wait_probe_cessation: str = key(
        kinds.choice("auto", "true", "false"),
        default="auto",
        doc="It goes on while a load balancer's probes come; auto: for lb alb and nlb. kube-probe never counts.",
    )


@attrs.frozen(kw_only=True)
class WorkerStopSettings:
    """``drain.worker_stop``: the steps of stopping a worker."""

    frame: float | None = key(kinds.duration(), default=None, doc="From the stop frame to SIGTERM (1s).")
    term: float | None = key(kinds.duration(), default=None, doc="From SIGTERM to SIGKILL (2s).")


@attrs.frozen(kw_only=True)
class WebSocketDrainSettings:
    """``drain.websocket``: how open WebSockets are to be ended, once some are served. Whoever writes it is warned."""

    code: int = key(
        kinds.integer(min=1000, max=4999),
        default=1001,
        doc="The close code. No effect: no WebSockets are served.",
    )
    spread: float = key(
        kinds.duration(),
        default=5.0,
        doc="Over how long the closes are spread. No effect: no WebSockets are served.",
    )
    echo_timeout: float = key(
        kinds.duration(),
        default=2.0,
        doc="How long to wait for the client's close. No effect: no WebSockets are served.",
    )


@attrs.frozen(kw_only=True)
class SecondSignalSettings:
    """``drain.second_signal``: what a signal means while a stop is under way."""

    int: str = key(kinds.choice("force", "same_stop"), default="force", doc="Ctrl-C, or kill -INT.")
    term: str = key(
        kinds.choice("same_stop", "force"),
        default="same_stop",
        doc="SIGTERM: a restarted kubelet resends it, so it forces only when told to.",
    )


@attrs.frozen(kw_only=True)
class ReportSettings:
    """``drain.report``: where the end of a drain is told."""

    log: bool = key(kinds.boolean(), default=True, doc="One line in the log.")
    termination_log: str = key(
        kinds.choice("auto", "true", "false"),
        default="auto",
        doc="Also in /dev/termination-log when it is there.",
    )


@attrs.frozen(kw_only=True)
class DrainSettings:
    """The section ``drain``."""

    platform: str = key(
        kinds.choice("auto", "kubernetes", "docker", "systemd", "ecs", "heroku", "nomad", "cloudrun", "none"),
        default="auto",
        doc="Whose deadline the stop has to keep.",
    )
    platform_deadline: float | None = key(
        kinds.duration(),
        default=None,
        doc="After what the platform kills (30s under Kubernetes; RR_TERMINATION_GRACE_PERIOD).",
    )
    lb: str | None = key(
        kinds.choice(*PRESETS),
        default=None,
        doc="What sends the traffic: presets of announce, ready_flip and goaway_start (kube-proxy under "
        "Kubernetes, else none).",
    )
    announce: AnnounceSettings = key(kinds.section(AnnounceSettings), factory=AnnounceSettings)
    ready_flip: float | str | None = key(
        kinds.custom('a duration such as "2s", or announce_end', _duration_or("announce_end")),
        default=None,
        doc="When /ready fails, counted from the signal, or announce_end (as lb says: 0s).",
    )
    goaway_start: float | str | None = key(
        kinds.custom('a duration such as "2s", or announce_end', _duration_or("announce_end")),
        default=None,
        doc="When answers begin to carry Connection: close, from the signal, or announce_end (as lb says: 0s).",
    )
    late_reject_after: float | str = key(
        kinds.custom('a duration such as "2s", or off', _duration_or("off")),
        default="off",
        doc="Refuse late requests that long after the listeners closed.",
    )
    finish: float | None = key(
        kinds.duration(), default=None, doc="How long what is in flight may take (what the budget leaves)."
    )
    worker_stop: WorkerStopSettings = key(kinds.section(WorkerStopSettings), factory=WorkerStopSettings)
    flush: float | None = key(
        kinds.duration(), default=None, doc="Kept for logs, metrics and the report (1s)."
    )
    margin: float | None = key(
        kinds.duration(), default=None, doc="Kept between our exit and the platform's kill (4s)."
    )
    websocket: WebSocketDrainSettings = key(
        kinds.section(WebSocketDrainSettings), factory=WebSocketDrainSettings
    )
    stream_grace: float | None = key(
        kinds.duration(),
        default=None,
        doc="How long an endless stream (text/event-stream) may go on after the signal (5s).",
    )
    envoy_immediate_fail: bool = key(
        kinds.boolean(),
        default=False,
        doc="Answers also carry X-Envoy-Immediate-Health-Check-Fail once clients are told to go.",
    )
    second_signal: SecondSignalSettings = key(
        kinds.section(SecondSignalSettings), factory=SecondSignalSettings
    )
    dev_finish: float = key(kinds.duration(), default=2.0, doc="The deadline of Ctrl-C in a terminal.")
    report: ReportSettings = key(kinds.section(ReportSettings), factory=ReportSettings)
    exit_code: str = key(
        kinds.choice("outcome", "zero"),
        default="outcome",
        doc="Whether a cut drain is told by the exit code.",
    )
