"""What a single header field means for the validity of a request (RFC 9113 sections 8.2 and 8.3).

What all fields of a head mean together is in `head`.
"""

from __future__ import annotations

import re
from typing import Final

from twisted_rr.http2.tables import STATIC

# Kinds of a field. Those of pseudo-header fields are bits, so that a head can collect which it has.
REGULAR: Final = 0
METHOD: Final = 1
SCHEME: Final = 2
PATH: Final = 4
AUTHORITY: Final = 8
LENGTH: Final = 16
HOST: Final = 17
COOKIE: Final = 18
MALFORMED: Final = 32
# Of names only.
TE: Final = 33
UNKNOWN: Final = 34

#: RFC 9113 section 8.2.2.
CONNECTION_SPECIFIC: Final = frozenset(
    (b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade")
)
#: Of names that need not be looked at: those of the static table are all valid.
_KINDS: Final = {
    **{name: REGULAR for name, _ in STATIC if name[:1] != b":"},
    **dict.fromkeys(CONNECTION_SPECIFIC, MALFORMED),
    b":method": METHOD,
    b":scheme": SCHEME,
    b":path": PATH,
    b":authority": AUTHORITY,
    b"content-length": LENGTH,
    b"host": HOST,
    b"cookie": COOKIE,
    b"te": TE,
}

_is_name: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+").fullmatch
# RFC 9113 section 8.2.1 names NUL, LF, CR and blanks at the ends; the other controls are none of RFC 9110's
# field-content, and HTTP/1.1 refuses them too.
_spoils_value: Final = re.compile(rb"[\0-\x08\x0a-\x1f\x7f]|\A[ \t]|[ \t]\Z").search
_is_method: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_is_scheme: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+\-.]*").fullmatch
_is_path: Final = re.compile(rb"/[\x21\x22\x24-\x7e]*|\*").fullmatch
# No userinfo (RFC 9113 section 8.3.1).
_is_authority: Final = re.compile(rb"[\x21\x22\x24-\x2e\x30-\x3e\x41-\x5b\x5d-\x7e]+").fullmatch
_is_length: Final = re.compile(rb"[0-9]{1,18}").fullmatch


def _is_sound(kind: int, value: bytes) -> bool:
    """Whether *value* is one for a field of this special *kind*."""
    if kind == PATH:
        return _is_path(value) is not None
    if kind == METHOD:
        return _is_method(value) is not None
    if kind == SCHEME:
        return _is_scheme(value) is not None
    if kind in (AUTHORITY, HOST):
        return _is_authority(value) is not None
    if kind == LENGTH:
        return _is_length(value) is not None
    if kind == COOKIE:
        return _spoils_value(value) is None
    return False


def kind_of(name: bytes, value: bytes) -> int:
    """The kind of a field a client sent; MALFORMED for one that makes the request malformed."""
    kind = _KINDS.get(name, UNKNOWN)
    if kind == UNKNOWN:
        kind = REGULAR if _is_name(name) else MALFORMED
    if kind == REGULAR:
        return REGULAR if value.isalnum() or not _spoils_value(value) else MALFORMED
    if kind == TE:
        return REGULAR if value.lower() == b"trailers" else MALFORMED
    return kind if _is_sound(kind, value) else MALFORMED


class Field:
    """A header field as it stands in a table: judged once, when it enters.

    :ivar pair: name and value.
    :ivar size: by RFC 7541 section 4.1.
    :ivar kind: see the constants here.
    """

    __slots__ = ("kind", "pair", "size")

    def __init__(self, name: bytes, value: bytes) -> None:
        self.pair = (name, value)
        self.size = len(name) + len(value) + 32
        self.kind = kind_of(name, value)
