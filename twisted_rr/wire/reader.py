"""Whole frames out of a stream of bytes, for handshakes, one-call workers and RPC.

Mux ends and the server's one-call end do not use it: they make no object of a frame.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from twisted_rr.errors import FrameError, TooLarge, Truncated
from twisted_rr.wire.buffer import Pending
from twisted_rr.wire.frame import (
    CODECS,
    FIRST_BYTES,
    MAX_OPTIONS,
    PREFIX,
    garbage,
    looks_wrong,
    parse_prefix,
    parsed_before,
)

_OPTIONS: Final = [Struct(f"<{count}I") for count in range(MAX_OPTIONS + 1)]


class Frame:
    """One frame as received.

    :ivar flags: byte 1; :ivar bits: byte 10; :ivar options: unsigned 32-bit numbers.
    """

    __slots__ = ("flags", "bits", "options", "payload")

    def __init__(self, flags: int, bits: int, options: tuple[int, ...], payload: bytes) -> None:
        self.flags = flags
        self.bits = bits
        self.options = options
        self.payload = payload

    def __repr__(self) -> str:
        shown = f"{self.payload[:40]!r}{'...' if len(self.payload) > 40 else ''}"
        return f"Frame(flags={self.flags:#x}, bits={self.bits:#x}, options={self.options}, {shown})"


class FrameReader:
    """Frames from bytes in any pieces.

    :param max_payload: a longer payload is refused as soon as its header is there.
    """

    __slots__ = ("_max", "_pending", "_error")

    def __init__(self, max_payload: int) -> None:
        self._max = max_payload
        self._pending = Pending()
        self._error: FrameError | None = None

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are complete now.

        What is wrong after a complete frame is raised by the next `feed`, `check` or `eof`, so that no
        frame is lost to what follows it.

        :raises BadChecksum: no frame but other bytes.
        :raises TooLarge: a payload above the limit.
        :raises FrameError: an impossible header.
        """
        self.check()
        frames: list[Frame] = []
        data = self._pending.join(data)
        pos = 0
        try:
            while pos < len(data):
                end = self._end(data, pos)
                if end > len(data):
                    self._pending.keep(data[pos:], end - pos)
                    break
                frames.append(_frame(data, pos, end))
                pos = end
        except FrameError as error:
            self._error = error
            if not frames:
                raise
        return frames

    def first(self, data: bytes) -> Frame | None:
        """One frame at most; what follows it stays for another call (with ``b""``) or for `rest`.

        Raises as `feed` does.
        """
        self.check()
        data = self._pending.join(data)
        if not data:
            return None
        try:
            end = self._end(data, 0)
        except FrameError as error:
            self._error = error
            raise
        if end > len(data):
            self._pending.keep(data, end)
            return None
        if end < len(data):
            self._pending.keep(data[end:], 1)
        return _frame(data, 0, end)

    def call(self, data: bytes) -> tuple[int, bytes, bytes] | None:
        """``(codec bits, context, body)`` if *data* is a call to a one-call worker, all of it and nothing else.

        None: give it to `feed`. Most calls come so, and no `Frame` is made of them.
        """
        known = parsed_before(data[:PREFIX])
        if known is None or self._pending.size or self._error is not None:
            return None
        hl, flags, bits, length = known
        if hl != 4 or bits or flags & ~CODECS or len(data) != 16 + length or length > self._max:
            return None
        middle = 16 + int.from_bytes(data[PREFIX:16], "little")
        return (flags, data[16:middle], data[middle:]) if middle <= 16 + length else None

    def check(self) -> None:
        """Raise what was found wrong after the last frame, if anything was."""
        if self._error is not None:
            raise self._error

    def eof(self) -> None:
        """The stream ended.

        :raises Truncated: inside a frame, with what had come of it.
        """
        self.check()
        if self._pending.size:
            raise Truncated("the relay ended inside a frame", self._pending.peek()[:FIRST_BYTES])

    def rest(self) -> bytes:
        """Hand over the bytes that no frame was made of, to go on with another reader."""
        return self._pending.drain()

    def _end(self, data: bytes, pos: int) -> int:
        """Where the frame at *pos* ends; as long as its header is not there, where that ends."""
        if len(data) - pos < PREFIX:
            if looks_wrong(data[pos : pos + 1]):
                raise garbage(data[pos:])
            return pos + PREFIX
        try:
            hl, _, _, length = parse_prefix(data[pos : pos + PREFIX])
        except FrameError as error:
            error.first = data[pos : pos + FIRST_BYTES]
            raise
        if length > self._max:
            reason = f"a payload of {length} bytes, at most {self._max} are taken"
            raise TooLarge(reason, data[pos : pos + FIRST_BYTES])
        return pos + 4 * hl + length


def _frame(data: bytes, pos: int, end: int) -> Frame:
    hl, flags, bits, length = parse_prefix(data[pos : pos + PREFIX])
    options = _OPTIONS[hl - 3].unpack_from(data, pos + PREFIX)
    return Frame(flags, bits, options, data[end - length : end])
