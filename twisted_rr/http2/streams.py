"""One stream of a connection: what a front holds to answer a request (RFC 9113 section 8.1).

Its states are in `states`, the round robin between streams in `outbox`, what the client does to it in `session`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from twisted_rr.http2.blocks import BadResponse, Block, encode
from twisted_rr.http2.frames import DATA, END_STREAM, HEADER, MAX_FRAME, U32
from twisted_rr.http2.states import CLOSED, HALF_CLOSED, OPEN

if TYPE_CHECKING:
    from twisted_rr.http2.contract import Exchange
    from twisted_rr.http2.head import Head
    from twisted_rr.http2.limits import Wait
    from twisted_rr.http2.outbox import Outbox
    from twisted_rr.http2.session import Session

Fields = Iterable[tuple[bytes, bytes]]

# What a stream's output waits for, and so who wakes it.
NOTHING: Final = 0  #: there is none: the exchange's next call
TURN: Final = 1  #: it is in the outbox's round: the next flush
WINDOW: Final = 2  #: the stream's own window: WINDOW_UPDATE on it, or SETTINGS
CONNECTION_WINDOW: Final = 3  #: that of the connection: WINDOW_UPDATE on stream 0


class Stream:
    """A request and its answer on a connection.

    Every method does nothing once the stream is over or its answer complete; one that says whether to go on answers
    True then. ``head`` and ``trailers`` may be given as lists of fields, of which a head begins with ``:status``;
    they are encoded as they are. Those that repeat are better made once, by `twisted_rr.http2.blocks`.

    :ivar id: its number.
    :ivar head: of the request.
    :ivar session: whose stream it is.
    :ivar queued: bytes of the answer that wait here, for window or for the transport.
    :ivar received: bytes of the request's content so far.
    """

    __slots__ = (
        "answered", "body_wait", "consumed_bytes", "ending", "exchange", "fault", "full", "head", "held", "id", "id4",
        "offset", "outbox", "queue", "queued", "received", "send_window", "session", "state", "waits", "window",
        "window_wait",
    )  # fmt: skip

    def __init__(
        self, session: Session, outbox: Outbox, number: int, head: Head, end: bool, window: int
    ) -> None:
        """Made by its session only; *window* is the client's for our answer."""
        self.session = session
        self.outbox = outbox
        self.id = number
        self.id4 = U32.pack(number)
        self.head = head
        self.exchange: Exchange | None = None  # until Front.begin has returned
        self.state = HALF_CLOSED if end else OPEN
        self.fault = -1  # the code of a reset that the exchange was not there to hear of
        # the request
        self.received = 0
        self.window = session.stream_window  # what the client may still send
        self.held = 0  # received and not consumed
        self.consumed_bytes = 0  # and not granted again
        # the answer
        self.send_window = window
        self.answered = False  # its head was given
        self.ending = False  # its end was given
        self.queue: list[Block | bytes] = []
        self.offset = 0  # so much of the queue's first piece is sent
        self.queued = 0
        self.full = False  # the exchange waits for `writable`
        self.waits = NOTHING
        # time-outs, made by the first sweep
        self.body_wait: Wait | None = None
        self.window_wait: Wait | None = None

    def respond(
        self,
        head: Block | Fields,
        data: bytes = b"",
        end: bool = False,
        trailers: Block | Fields | None = None,
    ) -> bool:
        """Send the head with what is known of the rest; *end* or *trailers* complete the answer.

        An answer that is complete by this leaves as one piece. False when the exchange should wait for `writable`.

        :raises BadResponse: a second head.
        """
        if self.state == CLOSED:
            return True
        if self.answered:
            raise BadResponse("a second head")
        if not isinstance(head, Block):
            head = Block(encode(head))
        if trailers is not None and not isinstance(trailers, Block):
            trailers = Block(encode(trailers))
        if (end or trailers is not None) and self._respond_at_once(head, data, trailers):
            return True
        self.answered = True
        self.queue.append(head)
        if data:
            self.queue.append(data)
            self.queued += len(data)
        if trailers is not None:
            self.queue.append(trailers)
        self.ending = end or trailers is not None
        return self._queued()

    def answer(self, head: Block, data: bytes, trailers: Block) -> None:
        """``respond(head, data, trailers=trailers)``, of which nobody needs to know whether it flows."""
        outbox = self.outbox
        size = len(data)
        if (
            self.answered
            or self.state == CLOSED
            or size > self.send_window
            or size > outbox.window
            or size > MAX_FRAME
            or outbox.size >= outbox.limit
            or self.waits
            or not size
            or not head.prefix
            or not trailers.prefix
        ):
            self.respond(head, data, trailers=trailers)
            return
        id4 = self.id4
        outbox.pieces += (
            head.prefix, id4, head.data,
            HEADER.pack(size >> 8, size & 0xFF, DATA, 0, self.id), data,
            trailers.prefix_end, id4, trailers.data,
        )  # fmt: skip
        outbox.size += head.size + size + trailers.size
        outbox.window -= size
        outbox.answers += 1
        self.session.finish(self)

    def _respond_at_once(self, head: Block, data: bytes, trailers: Block | None) -> bool:
        """The short way of a small and complete answer, past the queue. False when something stands in its way."""
        outbox = self.outbox
        size = len(data)
        if (
            size > self.send_window
            or size > outbox.window
            or size > MAX_FRAME
            or outbox.size >= outbox.limit
            or self.waits
            or not head.prefix
        ):
            return False
        if not size and trailers is None:
            outbox.pieces += (head.prefix_end, self.id4, head.data)
            outbox.size += head.size
        elif trailers is None:
            frame = HEADER.pack(size >> 8, size & 0xFF, DATA, END_STREAM, self.id)
            outbox.pieces += (head.prefix, self.id4, head.data, frame, data)
            outbox.size += head.size + size
        elif trailers.prefix:
            frame = HEADER.pack(size >> 8, size & 0xFF, DATA, 0, self.id) if size else b""
            outbox.pieces += (
                head.prefix, self.id4, head.data, frame, data, trailers.prefix_end, self.id4, trailers.data,
            )  # fmt: skip
            outbox.size += head.size + size + trailers.size
        else:
            return False
        outbox.window -= size
        outbox.answers += 1
        self.session.finish(self)
        return True

    def interim(self, head: Block | Fields) -> None:
        """Send a 1xx head; dropped once the final head was given."""
        if self.state != CLOSED and not self.answered:
            self.queue.append(head if isinstance(head, Block) else Block(encode(head)))
            self._queued()

    def send(self, data: bytes, end: bool = False) -> bool:
        """Send a piece of the content. False when the exchange should wait for `writable`.

        :raises BadResponse: no head was given yet.
        """
        if self.state == CLOSED or self.ending:
            return True
        if not self.answered:
            raise BadResponse("content before the head")
        self.ending = end
        if data:
            self.queue.append(data)
            self.queued += len(data)
        elif not end:
            return not self.full
        return self._queued()

    def trailers(self, fields: Block | Fields) -> None:
        """End the answer with trailer fields.

        :raises BadResponse: no head was given yet.
        """
        if self.state == CLOSED or self.ending:
            return
        if not self.answered:
            raise BadResponse("trailers before the head")
        self.queue.append(fields if isinstance(fields, Block) else Block(encode(fields)))
        self.ending = True
        self._queued()

    def _queued(self) -> bool:
        """Something was queued: see that it is sent, and say whether there may be more."""
        if self.waits == NOTHING:
            self.outbox.enter(self)
        self.full = self.full or self.queued > self.outbox.max_queued
        if self.ending:
            self.full = False
        return not self.full

    def reset(self, code: int) -> None:
        """Break the stream off with RST_STREAM. The exchange hears nothing more."""
        if self.state != CLOSED:
            self.session.break_off(self, code)

    def consumed(self, size: int) -> None:
        """So many more bytes of the content were used; at most those received count."""
        if size > 0:
            self.session.intake.consume(self, size)
