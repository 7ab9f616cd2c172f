"""The head of a request, or its trailers: what all fields of a block mean together (RFC 9113 section 8.3).

The session decides which of both a block is; its bytes are in `hpack`.
"""

from __future__ import annotations

from typing import Any, Final

from twisted_rr.http2.fields import (
    AUTHORITY,
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
    :ivar sound: neither oversized nor malformed as a request.
    :ivar derived: whatever a front computes from it; None at first.
    """

    __slots__ = (
        "authority", "derived", "fault", "fields", "length", "method", "oversized", "path", "scheme",
        "sound", "trailer_fault",
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
        self.sound = False
        self.derived: Any = None


def understand(fields: list[Field], oversized: bool) -> Head:
    """The `Head` of a decoded block; it says itself whether it is malformed."""
    head = Head()
    head.oversized = oversized
    regular = head.fields
    seen = 0
    fault = ""
    has_special = False
    for field in fields:
        kind = field.kind
        if kind == REGULAR:
            regular.append(field.pair)
        elif kind < LENGTH:
            if seen & kind or regular:
                fault = "a pseudo-header field twice or after others"
            seen |= kind
            _set_pseudo(head, kind, field.pair[1])
        elif kind == MALFORMED:
            fault = "a malformed or forbidden field"
        else:
            regular.append(field.pair)
            has_special = True
    if has_special:
        fault = fault or _special_fault(head)
    head.fault = fault or _request_fault(head, seen)
    head.trailer_fault = fault or _trailer_fault(head, seen)
    head.sound = not head.fault and not oversized
    return head


def _set_pseudo(head: Head, kind: int, value: bytes) -> None:
    if kind == METHOD:
        head.method = value
    elif kind == SCHEME:
        head.scheme = value
    elif kind == PATH:
        head.path = value
    else:
        head.authority = value


def _special_fault(head: Head) -> str:
    """Look at content-length, host and cookies, which mean something together."""
    host = b""
    cookies = []
    for name, value in head.fields:
        if name == b"content-length":
            if head.length >= 0:
                return "more than one content-length"
            head.length = int(value)
        elif name == b"host":
            if host:
                return "more than one host"
            host = value
        elif name == b"cookie":
            cookies.append(value)
    if len(cookies) > 1:
        _join_cookies(head, b"; ".join(cookies))
    if host:
        if head.authority and head.authority.lower() != host.lower():
            return "authority and host differ"
        head.authority = host
    return ""


def _join_cookies(head: Head, cookie: bytes) -> None:
    at = [name for name, _ in head.fields].index(b"cookie")
    head.fields = [pair for pair in head.fields if pair[0] != b"cookie"]
    head.fields.insert(at, (b"cookie", cookie))


def _request_fault(head: Head, seen: int) -> str:
    if head.method == b"CONNECT":
        return "" if seen == _CONNECT else "CONNECT with a scheme or path, or without authority"
    if seen & _REQUEST != _REQUEST:
        return "a pseudo-header field is missing"
    if not head.authority:
        return "neither authority nor host"
    if head.path == b"*" and head.method != b"OPTIONS":
        return "an asterisk path for a method other than OPTIONS"
    return ""


def _trailer_fault(head: Head, seen: int) -> str:
    if seen:
        return "a pseudo-header field in trailers"
    return "content-length in trailers" if head.length >= 0 else ""
