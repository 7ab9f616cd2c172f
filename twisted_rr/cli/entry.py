"""The console script: takes the signals before anything slow is imported, then hands over to `main`."""

from __future__ import annotations

import sys


def main() -> None:
    """``twisted-rr``."""
    process = None
    if sys.argv[1:2] == ["serve"]:
        # As PID 1, a signal that comes before there is a handler is dropped by the kernel.
        from twisted_rr.lifecycle.process import Process

        process = Process()
    from .main import cli

    cli(prog_name="twisted-rr", obj=process)


if __name__ == "__main__":
    main()
