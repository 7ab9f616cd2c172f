"""Starts processes from a thread of its own, so that the reactor does not wait until each of them runs.

posix_spawn returns when the new process has begun its program: 3 ms on a machine at rest, 15 and more where the
processors are busy, as they are when many workers start together or one is replaced under load. Python's own call
keeps the interpreter's lock meanwhile, so the C library is called directly, which gives it up. The thread lives as
long as the process: PR_SET_PDEATHSIG counts the death of the thread that started a worker.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import queue
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from twisted_rr.pool.process import WorkerProcess
from twisted_rr.pool.spec import LaunchSpec

LOWEST: Final = 10  # descriptors below might be in the way of a process's own 0 to 3
ROOM: Final = 1024  # bytes for a posix_spawn_file_actions_t, whose size only the C library knows


@attrs.define(eq=False)
class Job:
    """A process to be started; ``reads`` and ``ends`` are both sides of its pipes, by its own descriptors."""

    process: WorkerProcess
    spec: LaunchSpec
    fds: dict[int, int]
    reads: dict[int, int]
    taken: bool = False
    dropped: bool = False

    @classmethod
    def make(cls, process: WorkerProcess, spec: LaunchSpec, stdin: int, stdout: int) -> Job:
        """Raises OSError."""
        opened: list[int] = []
        try:
            fds: dict[int, int] = {}
            reads: dict[int, int] = {}
            for name, fd in ((0, stdin), (1, stdout)):
                fds[name] = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, LOWEST)
                opened.append(fds[name])
            for name in (2, 3):
                reads[name], end = os.pipe()
                opened += (reads[name], end)
                fds[name] = fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, LOWEST)
                opened[-1] = fds[name]
                os.close(end)
            return cls(process, spec, fds, reads)
        except BaseException:
            for fd in opened:
                os.close(fd)
            raise

    def close(self) -> None:
        """Close what the process has, or will never have."""
        for fd in self.fds.values():
            os.close(fd)
        self.fds.clear()

    def close_all(self) -> None:
        """It will never be."""
        self.close()
        for fd in self.reads.values():
            os.close(fd)


class Spawner:
    """Starts processes one after the other; *reactor* hears of each by ``callFromThread``.

    Raises OSError where the C library has no posix_spawn that could be called.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._library = _library()
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._open: dict[WorkerProcess, Job] = {}
        self._thread: threading.Thread | None = None
        self._pid = 0

    def fork(self, spec: LaunchSpec, process: WorkerProcess, stdin: int, stdout: int) -> None:
        """Start *process*, which is told when it is there. Raises OSError."""
        job = self._open[process] = Job.make(process, spec, stdin, stdout)
        if self._pid != os.getpid():  # the first, or the server has become a daemon since
            self._pid = os.getpid()
            self._thread = threading.Thread(target=self._work, name="rr-spawn", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def withdraw(self, process: WorkerProcess) -> bool:
        """True: *process* has not been started, and will not be."""
        job = self._open.get(process)
        if job is None:
            return False
        with self._lock:
            if job.taken:
                return False
            job.dropped = True
        del self._open[process]
        job.close_all()
        return True

    # ------------------------------------------------------------------ in the thread

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            with self._lock:
                if job.dropped:
                    continue
                job.taken = True
            pid, error = _spawn(self._library, job.spec.executable, job.spec.argv, job.spec.env, job.fds)
            self._reactor.callFromThread(self._started, job, pid, error)

    # ------------------------------------------------------------------ in the reactor's thread

    def _started(self, job: Job, pid: int, error: int) -> None:
        self._open.pop(job.process, None)
        if error:
            job.close_all()
            job.process.failed(error)
            return
        job.close()
        job.process.adopt(pid, job.reads)


def _library() -> Any:
    try:
        library = ctypes.CDLL(None)
        library.posix_spawn.restype = ctypes.c_int
        return library
    except AttributeError as error:
        raise OSError(0, f"the C library has no {error}") from None


def _spawn(
    library: Any, executable: str, argv: Sequence[str], env: Mapping[str, str], fds: Mapping[int, int]
) -> tuple[int, int]:
    """posix_spawn(3) with *fds* as the process's descriptors; its pid and 0, or 0 and an errno."""
    actions = ctypes.create_string_buffer(ROOM)
    error = library.posix_spawn_file_actions_init(actions)
    if error:
        return 0, int(error)
    pid = ctypes.c_int(0)
    try:
        for name, fd in fds.items():
            error = error or library.posix_spawn_file_actions_adddup2(actions, fd, name)
        if not error:
            words = _strings(os.fsencode(word) for word in argv)
            variables = _strings(os.fsencode(name) + b"=" + os.fsencode(value) for name, value in env.items())
            path = os.fsencode(executable)
            error = library.posix_spawn(ctypes.byref(pid), path, actions, None, words, variables)
    finally:
        library.posix_spawn_file_actions_destroy(actions)
    return pid.value, int(error)


def _strings(words: Any) -> Any:
    listed = [*words, None]
    return (ctypes.c_char_p * len(listed))(*listed)
