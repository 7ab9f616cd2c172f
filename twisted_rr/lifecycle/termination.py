"""The report of a stop in ``/dev/termination-log``, where Kubernetes takes a container's last words from.

The kubelet reads at most 4096 bytes of it, so a report that is longer loses its blockers, then its advice,
at last a part of its reason.
Nothing here may delay the exit or fail it.
"""

from __future__ import annotations

import os
import stat
from typing import Any

import msgspec

PATH = "/dev/termination-log"
LIMIT = 4096

#: What is given up for the limit's sake, in this order.
_SPENDABLE = ("blockers", "unstopped", "advice", "reason")


def fitted(record: dict[str, Any], limit: int = LIMIT) -> bytes:
    """*record* as one JSON object of at most *limit* bytes; what was left out is told by ``truncated``."""
    text = msgspec.json.encode(record)
    for name in _SPENDABLE:
        while len(text) > limit and record.get(name):
            shorter = record[name][: len(record[name]) // 2]
            record = {**record, name: shorter, "truncated": True}
            text = msgspec.json.encode(record)
    return text[:limit]


def write(record: dict[str, Any], path: str = PATH, must: bool = False) -> str:
    """Write *record* over what the file at *path* holds; why that was not possible, empty when it was.

    A file that is not there is only a problem when it *must* be; none is made. A reader that does not read
    (the path may be a pipe) is not waited for.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except FileNotFoundError:
        return "it does not exist" if must else ""
    except OSError as error:
        return error.strerror or str(error)
    try:
        if stat.S_ISREG(os.fstat(fd).st_mode):
            os.ftruncate(fd, 0)
        os.write(fd, fitted(record))
    except OSError as error:
        return error.strerror or str(error)
    finally:
        os.close(fd)
    return ""
