"""The head of a request, or its trailers: what all fields of a block mean together (RFC 9113 section 8.3).

The session decides which of both a block is; its bytes are in `hpack`.
"""

from __future__ import annotations

from typing import Any, Final

from twisted_rr.http2.fields import (
    AUTHORITY,
    COOKIE,
    LENGTH,
    MALFORMED,
    METHOD,
    PATH,
    REGULAR,
    SCHEME,
    Field,
)

_REQUEST: Final = METHOD | SCHEME | PATH
_CONNECT: Final = METHOD | AUTHORITY


class Head:
    """A decoded and judged header block. All streams with the same bytes may share it: read only.

    :ivar method: of a request; ``b""`` in trailers.
    :ivar scheme: as sent, ``b""`` for CONNECT.
    :ivar path: with the query; ``b""`` for CONNECT.
    :ivar authority: that, else the host field.
    :ivar fields: the regular fields in order, names in lower case; cookies as one field (RFC 9113 section 8.2.3).
    :ivar length: content-length, -1 for none.
    :ivar oversized: larger than the limit; the fields beyond it are missing then.
    :ivar fault: why it is malformed as a request, ``""`` when it is not.
    :ivar trailer_fault: why it is malformed as trailers, ``""`` when it is not.
    :ivar derived: whatever a front computes from it; None at first.
    """

    __slots__ = (
        "authority", "derived", "fault", "fields", "length", "method", "oversized", "path", "scheme",
        "trailer_fault",
    )  # fmt: skip

    def __init__(self) -> None:
        self.method = b""
        self.scheme = b""
        self.path = b""
        self.authority = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.length = -1
        self.oversized = False
        self.fault = ""
        self.trailer_fault = ""
        self.derived: Any = None


class _Reading:
    """The state of going through the fields once."""

    __slots__ = ("cookie_at", "cookies", "fault", "head", "host", "seen")

    def __init__(self, head: Head) -> None:
        self.head = head
        self.seen = 0
        self.host = b""
        self.cookies: list[bytes] = []
        self.cookie_at = 0
        self.fault = ""

    def special(self, field: Field) -> None:
        """A field that is not just passed on."""
        kind = field.kind
        if kind == MALFORMED:
            self.fault = "a malformed or forbidden field"
        elif kind < LENGTH:
            self._pseudo(kind, field.pair[1])
        elif kind == COOKIE:
            self._cookie(field.pair)
        else:
            self.head.fields.append(field.pair)
            if kind == LENGTH:
                self._length(int(field.pair[1]))
            elif self.host:
                self.fault = "more than one host"
            else:
                self.host = field.pair[1]

    def _pseudo(self, kind: int, value: bytes) -> None:
        head = self.head
        if self.seen & kind or head.fields:
            self.fault = "a pseudo-header field twice or after others"
        self.seen |= kind
        if kind == METHOD:
            head.method = value
        elif kind == SCHEME:
            head.scheme = value
        elif kind == PATH:
            head.path = value
        else:
            head.authority = value

    def _cookie(self, pair: tuple[bytes, bytes]) -> None:
        if not self.cookies:
            self.cookie_at = len(self.head.fields)
            self.head.fields.append(pair)
        self.cookies.append(pair[1])

    def _length(self, length: int) -> None:
        if self.head.length >= 0:
            self.fault = "more than one content-length"
        self.head.length = length

    def judge(self) -> None:
        """Fill in the verdicts, once all fields were seen."""
        head = self.head
        if len(self.cookies) > 1:
            head.fields[self.cookie_at] = (b"cookie", b"; ".join(self.cookies))
        head.fault = self.fault or self._missing()
        if not head.authority:
            head.authority = self.host
        if self.seen:
            head.trailer_fault = "a pseudo-header field in trailers"
        elif head.length >= 0:
            head.trailer_fault = "content-length in trailers"
        else:
            head.trailer_fault = self.fault

    def _missing(self) -> str:
        head = self.head
        if head.method == b"CONNECT":
            return "" if self.seen == _CONNECT else "CONNECT with a scheme or path, or without authority"
        if self.seen & _REQUEST != _REQUEST:
            return "a pseudo-header field is missing"
        if not head.authority and not self.host:
            return "neither authority nor host"
        if head.authority and self.host and head.authority.lower() != self.host.lower():
            return "authority and host differ"
        if head.path == b"*" and head.method != b"OPTIONS":
            return "an asterisk path for a method other than OPTIONS"
        return ""


def understand(fields: list[Field], oversized: bool) -> Head:
    """The `Head` of a decoded block; it says itself whether it is malformed."""
    head = Head()
    head.oversized = oversized
    reading = _Reading(head)
    for field in fields:
        if field.kind == REGULAR:
            head.fields.append(field.pair)
        else:
            reading.special(field)
    reading.judge()
    return head
