"""Our compiled build as a contender: built from this checkout into an environment of its own, once for each state of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.contender import ROOT

BUILDER = ROOT / "scripts" / "compiled_environment.py"
SUFFIX = "-compiled"
"""What the name of such a contender ends with; the rest is the name of the same in plain Python."""

BUILD_LIMIT = 1200.0
"""Seconds."""


def asked(names: list[str]) -> bool:
    """Whether a choice of contenders has one of the compiled build; no choice has all."""
    return not names or any(name.endswith(SUFFIX) for name in names)


def build(folder: Path | None = None) -> Path | str:
    """The environment's folder of programs, kept in *folder* or the user's cache; or in one line why there is none."""
    command = [sys.executable, str(BUILDER), *([str(folder)] if folder else [])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_LIMIT)
    except subprocess.TimeoutExpired:
        return f"its build took longer than {BUILD_LIMIT:g} s"
    said = done.stderr.strip().splitlines()
    if done.returncode:
        last = said[-1] if said else "no output"
        return last if done.returncode == 3 else f"it does not build: {last}"
    if said:
        print(said[-1], file=sys.stderr)
    return Path(done.stdout.strip().splitlines()[-1]) / "env" / "bin"
