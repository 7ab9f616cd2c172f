"""The console script: takes the signals before anything slow is imported, then hands over to `main`."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the module `signal` takes as long to import as Python to start
import os
import sys


def end_at_once() -> None:
    """Until `Process` has taken the signals, one that asks to stop ends the process: nothing has begun."""
    for number in (_signal.SIGTERM, _signal.SIGQUIT):
        _signal.signal(number, lambda *_: os._exit(0))


def open_streams() -> None:
    """Let those of the standard streams that are closed lead nowhere: what is opened next would get their numbers.

    A listener with number 2 would be sent all that is written to standard error, here and in what is started.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number there is
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115


def main() -> None:
    """``twisted-rr``."""
    open_streams()
    if sys.argv[1:2] and sys.argv[1] in ("drain", "undrain", "stop", "reload", "reset", "status"):
        # Probes and hooks, which are run often: without click and all that `main` needs.
        from .control import main as control

        sys.exit(control())
    process = None
    if sys.argv[1:2] == ["serve"]:
        # As PID 1, a signal that comes before there is a handler is dropped by the kernel.
        end_at_once()
        from twisted_rr.lifecycle.process import Process

        process = Process()
    from .main import cli

    cli(prog_name="twisted-rr", obj=process)


if __name__ == "__main__":
    main()
