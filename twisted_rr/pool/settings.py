"""The settings of pools and of the ``server`` section (features.md 2.1 and 2.2).

Only their names, kinds and defaults; what they do is written where it is done.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from twisted_rr.config import key, kinds
from twisted_rr.pool.confine import parse_rlimit

RLIMITS = (
    r"(?i)(as|core|cpu|data|fsize|memlock|msgqueue|nice|nofile|nproc|rss|rtprio|rttime|sigpending|stack)"
)
RLIMIT = kinds.custom(
    "a number such as 4096 or 64M, infinity, or two of these as soft:hard",
    parse_rlimit,
    {"type": ["string", "integer"]},
)
MOST = 2048
"""Workers of one pool."""


@attrs.frozen(kw_only=True)
class SupervisorSettings:
    """``pool.supervisor``: limits checked while the pool runs. Durations are seconds; 0 is off."""

    watch_tick: float = key(kinds.duration(), default=5.0, doc="time between two checks")
    ttl: float = key(kinds.duration(), default=0.0, doc="a worker of this age is replaced after its calls")
    idle_ttl: float = key(kinds.duration(), default=0.0, doc="a worker unused for so long is replaced")
    exec_ttl: float = key(kinds.duration(), default=0.0, doc="a call that takes longer is cut (504)")
    max_worker_memory: int = key(
        kinds.size_mb(), default=0, doc="a worker above this (bytes here, MiB as a bare number) is replaced"
    )

    def warnings(self) -> Iterable[tuple[str, str]]:
        """What works, and is most likely not meant."""
        for name, limit in (("ttl", self.ttl), ("idle_ttl", self.idle_ttl)):
            if 0 < limit < self.watch_tick:
                yield name, f"{limit:g} s is looked at every {self.watch_tick:g} s only (watch_tick)"
        if self.exec_ttl and self.ttl and self.exec_ttl > self.ttl:
            yield (
                "exec_ttl",
                f"a call may take {self.exec_ttl:g} s, longer than a worker's ttl of {self.ttl:g} s",
            )


@attrs.frozen(kw_only=True)
class AllocatorSettings:
    """``pool.dynamic_allocator``: workers beyond ``num_workers`` while calls have to wait."""

    max_workers: int = key(kinds.integer(min=1, max=2048), default=10, doc="extra workers at most")
    spawn_rate: int = key(kinds.integer(min=1, max=100), default=5, doc="started at a time, once a second")
    idle_timeout: float = key(kinds.duration(), default=60.0, doc="without shortage for so long they go")

    def warnings(self) -> Iterable[tuple[str, str]]:
        """What works, and is most likely not meant; the default of spawn_rate is nobody's mistake."""
        if self.spawn_rate > self.max_workers and self.spawn_rate != 5:
            yield (
                "spawn_rate",
                f"{self.spawn_rate} is above max_workers: at most {self.max_workers} are started",
            )


