"""One budget, from the signal to the exit, split over the phases of a stop (drain.md 2.2, 5.7).

The parts that a user wrote are kept or refused, the others scale with the whole. No clock is read here:
all numbers are seconds, or offsets in seconds from the signal.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import TYPE_CHECKING

import attrs

from twisted_rr.errors import ConfigError, ConfigProblem
from twisted_rr.lifecycle.load_balancers import Preset, preset_of

if TYPE_CHECKING:
    from twisted_rr.config.sections import EndureSettings
    from twisted_rr.lifecycle.settings import DrainSettings

#: After how many seconds a platform kills what was asked to stop.
PLATFORM_DEADLINES: Mapping[str, float] = {
    "kubernetes": 30.0,
    "docker": 10.0,
    "systemd": 90.0,
    "ecs": 30.0,
    "heroku": 30.0,
    "nomad": 5.0,
    "cloudrun": 10.0,
}

#: How a pod's grace period is told: a container cannot ask for it.
TOLD = "RR_TERMINATION_GRACE_PERIOD"

_GRACE = "endure.grace_period"
# A stop that takes longer is a slip of the pen; and timers beyond 24 days stop an epoll reactor dead.
_LONGEST = 7 * 86400.0

#: ``endure.grace_period`` where nobody says otherwise: RoadRunner's.
DEFAULT_TOTAL = 30.0

_MARGIN = 4.0
_FRAME, _TERM, _FLUSH = 1.0, 2.0, 1.0
_STREAM_GRACE = 5.0
# Below about 10 s the reserves shrink with the whole, so that 1 s still leaves most of it to the requests.
_STOP_SHARE = 0.3
_FLUSH_SHARE = 0.1
_DEV_RESERVE = 0.8
# What the user wrote may push the default reserves down to this part of themselves, not further.
_LEAST_RESERVE = 0.25
# The default stream grace ends by this part of the time to the cut, so that streams can still end by themselves.
_STREAM_SHARE = 0.5


@attrs.frozen
class Budget:
    """What a stop may take.

    :ivar total: from the signal to the exit.
    :ivar announce_min: listeners stay open at least this long,
    :ivar announce_max: and at most this long;
    :ivar announce_quiet: within these, until no new connection came for this long.
    :ivar frame: from a worker's stop frame to its SIGTERM.
    :ivar term: from SIGTERM to SIGKILL.
    :ivar flush: the last part: drivers, metrics, logs, report.
    :ivar dev_finish: the ``cut`` of a stop from a terminal.
    :ivar finish: ``drain.finish`` where it was written and made the whole shorter, else None.
    :ivar ready_flip: when readiness fails, from the signal; None: when the announce ends.
    :ivar goaway_start: when clients are told to go, from the signal; None: when the announce ends.
    :ivar wait_probes: the announce goes on while a load balancer's probes come.
    :ivar late_reject: from the closing of the listeners to refusing late requests; None: they are served.
    :ivar stream_grace: when endless streams are asked to end, from the signal.
    :ivar platform_deadline: when the platform kills, None when that is not known.
    :ivar follows: what the user wrote that the whole follows from: RR_TERMINATION_GRACE_PERIOD or
        drain.platform_deadline; empty when it is ``endure.grace_period``, or would be if anything were written.
    """

    total: float = DEFAULT_TOTAL
    announce_min: float = 0.0
    announce_max: float = 0.0
    announce_quiet: float = 2.0
    frame: float = _FRAME
    term: float = _TERM
    flush: float = _FLUSH
    dev_finish: float = 2.0
    finish: float | None = None
    ready_flip: float | None = 0.0
    goaway_start: float | None = 0.0
    wait_probes: bool = False
    late_reject: float | None = None
    stream_grace: float = _STREAM_GRACE
    platform_deadline: float | None = None
    follows: str = ""

    @property
    def worker_stop(self) -> float:
        """Kept for stopping the workers."""
        return self.frame + self.term

    @property
    def cut(self) -> float:
        """When what is in flight is cut, from the signal."""
        return self.total - self.worker_stop - self.flush

    def briskly(self) -> Budget:
        """The same for a developer's Ctrl-C: no announce, ``dev_finish``, short reserves."""
        frame = min(self.frame, 0.25 * _DEV_RESERVE)
        term = min(self.term, 0.5 * _DEV_RESERVE)
        flush = min(self.flush, 0.25 * _DEV_RESERVE)
        return attrs.evolve(
            self,
            total=min(self.dev_finish, self.cut) + frame + term + flush,
            announce_min=0.0,
            announce_max=0.0,
            goaway_start=0.0,
            stream_grace=0.0,
            frame=frame,
            term=term,
            flush=flush,
        )


