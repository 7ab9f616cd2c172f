"""Header blocks of answers: checked, encoded once, sent often.

The encoder uses the static table and literals only. A block without dynamic entries means the same at any time on any
connection, so that it can be kept, sent out of order, and wait for flow control.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from twisted_rr.http2.fields import CONNECTION_SPECIFIC
from twisted_rr.http2.frames import CONTINUATION, END_HEADERS, END_STREAM, HEADERS, MAX_FRAME, U32, frame
from twisted_rr.http2.tables import STATIC

#: Set in the first octet of a field that is in the table whole (RFC 7541 section 6.1).
_INDEXED: Final = 0x80
#: Of a field that no proxy may put into a table (section 6.2.3): a guess at its value must not show in its size.
_NEVER_INDEXED: Final = 0x10
_CREDENTIALS: Final = frozenset((b"set-cookie", b"authorization", b"proxy-authorization", b"cookie"))

_WHOLE: Final = {pair: index for index, pair in reversed(list(enumerate(STATIC, 1)))}
_NAMES: Final = {name: index for index, (name, _) in reversed(list(enumerate(STATIC, 1)))}

_is_name: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+").fullmatch
_spoils_value: Final = re.compile(rb"[\0-\x08\x0a-\x1f\x7f]").search


class BadResponse(ValueError):
    """The application gave something that cannot be sent: a status, a name, a value."""


def _integer(value: int, bits: int, first: int) -> bytes:
    """RFC 7541 section 5.1, with a prefix of *bits* and what *first* has above it."""
    mask = (1 << bits) - 1
    if value < mask:
        return bytes((first | value,))
    octets = bytearray((first | mask,))
    value -= mask
    while value >= 0x80:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)


def _field(name: bytes, value: bytes) -> bytes:
    whole = _WHOLE.get((name, value), 0)
    if whole:
        return bytes((_INDEXED | whole,))
    first = _NEVER_INDEXED if name in _CREDENTIALS else 0
    index = _NAMES.get(name, 0)
    head = _integer(index, 4, first)
    if not index:
        head += _integer(len(name), 7, 0) + name
    return head + _integer(len(value), 7, 0) + value


def encode(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The block of *fields*, which are taken as they are."""
    return b"".join([_field(name, value) for name, value in fields])


class Block:
    """An encoded header block with the beginnings of its frames.

    :ivar data: the block.
    :ivar prefix: a HEADERS frame up to its stream's number; empty for a block that needs more than one frame.
    :ivar prefix_end: the same, ending the stream.
    :ivar size: what it takes on the wire, at least.
    """

    __slots__ = ("data", "prefix", "prefix_end", "size")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data) + 9
        self.prefix = b""
        self.prefix_end = b""
        if len(data) <= MAX_FRAME:
            self.prefix = U32.pack(len(data) << 8 | HEADERS) + bytes((END_HEADERS,))
            self.prefix_end = U32.pack(len(data) << 8 | HEADERS) + bytes((END_HEADERS | END_STREAM,))

    def frames(self, stream: int, end: bool, opening: bytes = b"") -> bytes:
        """HEADERS and as many CONTINUATION as it takes; *opening* precedes the block."""
        data = opening + self.data
        flags = END_STREAM if end else 0
        pieces = []
        kind = HEADERS
        for start in range(0, max(len(data), 1), MAX_FRAME):
            if start + MAX_FRAME >= len(data):
                flags |= END_HEADERS
            pieces.append(frame(kind, flags, stream, data[start : start + MAX_FRAME]))
            kind = CONTINUATION
            flags = 0
        return b"".join(pieces)


def _checked(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """*headers* with names in lower case, without those that are about a connection.

    :raises BadResponse: a name or value that must not be sent.
    """
    fields = []
    for name, value in headers:
        name = name.lower()
        value = value.strip(b" \t")
        if not _is_name(name) or _spoils_value(value):
            raise BadResponse(f"the header {name[:100]!r} cannot be sent")
        if name not in CONNECTION_SPECIFIC:
            fields.append((name, value))
    return fields


def response(status: int, headers: Iterable[tuple[bytes, bytes]] = ()) -> Block:
    """The head of an answer. Connection-specific fields are dropped (RFC 9113 section 8.2.2).

    :raises BadResponse: a status that is none, or 101, which HTTP/2 does not have; a name or value that must not be
        sent.
    """
    if not 100 <= status <= 999 or status == 101:
        raise BadResponse(f"status {status}")
    return Block(encode([(b":status", b"%d" % status), *_checked(headers)]))


def trailers(headers: Iterable[tuple[bytes, bytes]]) -> Block:
    """Trailers. Connection-specific fields are dropped.

    :raises BadResponse: a name or value that must not be sent.
    """
    return Block(encode(_checked(headers)))
