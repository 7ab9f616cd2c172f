"""Bytes under way: those that do not make a whole frame yet, and those that the kernel did not take yet."""

from __future__ import annotations

from typing import Any


class Pending:
    """What is left over from earlier reads.

    Pieces are kept apart until the frame is there, so a frame of a megabyte that comes in sixteen reads
    is copied once.

    :ivar size: bytes kept.
    """

    __slots__ = ("size", "_need", "_parts")

    def __init__(self) -> None:
        self.size = 0
        self._need = 0
        self._parts: list[bytes] = []

    def keep(self, rest: bytes, need: int) -> None:
        """Keep *rest*, the start of a frame of which *need* bytes are wanted before another look."""
        self._parts.append(rest)
        self.size = len(rest)
        self._need = need

    def join(self, data: bytes) -> bytes:
        """All that came so far with *data*, handed out once there is enough; else empty."""
        self._parts.append(data)
        self.size += len(data)
        return b"" if self.size < self._need else self.drain()

    def drain(self) -> bytes:
        """All that is kept, which is then kept no longer."""
        whole = b"".join(self._parts)
        self._parts.clear()
        self.size = 0
        self._need = 0
        return whole

    def peek(self) -> bytes:
        """The same without giving it up."""
        return b"".join(self._parts)


def without(parts: list[Any], count: int) -> list[Any]:
    """*parts* without their first *count* bytes."""
    for index, part in enumerate(parts):
        if count < len(part):
            return [memoryview(part)[count:], *parts[index + 1 :]] if count else parts[index:]
        count -= len(part)
    return []
