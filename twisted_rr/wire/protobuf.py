"""The protobuf wire format, as much as the contexts of one-call workers need.

Varints, length-delimited fields and string maps of byte lists are written and read; other fields are
skipped. No message classes, no schema: single_context.py has the field numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from twisted_rr.errors import FrameError

VARINT: Final = 0
FIXED64: Final = 1
BYTES: Final = 2
GROUP: Final = 3
GROUP_END: Final = 4
FIXED32: Final = 5

_SMALL: Final = [bytes([number]) for number in range(128)]


def varint(number: int) -> bytes:
    """A varint; a negative number has ten bytes, as an int64 has."""
    if 0 <= number < 128:
        return _SMALL[number]
    number &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def tag(field: int, kind: int) -> bytes:
    """What stands before a field's value."""
    return varint(field << 3 | kind)


def string(value: bytes) -> bytes:
    """Field 1, length-delimited: a map's key, or one value of a HeaderValue."""
    length = len(value)
    return b"\n" + (_SMALL[length] if length < 128 else varint(length)) + value


def entry(key: bytes, values: Sequence[bytes]) -> bytes:
    """An entry of ``map<string, HeaderValue>``, without its tag; *key* and *values* are `string`s.

    HeaderValue is ``{1: repeated bytes}``.
    """
    inner = values[0] if len(values) == 1 else b"".join(values)
    body = key + b"\x12" + varint(len(inner)) + inner
    return varint(len(body)) + body


def read_varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """The varint at *at* and where it ends.

    :raises FrameError: it goes beyond *end* or ten bytes.
    """
    number = 0
    shift = 0
    while at < end and shift < 70:
        byte = data[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return (number & 0xFFFFFFFFFFFFFFFF, at)
        shift += 7
    raise FrameError("protobuf: a varint is cut off or longer than ten bytes", data)


def read_length(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Where a length-delimited value begins and ends.

    :raises FrameError: it goes beyond *end*.
    """
    length, start = read_varint(data, at, end)
    if length > end - start:
        raise FrameError("protobuf: a field is longer than its message", data)
    return (start, start + length)


def fields(data: bytes, at: int, end: int) -> list[tuple[int, int, Any]]:
    """The fields of a message: ``(number, kind, value)`` in order, of the kinds `VARINT` and `BYTES` only.

    :raises FrameError: this is no protobuf message.
    """
    found: list[tuple[int, int, Any]] = []
    while at < end:
        head = data[at]
        if head > 127:
            head, at = read_varint(data, at, end)
        else:
            at += 1
        number = head >> 3
        kind = head & 7
        if not 0 < number < 0x20000000:
            raise FrameError("protobuf: a field's number is out of range", data)
        if kind == BYTES:
            if at < end and data[at] < 128 and at + data[at] < end:
                start = at + 1
                at = start + data[at]
            else:
                start, at = read_length(data, at, end)
            found.append((number, kind, data[start:at]))
        elif kind == VARINT:
            value, at = read_varint(data, at, end)
            found.append((number, kind, value))
        else:
            at = _skip(data, at, end, number, kind)
    return found


def _skip(data: bytes, at: int, end: int, number: int, kind: int) -> int:
    """Past a value of another kind; groups may nest."""
    open_groups: list[int] = []
    while True:
        if kind == VARINT:
            at = read_varint(data, at, end)[1]
        elif kind == FIXED64:
            at += 8
        elif kind == FIXED32:
            at += 4
        elif kind == BYTES:
            at = read_length(data, at, end)[1]
        elif kind == GROUP:
            open_groups.append(number)
        elif kind != GROUP_END or not open_groups or open_groups.pop() != number:
            raise FrameError("protobuf: a field of an unknown kind, or a group that does not match", data)
        if at > end:
            raise FrameError("protobuf: a field is longer than its message", data)
        if not open_groups:
            return at
        head, at = read_varint(data, at, end)
        number = head >> 3
        kind = head & 7


def read_entry(data: bytes) -> tuple[bytes, list[bytes]]:
    """Key and values of an `entry`.

    :raises FrameError: this is none.
    """
    size = len(data)
    if 5 < size < 128 and data[0] == 10:
        # As everybody writes it: key, one value, all lengths in one byte.
        middle = 2 + data[1]
        if (
            middle + 4 <= size
            and data[middle] == 18
            and data[middle + 1] == size - middle - 2
            and data[middle + 2] == 10
            and data[middle + 3] == size - middle - 4
        ):
            return (data[2:middle], [data[middle + 4 :]])
    key = b""
    values: list[bytes] = []
    for number, kind, value in fields(data, 0, len(data)):
        if kind != BYTES:
            continue
        if number == 1:
            key = value
        elif number == 2:
            values += [
                inner
                for inner_number, inner_kind, inner in fields(value, 0, len(value))
                if inner_number == 1 and inner_kind == BYTES
            ]
    return (key, values)


def text(value: bytes, data: bytes) -> str:
    """A string field.

    :raises FrameError: it is not UTF-8, which a string must be.
    """
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise FrameError("protobuf: a string is not UTF-8", data) from error
