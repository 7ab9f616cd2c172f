"""Go RoadRunner as a contender, built from its Go modules with the plugins that the benchmarks need.

The configurations are a contender's own; `worker.py` is the one-call worker that runs under it and under ours.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
VERSION = "2025.1.15"
WORKER = HERE / "worker.py"
BUILD_LIMIT = 900.0
"""Seconds for a build with nothing in Go's cache."""


def go() -> str | None:
    """Go's command, if there is one."""
    return shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")


def build(folder: Path) -> Path | str:
    """The program, built in *folder*; or in one word or line why there is none."""
    command = go()
    if command is None:
        return "Go is not installed"
    source = folder / "roadrunner-source"
    source.mkdir()
    for name in ("main.go", "go.mod", "go.sum"):
        shutil.copy(HERE / name, source)
    program = folder / "roadrunner"
    try:
        done = subprocess.run(
            [command, "build", "-trimpath", "-o", str(program), "."],
            cwd=source,
            env={**os.environ, "GOFLAGS": "-mod=mod"},
            capture_output=True,
            text=True,
            timeout=BUILD_LIMIT,
        )
    except subprocess.TimeoutExpired:
        return f"its build took longer than {BUILD_LIMIT:g} s"
    if done.returncode:
        return "it does not build: " + (done.stderr.strip().splitlines() or ["no output"])[-1]
    return program
