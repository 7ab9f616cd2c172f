"""Long polls: questions held until the answer is another one, or their time is over.

They are answered in the turn of the signal, and are never in flight.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Waiter:
    """One held question."""

    def __init__(self, tag: str, look: Callable[[], str], answer: Callable[[], None]) -> None:
        self.tag = tag
        self.look = look
        self.answer = answer
        self.timer: IDelayedCall | None = None


class WaitingRoom:
    """At most *room* held questions."""

    def __init__(self, clock: IReactorTime, room: int) -> None:
        self._clock = clock
        self._room = room
        self._waiters: list[Waiter] = []

    def __len__(self) -> int:
        return len(self._waiters)

    def hold(self, waiter: Waiter, seconds: float) -> bool:
        """Hold *waiter*; False when the room is full.

        Wakers: `look_again` (each change of state, and once a second), the timer, and `empty`.
        """
        if len(self._waiters) >= self._room:
            return False
        self._waiters.append(waiter)
        waiter.timer = self._clock.callLater(seconds, self._release, waiter)
        return True

    def forget(self, waiter: Waiter) -> None:
        """Its client went away."""
        if waiter in self._waiters:
            self._waiters.remove(waiter)
            if waiter.timer is not None and waiter.timer.active():
                waiter.timer.cancel()

    def look_again(self) -> None:
        """Answer those whose answer has changed."""
        for waiter in list(self._waiters):
            if waiter.look() != waiter.tag:
                self._release(waiter)

    def empty(self) -> None:
        """Answer all."""
        for waiter in list(self._waiters):
            self._release(waiter)

    def _release(self, waiter: Waiter) -> None:
        self.forget(waiter)
        waiter.answer()
