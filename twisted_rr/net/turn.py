"""What leaves once a reactor turn: items are collected while events are handled and flushed at the turn's end.

Leaves out sockets (descriptor.py, transport.py) and the reactor itself (reactor.py).
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from twisted_rr.log import logger

GENERATIONS: Final = 8  # a flush may ask for another flush; what asks more often waits for the next turn


log: Final = logger("net")


class Flushable(Protocol):
    """Something that gathers output during a turn."""

    def flush(self) -> None:
        """Send what was gathered. Called once for any number of `Turn.add` in a turn."""


class Turn:
    """The items to flush before the reactor's turn ends; use `turn_of`, one belongs to each reactor.

    On any reactor the flush is a ``callLater(0)``.

    :ivar driven: set by a reactor that calls `run` around each poll, so that no timer is made.
    """

    __slots__ = ("_items", "_reactor", "_scheduled", "driven")

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._items: dict[Flushable, None] = {}
        self._scheduled = False
        self.driven = False

    def add(self, item: Flushable) -> None:
        """Have *item* flushed once before this turn ends; asking twice is the same as once."""
        self._items[item] = None
        if not self._scheduled and not self.driven:
            self._scheduled = True
            # Waker of everything added until _later runs.
            self._reactor.callLater(0, self._later)

    def _later(self) -> None:
        self._scheduled = False
        self.run()
        if self._items and not self._scheduled:
            self._scheduled = True
            self._reactor.callLater(0, self._later)

    def pending(self) -> bool:
        """True when something waits for a flush."""
        return bool(self._items)

    def run(self) -> None:
        """Flush what was added. An item that fails is logged and does not keep the others from flushing."""
        for _ in range(GENERATIONS):
            if not self._items:
                return
            items = self._items
            self._items = {}
            for item in items:
                try:
                    item.flush()
                except Exception:
                    log.failure("{item!r} could not be flushed", item=item)


def turn_of(reactor: Any) -> Turn:
    """The one `Turn` of *reactor*, made at the first call."""
    turn: Turn | None = getattr(reactor, "rr_turn", None)
    if turn is None:
        turn = Turn(reactor)
        # An attribute, because a registry beside the reactor would keep it alive: the turn refers to it.
        reactor.rr_turn = turn
    return turn
