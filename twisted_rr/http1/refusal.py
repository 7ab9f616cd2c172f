"""What a session says to a client it will not serve: the exception that carries it and the bytes of it."""

from __future__ import annotations

from typing import Final

from twisted_rr.http1.reasons import REASONS, status_line


class Refused(Exception):
    """A request is malformed, or asks for what is not offered.

    :ivar status: what it is answered with.
    :ivar reason: a fixed text that holds nothing of the client's.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason


_FIELDS: Final = b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n"


def refusal_answer(status: int, reason: str, date: bytes, bodyless: bool) -> bytes:
    """A whole small answer that ends the connection; *bodyless* for HEAD, *date* is a line with its CRLF."""
    body = b"%d %b: %b\n" % (status, REASONS.get(status, b"Error"), reason.encode("ascii"))
    head = status_line(status) + _FIELDS % len(body) + date + b"\r\n"
    return head if bodyless else head + body
