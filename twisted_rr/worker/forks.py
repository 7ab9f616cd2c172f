"""What becomes of a process that the application forks: it never speaks on the worker's relay, nor goes on in its place.

The workers that a template forks are no such processes: they are workers before they get here.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from twisted_rr.worker.descriptors import Relay
from twisted_rr.worker.report import tell_failure

child = False
"""This process is a fork of a worker."""


def guard(relay: Relay) -> None:
    """Put /dev/null in the place of *relay* in every process that is forked from now on.

    Closed, its numbers would be given to what the child opens next, and the SDK's own code that is left in the child
    would write there.
    """

    def in_child() -> None:
        global child
        child = True
        null = os.open(os.devnull, os.O_RDWR)
        for fd in {relay.reader, relay.writer}:
            os.dup2(null, fd, inheritable=False)
        os.close(null)

    os.register_at_fork(after_in_child=in_child)


def end_child(error: BaseException | None = None, headline: str = "") -> NoReturn:
    """End a forked child that came back to the SDK, out of its application's call: the call is its parent's.

    Its exit code is what it would be for a program: that of SystemExit, 1 after another exception, which is told below
    *headline*, else 0. Nothing that the parent registered with atexit is run.
    """
    code = 0 if error is None else 1
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        tell_failure(headline, error)
    leave(code)


def leave(code: int) -> NoReturn:
    """End this process at once, with what it has printed: nothing else of Python's own end is run."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            continue  # there is nobody to tell
    os._exit(code & 0xFF)
