"""What /proc tells: children, zombies, sockets. Processes come and go while one reads: absence is no error."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

_PROC = Path("/proc")


def state_of(pid: int) -> str:
    """The state letter of /proc/PID/stat, empty when there is no such process."""
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def born(pid: int) -> int:
    """When *pid* started, in clock ticks of the system; 0 when there is no such process. Tells a reused id."""
    try:
        return int((_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return 0


def alive(pid: int) -> bool:
    """Whether *pid* is a process and no zombie."""
    return state_of(pid) not in ("", "Z", "X")


def children(pid: int) -> list[int]:
    """The children of *pid*, zombies too."""
    found: list[int] = []
    try:
        tasks = list((_PROC / str(pid) / "task").iterdir())
    except OSError:
        return found
    for task in tasks:
        try:
            found += [int(word) for word in (task / "children").read_text().split()]
        except OSError:
            continue
    return sorted(found)


def descendants(pid: int) -> list[int]:
    """Everything below *pid*."""
    found = children(pid)
    for each in found:
        found += children(each)
    return found


def command_of(pid: int) -> str:
    """The command line, empty for a zombie and for nobody."""
    try:
        return (
            (_PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        )
    except OSError:
        return ""


def listening_inodes(port: int) -> set[str]:
    """The inodes of the sockets that listen on a TCP port."""
    found = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = (_PROC / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            words = line.split()
            if words[3] == "0A" and int(words[1].rpartition(":")[2], 16) == port:
                found.add(words[9])
    return found


def holders_of(inodes: set[str], pids: Iterable[int]) -> list[int]:
    """Which of *pids* hold one of these sockets."""
    wanted = {f"socket:[{inode}]" for inode in inodes}
    return [pid for pid in pids if wanted & _links(pid)]


def _links(pid: int) -> set[str]:
    found: set[str] = set()
    try:
        entries = list((_PROC / str(pid) / "fd").iterdir())
    except OSError:
        return found
    for entry in entries:
        try:
            found.add(os.readlink(entry))
        except OSError:
            continue
    return found


def waited_for_cpu(pid: int) -> float:
    """For how many seconds *pid*'s main thread could have run and did not get a CPU (schedstat); 0 if not known."""
    try:
        return int((_PROC / str(pid) / "schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def descriptors(pid: int) -> int:
    """How many descriptors *pid* has open."""
    try:
        return len(list((_PROC / str(pid) / "fd").iterdir()))
    except OSError:
        return 0
