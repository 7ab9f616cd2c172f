"""What both sides of a mux relay agreed on in the handshake (mux.md 1), as one end sees it.

Offering, answering and their bytes are in control.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from twisted_rr.wire.frame import CODEC_JSON, CODEC_MSGPACK

VERSION: Final = 1
STREAMS: Final = 1000
WINDOW: Final = 262144
MAX_FRAME: Final = 65536
# The two above are what a peer means that says nothing. Our own ends say these: the kernel's part of a large body is
# cheaper in large frames, and a window of two frames keeps one under way while the other is granted.
OUR_WINDOW: Final = 524288
OUR_FRAME: Final = 262144
MAX_MESSAGE: Final = 4194304
MAX_CONTEXT: Final = 1048576
MAX_ERROR: Final = 65536
MAX_CONTROL: Final = 65536
MAX_ID: Final = 2**31
"""At this id the worker is retired; the 31 bits below are never reused."""

CODEC_NAMES: Final = {"msgpack": CODEC_MSGPACK, "json": CODEC_JSON}


class MuxSettings:
    """The agreement in force.

    :ivar streams: open calls at most, both sides' smaller number.
    :ivar window: bytes of body that this end buffers for a call.
    :ivar peer_window: the same of the other end.
    :ivar max_frame: bytes of body in a frame at most.
    :ivar codec: the contexts' codec bit, ``CODEC_MSGPACK`` or ``CODEC_JSON``.
    :ivar caps: what the worker said it can: ``heartbeat``, ``draining``.
    :ivar max_message: bytes of one message at most.
    :ivar capacity: what the worker itself said for *streams*: the most it may say later.
    """

    __slots__ = ("streams", "window", "peer_window", "max_frame", "codec", "caps", "max_message", "capacity")

    def __init__(
        self,
        streams: int = STREAMS,
        window: int = WINDOW,
        peer_window: int = WINDOW,
        max_frame: int = MAX_FRAME,
        codec: int = CODEC_MSGPACK,
        caps: Iterable[str] = (),
        max_message: int = MAX_MESSAGE,
        capacity: int = 0,
    ) -> None:
        self.streams = streams
        self.window = window
        self.peer_window = peer_window
        self.max_frame = max_frame
        self.codec = codec
        self.caps = frozenset(caps)
        self.max_message = max_message
        self.capacity = capacity or streams
