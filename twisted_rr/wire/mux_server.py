"""The server's end of one mux relay (mux.md): calls out, answers in.

Sockets, the choice of a worker and what becomes of a lost call are its owner's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted_rr.wire.call import Call
from twisted_rr.wire.mux_settings import MuxSettings


class MuxServerOwner(Protocol):
    """Who holds a `MuxServerEnd`. Everything is called synchronously, out of the end's methods."""

    def dirty(self) -> None:
        """There is something to `take`. Said once, until a ``take`` returned nothing."""

    def freed(self, call: Call) -> None:
        """A slot is free: *call*'s terminal frame came, or it was cancelled before it got an id.

        ``load`` is already lowered and the receiver already told. Also comes for a refused call, last.
        """

    def refused(self, call: Call) -> bool:
        """The worker did not start *call* (mux.md 5). True: it will be run again elsewhere.

        ``call.held`` is the body to open it with, None when it cannot be run again. On True the end has
        called nothing of the receiver and `Call.restart` was done before; on False it fails with `Refused`.
        """

    def said(self, message: dict[str, Any]) -> None:
        """A control frame of the worker, such as ``{"capacity": 3}`` or ``{"retire": True}``; its effect on
        `limit` and `accepting` is already there. ``{"retire": True}`` is also said when ids run out.
        """


class MuxServerEnd:
    """One relay's server side: a pull machine without input or output.

    :ivar load: calls opened whose terminal frame has not come; lower than *limit* for a new one.
    :ivar limit: calls at once; the worker's ``capacity`` lowers it.
    :ivar accepting: False after ``retire``, while a heartbeat is missed, and when ids have run out.
    :ivar missed: the worker did not answer a heartbeat, nor send anything since.
    :ivar calls: by id, those on the wire whose terminal frame has not come; cancelled ones too.
    """

    def __init__(self, owner: MuxServerOwner, settings: MuxSettings) -> None:
        self.owner = owner
        self.settings = settings
        self.codec = settings.codec
        self.limit = settings.streams
        self.load = 0
        self.accepting = True
        self.missed = False
        self.calls: dict[int, Call] = {}

    def open(self, call: Call, context: bytes, body: bytes, more: bool) -> None:
        """Queue *call*'s open; it gets its id when `take` hands the frame over.

        *body* comes before what is in ``call.queue``; *more* says whether the source will still send.
        Whether a slot is free is the owner's to see.

        :raises TooLarge: a context of more than 1 MiB; nothing was queued.
        """
        raise NotImplementedError

    def feed(self, data: bytes) -> None:
        """Bytes from the worker, in any pieces; calls receivers and the owner.

        :raises FrameError: mux.md 5's list. The relay is lost then: kill the worker, `fail_all`.
        """
        raise NotImplementedError

    def eof(self) -> None:
        """The worker closed its end.

        :raises Truncated: inside a frame.
        """
        raise NotImplementedError

    def take(self) -> bytes:
        """The next piece to write, about 256 KiB at most; empty when there is none."""
        raise NotImplementedError

    def tick(self, now: float) -> None:
        """Heartbeat; call it about once a second with monotonic seconds. Sets `missed`."""
        raise NotImplementedError

    def control(self, message: dict[str, Any]) -> None:
        """Queue a control frame of the relay: ``{"stop": True}``, ``{"draining": {"deadline_ms": n}}``."""
        raise NotImplementedError

    def fail_all(self, error_for: Callable[[Call], Exception]) -> None:
        """The relay is lost: every call that has not ended gets ``failed(error_for(call))``. Idempotent."""
        raise NotImplementedError

    def pump(self, call: Call) -> None:
        """For `Call`: it has more to send."""
        raise NotImplementedError

    def cancel(self, call: Call, reason: str) -> None:
        """For `Call`: give it up. Before its id was given nothing is sent and the slot is free at once."""
        raise NotImplementedError

    def resume(self, call: Call) -> None:
        """For `Call`: its consumer takes again."""
        raise NotImplementedError
