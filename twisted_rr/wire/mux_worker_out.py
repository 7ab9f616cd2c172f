"""What the worker's end of a mux relay sends, and in which order (mux.md 4).

What a call has to send is built in mux_stream.py or cut from its queue by flow.py.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from twisted_rr.wire.credit import threshold
from twisted_rr.wire.mux_frames import CREDIT_FRAME, PIECE, THREE, gathered
from twisted_rr.wire.mux_settings import MuxSettings

if TYPE_CHECKING:
    from twisted_rr.wire.mux_stream import Stream


class WorkerOutput:
    """The queues of one relay: of the relay itself, CREDIT, ready frames, and the ring of calls with data.

    A call may put one frame a round straight among the ready ones; what else it has waits for its turn in
    the ring. So a round has one frame a call either way.

    :ivar streams: open calls by id.
    :ivar turn: the number of this round.
    :ivar size: bytes that are ready.
    :ivar half: bytes a call takes before they are granted again.
    """

    __slots__ = (
        "streams", "codec", "max_frame", "turn", "size", "half",
        "_owner", "_dirty", "_relay", "_grants", "_ready", "_ring", "_wakes",
    )  # fmt: skip

    def __init__(self, owner: Any, settings: MuxSettings) -> None:
        self.streams: dict[int, Stream] = {}
        self.codec = settings.codec
        self.max_frame = settings.max_frame
        self.turn = 0
        self.size = 0
        self.half = threshold(settings.window)
        self._owner = owner
        self._dirty = False
        self._relay: list[bytes] = []
        self._grants: list[Stream] = []
        self._ready: list[bytes] = []
        self._ring: deque[Stream] = deque()
        self._wakes: list[Stream] = []

    def put(self, head: bytes, context: bytes, data: bytes) -> None:
        """A frame that is ready."""
        self._ready += (head, context, data)
        self.size += len(head) + len(context) + len(data)
        if not self._dirty:
            self._dirty = True
            self._owner.dirty()

    def put_message(self, head: bytes, data: bytes, size: int) -> None:
        """The same, of *size* bytes."""
        ready = self._ready
        ready.append(head)
        ready.append(data)
        self.size += size
        if not self._dirty:
            self._dirty = True
            self._owner.dirty()

    def relay(self, frame: bytes) -> None:
        """Send a frame of the relay, before all others."""
        self._relay.append(frame)
        self._wake()

    def activate(self, stream: Stream) -> None:
        """*stream* can send: it takes its turn from now on."""
        stream.active = True
        self._ring.append(stream)
        self._wake()

    def grant(self, stream: Stream) -> None:
        """Give *stream* the credit it has taken, with the next piece."""
        stream.granting = True
        self._grants.append(stream)
        self._wake()

    def take(self) -> list[Any]:
        """The next piece, about 256 KiB at most, as bytes and views of bytes; empty when there is none."""
        out: list[Any] = []
        if self._relay:
            out.extend(self._relay)
            self._relay.clear()
        if self._grants:
            self._take_grants(out)
        if self._ready:
            out.extend(self._ready)
            self._ready.clear()
        size = self.size
        if self._ring:
            size = self._take_ring(out, size)
        self.size = 0
        if not out:
            self._dirty = False
            return out
        self.turn += 1
        if self._wakes:
            self._wake_sources()
        return gathered(out, size)

    def _take_grants(self, out: list[Any]) -> None:
        for stream in self._grants:
            stream.granting = False
            if not (stream.ended or stream.cancelled or stream.closed):
                out.append(CREDIT_FRAME)
                out.append(THREE.pack(0, stream.id, stream.taken))
                stream.credit_in += stream.taken
                stream.taken = 0
        self._grants.clear()

    def _take_ring(self, out: list[Any], size: int) -> int:
        """One frame a call in turn until the piece is full; at least one, so that ready ones starve nobody.

        Gives the size of the piece, of which *size* bytes were there before.
        """
        ring = self._ring
        while ring:
            stream = ring.popleft()
            stream.active = False
            if stream.ended or not stream.ready():
                continue
            size += stream.cut_run(self.codec, self.max_frame, out)
            if stream.sent_end:
                stream.framed_end()
            elif stream.ready():
                stream.active = True
                ring.append(stream)
            if stream.full and stream.woken():
                self._wakes.append(stream)
            if size >= PIECE:
                break
        return size

    def _wake_sources(self) -> None:
        wakes = self._wakes
        self._wakes = []
        for stream in wakes:
            if not (stream.ended or stream.cancelled):
                stream.to.writable()

    def _wake(self) -> None:
        if not self._dirty:
            self._dirty = True
            self._owner.dirty()
