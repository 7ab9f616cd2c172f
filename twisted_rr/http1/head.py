"""Request heads: the request line and the block of field lines, validated line by line."""

from __future__ import annotations

from typing import Any


class HeaderBlock:
    """A block of field lines, validated.

    :ivar headers: ``(lower-case name, value)`` in order.
    :ivar derived: for the front: whatever it computed from `headers` alone; None at first.
    """

    __slots__ = ("headers", "derived")

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.derived: Any = None
