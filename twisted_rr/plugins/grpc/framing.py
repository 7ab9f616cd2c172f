"""Messages in a stream of bytes: five bytes of prefix each, a flag and the length ("gRPC over HTTP2", Length-Prefixed-Message)."""

from __future__ import annotations

from collections import deque
from struct import Struct
from typing import Final

from twisted_rr.wire.grpc_status import INTERNAL

from .compression import decompress
from .status import RESOURCE_EXHAUSTED, Refusal

PREFIX: Final = Struct(">BI")
SIZE: Final = 5


def framed(message: bytes) -> bytes:
    """*message* behind its prefix, not compressed."""
    return PREFIX.pack(0, len(message)) + message


def too_large(size: int, limit: int) -> Refusal:
    """As grpc-go says it."""
    return Refusal(RESOURCE_EXHAUSTED, f"grpc: received message larger than max ({size} vs. {limit})")


def sole(data: bytes, limit: int) -> bytes | None:
    """The message in *data*, where that is one whole message of at most *limit* bytes and nothing more; None where
    there is anything else to it, as in a compressed one."""
    size = len(data) - SIZE
    if 0 <= size <= limit:
        flag, length = PREFIX.unpack_from(data)
        if not flag and length == size:
            return data[SIZE:]
    return None


class Inbox:
    """The messages of one request; gives out one at a time, so that no more is unpacked than somebody takes.

    :ivar size: bytes that are kept.
    """

    __slots__ = ("_at", "_compressed", "_limit", "_need", "_pieces", "size")

    def __init__(self, limit: int, compressed: bool) -> None:
        """*limit*: bytes of a message, decompressed too. *compressed*: the head announced gzip."""
        self._limit = limit
        self._compressed = compressed
        self._pieces: deque[bytes] = deque()
        self._at = 0  # so much of the first piece is used
        self._need = SIZE
        self.size = 0

    def feed(self, data: bytes) -> None:
        """Bytes of the request."""
        if data:
            self._pieces.append(data)
            self.size += len(data)

    def next(self) -> bytes | None:
        """The next message, None when it is not complete.

        :raises Refusal: too large, an unknown flag, or not what its flag says.
        """
        if self.size < self._need:
            return None
        if len(self._pieces) > 1 and len(self._pieces[0]) - self._at < self._need:
            self._join()
        data = self._pieces[0]
        start = self._at + SIZE
        flag, length = PREFIX.unpack_from(data, self._at)
        self._check(flag, length)
        self._need = SIZE + length
        if self.size < self._need:
            return None
        if len(data) - self._at < self._need:
            self._join()
            data = self._pieces[0]
            start = SIZE
        message = data[start : start + length]
        self._use(start + length)
        return decompress(message, self._limit) if flag else message

    def _check(self, flag: int, length: int) -> None:
        if length > self._limit:
            raise too_large(length, self._limit)
        if flag > 1:
            raise Refusal(INTERNAL, f"a message with the flag {flag}")
        if flag and not self._compressed:
            raise Refusal(INTERNAL, "a compressed message without grpc-encoding")

    def _use(self, end: int) -> None:
        self.size -= self._need
        self._need = SIZE
        if end == len(self._pieces[0]):
            self._pieces.popleft()
            end = 0
        self._at = end

    def _join(self) -> None:
        """One piece of all, without what is used."""
        first = self._pieces.popleft()
        data = b"".join((first[self._at :], *self._pieces))
        self._pieces.clear()
        self._pieces.append(data)
        self._at = 0
