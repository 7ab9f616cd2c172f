"""One call in the worker: what the SDK sends and consumes on it.

Turns between calls are mux_worker_out.py's subject, reading is mux_worker.py's.
"""

from __future__ import annotations

from typing import Any, Protocol

from twisted_rr.errors import TooLarge
from twisted_rr.wire.credit import cost
from twisted_rr.wire.flow import HIGH, MANY, OVERHEAD, SHARE, Flow, Piece
from twisted_rr.wire.frame import CODEC_RAW, ERROR, MESSAGE, STREAM, TEXT, prefix
from twisted_rr.wire.mux_frames import CALL_WORDS, PIECE, STOP_FRAME, TWO
from twisted_rr.wire.mux_settings import MAX_CONTEXT, MAX_ERROR
from twisted_rr.wire.mux_worker_out import WorkerOutput


class StreamReceiver(Protocol):
    """Takes what the server sends for one call, after its open."""

    def data(self, body: bytes, more: bool) -> None:
        """A piece of the body; tell `Stream.consumed` once the application has it."""

    def message(self, body: bytes, text: bool, more: bool) -> None:
        """One whole message; `Stream.consumed` with its `credit.cost` once the application has it."""

    def finished(self, context: bytes) -> None:
        """The body ended with a context (trailers, close code). Comes instead of a ``more=False``."""

    def cancelled(self, reason: str) -> None:
        """The server gave the call up. Stop the application, then call `Stream.stop`; what is sent until
        then is dropped. A sender that waits for ``writable`` must be woken by this.

        *reason* is ``client``, ``deadline``, ``drain``, ``timeout``, or ``limit``: then a message was larger
        than ``max_message`` and the stream has ended already. Empty when the server gave none.
        """

    def writable(self) -> None:
        """`Stream.send` has room again. Not called once the stream is cancelled or ended."""


