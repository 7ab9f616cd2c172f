"""The access log: one line for each exchange and each refusal, off unless ``http.access_logs`` asks for it.

Left out: where the line goes and how it is escaped (`twisted_rr.log`).
"""

from __future__ import annotations

from typing import Any, Final

from twisted_rr.log import Lines
from twisted_rr.logs.shape import Shape

LINE: Final = "{remote} {method} {path} {status} {bytes} {duration:.3f} {agent}"
_FIELDS: Final[dict[str, type]] = {
    "remote": str,
    "method": str,
    "path": str,
    "status": int,
    "bytes": int,
    "duration": float,
    "agent": str,
}
COMPLETE: Final = Shape(LINE, **_FIELDS)
INCOMPLETE: Final = Shape(LINE + " (incomplete)", **_FIELDS)
REFUSED: Final = Shape("{remote} refused {status} {reason}", remote=str, status=int, reason=str)


class AccessLog:
    """Writes the lines through *log*."""

    __slots__ = ("_complete", "_incomplete", "_refused")

    def __init__(self, log: Any) -> None:
        self._complete = Lines(log, COMPLETE)
        self._incomplete = Lines(log, INCOMPLETE)
        self._refused = Lines(log, REFUSED)

    def record(
        self, request: Any, remote: str, status: int, size: int, duration: float, complete: bool = True
    ) -> None:
        """An exchange is over.

        *size* counts the bytes of content handed to the connection, *duration* is seconds from the complete head to
        the last byte taken by the kernel. Without an answer *status* is 499, nginx's number for a client that left.
        The query is left out: it may hold secrets.
        """
        (self._complete if complete else self._incomplete).write(
            remote,
            request.method,
            request.target.partition(b"?")[0].decode("latin-1"),
            status,
            size,
            duration,
            _agent(request.headers),
        )

    def refuse(self, remote: str, status: int, reason: str) -> None:
        """What came was no request that could be served, or the rest of its content was not: it got *status*.

        Where the content is at fault its exchange has a line too, with the same status.
        """
        self._refused.write(remote, status, reason)


def _agent(headers: list[tuple[bytes, bytes]]) -> str:
    for name, value in headers:
        if name == b"user-agent":
            return value.decode("latin-1")
    return "-"
