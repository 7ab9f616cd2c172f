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

#: ``endure.grace_period`` where nobody says otherwise: RoadRunner's.
DEFAULT_TOTAL = 30.0

_MARGIN = 4.0
_FRAME, _TERM, _FLUSH = 1.0, 2.0, 1.0
_ANNOUNCE_SHARE = 0.2
# Below about 10 s the reserves shrink with the whole, so that 1 s still leaves most of it to the requests.
_STOP_SHARE = 0.3
_FLUSH_SHARE = 0.1
_DEV_RESERVE = 0.8


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
    :ivar ready_flip: when readiness fails, from the signal; None: when the announce ends.
    :ivar platform_deadline: when the platform kills, None when that is not known.
    """

    total: float = DEFAULT_TOTAL
    announce_min: float = 0.0
    announce_max: float = 0.0
    announce_quiet: float = 2.0
    frame: float = _FRAME
    term: float = _TERM
    flush: float = _FLUSH
    dev_finish: float = 2.0
    ready_flip: float | None = 0.0
    platform_deadline: float | None = None

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
        kubernetes = self._platform() == "kubernetes"
        deadline = self._platform_deadline()
        total = self._total(deadline)
        frame, term = self._worker_stop(total)
        flush = _written(self.drain.flush, min(_FLUSH, _FLUSH_SHARE * total))
        lowest, highest, quiet = self._announce(total, 2.0 if kubernetes else 0.0, 5.0 if kubernetes else 0.0)
        self._check(total, highest, frame, term, flush)
        if deadline is not None and total >= deadline:
            self.warnings.append(
                f"endure.grace_period ({total:g}s) is not below the platform's deadline ({deadline:g}s): "
                "the platform kills before the stop has ended"
            )
        self.warnings += [f"drain.{path} has no effect yet" for path in without_effect(self.drain)]
        budget = Budget(
            total=self._with_finish(total, highest, frame, term, flush),
            announce_min=lowest,
            announce_max=highest,
            announce_quiet=quiet,
            frame=frame,
            term=term,
            flush=flush,
            dev_finish=self.drain.dev_finish,
            ready_flip=None if isinstance(self.drain.ready_flip, str) else self.drain.ready_flip,
            platform_deadline=deadline,
        )
        return budget, self.warnings

    def _platform(self) -> str:
        if self.drain.platform != "auto":
            return self.drain.platform
        return "kubernetes" if self.environ.get("KUBERNETES_SERVICE_HOST") else "none"

    def _platform_deadline(self) -> float | None:
        told = self.environ.get("RR_TERMINATION_GRACE_PERIOD", "")
        if told:
            return _seconds("RR_TERMINATION_GRACE_PERIOD", told)
        if self.drain.platform_deadline is not None:
            return self.drain.platform_deadline
        return PLATFORM_DEADLINES.get(self._platform())

    def _total(self, deadline: float | None) -> float:
        if self.endure.grace_period is not None:
            if self.endure.grace_period <= 0:
                raise _problem("endure.grace_period", "expected more than 0s")
            return self.endure.grace_period
        if deadline is None:
            return DEFAULT_TOTAL
        # The margin must not eat a short deadline (Nomad's 5 s): at most a fifth of it by default.
        total = deadline - _written(self.drain.margin, min(_MARGIN, 0.2 * deadline))
        if total <= 0:
            raise _problem("drain.margin", f"leaves nothing of the platform's deadline of {deadline:g}s")
        return total

    def _worker_stop(self, total: float) -> tuple[float, float]:
        scale = min(1.0, _STOP_SHARE * total / (_FRAME + _TERM))
        stop = self.drain.worker_stop
        return _written(stop.frame, _FRAME * scale), _written(stop.term, _TERM * scale)

    def _announce(self, total: float, lowest: float, highest: float) -> tuple[float, float, float]:
        written = self.drain.announce
        share = _ANNOUNCE_SHARE * total
        if written.max is None and written.min is not None:
            highest = max(written.min, min(highest, share))
        else:
            highest = _written(written.max, min(highest, share))
        lowest = _written(written.min, min(lowest, highest))
        if lowest > highest:
            raise _problem(
                "drain.announce.min", f"{lowest:g}s is more than drain.announce.max ({highest:g}s)"
            )
        return lowest, highest, _written(written.quiet, min(2.0, highest))

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
                f"{listed} = {needed:g}s do not fit into the budget of {total:g}s (endure.grace_period)",
            )

    def _with_finish(self, total: float, announce: float, frame: float, term: float, flush: float) -> float:
        # A written ``finish`` that is shorter than what the budget leaves ends the stop earlier.
        if self.drain.finish is None:
            return total
        return min(total, announce + self.drain.finish + frame + term + flush)


#: Keys that are read and not acted on; a user who wrote one is told.
WITHOUT_EFFECT = (
    "lb",
    "announce.wait_probe_cessation",
    "goaway_start",
    "late_reject_after",
    "websocket",
    "stream_grace",
    "report.termination_log",
)


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
    if not 0 < value < 1e9:
        raise _problem(
            "", f"{name} is {text!r}, expected seconds such as 60", where=f"the environment variable {name}"
        )
    return value


def _problem(path: str, reason: str, where: str = "") -> ConfigError:
    return ConfigError([ConfigProblem(path, reason, where)])
