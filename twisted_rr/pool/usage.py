"""What a worker process uses, from the kernel's own files; asked for snapshots and limits only."""

from __future__ import annotations

import os

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")


def usage(pid: int, told_pid: int, age: float) -> tuple[int, float]:
    """``(resident bytes, percent of one CPU over its life of *age* seconds)``; zeros when it is gone.

    *told_pid*, what the worker says its pid is, is believed within the process group of *pid* only.
    """
    if told_pid not in (0, pid) and _in_group(told_pid, pid):
        pid = told_pid
    return resident(pid), _cpu(pid, age)


def _in_group(pid: int, group: int) -> bool:
    try:
        return os.getpgid(pid) == group
    except OSError:
        return False


def resident(pid: int) -> int:
    """The resident set of *pid* in bytes, 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return 0


def cpu_ticks(pid: int) -> int:
    """CPU time of *pid* in the kernel's ticks, 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name in parentheses may hold anything, spaces too.
            fields = file.read().rpartition(b")")[2].split()
        return int(fields[11]) + int(fields[12])
    except (OSError, IndexError, ValueError):
        return 0


def state_of(pid: int, told_pid: int) -> tuple[str, int]:
    """``(state letter, CPU ticks)`` as /proc/pid/stat has them; an empty letter when it is gone."""
    if told_pid not in (0, pid) and _in_group(told_pid, pid):
        pid = told_pid
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return fields[0].decode(), int(fields[11]) + int(fields[12])
    except (OSError, IndexError, ValueError):
        return "", 0


def _cpu(pid: int, age: float) -> float:
    return round(cpu_ticks(pid) / _TICKS / age * 100, 2) if age > 0 else 0.0
