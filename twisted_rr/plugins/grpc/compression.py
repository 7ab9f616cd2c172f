"""Compression of single messages: gzip and identity.

Which of them a call uses is settled by its head (`head`).
"""

from __future__ import annotations

import zlib
from typing import Final

from twisted_rr.wire.grpc_status import INTERNAL

from .status import RESOURCE_EXHAUSTED, Refusal

GZIP: Final = b"gzip"
IDENTITY: Final = b"identity"
ACCEPTED: Final = b"identity,gzip"

LEAST: Final = 128
"""A message below this does not get smaller enough to be worth the time."""

MEMBERS: Final = 16
"""Gzip members of one message. Nobody sends two; each costs a copy of what follows it, so millions of empty ones would
hold up the reactor for minutes."""

_GZIP_BITS: Final = 31
_LEVEL: Final = 1  # the reactor waits for it: most of the gain at a third of the time


def compress(message: bytes) -> bytes:
    """*message* as one gzip member."""
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP_BITS)
    return packer.compress(message) + packer.flush()


def decompress(data: bytes, limit: int) -> bytes:
    """The message in *data*, of one gzip member or several, `MEMBERS` at most.

    :raises Refusal: it is not gzip, not complete, or larger than *limit* bytes; no more than that is unpacked.
    """
    pieces = []
    size = 0
    for _ in range(MEMBERS):
        unpacker = zlib.decompressobj(_GZIP_BITS)
        try:
            piece = unpacker.decompress(data, limit - size + 1)
        except zlib.error:
            raise Refusal(INTERNAL, "a message says that it is gzip and is not") from None
        size += len(piece)
        if size > limit:
            raise Refusal(RESOURCE_EXHAUSTED, f"a message is larger than {limit} bytes once decompressed")
        pieces.append(piece)
        if not unpacker.eof:
            raise Refusal(INTERNAL, "a compressed message is not complete")
        data = unpacker.unused_data
        if not data:
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
    raise Refusal(INTERNAL, f"a message of more than {MEMBERS} gzip members")
