"""How the run before this one ended: told by a small file that a clean stop closes and a kill leaves open.

The file stands beside the admin socket and is locked for as long as its server lives, which also tells a second
server of the same configuration that the place is taken. What killed a process cannot be seen from here: neither
the kernel's out-of-memory killer nor an impatient supervisor leaves a note.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

#: The file has this size at least, so that writing the end needs no room on a disk that is full by then.
SIZE = 2048

#: Reasons, as the metric has them.
CLEAN, FAILED, KILLED, REBOOTED, UNREADABLE = "clean", "failed", "killed", "rebooted", "unreadable"

#: For people, who would take a stop that had to kill a worker for a server that was killed.
_OUTCOMES: Final = {"cut": "work was cut at the deadline", "killed": "a worker had to be killed"}

_STARTING = ("booting", "starting")


def boot_id() -> str:
    """What the kernel calls this boot of the machine; empty when it does not say."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


@attrs.frozen(kw_only=True)
class PreviousExit:
    """The end of the run before.

    :ivar reason: `CLEAN`, `FAILED` (it gave up by itself), `KILLED`, `REBOOTED` (the machine went down under it)
        or `UNREADABLE`.
    :ivar state: the lifecycle's state that was written last.
    :ivar pid: its process id.
    :ivar ago: seconds since it was seen last.
    :ivar into: how long it had been in that state by then, in seconds.
    :ivar outcome: of a clean stop: drained, cut and so on.
    """

    reason: str
    state: str = ""
    pid: int = 0
    ago: float = 0.0
    into: float = 0.0
    outcome: str = ""

    @property
    def unclean(self) -> bool:
        """Whether an operator wants to know."""
        return self.reason in (KILLED, REBOOTED, UNREADABLE)

    @property
    def label(self) -> str:
        """The reason with the state in one word, for a metric: ``killed_draining`` and the like."""
        if self.reason != KILLED:
            return self.reason
        if self.state in _STARTING:
            return "killed_starting"
        return "killed_draining" if self.state.startswith("draining") else f"killed_{self.state or 'running'}"

    def __str__(self) -> str:
        if self.reason == UNREADABLE:
            return "unreadable: its state file holds no record"
        if not self.unclean:
            outcome = _OUTCOMES.get(self.outcome, self.outcome)
            return f"{self.reason} ({outcome})" if outcome not in ("", self.reason) else self.reason
        how = "killed" if self.reason == KILLED else "cut off as the machine went down"
        return f"{how} while {self.state}, {self.into:.0f}s into it, {self.ago:.0f}s ago"


class StateFile:
    """The record of one server; every failure to write is kept in `trouble` and raised nowhere.

    :ivar previous: how the run before ended, None when there was none.
    :ivar trouble: why the file cannot be kept, empty when it can.
    """

    def __init__(
        self,
        path: str,
        *,
        boot: Callable[[], str] = boot_id,
        uptime: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.path = path
        self.previous: PreviousExit | None = None
        self.trouble = ""
        self._boot = boot()
        self._uptime = uptime
        self._wall = wall
        self._fd = -1
        self._record: dict[str, Any] = {}
        self._size = SIZE

    def open(self) -> bool:
        """Take the file; False when a living server has it. A file that cannot be made is no reason to stay out."""
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            self._fd = os.open(self.path, flags, 0o600)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._release()
            return False
        except OSError as error:
            # A file system without locks still takes the record.
            if self._fd < 0 or error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                self._fail(error)
                return True
        self._look_back()
        return True

    def begin(self, facts: Mapping[str, Any], state: str) -> None:
        """Write that a run begins; *facts* are kept for who reads the file: folder, config and so on."""
        now = self._wall()
        self._record = {**facts, "boot": self._boot, "pid": os.getpid(), "started": now}
        self.enter(state)

    def enter(self, state: str) -> None:
        """Write that the run is in *state* now."""
        self._record |= {"state": state, "since": self._uptime()}
        self.seen()

    def seen(self) -> None:
        """Write that it still lives."""
        self._record |= {"seen": self._uptime(), "seen_wall": self._wall()}
        self._write()

    def end(self, reason: str, outcome: str = "") -> None:
        """Write that the run ended by itself, if it ever began. The lock stays until `close`."""
        if not self._record:
            return
        self._record |= {"ended": reason, "outcome": outcome}
        self.seen()

    def close(self, remove: bool = False) -> None:
        """Let go of the file; with *remove* nothing is left of it."""
        if remove and self._fd >= 0:
            try:
                os.unlink(self.path)
            except OSError as error:
                self.trouble = str(error)
        self._release()

    def _release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def _write(self) -> None:
        if self._fd < 0:
            return
        text = json.dumps(self._record, separators=(",", ":")).encode()
        try:
            # Never shorter than before, lest the end of a longer record stays behind it.
            self._size = max(self._size, len(text) + 1)
            os.pwrite(self._fd, text.ljust(self._size - 1) + b"\n", 0)
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        self.trouble = error.strerror or str(error)
        self._release()

    def _look_back(self) -> None:
        try:
            text = os.pread(self._fd, 8 * SIZE, 0)
        except OSError as error:
            self._fail(error)
            return
        self._size = max(SIZE, len(text))
        if text.strip():
            self.previous = self._judge(text)

    def _judge(self, text: bytes) -> PreviousExit:
        try:
            record = json.loads(text)
            same_boot = record["boot"] == self._boot
            ago = self._uptime() - record["seen"] if same_boot else self._wall() - record["seen_wall"]
            ended = str(record.get("ended", ""))
            return PreviousExit(
                reason=ended or (KILLED if same_boot else REBOOTED),
                state=str(record["state"]),
                pid=int(record["pid"]),
                ago=max(0.0, ago),
                into=max(0.0, record["seen"] - record["since"]),
                outcome=str(record.get("outcome", "")),
            )
        except (ValueError, TypeError, KeyError, AttributeError):
            return PreviousExit(reason=UNREADABLE)
