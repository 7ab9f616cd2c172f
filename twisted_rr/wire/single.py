"""The server's end of a relay that carries one call at a time (protocol.md 3.4 and 3.8).

Spooling the body, time limits and stopping the process are its owner's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO, Protocol

from twisted_rr.wire.call import Call


class SingleServerOwner(Protocol):
    """Who holds a `SingleServerEnd`."""

    def dirty(self) -> None:
        """There is something to `take`. Said once, until a ``take`` returned nothing."""

    def freed(self, call: Call) -> None:
        """The worker is idle again; look at ``accepting`` before giving it another call."""

    def refused(self, call: Call) -> bool:
        """The worker answered ``{"stop":true}``: replace it, and run the call elsewhere if True is returned."""

    def said(self, message: dict[str, Any]) -> None:
        """``{"retire": True}``: the worker is to be replaced; `accepting` is already False."""

    def pause(self) -> None:
        """Stop reading the relay: the only call's consumer is full."""

    def resume(self) -> None:
        """Read the relay again."""


class SingleServerEnd:
    """One relay's server side, one call at a time.

    :ivar load: 0 or 1.
    :ivar limit: always 1.
    :ivar call: the call whose answer is due, cancelled or not; None when idle.
    :ivar accepting: False once the worker has to be replaced (an answer ``{"stop":true}``, an ERROR in
        mid-stream).
    :ivar started: the first frame of the answer has come (a stream, or a large frame still coming).
    """

    def __init__(self, owner: SingleServerOwner, max_context: int = 1048576) -> None:
        self.owner = owner
        self.max_context = max_context
        self.limit = 1
        self.load = 0
        self.accepting = True
        self.missed = False
        self.call: Call | None = None

    def start(self, call: Call, flags: int, context: bytes, body: bytes | BinaryIO, length: int) -> None:
        """Send *call* to the idle worker. *length* bytes are read from a *body* that is a file.

        :raises TooLarge: context and body do not fit in one frame (4 GiB); nothing was queued.
        """
        raise NotImplementedError

    def feed(self, data: bytes) -> None:
        """Bytes from the worker. An answer of up to 64 KiB is one callback, a larger one is streamed.

        :raises FrameError: the relay is lost: kill the worker, `fail_all`.
        """
        raise NotImplementedError

    def eof(self) -> None:
        """The worker closed its end.

        :raises Truncated: inside a frame.
        """
        raise NotImplementedError

    def take(self) -> bytes:
        """The next piece to write; a file's body comes in pieces of 64 KiB."""
        raise NotImplementedError

    def tick(self, now: float) -> None:
        """Nothing: one-call workers have no heartbeat."""

    def control(self, message: dict[str, Any]) -> None:
        """Queue a control frame, ``{"stop": True}``; it follows the request under way."""
        raise NotImplementedError

    def fail_all(self, error_for: Callable[[Call], Exception]) -> None:
        """The relay is lost: the call, if not ended, gets ``failed(error_for(call))``. Idempotent."""
        raise NotImplementedError

    def pump(self, call: Call) -> None:
        """For `Call`: nothing; the whole body was given to `start`."""

    def cancel(self, call: Call, reason: str) -> None:
        """For `Call`: its receiver is told; the worker is free once it has answered, at once if it was not asked."""
        raise NotImplementedError

    def resume(self, call: Call) -> None:
        """For `Call`: its consumer takes again: read on."""
        raise NotImplementedError
