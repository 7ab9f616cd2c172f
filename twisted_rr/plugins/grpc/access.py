"""The access log: one line for each call, off unless ``grpc.access_logs`` asks for it.

Left out: where the line goes and how it is escaped (`twisted_rr.log`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from twisted_rr.log import Lines
from twisted_rr.logs.shape import Shape

from .status import name

if TYPE_CHECKING:
    from .exchange import Exchange

LINE: Final = "{remote} {method} {code} {received}/{sent} {bytes} {duration:.3f} {agent}"
_FIELDS: Final[dict[str, type]] = {
    "remote": str,
    "method": str,
    "code": str,
    "received": int,
    "sent": int,
    "bytes": int,
    "duration": float,
    "agent": str,
}
COMPLETE: Final = Shape(LINE, **_FIELDS)
INCOMPLETE: Final = Shape(LINE + " (incomplete)", **_FIELDS)


class AccessLog:
    """Writes the lines through *log*."""

    __slots__ = ("_complete", "_incomplete")

    def __init__(self, log: Any) -> None:
        self._complete = Lines(log, COMPLETE)
        self._incomplete = Lines(log, INCOMPLETE)

    def record(self, exchange: Exchange, duration: float, complete: bool) -> None:
        """A call is over.

        *received* and *sent* count messages, *bytes* those of the answer's, *duration* is seconds from the head to
        the last byte taken by the kernel.
        """
        derived = exchange.derived
        (self._complete if complete else self._incomplete).write(
            derived.connection.peer or "unix",
            derived.path,
            name(exchange.code),
            exchange.received,
            exchange.sent,
            exchange.size,
            duration,
            derived.agent,
        )
