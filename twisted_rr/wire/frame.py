"""Goridge frame headers: the constants, building and checking them (protocol.md 1.1 to 1.5).

Payloads, and what a frame means at its place in a conversation, are left to the other modules.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Final
from zlib import crc32

from twisted_rr.errors import BadChecksum, FrameError, TooLarge

# Byte 1, protocol.md 1.2.
CONTROL: Final = 0x01
CODEC_RAW: Final = 0x04
CODEC_JSON: Final = 0x08
CODEC_MSGPACK: Final = 0x10
CODEC_GOB: Final = 0x20
ERROR: Final = 0x40
CODEC_PROTO: Final = 0x80
CODECS: Final = CODEC_RAW | CODEC_JSON | CODEC_MSGPACK | CODEC_GOB | CODEC_PROTO

# Byte 10, protocol.md 1.3 and mux.md 2.
STREAM: Final = 0x01
STOP: Final = 0x02
PING: Final = 0x04
PONG: Final = 0x08
CREDIT: Final = 0x10
MESSAGE: Final = 0x20
PART: Final = 0x40
TEXT: Final = 0x80

PREFIX: Final = 12
"""Bytes of a header before its options."""
MAX_OPTIONS: Final = 10
MAX_PAYLOAD: Final = 0xFFFFFFFF
FIRST_BYTES: Final = 128
"""How much of what broke the protocol goes into an error."""

_CACHED: Final = 8192
_COVERED: Final = Struct("<BBI")
_REST: Final = Struct("<IBB")
_WHOLE: Final = Struct("<BBIIBB")
_built: dict[int, bytes] = {}
_parsed: dict[bytes, tuple[int, int, int, int]] = {}


def prefix(hl: int, flags: int, bits: int, length: int) -> bytes:
    """The first twelve bytes of a frame: *hl* is the header's length in words, options included.

    Kept by their fields, since a relay repeats them and the checksum costs most of a header.
    """
    key = length << 20 | hl << 16 | flags << 8 | bits
    known = _built.get(key)
    if known is None:
        if length > MAX_PAYLOAD:
            raise TooLarge(f"a payload of {length} bytes does not fit in a frame")
        covered = _COVERED.pack(0x10 | hl, flags, length)
        known = covered + _REST.pack(crc32(covered), bits, 0)
        if len(_built) >= _CACHED:
            _built.clear()
        _built[key] = known
    return known


def parse_prefix(first: bytes) -> tuple[int, int, int, int]:
    """``(words of header, flags, stream bits, payload length)`` of exactly twelve bytes.

    Checks the checksum, the version nibble (each peer there is sends 1) and the range of the header
    length; fewer than 3 words count as 3, as in RoadRunner. Byte 11 is ignored.

    :raises BadChecksum: these are not the bytes of a header; see `garbage`.
    :raises FrameError: a right checksum over an impossible header.
    """
    known = _parsed.get(first)
    if known is not None:
        return known
    head, flags, length, crc, bits, _ = _WHOLE.unpack(first)
    if crc32(first[:6]) != crc or head >> 4 != 1:
        raise garbage(first)
    hl = max(head & 15, 3)
    if hl > 3 + MAX_OPTIONS:
        raise FrameError(f"a header of {hl} words, at most {3 + MAX_OPTIONS} are possible", first)
    fields = (hl, flags, bits, length)
    if len(_parsed) >= _CACHED:
        _parsed.clear()
    _parsed[first] = fields
    return fields


def parsed_before(first: bytes) -> tuple[int, int, int, int] | None:
    """What `parse_prefix` said of the same twelve bytes, as far as that is remembered. Raises nothing."""
    return _parsed.get(first)


def looks_wrong(first: bytes) -> bool:
    """Whether already the first byte shows that no frame begins here.

    A program that prints one short line and then waits would else never be found out: twelve bytes
    do not come.
    """
    return bool(first) and first[0] >> 4 != 1


def garbage(data: bytes) -> BadChecksum:
    """The error for bytes at a frame's place that are none, in an operator's words."""
    if data.startswith(b"Could not op"):
        reason = "the interpreter could not open the worker's script"
    else:
        reason = "no frame but other bytes from the worker (does it print to stdout?)"
    return BadChecksum(reason, data[:FIRST_BYTES])


def encode(flags: int, bits: int, options: Sequence[int], payload: bytes) -> bytes:
    """One whole frame. *options* are unsigned 32-bit numbers, at most ten.

    :raises FrameError: more options than a header holds.
    """
    count = len(options)
    if count > MAX_OPTIONS:
        raise FrameError(f"{count} options, a header holds {MAX_OPTIONS}")
    head = prefix(3 + count, flags, bits, len(payload))
    if not count:
        return head + payload
    return b"".join((head, Struct(f"<{count}I").pack(*options), payload))