class Stream(Flow):
    """One call in the worker.

    :ivar to: the `StreamReceiver`, set by ``owner.opened``.
    :ivar more: False once the SDK has sent its last piece (or `error`, `stop`).
    :ivar cancelled: the server gave it up; the slot is kept until `stop`, `error` or an ended `send`.
    :ivar ended: the terminal frame was handed over; later calls do nothing.
    :ivar closed: the server's direction has ended.
    """

    __slots__ = (
        "to",
        "cancelled",
        "ended",
        "closed",
        "_out",
        "_turn",
        "_head",
        "_key",
        "_outstanding",
        "_share",
        "_prepaid",
        "_unpaid",
    )

    def __init__(self, out: WorkerOutput, id: int, window: int, peer_window: int) -> None:
        Flow.__init__(self, id, window, peer_window)
        self.to: Any = None
        self.cancelled = False
        self.ended = False
        self.closed = False
        self._out = out
        self._turn = -1
        self._key = -1
        self._head = b""  # of its last message, for the next of the same size
        self._share = 0  # bytes of small messages that may still go in this round
        self._outstanding = 0  # delivered to the application and not consumed
        self._prepaid = 0  # of these, counted as taken already when they came as parts
        self._unpaid = 0  # parts in the assembly that are not counted as taken yet

    def send(self, context: bytes, data: bytes, more: bool) -> bool:
        """Send a context, a piece of body, or both; ``more=False`` ends the call. Any may be empty.

        The context goes on the first frame made of this. Trailers therefore come alone, last, as
        ``send(trailers, b"", False)``. False: wait for ``to.writable()`` (or ``to.cancelled``).

        :raises TooLarge: a context of more than 1 MiB; nothing was queued.
        """
        if not self.more or self.cancelled:
            return self._late(more)
        out = self._out
        size = len(context)
        length = len(data)
        if (
            self._turn != out.turn
            and not self.queue
            and length <= self.credit_out
            and length <= out.max_frame
            and out.size < PIECE
            and size <= MAX_CONTEXT
        ):
            # Its turn of this round at once: a small answer never sees the queue.
            self._turn = out.turn
            self.credit_out -= length
            flags = out.codec if size else CODEC_RAW
            head = prefix(CALL_WORDS, flags, STREAM if more else 0, size + length) + TWO.pack(size, self.id)
            if not more:
                self.more = False
                self._ends()
            out.put(head, context, data)
            return True
        if size > MAX_CONTEXT:
            raise TooLarge(f"a context of {size} bytes, at most {MAX_CONTEXT} are possible")
        if context:
            self.queue.append(Piece(context, data, False, False))
        elif data:
            self.queue.append(data)
        return self._queued(length, more)

    def message(self, data: bytes, text: bool, more: bool, context: bytes = b"") -> bool:
        """Send one whole message; otherwise as `send`. A *context* goes on its first frame, or with
        ``more=False`` on its last, the one that ends the call (gRPC's end).
        """
        if not self.more or self.cancelled:
            return self._late(more)
        out = self._out
        size = len(context)
        length = len(data)
        price = length or 1
        if self._turn != out.turn:
            self._turn = out.turn
            self._share = SHARE
        if (
            self._share > 0
            and not self.queue
            and price <= self.credit_out
            and length <= out.max_frame
            and out.size < PIECE
            and size <= MAX_CONTEXT
        ):
            # As in `send`, but small messages travel together: each alone would cost more than all of them.
            self._share -= length + OVERHEAD
            self.credit_out -= price
            bits = MESSAGE | (STREAM if more else 0) | (TEXT if text else 0)
            if more and not size:
                key = length << 8 | bits
                if key != self._key:
                    self._key = key
                    self._head = prefix(CALL_WORDS, CODEC_RAW, bits, length) + TWO.pack(0, self.id)
                out.put_message(self._head, data, length + OVERHEAD)
                return True
            flags = out.codec if size else CODEC_RAW
            head = prefix(CALL_WORDS, flags, bits, size + length) + TWO.pack(size, self.id)
            if not more:
                self.more = False
                self._ends()
            out.put(head, context, data)
            return True
        if size > MAX_CONTEXT:
            raise TooLarge(f"a context of {size} bytes, at most {MAX_CONTEXT} are possible")
        self.queue.append(Piece(context, data, True, text, late=not more))
        return self._queued(length, more)

    def error(self, text: str) -> None:
        """End the call as failed, dropping what is queued. At most 64 KiB of *text* are sent.

        On a cancelled call this is `stop`.
        """
        if self.cancelled:
            self.stop()
        elif self.more:
            payload = text.encode("utf-8", "replace")[:MAX_ERROR]
            self._end_now(prefix(CALL_WORDS, ERROR | CODEC_RAW, 0, len(payload)), payload)

    def stop(self) -> None:
        """End a cancelled call; or give back one that was not started ("try elsewhere")."""
        if self.more:
            self._end_now(STOP_FRAME, b"")

    def consumed(self, count: int) -> None:
        """The application took *count* bytes of what ``opened``, ``data`` and ``message`` delivered.

        A message without a byte counts as one, as it did for the server (`credit.cost`).
        """
        self._outstanding -= count
        prepaid = min(self._prepaid, count)
        self._prepaid -= prepaid
        self.taken += count - prepaid
        if self._outstanding <= 0 and self._unpaid:
            # The parts of the next message were held back for this one's sake.
            self._prepaid += self._unpaid
            self.taken += self._unpaid
            self._unpaid = 0
        self._grant()

    # ------------------------------------------------------------------ for the end

    def delivered(self, size: int) -> None:
        """*size* bytes go to the application; of a message what it costs."""
        self._outstanding += size

    def part(self, size: int) -> None:
        """A part of a message entered the assembly, which bounds it: it counts as taken there.

        Only while the application has nothing else to take. Else a peer that sends many messages in
        parts would have no bound at all.
        """
        if self._outstanding:
            self._unpaid += size
        else:
            self._prepaid += size
            self.taken += size
            self._grant()

    def assembled(self, size: int, last: int) -> None:
        """A message of *size* bytes is whole and goes to the application; its last part had *last* of them."""
        self._outstanding += cost(size, True)
        if size and not last:
            self.taken += 1  # what the last part cost, for which the application takes nothing
        self._unpaid = 0  # from now on they count when the application takes the message

    def cancel(self, reason: str) -> None:
        """STOP came from the server."""
        if self.cancelled or self.ended:
            return
        self.cancelled = True
        self.drop()
        if self.more:
            self.to.cancelled(reason)
        else:  # the application had ended, only its answer was waiting
            self._end_now(STOP_FRAME, b"")

    def refuse_message(self, limit: int) -> None:
        """A message is larger than *limit* bytes: the call fails, the others go on."""
        if self.more:
            self.error(f"a message of more than {limit} bytes")
            self.cancelled = True
            self.to.cancelled("limit")
        self.assembly = None

    def framed_end(self) -> None:
        """The last queued frame was built by the ring."""
        self._ends()

    def _late(self, more: bool) -> bool:
        if self.cancelled and not more:
            self.stop()
        return True

    def _queued(self, size: int, more: bool) -> bool:
        self.queued += size
        self.more = more
        if not self.active and self.ready():
            self._out.activate(self)
        if (self.queued <= HIGH and len(self.queue) <= MANY) or not more:
            return True
        self.full = True
        return False

    def _end_now(self, head: bytes, payload: bytes) -> None:
        """A terminal frame that needs no credit and drops what is queued before it."""
        self.drop()
        self.more = False
        self._ends()
        self._out.put(head + TWO.pack(0, self.id), b"", payload)

    def _ends(self) -> None:
        self.sent_end = True
        self.ended = True
        del self._out.streams[self.id]

    def _grant(self) -> None:
        # No CREDIT goes to a direction that has ended. What is due later is asked for by `consumed`.
        if self.taken >= self._out.half and not (
            self.granting or self.closed or self.ended or self.cancelled
        ):
            self._out.grant(self)
