"""Frames of HTTP/2 (RFC 9113 sections 4 and 6): their header, and whole frames as the server sends them."""

from __future__ import annotations

import struct
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_SIZE: Final = 9
#: What we take and what we send: the size that every peer accepts (RFC 9113 section 4.2).
MAX_FRAME: Final = 16384
MAX_ID: Final = 2**31 - 1

# Types.
DATA: Final = 0x0
HEADERS: Final = 0x1
PRIORITY: Final = 0x2
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PUSH_PROMISE: Final = 0x5
PING: Final = 0x6
GOAWAY: Final = 0x7
WINDOW_UPDATE: Final = 0x8
CONTINUATION: Final = 0x9

# Flags.
END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
HAS_PRIORITY: Final = 0x20

# Settings (RFC 9113 section 6.5.2).
HEADER_TABLE_SIZE: Final = 0x1
ENABLE_PUSH: Final = 0x2
MAX_CONCURRENT_STREAMS: Final = 0x3
INITIAL_WINDOW_SIZE: Final = 0x4
MAX_FRAME_SIZE: Final = 0x5
MAX_HEADER_LIST_SIZE: Final = 0x6

#: Length (as its upper 16 and its lower 8 bits), type, flags, stream: as a frame begins.
HEADER: Final = struct.Struct(">HBBBI")
U32: Final = struct.Struct(">I")
SETTING: Final = struct.Struct(">HI")
_GOAWAY: Final = struct.Struct(">II")


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A whole frame."""
    size = len(payload)
    return HEADER.pack(size >> 8, size & 0xFF, kind, flags, stream) + payload


def settings(values: list[tuple[int, int]]) -> bytes:
    """SETTINGS with *values* as (identifier, value)."""
    return frame(SETTINGS, 0, 0, b"".join([SETTING.pack(key, value) for key, value in values]))


SETTINGS_ACK: Final = frame(SETTINGS, ACK, 0, b"")


def rst_stream(stream: int, code: int) -> bytes:
    """RST_STREAM."""
    return frame(RST_STREAM, 0, stream, U32.pack(code))


def ping(payload: bytes, ack: bool = False) -> bytes:
    """PING with 8 bytes of *payload*."""
    return frame(PING, ACK if ack else 0, 0, payload)


def goaway(last: int, code: int, reason: bytes = b"") -> bytes:
    """GOAWAY: streams up to *last* are or were served."""
    return frame(GOAWAY, 0, 0, _GOAWAY.pack(last, code) + reason)


def window_update(stream: int, increment: int) -> bytes:
    """WINDOW_UPDATE; stream 0 is the connection."""
    return frame(WINDOW_UPDATE, 0, stream, U32.pack(increment))
