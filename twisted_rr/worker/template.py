"""The template of ``--preload``: a process that has imported the application and forks a worker on request.

It is no worker itself: it opens no relay and runs no call. The server, which is its parent, sends requests over
its descriptor 0, each with the new worker's descriptors. It forks twice: the one in between ends at once, so that
the server, which is a subreaper (prctl(2)), becomes the worker's parent. When to fork, and what happens where that
is refused, is the server's affair (`twisted_rr.pool.templates`).
"""

from __future__ import annotations

import atexit
import ctypes
import fcntl
import gc
import json
import os
import signal
import socket
import stat
import sys
import threading
import time
from typing import Any, Final, NoReturn

from twisted_rr.worker import descriptors, forks
from twisted_rr.worker.descriptors import Relay

_LOWEST: Final = 10
_MESSAGE: Final = 65536
_MOST_FDS: Final = 8
_PATIENCE: Final = 5.0  # seconds until the server must be the parent
_PR_SET_PDEATHSIG: Final = 1


class Control:
    """The template's end of the channel to the server: one JSON object a packet."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel

    def send(self, message: dict[str, Any]) -> None:
        """Raises OSError: the server is no more."""
        self._channel.send(json.dumps(message).encode())

    def receive(self) -> tuple[dict[str, Any], list[int]] | None:
        """The next request and its descriptors; None at the end. What is no request is skipped."""
        while True:
            try:
                data, fds, _, _ = socket.recv_fds(self._channel, _MESSAGE, _MOST_FDS, socket.MSG_CMSG_CLOEXEC)
            except ConnectionError:
                return None
            if not data:
                return None
            try:
                message = json.loads(data)
            except ValueError:
                continue  # the pid frame, by which a program that is no template shows itself
            return message, list(fds)

    def close(self) -> None:
        """Give it up."""
        self._channel.close()


def take() -> Control:
    """Take over descriptor 0 and make descriptors 0, 1 and 2 harmless. Raises RelayUnavailable."""
    try:
        good = stat.S_ISSOCK(os.fstat(0).st_mode)
    except OSError:
        good = False
    if not good:
        raise descriptors.RelayUnavailable("a template's descriptor 0 has to be a socket to its server")
    control = Control(socket.socket(fileno=fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, _LOWEST)))
    descriptors.protect()
    return control


def settle() -> None:
    """What was imported is shared as long as nobody writes to it: keep the garbage collector off it."""
    gc.collect()
    gc.freeze()


def refusal() -> str:
    """Why this process must not be forked, empty when it may."""
    if "grpc._cython.cygrpc" in sys.modules:
        return "grpcio is loaded, which does not survive a fork"
    named = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    native = _native_threads() - len(named)
    if not named and native <= 0:
        return ""
    if native > 0:
        named.append(f"{native} of native libraries")
    return f"threads are running: {', '.join(named)}; a fork would copy their locks and not them"


def _native_threads() -> int:
    """Threads of this process besides the main one."""
    try:
        return len(os.listdir("/proc/self/task")) - 1
    except OSError:
        return 0


def serve(control: Control) -> Relay | None:
    """Fork a worker for every request.

    Returns its relay in each of these workers, and None in the template when the server wants no more.
    """
    if reason := refusal():
        control.send({"refused": reason})
        return None
    settle()
    control.send({"ready": os.getpid()})
    while (got := control.receive()) is not None:
        request, fds = got
        number = request.get("fork")
        if request.get("stop"):
            return None
        if not isinstance(number, int):
            continue
        if reason := refusal():
            control.send({"refused": reason})
            return None
        try:
            if _fork():
                return _become_worker(control, number, int(request["server"]), fds)
        except OSError as error:
            control.send({"failed": number, "reason": f"no fork: {error.strerror}"})
        for fd in fds:
            os.close(fd)
    return None


def finish(code: int) -> NoReturn:
    """End this worker as Python ends, but for its last step: taking every module and object apart.

    That would touch, and so copy, all memory that is shared with the template: 10 to 15 ms of the CPU for a process
    that is replaced by a fork of 1 ms. Threads are waited for, `atexit` functions run, and what was printed is written.
    """
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    finally:
        forks.leave(code)


def _fork() -> bool:
    """Fork twice; True in the worker. Raises OSError in the template."""
    sys.stdout.flush()
    sys.stderr.flush()
    between = os.fork()
    if between:
        _, status = os.waitpid(between, 0)
        if status:
            raise OSError(os.waitstatus_to_exitcode(status), "the second fork failed")
        return False
    try:
        if os.fork():
            os._exit(0)
    except OSError:
        os._exit(1)
    return True


def _become_worker(control: Control, number: int, server: int, fds: list[int]) -> Relay:
    """From here on it is as if the server had started this process."""
    try:
        os.setpgid(0, 0)
        _die_with(server)
    except OSError as error:
        control.send({"failed": number, "reason": str(error.strerror)})
        os._exit(1)
    try:
        control.send({"forked": number, "pid": os.getpid()})
    except OSError:
        os._exit(1)  # nobody waits for it any more
    control.close()
    reader, writer, errors = fds
    os.dup2(errors, 2)
    os.dup2(reader, 0)
    os.dup2(writer, 1)
    for fd in fds:
        os.close(fd)
    relay = descriptors.take({})
    _forget()
    return relay


def _die_with(server: int) -> None:
    """End with the server, but not with the template: so only once the server is the parent."""
    deadline = time.monotonic() + _PATIENCE
    between = os.getppid()
    pause = 0.0002
    while (parent := os.getppid()) != server:
        if parent != between or time.monotonic() > deadline:
            # The server has gone, or somebody between us takes in orphans.
            raise OSError(0, f"process {parent} became its parent, which is not the server")
        time.sleep(pause)
        pause = min(0.01, pause * 2)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != server:
        os._exit(1)  # it died before the call above


def _forget() -> None:
    """What must not be the same in all workers, or was the template's: Python itself sees to ``random`` and locks."""
    signal.set_wakeup_fd(-1)
    numbers = sys.modules.get("numpy.random")
    if numbers is not None:
        numbers.seed()
    if "asyncio" in sys.modules:
        import asyncio

        # A loop that the application's import made shares its epoll descriptor with every other worker.
        asyncio.set_event_loop(None)
