"""A message that comes in parts (mux.md 2, 4)."""

from __future__ import annotations


class Assembly:
    """The parts of one message so far.

    :ivar text: the message is text; all its parts must say the same.
    :ivar size: bytes so far.
    """

    __slots__ = ("text", "size", "_parts")

    def __init__(self, text: bool) -> None:
        self.text = text
        self.size = 0
        self._parts: list[bytes] = []

    def add(self, part: bytes) -> None:
        """Take the next part; the caller watches `size`. Empty ones cost nothing, so they are not kept."""
        if part:
            self._parts.append(part)
            self.size += len(part)

    def whole(self) -> bytes:
        """The message."""
        return b"".join(self._parts)
