"""What a client takes of the end of a call: texts are cut, and what goes with them is left out, to its limit.

Clients refuse a head that is larger than they like, and then the call has no status at all: "Internal", or a stream
that is reset. Left out: the words that are sent (`answers`).
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote_to_bytes

from .metadata import Fields, message_field
from .status import RESOURCE_EXHAUSTED, Status

NO_LIMIT: Final = 1 << 62

MOST_TEXT: Final = 8192
"""Bytes of a ``grpc-message`` at most, whatever the client says: many take no more of a head, and do not say so."""

LEAST_TEXT: Final = 64
"""So much of a text is kept before what goes with it is left out."""

MARK: Final = " [cut]"

_FIELD: Final = 32
"""What a field counts for beyond its name and value (RFC 9113 section 6.5.2)."""

_MESSAGE: Final = b"grpc-message"


def size_of(fields: Sequence[tuple[bytes, bytes]]) -> int:
    """What *fields* count for, against a limit of heads."""
    return sum([len(name) + len(value) + _FIELD for name, value in fields])


def fitted(status: Status, rest: Fields, room: int) -> tuple[Fields, int, str]:
    """The fields that tell *status*, with *rest* behind them, in *room*; the code that they tell, and what gave way.

    First the text gives way, then details and *rest*. A call that went well is not what its application meant without
    its metadata: it becomes RESOURCE_EXHAUSTED, as grpcio has it. The code is sent in any case.
    """
    text = _encoded(status)
    fixed = [(b"grpc-status", b"%d" % status.code)]
    if status.details:
        fixed.append((b"grpc-status-details-bin", base64.b64encode(status.details).rstrip(b"=")))
    most = min(MOST_TEXT, room - size_of(fixed) - size_of(rest) - (size_of([(_MESSAGE, b"")]) if text else 0))
    if len(text) <= most:
        return [fixed[0], *_message(text), *fixed[1:], *rest], status.code, ""
    if most >= LEAST_TEXT:
        return [fixed[0], *_message(cut(text, most)), *fixed[1:], *rest], status.code, "a part of the text"
    code = status.code
    if not code:
        size = size_of(rest) + size_of(fixed)
        code = RESOURCE_EXHAUSTED
        text = b"the trailing metadata of %d bytes is more than the client takes" % size
        fixed[0] = (b"grpc-status", b"%d" % code)
    most = min(MOST_TEXT, room - size_of(fixed[:1]) - size_of([(_MESSAGE, b"")]))
    what = "details and metadata" if len(fixed) > 1 or rest else "the text"
    return [fixed[0], *_message(cut(text, most))], code, what


def cut(text: bytes, most: int) -> bytes:
    """A ``grpc-message`` of at most so many bytes, whole characters and a mark; empty where there is no room."""
    if len(text) <= most:
        return text
    keep = most - len(MARK)
    if keep <= 0:
        return b""
    short = text[:keep]
    # In the middle of an escape, or of a character, is no place to cut.
    escape = short.rfind(b"%", max(0, keep - 2))
    if escape >= 0:
        short = short[:escape]
    told = unquote_to_bytes(short).decode("utf-8", "ignore")
    return message_field(told + MARK) if told else b""


def _encoded(status: Status) -> bytes:
    # No more than shows that it is too long: an application may have told a megabyte.
    return message_field(status.message[: MOST_TEXT + 1]) if status.message else b""


def _message(text: bytes) -> Fields:
    return [(_MESSAGE, text)] if text else []
