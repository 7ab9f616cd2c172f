"""The worker's end of one mux relay (mux.md), for the SDK: opens in, answers out.

Standard library and msgspec only. Not safe for threads: all calls come from the one that owns the relay.
"""

from __future__ import annotations

from typing import Any, Protocol

from twisted_rr.wire.flow import Flow
from twisted_rr.wire.mux_settings import MuxSettings


class StreamReceiver(Protocol):
    """Takes what the server sends for one call, after its open."""

    def data(self, body: bytes, more: bool) -> None:
        """A piece of the body; tell `Stream.consumed` once the application has it."""

    def message(self, body: bytes, text: bool, more: bool) -> None:
        """One whole message; `Stream.consumed` with its length once the application has it."""

    def finished(self, context: bytes) -> None:
        """The body ended with a context (trailers, close code). Comes instead of a ``more=False``."""

    def cancelled(self, reason: str) -> None:
        """The server gave the call up. Stop the application, then call `Stream.stop`; what is sent until
        then is dropped. A sender that waits for ``writable`` must be woken by this.
        """

    def writable(self) -> None:
        """`Stream.send` has room again."""


class MuxWorkerOwner(Protocol):
    """Who holds a `MuxWorkerEnd`."""

    def dirty(self) -> None:
        """There is something to `take`. Said once, until a ``take`` returned nothing."""

    def opened(self, stream: Stream, codec: int, context: bytes, body: bytes, more: bool) -> None:
        """A new call. Set ``stream.to`` before returning; refuse it with ``stream.stop()``.

        *body* counts as delivered: `Stream.consumed` it. When the open carries a message, *body* is empty,
        *more* is True and ``to.message`` follows.
        """

    def said(self, message: dict[str, Any]) -> None:
        """A control frame of the server: ``{"stop": True}``, ``{"draining": {"deadline_ms": n}}``."""


class Stream(Flow):
    """One call in the worker.

    :ivar to: the `StreamReceiver`, set by ``owner.opened``.
    :ivar cancelled: the server gave it up; the slot is kept until `stop`, `error` or an ended `send`.
    :ivar ended: the terminal frame was handed over; later calls do nothing.
    """

    __slots__ = ("to", "end", "cancelled", "ended")

    def __init__(self, end: MuxWorkerEnd, id: int) -> None:
        Flow.__init__(self)
        self.id = id
        self.end = end
        self.to: Any = None
        self.cancelled = False
        self.ended = False

    def send(self, context: bytes, data: bytes, more: bool) -> bool:
        """Send a context, a piece of body, or both; ``more=False`` ends the call. Any may be empty.

        The context goes on the first frame made of this. Trailers therefore come alone, last, as
        ``send(trailers, b"", False)``. False: wait for ``to.writable()`` (or ``cancelled``).
        """
        raise NotImplementedError

    def message(self, data: bytes, text: bool, more: bool, context: bytes = b"") -> bool:
        """Send one whole message; otherwise as `send`. A *context* goes on its first frame, or with
        ``more=False`` on its last, the one that ends the call (gRPC's end).
        """
        raise NotImplementedError

    def error(self, text: str) -> None:
        """End the call as failed, dropping what is queued. At most 64 KiB of *text* are sent."""
        raise NotImplementedError

    def stop(self) -> None:
        """End a cancelled call; or give back one that was not started ("try elsewhere")."""
        raise NotImplementedError

    def consumed(self, count: int) -> None:
        """The application took *count* bytes of what ``opened``, ``data`` and ``message`` delivered."""
        raise NotImplementedError


class MuxWorkerEnd:
    """One relay's worker side: a pull machine without input or output.

    :ivar streams: open calls by id.
    :ivar stopping: the server said ``stop``: new calls are refused here, without the owner.
    """

    def __init__(self, owner: MuxWorkerOwner, settings: MuxSettings) -> None:
        self.owner = owner
        self.settings = settings
        self.codec = settings.codec
        self.streams: dict[int, Stream] = {}
        self.stopping = False

    def feed(self, data: bytes) -> None:
        """Bytes from the server, in any pieces.

        :raises FrameError: the server broke the protocol: the worker should exit.
        """
        raise NotImplementedError

    def eof(self) -> None:
        """The server is gone.

        :raises Truncated: inside a frame.
        """
        raise NotImplementedError

    def take(self) -> bytes:
        """The next piece to write, about 256 KiB at most, one frame a call in turn; empty when there is none."""
        raise NotImplementedError

    def tick(self, now: float) -> bool:
        """Heartbeat, about once a second with monotonic seconds; True while the server misses its own."""
        raise NotImplementedError

    def control(self, message: dict[str, Any]) -> None:
        """Queue a control frame: ``{"capacity": k}``, ``{"retire": True}``."""
        raise NotImplementedError
