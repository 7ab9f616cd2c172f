"""Context and body of the one-option frames of one-call workers (protocol.md 1.4, 3.4).

What contexts contain is in context.py.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from twisted_rr.errors import FrameError
from twisted_rr.wire.frame import prefix
from twisted_rr.wire.reader import Frame

_ONE: Final = Struct("<I")

STOP_ANSWER: Final = b'{"stop":true}'
"""As the whole context of an answer: replace me, and run this call again elsewhere."""


def join(flags: int, bits: int, context: bytes, body: bytes) -> bytes:
    """A frame of *context* and *body*."""
    size = len(context)
    return b"".join((prefix(4, flags, bits, size + len(body)), _ONE.pack(size), context, body))


def split(frame: Frame) -> tuple[bytes, bytes]:
    """``(context, body)`` of a frame with exactly one option.

    :raises FrameError: another number of options, or a context longer than the payload.
    """
    if len(frame.options) != 1:
        raise FrameError(f"{len(frame.options)} options in a frame of a call, 1 is due", frame.payload)
    size = frame.options[0]
    if size > len(frame.payload):
        raise FrameError(f"a context of {size} bytes in a payload of {len(frame.payload)}", frame.payload)
    return frame.payload[:size], frame.payload[size:]


def asks_replacement(context: bytes, body: bytes) -> bool:
    """Whether a first answer means "replace me and run this again" (protocol.md 3.4)."""
    return not body and context == STOP_ANSWER
