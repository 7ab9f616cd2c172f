"""What can be told of a mux frame from its first twelve bytes (mux.md 2), kept by those bytes.

Options lie outside of them and are checked by the ends, frame by frame.
"""

from __future__ import annotations

from struct import Struct
from typing import Any, Final

from twisted_rr.errors import FrameError, TooLarge
from twisted_rr.wire.frame import (
    CODEC_JSON,
    CODEC_RAW,
    CONTROL,
    CREDIT,
    ERROR,
    FIRST_BYTES,
    MESSAGE,
    PART,
    PING,
    PONG,
    PREFIX,
    STOP,
    STREAM,
    TEXT,
    garbage,
    looks_wrong,
    parse_prefix,
    prefix,
)
from twisted_rr.wire.mux_settings import MAX_CONTEXT, MAX_CONTROL, MAX_ERROR

# Kinds of frame. The first two are the common ones, and the loops test for "above IS_CONTEXT".
IS_DATA: Final = 0
IS_CONTEXT: Final = 1
IS_PLAIN: Final = 2  #: a whole message of bytes that has no context
IS_MESSAGE: Final = 3  #: any other message, or a part of one
IS_CREDIT: Final = 4
IS_STOP: Final = 5
IS_ERROR: Final = 6
IS_CONTROL: Final = 7
IS_PING: Final = 8
IS_PONG: Final = 9
IS_LOST: Final = 10

CALL_WORDS: Final = 5
CREDIT_WORDS: Final = 6
RELAY_WORDS: Final = 3
MAX_STOP: Final = 1024
PIECE: Final = 262144
"""About how much `take` hands to the transport at once."""
LONG: Final = 65536
"""A frame with more body than this is handed on as it comes: joined first, each byte would be copied once more."""
LARGE: Final = 4096
"""Bytes of a part, on average, from which on handing them over apart costs less than joining them."""

TWO: Final = Struct("<II")
THREE: Final = Struct("<III")

END_FRAME: Final = prefix(CALL_WORDS, CODEC_RAW, 0, 0)
STOP_FRAME: Final = prefix(CALL_WORDS, CODEC_RAW, STOP, 0)
CREDIT_FRAME: Final = prefix(CREDIT_WORDS, CODEC_RAW, CREDIT, 0)
PING_FRAME: Final = prefix(RELAY_WORDS, 0, PING, 0)
PONG_FRAME: Final = prefix(RELAY_WORDS, 0, PONG, 0)

_CACHED: Final = 8192


class FrameTable:
    """Twelve bytes to ``(kind, STREAM set, payload length)``, for one codec and one frame limit."""

    __slots__ = ("known", "_codec", "_max_frame")

    def __init__(self, codec: int, max_frame: int) -> None:
        self.known: dict[bytes, tuple[int, bool, int]] = {}
        self._codec = codec
        self._max_frame = max_frame

    def check(self, data: bytes, pos: int) -> tuple[int, bool, int]:
        """Check the header at *pos* and remember it; for those that `known` does not have.

        :raises FrameError: what cannot be a frame here, with its first bytes.
        """
        first = data[pos : pos + PREFIX]
        try:
            fields = self._classify(first)
        except FrameError as error:
            error.first = data[pos : pos + FIRST_BYTES]
            raise
        if len(self.known) >= _CACHED:
            self.known.clear()
        self.known[first] = fields
        return fields

    def need(self, data: bytes, pos: int) -> int:
        """How many bytes the incomplete frame at *pos* will have: 12 until its header is there."""
        if len(data) - pos < PREFIX:
            if looks_wrong(data[pos : pos + 1]):
                raise garbage(data[pos:])
            return PREFIX
        return 4 * (data[pos] & 15) + self.check(data, pos)[2]

    def _classify(self, first: bytes) -> tuple[int, bool, int]:
        hl, flags, bits, length = parse_prefix(first)
        if first[11]:
            raise FrameError(f"byte 11 is {first[11]}, reserved")
        if hl == CALL_WORDS:
            kind, limit = self._call_kind(flags, bits)
        elif hl == RELAY_WORDS:
            kind, limit = _relay_kind(flags, bits)
        elif hl == CREDIT_WORDS and bits == CREDIT and flags in (0, CODEC_RAW):
            kind, limit = IS_CREDIT, 0
        else:
            raise FrameError(f"a header of {hl} words with flags {flags:#04x}, stream bits {bits:#04x}")
        if length > limit:
            raise TooLarge(f"a payload of {length} bytes in a frame that holds {limit}")
        return kind, bits & STREAM != 0, length

    def _call_kind(self, flags: int, bits: int) -> tuple[int, int]:
        if flags & ERROR:
            if bits or flags & ~(ERROR | CODEC_RAW):
                raise FrameError(f"an ERROR frame with flags {flags:#04x}, stream bits {bits:#04x}")
            return IS_ERROR, MAX_ERROR
        if bits & STOP:
            if bits != STOP or flags not in (0, CODEC_RAW, CODEC_JSON):
                raise FrameError(f"a STOP frame with flags {flags:#04x}, stream bits {bits:#04x}")
            return IS_STOP, MAX_STOP
        self._check_bits(flags, bits)
        limit = self._max_frame if flags == CODEC_RAW else self._max_frame + MAX_CONTEXT
        if bits & MESSAGE:
            plain = flags == CODEC_RAW and not bits & (PART | TEXT)
            return (IS_PLAIN if plain else IS_MESSAGE), limit
        return (IS_DATA if flags == CODEC_RAW else IS_CONTEXT), limit

    def _check_bits(self, flags: int, bits: int) -> None:
        if flags not in (CODEC_RAW, self._codec):
            raise FrameError(f"flags {flags:#04x} where {CODEC_RAW:#04x} or {self._codec:#04x} are due")
        if bits & (PING | PONG | CREDIT):
            raise FrameError(f"stream bits {bits:#04x} in a frame of a call")
        if bits & (PART | TEXT) and not bits & MESSAGE:
            raise FrameError(f"stream bits {bits:#04x}: PART or TEXT without MESSAGE")
        if bits & PART and not bits & STREAM:
            raise FrameError("a part of a message that ends the call before the message")


def _relay_kind(flags: int, bits: int) -> tuple[int, int]:
    if flags == 0 and bits == PING:
        return IS_PING, 0
    if flags == 0 and bits == PONG:
        return IS_PONG, 0
    if flags & ERROR and not bits:
        return IS_LOST, MAX_ERROR
    if flags in (CONTROL, CONTROL | CODEC_JSON) and not bits:
        return IS_CONTROL, MAX_CONTROL
    raise FrameError(f"a frame of the relay with flags {flags:#04x}, stream bits {bits:#04x}")


def gathered(parts: list[Any], size: int) -> list[Any]:
    """What to hand to the kernel for *parts*, of *size* bytes together: many small ones are joined."""
    return parts if size >= LARGE * len(parts) else [b"".join(parts)]


_tables: dict[tuple[int, int], FrameTable] = {}


def table_for(codec: int, max_frame: int) -> FrameTable:
    """The table that all relays with this agreement share."""
    key = (codec, max_frame)
    table = _tables.get(key)
    if table is None:
        table = _tables[key] = FrameTable(codec, max_frame)
    return table


def wrong(reason: str, data: bytes, pos: int) -> FrameError:
    """The error for the frame at *pos*."""
    return FrameError(reason, data[pos : pos + FIRST_BYTES])
