"""What a worker is doing, in RoadRunner's numbers and words (protocol.md 3.1), and the snapshot shown outside.

Which step leads from one state to the next is `twisted_rr.pool.worker`'s subject.
"""

from __future__ import annotations

from enum import IntEnum

import attrs


class WorkerState(IntEnum):
    """A worker's state as ``informer.Workers`` shows it; `word` is its name there."""

    INACTIVE = 0
    READY = 1
    WORKING = 2
    INVALID = 3
    STOPPING = 4
    STOPPED = 5
    DESTROYED = 6
    MAX_JOBS = 7
    ERRORED = 8
    IDLE_TTL = 9
    TTL = 10
    MAX_MEMORY = 11
    EXEC_TTL = 12

    @property
    def word(self) -> str:
        return _WORDS[self.value]


_WORDS = (
    "inactive",
    "ready",
    "working",
    "invalid",
    "stopping",
    "stopped",
    "destroyed",
    "maxJobsReached",
    "errored",
    "idleTTLReached",
    "ttlReached",
    "maxMemoryReached",
    "undefined",
)


@attrs.frozen(kw_only=True)
class WorkerInfo:
    """One worker at one moment.

    :ivar pid: process id.
    :ivar status: a `WorkerState` number.
    :ivar status_text: its word, RoadRunner's ``statusStr``.
    :ivar num_execs: calls given to it so far.
    :ivar created: when it was started, wall clock, nanoseconds since the epoch.
    :ivar memory: resident set in bytes, 0 when it cannot be read.
    :ivar cpu: share of one CPU since its start, in percent.
    :ivar command: its command line as configured.
    :ivar open_calls: calls it holds now.
    :ivar limit: calls it can hold at once.
    :ivar abandoned: those of them that nobody waits for any more: a WSGI call cannot be broken off.
    :ivar progress: False when it missed its heartbeat.
    """

    pid: int
    status: int
    status_text: str
    num_execs: int
    created: int
    memory: int = 0
    cpu: float = 0.0
    command: str = ""
    open_calls: int = 0
    limit: int = 1
    abandoned: int = 0
    progress: bool = True


@attrs.frozen(kw_only=True)
class TemplateInfo:
    """The template of a pool whose workers are to be preloaded, at one moment.

    :ivar pid: process id, 0 when there is none.
    :ivar ready: it has imported the application, and forks.
    :ivar seconds: since it was started, or got ready.
    :ivar reason: why there is none: then workers are started one by one.
    """

    pid: int = 0
    ready: bool = False
    seconds: float = 0.0
    reason: str = ""
