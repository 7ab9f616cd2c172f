"""google.rpc.Status, and the error text by which one-call workers tell a status (protocol.md 5.2).

The details of a status stay serialised (``google.protobuf.Any``): nobody here needs to look into them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from twisted_rr.errors import FrameError
from twisted_rr.wire.protobuf import BYTES, VARINT, fields, tag, varint

OK: Final = 0
CANCELLED: Final = 1
UNKNOWN: Final = 2
INVALID_ARGUMENT: Final = 3
DEADLINE_EXCEEDED: Final = 4
RESOURCE_EXHAUSTED: Final = 8
UNIMPLEMENTED: Final = 12
INTERNAL: Final = 13
UNAVAILABLE: Final = 14

DELIMITER: Final = "|:|"
_DELIMITER: Final = DELIMITER.encode()

_CODE: Final = tag(1, VARINT)
_MESSAGE: Final = tag(2, BYTES)
_DETAIL: Final = tag(3, BYTES)
_LIMIT: Final = 0xFFFFFFFF
#: Leading zeros included. Python refuses to read numbers of thousands of digits.
MAX_DIGITS: Final = 20


def encode_status(code: int, message: str, details: Iterable[bytes] = ()) -> bytes:
    """A serialised google.rpc.Status; each of *details* is a serialised Any."""
    parts: list[bytes] = []
    if code:
        parts += (_CODE, varint(code))
    if message:
        text = message.encode("utf-8", "replace")
        parts += (_MESSAGE, varint(len(text)), text)
    for detail in details:
        parts += (_DETAIL, varint(len(detail)), detail)
    return b"".join(parts)


def decode_status(data: bytes) -> tuple[int, str, list[bytes]]:
    """``(code, message, details)`` of a serialised google.rpc.Status; what is not UTF-8 is replaced.

    :raises FrameError: *data* is no protobuf message.
    """
    code = 0
    message = ""
    details: list[bytes] = []
    for number, kind, value in fields(data, 0, len(data)):
        if number == 1 and kind == VARINT:
            code = value & _LIMIT
            if code > 0x7FFFFFFF:
                code -= 0x100000000
        elif number == 2 and kind == BYTES:
            message = value.decode("utf-8", "replace")
        elif number == 3 and kind == BYTES:
            details.append(value)
    return code, message, details


def with_details(code: int, message: str, rich: bytes | None) -> bytes:
    """A Status of *code* and *message* with the details of *rich*, another serialised Status or None.

    What cannot be read of *rich* is left out.
    """
    if not rich:
        return encode_status(code, message)
    try:
        return encode_status(code, message, decode_status(rich)[2])
    except FrameError:
        return encode_status(code, message)


def encode_error_text(code: int, message: str) -> str:
    """The text of an ERROR frame that tells a status, for a worker."""
    return f"{code}{DELIMITER}{message}"


def decode_error_text(raw: bytes) -> tuple[int, str, list[bytes]]:
    """``(code, message, details)`` of an ERROR frame's text, for the server.

    Text without the delimiter is INTERNAL with all of it, and so is code 0; a code that is no number is
    UNKNOWN with all of it. A detail is binary, and need not be UTF-8.
    """
    first, delimiter, rest = raw.partition(_DELIMITER)
    if not delimiter:
        return INTERNAL, raw.decode("utf-8", "replace"), []
    if not (first.isdigit() and len(first) <= MAX_DIGITS and int(first) <= _LIMIT):
        return UNKNOWN, raw.decode("utf-8", "replace"), []
    message, *others = rest.split(_DELIMITER)
    return int(first) or INTERNAL, message.decode("utf-8", "replace"), [other for other in others if other]
