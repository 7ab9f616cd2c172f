"""What holds a stop up: the calls that are in flight, each with its age and the worker that has it.

For operators only (log, admin socket, termination log): paths and process ids are no business of an
anonymous probe. What is done about a blocker is not decided here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import attrs

from twisted_rr.interfaces import IInFlight


@attrs.frozen(kw_only=True)
class Blocker:
    """One call in flight, at one moment.

    :ivar protocol: the name of the set it is in: http, grpc and so on.
    :ivar call: its own short word: for HTTP the method and the path without the query.
    :ivar age: seconds since it was accepted.
    :ivar pid: of the worker that has it, 0 while none does.
    :ivar stack: where that worker is, as text; empty when it did not say.
    """

    protocol: str
    call: str
    age: float
    pid: int = 0
    stack: str = ""

    def __str__(self) -> str:
        worker = f", worker {self.pid}" if self.pid else ""
        return f"{self.protocol} {self.call} ({self.age:.1f} s{worker})"

    def record(self) -> dict[str, Any]:
        """The same as plain data; a call that is a method and a path is told as both."""
        said: dict[str, Any] = {"protocol": self.protocol}
        method, space, path = self.call.partition(" ")
        said |= {"method": method, "path": path} if space else {"call": self.call}
        said |= {"age": round(self.age, 3), "pid": self.pid}
        return said | {"stack": self.stack} if self.stack else said


def blockers_of(
    in_flights: Iterable[IInFlight],
    now: float,
    most: int,
    stack_of: Callable[[int], str] = lambda pid: "",
) -> list[Blocker]:
    """At most *most* of what is in flight at monotonic *now*, the oldest first.

    *stack_of* answers what is known of a worker's stack, without asking it. An item has ``since`` and
    ``describe()``; one that knows its worker has ``worker_pid``.
    """
    # An IInFlight of somebody else's making may not list what is in it.
    found = [(each.name, item) for each in in_flights for item in getattr(each, "items", list)()]
    found.sort(key=lambda one: float(one[1].since))
    blockers = []
    for protocol, item in found[:most]:
        pid = int(getattr(item, "worker_pid", 0))
        blockers.append(
            Blocker(
                protocol=protocol,
                call=str(item.describe()),
                age=now - item.since,
                pid=pid,
                stack=stack_of(pid) if pid else "",
            )
        )
    return blockers
