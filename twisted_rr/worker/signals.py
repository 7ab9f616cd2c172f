"""What signals mean to a worker: SIGTERM ends it after its open calls, SIGINT nothing.

Who asks for it to end, and when, is the server's affair: a stop frame first, SIGTERM to the process
group later, SIGKILL last. Ctrl-C in the server's terminal is the server's to answer.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Final

HEARD: Final = 1.0
"""Seconds after SIGTERM in which the server has to have heard that this worker goes. What it sent before is given back."""


def ignore_interrupt() -> None:
    """Let SIGINT pass. By a handler, because an ignored signal would stay ignored in child processes."""

    def ignore(number: int, at: FrameType | None) -> None:
        """Nothing: see above."""

    signal.signal(signal.SIGINT, ignore)


class Waker:
    """A pipe whose reading end gets ready when a signal comes or another thread calls `wake`.

    :ivar fd: to be polled for reading.
    """

    def __init__(self) -> None:
        self.fd, self._write = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._write, False)

    def wake(self) -> None:
        """Make `fd` readable; from any thread, and from a signal handler."""
        try:
            os.write(self._write, b"\0")
        except BlockingIOError:
            return  # full: it is readable already

    def clear(self) -> None:
        """Make `fd` unreadable again."""
        try:
            os.read(self.fd, 4096)
        except BlockingIOError:
            return

    def on_terminate(self, note: Callable[[], None]) -> None:
        """At SIGTERM call *note* (in the main thread, between any two of its steps) and wake."""

        def terminated(number: int, at: FrameType | None) -> None:
            note()
            self.wake()

        signal.signal(signal.SIGTERM, terminated)

    def close(self) -> None:
        """Give the pipe up; SIGTERM gets its default back."""
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.close(self.fd)
        os.close(self._write)
