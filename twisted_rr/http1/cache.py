"""A bounded cache of two generations.

No time, no statistics, no eviction order: on a hit in the young generation nothing is written, and that is what
makes it cheap enough for single header lines.
"""

from __future__ import annotations

from typing import Any


class Cache:
    """Remembers what was used lately: at most twice *entries* keys, of at most *size* bytes each.

    When the young generation is full it becomes the old one; what is found in the old one is young again.
    A reader on the hot path looks into `young` itself and calls `older` only after a miss. Who never calls it says
    *forgets*, and a full generation is dropped.
    """

    __slots__ = ("young", "old", "entries", "size", "forgets")

    def __init__(self, entries: int, size: int, forgets: bool = False) -> None:
        self.young: dict[bytes, Any] = {}
        self.old: dict[bytes, Any] = {}
        self.entries = entries
        self.size = size
        self.forgets = forgets

    def older(self, key: bytes) -> Any:
        """What the old generation holds for *key*, None for nothing."""
        value = self.old.get(key)
        if value is not None:
            self.put(key, value)
        return value

    def put(self, key: bytes, value: Any) -> None:
        """Remember *value*, unless the key is too long to be worth it."""
        if len(key) > self.size:
            return
        if len(self.young) >= self.entries:
            if not self.forgets:
                self.old = self.young
            self.young = {}
        self.young[key] = value
