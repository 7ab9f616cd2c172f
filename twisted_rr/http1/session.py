"""One HTTP/1.1 connection, seen from the server: requests in, answers out, in order.

It decides what a valid head means for the connection, when to read, and how everything ends. The grammar is in
`head` and `body`, the bytes of answers in `response`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from twisted_rr.http1.body import Body
from twisted_rr.http1.contract import Exchange, Front, Transport
from twisted_rr.http1.date import DateLine
from twisted_rr.http1.head import HeaderBlock, parse_block, parse_request_line
from twisted_rr.http1.partial import partial_fault
from twisted_rr.http1.refusal import Refused, refusal_answer
from twisted_rr.http1.request import Request, understand
from twisted_rr.http1.response import (
    CHUNKED,
    UNTIL_CLOSE,
    BadResponse,
    ResponseHead,
    frame_piece,
    frame_trailers,
    open_answer,
    render,
    with_fields,
)
from twisted_rr.http1.settings import SessionSettings
from twisted_rr.http1.stall import Stall

# What a session waits for. The order matters: a head can begin up to HEAD_BEGUN, nothing is read from CLOSING on.
FRESH: Final = 0  #: the first byte since the connect
IDLE: Final = 1  #: the next request
HEAD_BEGUN: Final = 2  #: the rest of a head
BUSY: Final = 3  #: an exchange: the request's content, the answer, its last byte taken
DISCARD: Final = 4  #: the end of content nobody wants, after its answer
CLOSING: Final = 5  #: the transport
LOST: Final = 6  #: nothing

#: Empty lines tolerated before a request line (RFC 9112 section 2.2 asks for one at least).
MAX_EMPTY_LINES: Final = 8
#: A header block up to this size is remembered by the connection, whatever it holds: a client repeats itself.
MAX_MEMO: Final = 4096

#: What an exchange is told of content that was answered so.
_FAULTS: Final = {413: "too large", 431: "trailers"}

_date: Final = DateLine()
_NO_BLOCK: Final = HeaderBlock()


class Session:
    """The server's end of one connection (RFC 9112).

    At most one exchange is open at a time; the next request's head is looked at when the answer of the one before
    was taken by the kernel. Every answering method does nothing once the exchange is over, or its answer complete.

    :ivar scheme: ``http`` or ``https``, as given.
    :ivar peer: the client's address, as given.
    :ivar host: the server's address, as given.
    """

    __slots__ = (
        "scheme", "peer", "host",
        "_transport", "_front", "_settings", "_clock",
        "_phase", "_mark", "_buffer", "_scanned", "_empty_lines", "_memo", "_memo_block", "_running", "_eof",
        "_repeat", "_request", "_ordinary",
        "_exchange", "_beginning", "_loss", "_body", "_discarded", "_held", "_in_body", "_paused", "_expecting",
        "_minor", "_is_head", "_close", "_head_sent", "_answered", "_left", "_announced",
        "_producing", "_backed_up", "_written", "_stall",
    )  # fmt: skip

    def __init__(
        self,
        transport: Transport,
        front: Front,
        settings: SessionSettings,
        clock: Callable[[], float],
        scheme: str,
        peer: Any,
        host: Any,
    ) -> None:
        """*clock* is monotonic, in seconds; *scheme*, *peer* and *host* are kept for the front as attributes."""
        self.scheme = scheme
        self.peer = peer
        self.host = host
        self._transport = transport
        self._front = front
        self._settings = settings
        self._clock = clock
        # input
        self._phase = FRESH
        self._mark = -1.0  # since when the phase waits for the client, set by the first sweep that sees it
        self._buffer = b""
        self._scanned = 0  # so much of the buffer holds no end of a head
        self._empty_lines = 0
        self._memo = b"\r\n"  # no block is this one
        self._memo_block = _NO_BLOCK
        self._repeat = b""  # a whole request without content, as received
        self._request: Request | None = None  # what it says
        self._running = False  # inside the loop over the buffer
        self._eof = False
        # the exchange
        self._exchange: Exchange | None = None
        self._beginning = False  # inside Front.begin
        self._loss = ""  # lost before Front.begin returned
        self._body: Body | None = None  # while content is still to come
        self._discarded = 0
        self._held = False  # the exchange said: no more content for now
        self._in_body = False  # inside Exchange.body; resume_body clears it
        self._paused = False  # the transport does not read
        self._expecting = False  # the client waits for 100
        # the answer
        self._ordinary = False  # nothing about it has to be decided
        self._minor = 1
        self._is_head = False
        self._close = False
        self._head_sent = False
        self._answered = False  # written to its end, perhaps not taken yet
        self._left = 0
        self._announced = False
        self._producing = False
        self._backed_up = False
        self._written = 0
        self._stall = Stall()

    # ------------------------------------------------------------------- from the transport

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        if data == self._repeat and self._phase <= IDLE and not self._buffer:
            request = self._request
            if request is not None:
                self._empty_lines = 0
                self._begin(request)
                return
        if self._phase >= CLOSING:
            return
        self._buffer = self._buffer + data if self._buffer else data
        self._advance()

    def eof_received(self) -> None:
        """The client's FIN: an abort while an answer is under way, unless ``settings.half_close``."""
        self._eof = True
        if self._phase == BUSY and not self._answered and not self._settings.half_close:
            self._give_up("client")
        else:
            self._advance()

    def connection_lost(self) -> None:
        """The connection is gone: ends the open exchange by ``lost("client")``, then ``front.closed``. Idempotent."""
        if self._phase == LOST:
            return
        self._phase = LOST
        self._buffer = b""
        self._lose("client")
        if not self._beginning:
            self._front.closed(self)

    def pauseProducing(self) -> None:
        """The transport's buffer is full."""
        if not self._backed_up:
            self._backed_up = True
            if self._exchange is not None and not self._answered:
                self._exchange.pause()

    def resumeProducing(self) -> None:
        """The transport's buffer has room."""
        if self._backed_up:
            self._backed_up = False
            if self._exchange is not None and not self._answered:
                self._exchange.resume()

    def stopProducing(self) -> None:
        """For IPushProducer; the loss itself is reported by `connection_lost`."""

    # ----------------------------------------------------------------------- from the front

    def sweep(self, now: float) -> None:
        """Look for time-outs; to be called about once a second with the clock's *now*.

        A wait is timed from the first sweep that finds it, so that no clock is read for the many that are short.
        """
        if self._phase == LOST:
            return
        if self._phase >= BUSY and self._takes_nothing(now):
            self._front.refused(self, 0, "the client takes nothing")
            self._break_off("timeout")
            return
        limit = self._patience()
        if not limit:
            self._mark = -1.0
        elif self._mark < 0:
            self._mark = now
        elif now - self._mark >= limit:
            self._expire()

    def use(self, settings: SessionSettings) -> None:
        """Go by other limits and time-outs from the next request on, and forget what was derived from a head."""
        self._settings = settings
        self._memo = b"\r\n"
        self._memo_block = _NO_BLOCK
        self._request = None

    def close_idle(self, half_received: bool = False) -> bool:
        """Close (FIN, lingering) when no exchange is open and no head half received; True when closed or closing.

        With *half_received* a half received head does not keep it open either: it is closed without an answer.
        """
        if self._phase >= CLOSING:
            return True
        if self._phase == BUSY or ((self._buffer or self._phase == HEAD_BEGUN) and not half_received):
            return False
        self._shut()
        return True

    @property
    def unused(self) -> bool:
        """Whether no byte has come since the connect."""
        return self._phase == FRESH and not self._buffer

    def close_unused(self, now: float, seconds: float) -> None:
        """Close it when no byte has come since the connect, which a sweep saw *seconds* before *now*."""
        if self._phase == FRESH and not self._buffer and self._mark >= 0 and now - self._mark >= seconds:
            self._shut()

    def expect_continue(self) -> None:
        """The front wants the body now: ``100 (Continue)`` is sent if the client waits for it. Idempotent."""
        if self._expecting and not self._head_sent and self._phase == BUSY:
            self._expecting = False
            self._mark = -1.0
            self._write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def resume_body(self) -> None:
        """After ``Exchange.body`` answered False: there is room again."""
        self._in_body = False
        if self._held:
            self._held = False
            self._mark = -1.0
            self._advance()

    # ------------------------------------------------------------------------ from the exchange

    def respond(self, head: ResponseHead, body: bytes = b"", more: bool = False) -> None:
        """Send the final head with the first piece of content, as one write; ``more=False`` ends the answer.

        Content-length, chunking, connection and date are added as the request wants; content that must not be sent
        (HEAD, 204, 205, 304) is dropped.

        :raises BadResponse: *head* is a 1xx, or *body* contradicts its content-length; nothing was sent then, and
            another answer can be given. Also for a second head.
        """
        if self._answered or self._phase != BUSY:  # nothing can be answered
            return
        if self._head_sent or head.status < 200:
            raise BadResponse("a second head" if self._head_sent else "an interim head as the final one")
        if (
            head.plain
            and self._ordinary
            and not more
            and head.length == len(body)
            and not self._front.draining
        ):
            self._answer_at_once(head.head + _date.last(self._clock()) + body)
            return
        close = self._close or head.close
        if self._front.draining:
            close = True
            if self._settings.farewell:
                head = with_fields(head, self._settings.farewell)
        if self._body is not None and not close:
            close = self._leaves_content(more)
        date = _date.at(self._clock())
        data, self._left = open_answer(head, body, more, self._is_head, self._minor, close, date)
        self._close = close or self._left == UNTIL_CLOSE
        self._head_sent = True
        if more:
            self._announced = head.trailer
            self._producing = True
            self._transport.registerProducer(self, True)
        self._written += len(data)
        self._transport.write(data)
        if not more:
            self._complete()

    def _answer_at_once(self, data: bytes) -> None:
        """The whole answer to an ordinary request: what `respond` does without what most answers do not need."""
        self._head_sent = True
        self._written += len(data)
        self._transport.write(data)
        self._answered = True
        exchange = self._exchange
        if exchange is None:  # `_begin` settles it, or the connection is lost
            return
        if self._transport.buffered():
            self._settle()
            return
        self._exchange = None
        self._phase = IDLE
        exchange.sent()
        if self._buffer or self._eof or self._paused:
            self._advance()

    def send(self, body: bytes, more: bool) -> None:
        """Send a piece of the content. One that contradicts the content-length cuts: ``lost("length")``.

        :raises BadResponse: no head was sent yet.
        """
        if self._is_over():
            return
        if not self._head_sent:
            raise BadResponse("content before the head")
        try:
            data, self._left = frame_piece(self._left, body, more)
        except BadResponse:
            self._break_off("length")
            return
        if data:
            self._write(data)
        if not more:
            self._complete()

    def trailers(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """End the answer with trailer fields; they are dropped where they cannot be sent (not chunked, not announced).

        :raises BadResponse: a name or value that must not be sent; the answer is still open then.
        """
        if self._is_over():
            return
        data = frame_trailers(headers)
        if self._head_sent and self._left == CHUNKED and self._announced:
            self._write(data)
            self._complete()
        else:
            self.send(b"", False)

    def interim(self, head: ResponseHead) -> None:
        """Send a 1xx head; dropped for HTTP/1.0 and once the final head was sent.

        :raises BadResponse: *head* is not a 1xx.
        """
        if head.status >= 200:
            raise BadResponse("a final head as an interim one")
        if self._is_over() or self._head_sent or not self._minor:
            return
        if head.status == 100:
            self._expecting = False
        self._write(head.head + b"\r\n")

    def simple(self, status: int, body: bytes = b"", headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """A whole small answer by the server itself, text/plain unless *headers* say otherwise.

        When a head was sent already, this is `cut`.
        """
        if self._is_over():
            return
        if self._head_sent:
            self.cut()
            return
        fields = list(headers)
        if body and not any(name.lower() == b"content-type" for name, _ in fields):
            fields.append((b"content-type", b"text/plain; charset=utf-8"))
        self.respond(render(status, fields), body, False)

    def cut(self) -> None:
        """Break the answer off: the connection is aborted, so that the client sees it is incomplete; ``lost("cut")``.

        Also while the last bytes of a complete answer are still waiting for the client.
        """
        if self._phase == BUSY:
            self._break_off("cut")

    # ------------------------------------------------------------------------------- the loop

    def _advance(self) -> None:
        """Work through the buffer: one loop for all phases, so that pipelined requests do not recurse."""
        if self._running:
            return
        self._running = True
        going = True
        while going and self._buffer:
            going = self._take_head() if self._phase <= HEAD_BEGUN else self._take_content()
        self._running = False
        if self._eof:
            self._end_of_input()
        if self._held or self._paused or self._buffer:
            self._regulate()

    def _regulate(self) -> None:
        """Read, or not: not while content is held, nor too far beyond the request in hand.

        The wakers: `resume_body` for held content; `_flushed`, by way of `_advance`, for what was read ahead.
        """
        ahead = self._phase == BUSY and len(self._buffer) > self._settings.read_ahead
        if (self._held or ahead) != self._paused and self._phase < CLOSING:
            self._paused = not self._paused
            if self._paused:
                self._transport.pauseProducing()
            else:
                self._mark = -1.0
                self._transport.resumeProducing()

    def _end_of_input(self) -> None:
        """No byte will follow the buffer."""
        if self._phase <= HEAD_BEGUN or self._phase == DISCARD:
            self._shut()
        elif self._phase == BUSY and self._body is not None and not self._answered and not self._held:
            self._give_up("client")

    # ------------------------------------------------------------------------------- requests

    def _take_head(self) -> bool:
        """Begin an exchange if the buffer holds a whole head; whether there may be more to do."""
        data = self._buffer
        settings = self._settings
        end = data.find(b"\r\n\r\n", self._scanned)
        line_end = data.find(b"\r\n")
        if (
            line_end <= 0
            or end < 0
            or line_end > settings.max_line
            or end - line_end > settings.max_header_bytes
        ):
            return self._take_partial(data, line_end)
        try:
            line = parse_request_line(data[:line_end])
            block = data[line_end + 2 : end + 2]
            if block == self._memo:
                head = self._memo_block
            else:
                head = parse_block(block, settings.max_fields)
                if end - line_end <= MAX_MEMO:
                    self._memo = block
                    self._memo_block = head
            request = understand(line, head, settings.max_request_size)
        except Refused as refused:
            self._refuse(refused, data[:5] == b"HEAD ")
            return False
        end += 4
        if end == len(data) and not request.length and end <= MAX_MEMO:
            self._repeat = data
            self._request = request
        self._buffer = data[end:]
        self._scanned = 0
        self._empty_lines = 0
        self._begin(request)
        return True

    def _begin(self, request: Request) -> None:
        """Open the exchange. It may be answered, or even lost, before the front has returned it."""
        self._phase = BUSY
        self._mark = -1.0
        self._body = None
        if request.ordinary:
            self._ordinary = True
            self._minor = 1
            self._is_head = self._close = self._expecting = False
        else:
            self._begin_other(request)
        self._head_sent = False
        self._answered = False
        self._discarded = 0
        self._loss = ""
        self._beginning = True
        try:
            exchange = self._front.begin(self, request)
        finally:
            self._beginning = False
        if self._loss:
            exchange.lost(self._loss)
            if self._phase == LOST:
                self._front.closed(self)
            return
        self._exchange = exchange
        if self._answered:
            self._settle()
        elif self._backed_up:
            exchange.pause()

    def _begin_other(self, request: Request) -> None:
        """What an ordinary request need not say."""
        self._ordinary = False
        self._minor = request.minor
        self._is_head = request.method == "HEAD"
        self._close = not request.persistent
        self._expecting = request.expect
        if request.length:
            self._body = Body(request.length, self._settings)
            self._body.trailers = request.trailers

    def _take_partial(self, data: bytes, line_end: int) -> bool:
        """A head that is not complete, or too large: skip empty lines, refuse what can be refused already."""
        if line_end == 0:
            self._empty_lines += 1
            self._buffer = data[2:]
            self._scanned = 0
            if self._empty_lines > MAX_EMPTY_LINES:
                self._refuse(Refused(400, "too many empty lines before a request"), False)
                return False
            return True
        refused = partial_fault(data, line_end, self._settings)
        if refused is not None:
            self._refuse(refused, data[:5] == b"HEAD ")
            return False
        self._scanned = max(0, len(data) - 3)
        if self._phase != HEAD_BEGUN:
            self._phase = HEAD_BEGUN
            self._mark = -1.0
        return False

    # ------------------------------------------------------------------------ the request's content

    def _take_content(self) -> bool:
        """Hand on what the buffer holds of the content, or drop it after the answer; whether there may be more to do."""
        body = self._body
        if body is None or self._held or self._phase > DISCARD:
            return False
        content = body.feed(self._buffer)
        self._buffer = b""
        self._expecting = False
        self._mark = -1.0
        if body.done:
            self._body = None
            self._buffer = body.rest
        exchange = None if self._answered else self._exchange
        if exchange is None:
            self._drop_content(body, len(content))
            return True
        more = not body.done
        if content or not more:
            self._in_body = True
            going = exchange.body(content, more)
            if not going and self._in_body and more and self._exchange is exchange and not self._answered:
                self._held = True
            self._in_body = False
        if body.fault is not None:
            self._refuse_content(body.fault)
        return True

    def _drop_content(self, body: Body, size: int) -> None:
        """The answer is complete: take the rest off the connection if that is soon done, else close."""
        self._discarded += size
        if body.fault is not None or self._discarded > self._settings.max_discard:
            self._body = None
            self._close = True
            if self._phase == DISCARD:
                self._shut()
        elif body.done and self._phase == DISCARD:
            self._await_request()

    def _refuse_content(self, fault: Refused) -> None:
        """The rest of the content cannot be read: the answer ends here, whatever there is of it."""
        self._body = None
        if self._phase == DISCARD:
            self._shut()
        elif self._phase != BUSY:
            return
        elif self._answered:
            self._close = True
        elif self._head_sent:
            self._front.refused(self, 0, fault.reason)
            self._break_off(_FAULTS.get(fault.status, "malformed"))
        else:
            self._refuse(fault, self._is_head, _FAULTS.get(fault.status, "malformed"))

    def _leaves_content(self, more: bool) -> bool:
        """Whether an answer given now should say that it is the last, for the sake of unread content."""
        if self._expecting:
            return True  # the client may send the content or not: nobody knows where the next request begins
        return not more and self._body is not None and self._body.left > self._settings.max_discard

    # ---------------------------------------------------------------------- how things end

    def _is_over(self) -> bool:
        """Whether nothing can be answered: no exchange, or its answer is complete."""
        return self._answered or self._phase != BUSY

    def _write(self, data: bytes) -> None:
        self._written += len(data)
        self._transport.write(data)

    def _complete(self) -> None:
        """The answer is written to its end."""
        self._answered = True
        self._held = False
        if self._producing:
            self._forget_producer()
        if not self._beginning and self._exchange is not None:
            self._settle()

    def _settle(self) -> None:
        """The exchange ends when the kernel has all of it. The waker is the transport's flush, or its loss."""
        if self._transport.buffered():
            if self._body is not None:
                self._advance()  # a client may be unable to take the answer before its content is taken
            self._transport.on_flush(self._flushed)
        else:
            self._flushed()

    def _flushed(self) -> None:
        exchange = self._exchange
        if exchange is None or not self._answered:
            return
        self._exchange = None
        if self._close or (self._body is not None and self._body.left > self._settings.max_discard):
            self._phase = CLOSING
            exchange.sent()
            if self._phase == CLOSING:
                self._shut()
            return
        if self._body is not None:
            self._phase = DISCARD
            self._mark = -1.0
        else:
            self._await_request()
        exchange.sent()
        if self._buffer or self._eof or self._paused:
            self._advance()

    def _await_request(self) -> None:
        self._phase = IDLE
        self._mark = -1.0
        self._scanned = 0

    def _forget_producer(self) -> None:
        self._producing = False
        self._backed_up = False
        self._transport.unregisterProducer()

    def _shut(self) -> None:
        """Close so that what was written arrives: FIN, then read on for a while, lest a reset overtakes it."""
        self._phase = CLOSING
        self._buffer = b""
        self._body = None
        self._held = False
        if self._paused:
            self._paused = False
            self._transport.resumeProducing()
        if self._eof:
            self._transport.loseConnection()
        else:
            self._transport.close_lingering(self._settings.linger)

    def _lose(self, reason: str) -> None:
        """End the exchange, if one is open, without a complete answer."""
        self._body = None
        self._held = False
        if self._producing:
            self._forget_producer()
        exchange = self._exchange
        if exchange is not None:
            self._exchange = None
            exchange.lost(reason)
        elif self._beginning and not self._loss:
            self._loss = reason

    def _break_off(self, reason: str) -> None:
        """Abort, so that the client cannot take what it has for the whole."""
        self._phase = CLOSING
        self._buffer = b""
        self._lose(reason)
        self._transport.abortConnection()

    def _give_up(self, reason: str) -> None:
        """The client is gone, or as good as: abort if it has a part of an answer, else just close."""
        if self._head_sent and self._phase == BUSY:
            self._break_off(reason)
            return
        self._lose(reason)
        self._shut()

    def _refuse(self, refused: Refused, bodyless: bool, reason: str = "malformed") -> None:
        """Answer for ourselves and close. An open exchange, of which nothing was sent yet, is lost first."""
        self._front.refused(self, refused.status, refused.reason)
        self._lose(reason)
        if self._phase >= CLOSING:
            return
        date = _date.at(self._clock())
        if self._front.draining:
            date += self._settings.farewell
        self._write(refusal_answer(refused.status, refused.reason, date, bodyless))
        self._shut()

    # ------------------------------------------------------------------------------- time-outs

    def _takes_nothing(self, now: float) -> bool:
        """Whether what is waiting for the client has waited too long."""
        stalled = self._stall.seconds(now, self._written, self._transport.buffered())
        limit = self._settings.write_timeout
        return limit > 0 and stalled >= limit

    def _patience(self) -> float:
        """For how long this phase waits for the client, 0 for ever."""
        phase = self._phase
        settings = self._settings
        if phase == IDLE:
            return settings.keep_alive_timeout
        if phase <= HEAD_BEGUN:
            return settings.header_timeout
        if phase == DISCARD:
            return settings.body_timeout
        if (
            phase == BUSY
            and self._body is not None
            and not (self._paused or self._expecting or self._answered)
        ):
            return settings.body_timeout
        return 0.0

    def _expire(self) -> None:
        """Patience has run out. Who never sent a byte, or none of a next request, is not answered."""
        if self._phase == HEAD_BEGUN:
            self._refuse(Refused(408, "the head of the request did not come in time"), False)
        elif self._phase != BUSY:
            self._shut()
        elif self._head_sent:
            self._front.refused(self, 0, "the content of the request did not come in time")
            self._break_off("timeout")
        else:
            self._refuse(
                Refused(408, "the content of the request did not come in time"), self._is_head, "timeout"
            )