@attrs.frozen(kw_only=True)
class PoolSettings:
    """``<plugin>.pool``. Durations are seconds."""

    debug: bool = key(kinds.boolean(), default=False, doc="a fresh worker for each call")
    command: tuple[str, ...] = key(kinds.command(), default=(), doc="instead of server.command")
    preload: bool | None = key(kinds.boolean(), default=None, doc="instead of server.preload")
    num_workers: int = key(
        kinds.integer(min=0, max=2048), default=0, doc="workers; 0: by CPU quota or affinity"
    )
    max_jobs: int = key(kinds.integer(min=0), default=0, doc="calls before a worker is replaced; 0: no limit")
    max_queue_size: int = key(kinds.integer(min=0), default=0, doc="calls that may wait; 0: no limit")
    max_queue_age: float = key(
        kinds.duration(),
        default=0.0,
        doc="how long a call may wait before it is turned away with 503, and a tenth of it where the queue stands; "
        "0: allocate_timeout alone",
    )
    concurrency: int = key(
        kinds.integer(min=0),
        default=0,
        doc="calls that one worker gets at once at most; 0: as many as it takes",
    )
    allocate_timeout: float = key(
        kinds.duration(), default=60.0, doc="limit for a worker's start, and for a call's wait for a worker"
    )
    destroy_timeout: float = key(
        kinds.duration(),
        default=60.0,
        doc="how long a worker that is taken out may finish its calls, and all of them once the server stops",
    )
    reset_timeout: float = key(
        kinds.duration(), default=60.0, doc="how long a worker may finish its calls in a reset"
    )
    reset_batch: int = key(
        kinds.integer(min=1, max=2048),
        default=1,
        doc="workers that a reset replaces at the same time; so many more run meanwhile",
    )
    stream_timeout: float = key(
        kinds.duration(), default=60.0, doc="how long a one-call worker may ignore that its client left"
    )
    supervisor: SupervisorSettings | None = key(
        kinds.section(SupervisorSettings), default=None, doc="limits checked while the pool runs"
    )
    dynamic_allocator: AllocatorSettings | None = key(
        kinds.section(AllocatorSettings), default=None, doc="extra workers under load"
    )
    nice: int | None = key(kinds.integer(min=-20, max=19), default=None, doc="instead of server.nice")
    oom_score_adj: int | None = key(
        kinds.integer(min=-1000, max=1000), default=None, doc="instead of server.oom_score_adj"
    )
    affinity: tuple[int, ...] = key(
        kinds.list_of(kinds.integer(min=0)), default=(), doc="instead of server.affinity"
    )
    rlimits: Mapping[str, str] = key(
        kinds.map_of(RLIMIT, names=RLIMITS), factory=dict, doc="added to server.rlimits, or instead of them"
    )

    def problems(self) -> Iterable[tuple[str, str]]:
        """What cannot be done."""
        extra = self.dynamic_allocator.max_workers if self.dynamic_allocator is not None else 0
        if self.num_workers + extra > MOST:
            together = f"{self.num_workers} and dynamic_allocator.max_workers {extra}"
            yield "num_workers", f"{together} are more than the {MOST} workers that a pool can have"
        if not self.allocate_timeout:
            yield (
                "allocate_timeout",
                "no worker can start within 0 s; RoadRunner takes 0 for its default, 60s",
            )

    def warnings(self) -> Iterable[tuple[str, str]]:
        """What works, and is most likely not meant."""
        if self.max_queue_age >= self.allocate_timeout > 0 and self.max_queue_age:
            longer = f"{self.max_queue_age:g} s is not below allocate_timeout, {self.allocate_timeout:g} s"
            yield "max_queue_age", f"{longer}: nothing is turned away for it"
        for name in ("destroy_timeout", "reset_timeout", "stream_timeout"):
            if not getattr(self, name):
                yield (
                    name,
                    "0 cuts what a worker still does at once; RoadRunner takes it for its default, 60s",
                )
        if self.max_queue_size and self.debug:
            yield "max_queue_size", "has no effect with debug, where each call gets a worker"


@attrs.frozen(kw_only=True)
class OnInitSettings:
    """``server.on_init`` and ``server.after_init``: commands that run once, before the pools start and after."""

    command: tuple[str, ...] = key(kinds.command(), required=True, doc="what to run")
    exec_timeout: float = key(kinds.duration(), default=60.0, doc="killed after this")
    env: Mapping[str, str] = key(kinds.environment(), factory=dict, doc="its environment")
    user: str = key(kinds.string(), default="", doc="its user")
    exit_on_error: bool = key(kinds.boolean(), default=False, doc="a failure fails the start")


@attrs.frozen(kw_only=True)
class ServerSettings:
    """The ``server`` section: how every worker is started unless its pool says otherwise."""

    command: tuple[str, ...] = key(kinds.command(), default=(), doc="the workers' command")
    preload: bool | None = key(
        kinds.boolean(),
        default=None,
        doc="import the application once and fork the workers; absent: if their command has --preload",
    )
    user: str = key(kinds.string(), default="", doc="run workers as this user (name or number)")
    group: str = key(kinds.string(), default="", doc="and this group; the user's own when absent")
    env: Mapping[str, str] = key(
        kinds.environment(), factory=dict, doc="added to the workers' environment, names upper-cased"
    )
    relay: str = key(kinds.address("pipes"), default="pipes", doc="pipes, unix://path or tcp://host:port")
    relay_pipes: bool = key(
        kinds.boolean(),
        default=False,
        doc="pipes, not sockets: quickest for one call at a time, needed where /dev/stdin is opened by path",
    )
    relay_timeout: float = key(
        kinds.duration(), default=60.0, doc="", ignored="RoadRunner ignores it as well"
    )
    directory: str = key(kinds.file(), default="", doc="the workers' working directory")
    nice: int = key(kinds.integer(min=-20, max=19), default=0, doc="added to the workers' nice value")
    oom_score_adj: int | None = key(
        kinds.integer(min=-1000, max=1000), default=None, doc="the workers' oom_score_adj"
    )
    affinity: tuple[int, ...] = key(
        kinds.list_of(kinds.integer(min=0)), default=(), doc="CPUs the workers may run on"
    )
    rlimits: Mapping[str, str] = key(
        kinds.map_of(RLIMIT, names=RLIMITS), factory=dict, doc="such as {nofile: 4096, as: 2G:4G}"
    )
    on_init: OnInitSettings | None = key(
        kinds.section(OnInitSettings), default=None, doc="a command that runs once before the pools start"
    )
    after_init: OnInitSettings | None = key(
        kinds.section(OnInitSettings), default=None, doc="one that runs once all workers are ready"
    )
