"""Writes the stacks of all threads and asyncio tasks to the standard error when the server asks by a signal.

It asks before it gives a call up that takes too long. The threads are written by faulthandler, within the signal's
handler, so also while C code holds the interpreter; the tasks as soon as the main thread runs Python again. That
a process catches this signal tells the server that it may be sent: others would die of it.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import sys
from types import FrameType
from typing import Any, Final

SIGNAL: Final[int] = signal.SIGRTMIN + 5 if hasattr(signal, "SIGRTMIN") else 0
"""A real-time signal that nobody uses; 0 where there are none."""

MOST_TASKS: Final = 50
DEPTH: Final = 20
COMPILED_DEPTH: Final = 6


def install() -> None:
    """From now on the signal is answered. Nothing where the system or the application's threads forbid it."""
    if not SIGNAL:
        return
    try:
        signal.signal(SIGNAL, _write_tasks)
        faulthandler.register(SIGNAL, file=2, all_threads=True, chain=True)  # type: ignore[arg-type, unused-ignore]
    except (ValueError, OSError, RuntimeError):
        return  # not in the main thread


def _write_tasks(number: int, at: FrameType | None) -> None:
    """Runs in the main thread, between two of its steps."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return
    loop = asyncio._get_running_loop()
    if loop is None:
        return
    lines: list[str] = []
    tasks = list(asyncio.all_tasks(loop))
    for task in tasks[:MOST_TASKS]:
        lines.append(f"Task {task.get_name()!r} (most recent call last):")
        for frame in _frames(task):
            name = frame.f_code
            lines.append(f'  File "{name.co_filename}", line {frame.f_lineno} in {name.co_qualname}')
    if len(tasks) > MOST_TASKS:
        lines.append(f"and {len(tasks) - MOST_TASKS} more tasks")
    # Not by sys.stderr, which the signal may have found within a write of the application's.
    os.write(2, "".join(line + "\n" for line in lines).encode("utf-8", "backslashreplace"))


def _frames(task: object) -> list[FrameType]:
    """The frames of a task, outermost first, through every coroutine that it awaits."""
    found: list[FrameType] = []
    waits = getattr(task, "get_coro", lambda: None)()
    while waits is not None and len(found) < DEPTH:
        frame = _first(waits, "cr_frame", "gi_frame", "ag_frame")
        if frame is None:
            waits = _within(waits)  # compiled: it has no frame, and does not tell what it awaits
            continue
        found.append(frame)
        waits = _first(waits, "cr_await", "gi_yieldfrom", "ag_await")
    return found


def _within(compiled: object) -> Any:
    """The coroutine with a frame that a compiled one awaits: looked for among the objects that it holds."""
    near = [compiled]
    for _ in range(COMPILED_DEPTH):
        near = [each for holder in near for each in gc.get_referents(holder) if _may_wait(each)]
        for each in near:
            if _first(each, "cr_frame", "gi_frame", "ag_frame") is not None:
                return each
    return None


def _may_wait(found: object) -> bool:
    """A coroutine, or what mypyc keeps the variables of one in."""
    kind = type(found)
    return hasattr(kind, "send") or hasattr(kind, "cr_frame") or kind.__name__.endswith(("_gen", "_env"))


def _first(holder: object, *names: str) -> Any:
    return next((value for name in names if (value := getattr(holder, name, None)) is not None), None)