def plan(
    drain: DrainSettings, endure: EndureSettings, environ: Mapping[str, str]
) -> tuple[Budget, list[str]]:
    """The budget that these settings mean, and warnings for the operator.

    Raises `ConfigError` when parts that the user wrote do not fit into the whole, with the sum shown.
    """
    return _Planner(drain, endure, environ).plan()


class _Planner:
    """The steps of `plan`, on one set of settings."""

    def __init__(self, drain: DrainSettings, endure: EndureSettings, environ: Mapping[str, str]) -> None:
        self.drain = drain
        self.endure = endure
        self.environ = environ
        self.warnings: list[str] = []

    def plan(self) -> tuple[Budget, list[str]]:
        deadline = self._platform_deadline()
        total = self._total(deadline)
        frame, term, flush = self._reserves(total)
        lowest, highest, quiet = self._announce(total, frame + term + flush)
        self._check(total, highest, frame, term, flush)
        if deadline is not None and total >= deadline:
            self._tell_killed(total, deadline)
        self.warnings += [f"drain.{path} has no effect yet" for path in without_effect(self.drain)]
        whole = self._with_finish(total, highest, frame, term, flush)
        cut = whole - frame - term - flush
        late = self.drain.late_reject_after
        budget = Budget(
            total=whole,
            announce_min=lowest,
            announce_max=highest,
            announce_quiet=quiet,
            frame=frame,
            term=term,
            flush=flush,
            dev_finish=self.drain.dev_finish,
            finish=self.drain.finish if whole < total else None,
            ready_flip=self._offset("ready_flip", highest, "the listeners close (drain.announce.max"),
            goaway_start=self._offset("goaway_start", cut, "work is cut (the budget leaves"),
            wait_probes=self._wait_probes(),
            late_reject=late if isinstance(late, float) else None,
            stream_grace=self._stream_grace(cut),
            platform_deadline=deadline,
            follows=self._follows(),
        )
        return budget, self.warnings

    def _platform(self) -> str:
        if self.drain.platform != "auto":
            return self.drain.platform
        return "kubernetes" if self.environ.get("KUBERNETES_SERVICE_HOST") else "none"

    def _platform_deadline(self) -> float | None:
        told = self.environ.get(TOLD, "")
        if told:
            return _seconds(TOLD, told)
        if self.drain.platform_deadline is not None:
            return self.drain.platform_deadline
        return PLATFORM_DEADLINES.get(self._platform())

    def _follows(self) -> str:
        if self.endure.grace_period is not None:
            return ""
        if self.environ.get(TOLD, ""):
            return TOLD
        return "" if self.drain.platform_deadline is None else "drain.platform_deadline"

    def _raised(self, wanted: float, total: float) -> float:
        """What has to be written so that the whole is *wanted* seconds instead of *total*."""
        deadline = self._platform_deadline() if self._follows() else None
        return wanted if deadline is None else wanted + deadline - total

    def _origin(self) -> str:
        """Where the whole is from, for whoever has to change it."""
        if follows := self._follows():
            return f"{follows} {self._platform_deadline():g}s less drain.margin"
        return _GRACE

    def _total(self, deadline: float | None) -> float:
        if self.endure.grace_period is not None:
            if self.endure.grace_period <= 0:
                raise _problem(_GRACE, "expected more than 0s")
            if self.endure.grace_period > _LONGEST:
                raise _problem(_GRACE, f"{self.endure.grace_period:g}s is more than a week")
            return self.endure.grace_period
        if deadline is None:
            return DEFAULT_TOTAL
        # The margin must not eat a short deadline (Nomad's 5 s): at most a fifth of it by default.
        total = deadline - _written(self.drain.margin, min(_MARGIN, 0.2 * deadline))
        if total <= 0:
            raise _problem("drain.margin", f"leaves nothing of the platform's deadline of {deadline:g}s")
        if total > _LONGEST:
            raise _problem("drain.platform_deadline", f"{deadline:g}s is more than a week")
        return total

    def _reserves(self, total: float) -> tuple[float, float, float]:
        """Stop frame, SIGTERM and flush: what was written, and defaults that make room for it."""
        stop = self.drain.worker_stop
        scale = min(1.0, _STOP_SHARE * total / (_FRAME + _TERM))
        defaults = {
            "frame": _FRAME * scale,
            "term": _TERM * scale,
            "flush": min(_FLUSH, _FLUSH_SHARE * total),
        }
        written = {"frame": stop.frame, "term": stop.term, "flush": self.drain.flush}
        announce = self.drain.announce
        others = (self.drain.finish or 0.0) + (_written(announce.max, announce.min or 0.0))
        room = total - others - sum(value for value in written.values() if value is not None)
        free = sum(value for name, value in defaults.items() if written[name] is None)
        squeeze = max(_LEAST_RESERVE, min(1.0, room / free)) if free else 1.0
        frame, term, flush = (_written(written[name], defaults[name] * squeeze) for name in defaults)
        return frame, term, flush

    def _announce(self, total: float, reserves: float) -> tuple[float, float, float]:
        """Shortest, longest, quiet. Defaults are the preset's, as far as its share of the budget reaches."""
        written, preset = self.drain.announce, self._preset()
        room = max(0.0, total - reserves - (self.drain.finish or 0.0))
        most = min(preset.share * total, room)
        self._tell_shortened(preset.announce_max, most, total)
        flip = self.drain.ready_flip
        if isinstance(flip, float) and flip <= room:
            most = max(most, flip)  # the listeners must not close before readiness has failed
        wanted = max(preset.announce_max, flip if isinstance(flip, float) else 0.0)
        if written.max is None and written.min is not None:
            highest = max(written.min, min(wanted, most))
        else:
            highest = _written(written.max, min(wanted, most))
        lowest = _written(written.min, min(preset.announce_min, highest))
        if lowest > highest:
            raise _problem(
                "drain.announce.min", f"{lowest:g}s is more than drain.announce.max ({highest:g}s)"
            )
        return lowest, highest, _written(written.quiet, min(2.0, highest))

    def _tell_killed(self, total: float, deadline: float) -> None:
        margin = min(_MARGIN, 0.2 * deadline)
        self.warnings.append(
            f"{self._origin()} ({total:g}s) is not below the platform's deadline ({deadline:g}s): the platform kills "
            f"before the stop has ended; let the platform wait {total + margin:g}s and say so in {TOLD}, or stop within "
            f"{deadline - margin:g}s"
        )

    def _preset(self) -> Preset:
        return preset_of(self.drain.lb, self._platform())

    def _tell_shortened(self, wanted: float, most: float, total: float) -> None:
        # A share of its own: only these are too slow for what a small budget leaves.
        if self.drain.announce.max is None and self._preset().probes and most < wanted - 1e-9:
            self.warnings.append(
                f"drain.lb {self.drain.lb} wants an announce of {wanted:g}s, of which the budget of {total:g}s leaves "
                f"{most:g}s: raise {self._follows() or _GRACE} to {self._raised(wanted / self._preset().share, total):g}s"
            )

    def _offset(self, name: str, limit: float, event: str) -> float | None:
        """An offset that was written, else the preset's; None: when the announce ends."""
        written = getattr(self.drain, name)
        if written is None:
            preset: float | None = getattr(self._preset(), name)
            return preset
        if isinstance(written, str):
            return None
        if written > limit + 1e-9:
            raise _problem(f"drain.{name}", f"{written:g}s is after {event} {limit:g}s)")
        return float(written)

    def _wait_probes(self) -> bool:
        word = self.drain.announce.wait_probe_cessation
        return self._preset().probes if word == "auto" else word == "true"

    def _stream_grace(self, cut: float) -> float:
        written = self.drain.stream_grace
        if written is None:
            return min(_STREAM_GRACE, _STREAM_SHARE * cut)
        if written > cut:
            raise _problem(
                "drain.stream_grace", f"{written:g}s is after work is cut (the budget leaves {cut:g}s)"
            )
        return written

    def _check(self, total: float, announce: float, frame: float, term: float, flush: float) -> None:
        parts = {
            "announce": announce,
            "finish": self.drain.finish or 0.0,
            "worker_stop.frame": frame,
            "worker_stop.term": term,
            "flush": flush,
        }
        needed = sum(parts.values())
        if needed > total + 1e-9:
            listed = " + ".join(f"{name} {value:g}s" for name, value in parts.items() if value)
            raise _problem(
                "drain",
                f"{listed} = {needed:g}s do not fit into the budget of {total:g}s ({self._origin()})",
            )

    def _with_finish(self, total: float, announce: float, frame: float, term: float, flush: float) -> float:
        # A written ``finish`` that is shorter than what the budget leaves ends the stop earlier.
        if self.drain.finish is None:
            return total
        return min(total, announce + self.drain.finish + frame + term + flush)


#: Keys that are read and not acted on; a user who wrote one is told.
WITHOUT_EFFECT = ("websocket",)


def without_effect(drain: DrainSettings) -> list[str]:
    """The paths, below ``drain``, of keys that were changed although they do nothing yet."""
    plain = type(drain)()
    return [path for path in WITHOUT_EFFECT if attrgetter(path)(drain) != attrgetter(path)(plain)]


def _written(value: float | None, default: float) -> float:
    return default if value is None else value


def _seconds(name: str, text: str) -> float:
    number = text.strip().removesuffix("s")
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if not 0 < value <= _LONGEST:
        raise _problem(
            "", f"expected seconds such as 60, not {text!r}", where=f"the environment variable {name}"
        )
    return value


def _problem(path: str, reason: str, where: str = "") -> ConfigError:
    return ConfigError([ConfigProblem(path, reason, where)])
