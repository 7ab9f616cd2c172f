"""How many workers a machine is good for when the configuration does not say.

The kernel's files only; nothing here knows of pools.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

LEAST = 2  # one worker would stop at its first slow call, and at each of its replacements


def default_workers(
    root: Path = Path("/"), affinity: Callable[[int], set[int]] | None = None
) -> tuple[int, str]:
    """``(number of workers, reason)``: the cgroup's CPU quota rounded up, else the CPUs we may use; at least 2.

    *root* is where ``proc`` and ``sys`` are, *affinity* stands for ``os.sched_getaffinity``.
    """
    quota = cpu_quota(root)
    cpus = _cpus(affinity)
    if quota is not None and quota < cpus:
        number, reason = math.ceil(quota), f"the cgroup's quota is {quota:g} CPUs"
    else:
        number, reason = cpus, f"{cpus} CPUs may be used"
    if number < LEAST:
        return LEAST, f"{reason}, and {LEAST} is the least"
    return number, reason


def _cpus(affinity: Callable[[int], set[int]] | None) -> int:
    if affinity is None:
        affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def cpu_quota(root: Path = Path("/")) -> float | None:
    """CPUs the cgroup may use, None when it is not limited. The strictest of the cgroup and its parents counts."""
    quotas = []
    for controllers, path in _cgroups(root):
        if controllers == "":
            quotas += _walk(root / "sys/fs/cgroup", path, _quota_v2)
        elif "cpu" in controllers.split(","):
            quotas += _walk(root / "sys/fs/cgroup" / controllers, path, _quota_v1)
            quotas += _walk(root / "sys/fs/cgroup/cpu", path, _quota_v1)
    return min(quotas, default=None)


def _cgroups(root: Path) -> list[tuple[str, str]]:
    try:
        text = (root / "proc/self/cgroup").read_text()
    except OSError:
        return []
    parts = [line.split(":", 2) for line in text.splitlines()]
    return [(part[1], part[2]) for part in parts if len(part) == 3]


def _walk(base: Path, path: str, quota: Callable[[Path], float | None]) -> list[float]:
    """Quotas from the cgroup up to the mount point; inside a container only the latter may be visible."""
    names = [name for name in path.split("/") if name and name != ".."]
    folders = [base.joinpath(*names[:count]) for count in range(len(names), -1, -1)]
    return [found for folder in folders if (found := quota(folder)) is not None]


def _quota_v2(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_v1(folder: Path) -> float | None:
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        period = int((folder / "cpu.cfs_period_us").read_text())
        return quota / period if quota > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
