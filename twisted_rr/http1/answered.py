"""The exchange of a listener that answers each request at once and in one piece, as status and admin do."""

from __future__ import annotations

from collections.abc import Callable


class Answered:
    """See `contract.Exchange`. The request's content is dropped.

    :ivar gone: called when the client leaves before its answer, if somebody has to know.
    """

    __slots__ = ("gone",)

    def __init__(self, gone: Callable[[], None] | None = None) -> None:
        self.gone = gone

    def body(self, data: bytes, more: bool) -> bool:
        """Nobody reads it."""
        return True

    def pause(self) -> None:
        """An answer is one piece: nothing to hold."""

    def resume(self) -> None:
        """See `pause`."""

    def sent(self) -> None:
        """Nobody waits for it."""

    def lost(self, reason: str) -> None:
        """The client is gone."""
        if self.gone is not None:
            self.gone()
