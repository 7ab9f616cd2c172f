"""What an operator can look at when a worker's program is not found: where it was sought, and from where.

That it was not found is told by the worker.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from twisted_rr.pool.spec import LaunchSpec

_NOT_INSTALLED = "No module named 'twisted_rr"
_NO_SCRIPT = "could not open the worker's script"


def sought(program: str, spec: LaunchSpec) -> str:
    """Where *program*, the first word of a command, was looked for: its whole path, or PATH."""
    if "/" in program:
        return os.path.join(spec.folder or os.getcwd(), program)
    return f"PATH is {spec.env.get('PATH', os.defpath)}"


def remedy(reason: str, stderr: Sequence[str], spec: LaunchSpec) -> str:
    """What to add to *reason*, with which a worker ended that said *stderr*; empty when that says it all."""
    if _NO_SCRIPT in reason:
        return f" (its working directory is {spec.folder or os.getcwd()})"
    if any(_NOT_INSTALLED in line for line in stderr):
        program = spec.command.split()[0]
        return f" ({program!r} is a Python without twisted_rr; the server's own is {sys.executable})"
    return ""
