"""The error tree: every mistake the server can name, with its fields and whose fault it is.

``str(error)`` is fit for an operator's eyes. Nothing here imports Twisted, because the worker SDK
uses these classes in the worker's own process.
"""

from __future__ import annotations

import re
from typing import ClassVar, Final

_EXCEPTION: Final = re.compile(
    r"(?:[A-Za-z_]\w*\.)*\w*(?:Error|Exception|Exit|Interrupt|Warning)\b|twisted_rr\.worker: cannot "
)


class RRError(Exception):
    """Something that twisted_rr reports by name."""


class ConfigProblem(RRError):
    """One mistake in a configuration: whose fault is the file's.

    :ivar where: ``file:line:column`` or the name of the override or variable it came from.
    :ivar path: dotted key path, such as ``http.pool.num_workers``; empty for the whole file.
    :ivar reason: what is wrong and what was expected.
    """

    def __init__(self, path: str, reason: str, where: str = "") -> None:
        super().__init__(path, reason, where)
        self.path = path
        self.reason = reason
        self.where = where

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.path, self.reason) if part)


class ConfigError(RRError):
    """A configuration that cannot be used, with every problem found in it."""

    def __init__(self, problems: list[ConfigProblem]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class PluginLoadError(RRError):
    """A plugin that was asked for and cannot be loaded."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name = name
        self.reason = reason

    def __str__(self) -> str:
        return f"plugin {self.name!r} cannot be loaded: {self.reason}"


class ListenError(RRError):
    """An address that cannot be listened on.

    :ivar key: the key or option that asked for it, set by whoever knows; several addresses are alike.
    """

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(address, reason)
        self.address = address
        self.reason = reason
        self.key = ""

    def __str__(self) -> str:
        key = f" ({self.key})" if self.key else ""
        return f"cannot listen on {self.address}{key}: {self.reason}"


class FrameError(RRError):
    """Bytes on a relay that break the protocol: the peer's fault, and the relay is lost.

    :ivar reason: the rule that was broken.
    :ivar first: the first bytes of what was read instead, for the log.
    """

    def __init__(self, reason: str, first: bytes = b"") -> None:
        super().__init__(reason, first)
        self.reason = reason
        self.first = first[:128]

    def __str__(self) -> str:
        return f"{self.reason}; it begins {self.first!r}" if self.first else self.reason


class BadChecksum(FrameError):
    """Twelve bytes that are no frame header: most often an application that prints to stdout."""


class Truncated(FrameError):
    """The relay ended inside a frame."""


class TooLarge(FrameError):
    """A frame, context or message above its limit."""


class PoolError(RRError):
    """A call that did not get an answer.

    :cvar status: the HTTP status a front answers with (protocol.md 4.8, told apart).
    :cvar kind: the word RoadRunner's clients know this failure by.
    """

    status: ClassVar[int] = 500
    kind: ClassVar[str] = "Network"


class NoFreeWorker(PoolError):
    """No worker became free within ``pool.allocate_timeout``, or none is alive."""

    status = 503
    kind = "NoFreeWorkers"

    def __init__(self, waited: float) -> None:
        super().__init__(waited)
        self.waited = waited

    def __str__(self) -> str:
        return f"no free worker after {self.waited:.1f} s"


def last_words(stderr: list[str]) -> str:
    """The line of *stderr* that says most: the last that names an exception or is the SDK's own reason, else the last."""
    named = [line for line in stderr if _EXCEPTION.match(line)]
    return (named or stderr or [""])[-1].strip()


def for_log(error: BaseException | None) -> str:
    """The text of *error*; with the last words of the worker that did not start, which are for the log alone."""
    last = last_words(error.stderr) if isinstance(error, WorkerStartError) else ""
    return f"{error}; it said: {last}" if last else str(error)


class CrashLoop(NoFreeWorker):
    """No worker is alive and the application does not start; one try after the other is made meanwhile.

    :ivar tries: starts that failed since the last worker was ready.
    :ivar reason: how the last one ended.
    :ivar stderr: its last lines, oldest first.
    """

    def __init__(self, tries: int, reason: str, stderr: list[str]) -> None:
        super().__init__(0.0)
        self.tries = tries
        self.reason = reason
        self.stderr = stderr

    def __str__(self) -> str:
        last = last_words(self.stderr)
        said = f"; it said: {last}" if last else ""
        return f"no worker is alive and {self.tries} starts have failed: {self.reason}{said}"


class QueueFull(PoolError):
    """``pool.max_queue_size`` calls were waiting already."""

    status = 503
    kind = "QueueSize"

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit

    def __str__(self) -> str:
        return f"max queue size reached ({self.limit})"


class Overloaded(QueueFull):
    """It waited longer than ``pool.max_queue_age`` allows, or than a queue that stands allows: the caller should
    come again later, and those who came after it are served in time.

    :ivar waited: seconds.
    """

    def __init__(self, waited: float, age: float) -> None:
        PoolError.__init__(self, waited, age)
        self.waited = waited
        self.age = age

    def __str__(self) -> str:
        return f"overloaded: it waited {self.waited:.2f} s for a worker (max_queue_age {self.age:g} s)"


class Draining(PoolError):
    """The server is stopping and takes no new call."""

    status = 503
    kind = "Workers watcher stopped"

    def __str__(self) -> str:
        return "the server is draining"


class WorkerDied(PoolError):
    """The worker was lost while it held the call.

    :ivar pid: the worker's process id.
    :ivar reason: how it was lost, such as ``signal 9`` or ``bad frame``.
    """

    status = 502

    def __init__(self, pid: int, reason: str) -> None:
        super().__init__(pid, reason)
        self.pid = pid
        self.reason = reason

    def __str__(self) -> str:
        return f"worker {self.pid} died: {self.reason}"


class ExecTimeout(PoolError):
    """The call took longer than ``supervisor.exec_ttl`` seconds."""

    status = 504
    kind = "ExecTTL"

    def __init__(self, limit: float) -> None:
        super().__init__(limit)
        self.limit = limit

    def __str__(self) -> str:
        return f"no answer within {self.limit:g} s"


class ApplicationError(PoolError):
    """The application failed; its worker lives and is used again.

    :ivar raw: the text as the worker sent it, which need not be UTF-8.
    """

    status = 500
    kind = "SoftJobError"

    def __init__(self, text: str, raw: bytes | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.raw = text.encode("utf-8", "replace") if raw is None else raw

    def __str__(self) -> str:
        return self.text


class Cancelled(PoolError):
    """The caller gave the call up.

    :ivar reason: ``client``, ``deadline``, ``drain`` or ``timeout`` (mux.md 5).
    """

    status = 499
    kind = "Cancelled"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"cancelled ({self.reason})"


class WorkerStartError(RRError):
    """A worker that could not be started.

    :ivar command: the command line, as configured.
    :ivar reason: what happened: exec failed, exited with N, garbage, no answer in time.
    :ivar stderr: its last lines on stderr, oldest first.
    """

    def __init__(self, command: str, reason: str, stderr: list[str] | None = None) -> None:
        super().__init__(command, reason)
        self.command = command
        self.reason = reason
        self.stderr = stderr or []

    def __str__(self) -> str:
        return f"worker {self.command!r} did not start: {self.reason}"
