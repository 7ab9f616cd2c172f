"""The access log: one line for each exchange and each refusal, off unless ``http.access_logs`` asks for it.

Left out: where the line goes and how it is escaped (`twisted_rr.log`).
"""

from __future__ import annotations

from typing import Any

LINE = "{remote} {method} {path} {status} {bytes} {duration:.3f} {agent}"


class AccessLog:
    """Writes the lines through *log*."""

    __slots__ = ("_log",)

    def __init__(self, log: Any) -> None:
        self._log = log

    def record(
        self, request: Any, remote: str, status: int, size: int, duration: float, complete: bool = True
    ) -> None:
        """An exchange is over.

        *size* counts the bytes of content handed to the connection, *duration* is seconds from the complete head to
        the last byte taken by the kernel. Without an answer *status* is 499, nginx's number for a client that left.
        The query is left out: it may hold secrets.
        """
        self._log.info(
            LINE if complete else LINE + " (incomplete)",
            remote=remote,
            method=request.method,
            path=request.target.partition(b"?")[0].decode("latin-1"),
            status=status,
            bytes=size,
            duration=duration,
            agent=_agent(request.headers),
        )

    def refuse(self, remote: str, status: int, reason: str) -> None:
        """What came was no request that could be served, or the rest of its content was not: it got *status*.

        Where the content is at fault its exchange has a line too, with the same status.
        """
        self._log.info("{remote} refused {status} {reason}", remote=remote, status=status, reason=reason)


def _agent(headers: list[tuple[bytes, bytes]]) -> str:
    for name, value in headers:
        if name == b"user-agent":
            return value.decode("latin-1")
    return "-"
