"""The access log: one line for each call, off unless ``grpc.access_logs`` asks for it.

Left out: where the line goes and how it is escaped (`twisted_rr.log`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from .status import name

if TYPE_CHECKING:
    from .exchange import Exchange

LINE: Final = "{remote} {method} {code} {received}/{sent} {bytes} {duration:.3f} {agent}"


class AccessLog:
    """Writes the lines through *log*."""

    __slots__ = ("_log",)

    def __init__(self, log: Any) -> None:
        self._log = log

    def record(self, exchange: Exchange, duration: float, complete: bool) -> None:
        """A call is over.

        *received* and *sent* count messages, *bytes* those of the answer's, *duration* is seconds from the head to
        the last byte taken by the kernel.
        """
        self._log.info(
            LINE if complete else LINE + " (incomplete)",
            remote=exchange.derived.connection.peer or "unix",
            method=exchange.derived.path,
            code=name(exchange.code),
            received=exchange.received,
            sent=exchange.sent,
            bytes=exchange.size,
            duration=duration,
            agent=exchange.derived.agent,
        )
