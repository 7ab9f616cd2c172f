"""Asks a worker for the stacks of its threads and tasks; they come on its standard error, and so into the log.

By a signal, because what hangs reads no frame. Only a worker that catches it is sent it: ours do
(`twisted_rr.worker.stacks`), others would die of it. The number is agreed between the two modules.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Final

SIGNAL: Final[int] = signal.SIGRTMIN + 5 if hasattr(signal, "SIGRTMIN") else 0
GRACE: Final = 0.3  # seconds that a worker gets to write them before it is killed


def ask(pid: int, told: int) -> bool:
    """Ask the worker of process *pid*, which says that its own pid is *told*. False: it is not to be asked."""
    number = told or pid
    try:
        # A wrapper's child is in its process group; any other number may be anybody's.
        if not SIGNAL or number <= 0 or (number != pid and os.getpgid(number) != pid) or not _caught(number):
            return False
        os.kill(number, SIGNAL)
    except OSError:
        return False
    return True


def _caught(pid: int) -> bool:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, mask = line.partition(":")
        if name == "SigCgt":
            return bool(int(mask, 16) >> (SIGNAL - 1) & 1)
    return False
