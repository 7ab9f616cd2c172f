"""What a single header field means for the validity of a request (RFC 9113 sections 8.2 and 8.3).

What all fields of a head mean together is in `head`.
"""

from __future__ import annotations

import re
from typing import Final

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

_PSEUDO: Final = {b":method": METHOD, b":scheme": SCHEME, b":path": PATH, b":authority": AUTHORITY}
_SPECIAL: Final = {b"content-length": LENGTH, b"host": HOST, b"cookie": COOKIE}
#: RFC 9113 section 8.2.2.
CONNECTION_SPECIFIC: Final = frozenset(
    (b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade")
)

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


def _pseudo_kind(name: bytes, value: bytes) -> int:
    kind = _PSEUDO.get(name, MALFORMED)
    if kind == PATH:
        return PATH if _is_path(value) else MALFORMED
    if kind == METHOD:
        return METHOD if _is_method(value) else MALFORMED
    if kind == SCHEME:
        return SCHEME if _is_scheme(value) else MALFORMED
    if kind == AUTHORITY:
        return AUTHORITY if _is_authority(value) else MALFORMED
    return MALFORMED


def _special_kind(kind: int, value: bytes) -> int:
    if kind == LENGTH:
        return LENGTH if _is_length(value) else MALFORMED
    if kind == HOST:
        return HOST if _is_authority(value) else MALFORMED
    return kind


def kind_of(name: bytes, value: bytes) -> int:
    """The kind of a field a client sent; MALFORMED for one that makes the request malformed."""
    if name[:1] == b":":
        return _pseudo_kind(name, value)
    if not _is_name(name) or _spoils_value(value) or name in CONNECTION_SPECIFIC:
        return MALFORMED
    if name == b"te":
        return REGULAR if value.lower() == b"trailers" else MALFORMED
    special = _SPECIAL.get(name, REGULAR)
    return _special_kind(special, value) if special else REGULAR


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
