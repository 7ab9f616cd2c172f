"""A header block whose end has not come yet: HEADERS without END_HEADERS, and its CONTINUATION frames."""

from __future__ import annotations

from twisted_rr.http2.codes import ENHANCE_YOUR_CALM, PROTOCOL_ERROR, ConnectionFault
from twisted_rr.http2.frames import MAX_FRAME


class PartialBlock:
    """What has come of it. Until it is complete, nothing else may come (RFC 9113 section 6.10).

    :ivar stream: whose.
    :ivar end: whether its HEADERS frame ends the stream.
    :ivar fault: what is wrong with that frame, ``""`` when nothing is.
    """

    __slots__ = ("_frames", "_limit", "_pieces", "_size", "end", "fault", "stream")

    def __init__(
        self, stream: int, end: bool, fault: str, piece: bytes, max_list: int, max_frames: int
    ) -> None:
        """A block that is encoded to more than *max_list* and a frame, or in more than *max_frames*, is a flood."""
        self.stream = stream
        self.end = end
        self.fault = fault
        self._pieces = [piece]
        self._size = len(piece)
        self._limit = max_list + MAX_FRAME
        self._frames = max_frames

    def add(self, stream: int, piece: bytes) -> None:
        """The next CONTINUATION.

        :raises ConnectionFault: of another stream, or too much. The block would have to be decoded for the sake of
            the dynamic table, so the connection cannot go on without it.
        """
        if stream != self.stream:
            raise ConnectionFault(PROTOCOL_ERROR, "CONTINUATION of another stream")
        self._pieces.append(piece)
        self._size += len(piece)
        self._frames -= 1
        if self._frames < 0 or self._size > self._limit:
            raise ConnectionFault(ENHANCE_YOUR_CALM, "a header block is too large or in too many frames")

    def whole(self) -> bytes:
        """The block, once its last frame has come."""
        return b"".join(self._pieces)
