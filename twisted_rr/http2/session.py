"""One HTTP/2 connection, seen from the server: its streams, its output, and how it ends (RFC 9113).

What the client's frames do is in `intake`, what a front does to a stream in `streams`, time-outs in `watch`.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted_rr.http2.blocks import response
from twisted_rr.http2.codes import CANCEL, NO_ERROR, ConnectionFault
from twisted_rr.http2.contract import Front, Transport
from twisted_rr.http2.frames import (
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_HEADER_LIST_SIZE,
    goaway,
    ping,
    rst_stream,
    window_update,
)
from twisted_rr.http2.frames import settings as settings_frame
from twisted_rr.http2.goaway import LEAVING, PING_PAYLOAD, STAYING, Departure
from twisted_rr.http2.intake import Intake
from twisted_rr.http2.outbox import Outbox
from twisted_rr.http2.settings import DEFAULT_WINDOW, SessionSettings
from twisted_rr.http2.states import CLOSED, OPEN
from twisted_rr.http2.streams import Stream
from twisted_rr.http2.watch import Watch


class Session:
    """The server's end of one connection.

    It gathers its output: ``front.dirty`` asks for a call of `flush` in the same reactor turn.

    :ivar settings: as given.
    :ivar clock: as given.
    :ivar max_age: seconds until the client is told to go, from the settings; a front may vary it, lest many clients
        reconnect at the same time.
    :ivar stream_window: how much a client may send on a stream before anything is consumed.
    :ivar streams: those that are open, by number.
    :ivar departure: whether the client was told to go.
    :ivar intake: what comes from the client.
    :ivar outbox: what waits to be sent.
    :ivar written: bytes given to the transport.
    :ivar is_closing: nothing is taken from the client any more.
    """

    __slots__ = (
        "clock", "departure", "intake", "is_closing", "max_age", "outbox", "settings", "stream_window", "streams",
        "transport", "written",
        "_finished", "_front", "_is_busy", "_is_flush_due", "_is_lost", "_is_shut", "_is_waiting", "_watch",
    )  # fmt: skip

    def __init__(
        self, transport: Transport, front: Front, settings: SessionSettings, clock: Callable[[], float]
    ) -> None:
        """*clock* is monotonic, in seconds. Nothing is sent before `start`."""
        self.settings = settings
        self.clock = clock
        self.max_age = settings.max_age
        self.stream_window = settings.stream_window
        self.streams: dict[int, Stream] = {}
        self.departure = Departure()
        self.transport = transport
        self.written = 0
        self.is_closing = False
        self._front = front
        self._finished: list[Stream] = []  # answered to the end; the kernel may not have taken it
        self._is_busy = False  # inside receive or flush, which look at the output when they end
        self._is_flush_due = False  # flush was called meanwhile
        self._is_waiting = False  # for the transport; the waker is its flush
        self._is_shut = False
        self._is_lost = False
        self.outbox = Outbox(self, settings.max_write, settings.max_queued)
        self.intake = Intake(self)
        self._watch = Watch(self)

    @property
    def open_streams(self) -> int:
        """How many streams are open: their requests or answers are not complete."""
        return len(self.streams)

    # ------------------------------------------------------------------------- from the transport

    def start(self) -> None:
        """Send our SETTINGS; to be called once, first."""
        settings = self.settings
        values = [
            (MAX_CONCURRENT_STREAMS, settings.max_streams),
            (INITIAL_WINDOW_SIZE, settings.stream_window),
            (MAX_HEADER_LIST_SIZE, settings.max_header_list),
        ]
        more = settings.connection_window - DEFAULT_WINDOW
        self.outbox.put(settings_frame(values) + (window_update(0, more) if more else b""))

    def receive(self, data: bytes) -> None:
        """Bytes from the client."""
        if self.is_closing:
            return
        outbox = self.outbox
        was_told = outbox.is_told
        outbox.is_told = True
        self._is_busy = True
        try:
            self.intake.feed(data)
        except ConnectionFault as fault:
            self.fail(fault.code, fault.reason)
        finally:
            self._is_busy = False
            outbox.is_told = was_told
        if self._is_waiting and outbox.size > self.settings.max_unread:
            self.abort("the client asks for answers and does not read them")
        self._after()

    def eof_received(self) -> None:
        """The client's FIN: what is open ends by ``reset(CANCEL)``, then the connection is closed."""
        if not self.is_closing:
            self._end(CANCEL)

    def connection_lost(self) -> None:
        """The connection is gone: what is open ends by ``reset(CANCEL)``, then ``front.closed``. Idempotent."""
        if self._is_lost:
            return
        self._is_lost = True
        self.is_closing = True
        self._drop_all(CANCEL)
        finished = self._finished
        self._finished = []
        for stream in finished:
            self._report_reset(stream, CANCEL)
        self._front.closed(self)

    # ------------------------------------------------------------------------------- from the front

    def flush(self) -> None:
        """Write what was gathered, unless the transport still holds what was written before."""
        if self._is_busy:
            self._is_flush_due = True
            return
        if self._is_lost or (self._is_waiting and not self.is_closing):
            return
        try:
            self._write()
        except Exception:
            # Nobody would ask for the output again, and everything on the connection wait for ever.
            self._is_busy = False
            self.transport.abortConnection()
            raise

    def _write(self) -> None:
        self._is_busy = True
        self.outbox.is_told = True
        data = self.outbox.take()
        self._is_busy = False
        is_last = self.is_closing  # who closes from here on has more to write
        transport = self.transport
        if data:
            self.written += len(data)
            transport.write(data)
        if transport.buffered():
            self._is_waiting = True
            self.outbox.hold()
            # The waker of all output from here on.
            transport.on_flush(self._taken)
        else:
            self._taken()
        if is_last and not self._is_shut:
            self._is_shut = True
            transport.close_lingering(self.settings.linger)

    def forget_heads(self) -> None:
        """Keep nothing that a front derived from heads: what it goes by has changed."""
        self.intake.forget_heads()

    def sweep(self, now: float) -> None:
        """Look for time-outs; to be called about once a second with the clock's *now*."""
        if not self.is_closing:
            self._watch.sweep(now)
            self._after()

    def drain(self) -> None:
        """Tell the client to go: it opens no more streams, those it has are served, then the connection closes.

        Streams that cross the first GOAWAY are served too; after the second they are refused. Idempotent.
        """
        if not self.is_closing:
            self.outbox.put(self.departure.announce(self.clock()))

    def close(self, code: int = NO_ERROR, reason: str = "") -> None:
        """End it now. What was given to be sent is sent as far as windows and the transport allow at once.

        Exchanges that are still open end by ``reset``, with CANCEL when *code* is NO_ERROR. Their streams are not
        reset, because no error code says to a client "it may have been done": a closed connection does.
        """
        if self.is_closing:
            return
        self.outbox.gather()
        self.outbox.put(goaway(self.departure.last(self.intake.numbers.last), code, reason.encode()))
        self._end(code if code else CANCEL)

    # --------------------------------------------------------------- from streams, intake and watch

    def tell(self) -> None:
        """There is output that nobody knows of."""
        self.outbox.is_told = True
        if not self._is_shut and not self._is_lost:
            self._front.dirty(self)

    def open(self, stream: Stream, end: bool) -> None:
        """A valid request: it may be answered, or be lost, before the front has returned its exchange."""
        exchange = self._front.begin(self, stream, stream.head, end)
        if stream.fault < 0:
            stream.exchange = exchange
        else:
            exchange.reset(stream.fault)

    def open_whole(self, stream: Stream, content: bytes) -> None:
        """A valid request, all of which is here."""
        exchange = self._front.begin_whole(self, stream, stream.head, content)
        if stream.fault < 0:
            stream.exchange = exchange
        else:
            exchange.reset(stream.fault)

    def finish(self, stream: Stream) -> None:
        """The last frame of the answer was gathered. A client that is still sending is told to stop."""
        if stream.state == OPEN:
            self.outbox.put(rst_stream(stream.id, NO_ERROR))
            self.intake.numbers.was_reset(stream.id)
        stream.state = CLOSED
        del self.streams[stream.id]
        if stream.held:
            self.intake.refund(stream.held)
            stream.held = 0
        self._finished.append(stream)
        if not self.outbox.is_told:
            self.tell()

    def break_off(self, stream: Stream, code: int) -> None:
        """RST_STREAM by the exchange."""
        if stream.state == OPEN:
            self.intake.numbers.was_reset(stream.id)
        self._forget(stream)
        self.outbox.put(rst_stream(stream.id, code))

    def reset_stream(self, number: int, code: int, reason: str) -> None:
        """RST_STREAM for a fault of the client; the stream may not have been opened."""
        self._front.refused(self, number, code, reason)
        self.outbox.put(rst_stream(number, code))
        stream = self.streams.get(number)
        if stream is None or stream.state == OPEN:
            self.intake.numbers.was_reset(number)
        if stream is not None:
            self.drop(stream, code)

    def answer_oversized(self, number: int, end: bool, reason: str) -> None:
        """Answer a request with too large a head, which is not opened."""
        self._front.refused(self, number, NO_ERROR, reason)
        self.outbox.put_answer(number, response(self.settings.oversized_status))
        if not end:
            self.outbox.put(rst_stream(number, NO_ERROR))

    def drop(self, stream: Stream, code: int) -> None:
        """The stream is over without a complete answer; its exchange hears *code*."""
        self._forget(stream)
        self._report_reset(stream, code)

    def ping_acknowledged(self, payload: bytes) -> None:
        """The client has read what was sent before that PING."""
        if payload == PING_PAYLOAD:
            self.leave()

    def leave(self) -> None:
        """The first GOAWAY was read, or had its time: name the last stream."""
        if not self.is_closing:
            self.outbox.put(self.departure.settle(self.intake.numbers.last))

    def ask(self, payload: bytes) -> None:
        """Ask the client for a sign of life."""
        self.outbox.put(ping(payload))

    def fail(self, code: int, reason: str) -> None:
        """The client's fault ends the connection: GOAWAY with *code*; exchanges hear it too."""
        if not self.is_closing:
            self._front.refused(self, 0, code, reason)
            self.outbox.put(goaway(self.departure.last(self.intake.numbers.last), code, reason.encode()))
            self._end(code)

    def abort(self, reason: str) -> None:
        """The client cannot be reached by frames any more."""
        if not self.is_closing:
            self._front.refused(self, 0, CANCEL, reason)
            self.is_closing = True
            self._is_shut = True
            self._drop_all(CANCEL)
            self.transport.abortConnection()

    # ------------------------------------------------------------------------------ how things end

    def _after(self) -> None:
        """After input or a sweep: ask for a flush if there is something to send, close if that was all."""
        self._leave_if_done()
        outbox = self.outbox
        if self._is_flush_due or (not outbox.is_told and (outbox.has_output() or self._finished)):
            self._is_flush_due = False
            self.tell()

    def _taken(self) -> None:
        """The kernel has all that was written."""
        if self._is_lost:
            return
        self._is_waiting = False
        self.outbox.release()
        finished = self._finished
        self._finished = []
        for stream in finished:
            exchange = stream.exchange
            if exchange is not None:
                # Both go at once, and their memory is the next one's, if neither holds the other.
                stream.exchange = None
                exchange.closed()
        self.outbox.is_told = False
        self._after()

    def _leave_if_done(self) -> None:
        """Close once the client was told to go, or said that it will, and nothing is left to do."""
        if self.departure.state == STAYING and not self.intake.is_leaving:
            return
        if self.is_closing or self.streams or self._finished:
            return
        if self.departure.state != LEAVING:
            if not self.intake.is_leaving:
                return
            self.outbox.put(goaway(self.departure.last(self.intake.numbers.last), NO_ERROR))
        self._end(CANCEL)

    def _end(self, code: int) -> None:
        """Take nothing more; the next flush writes what is gathered, and closes."""
        self.is_closing = True
        self._drop_all(code)
        if not self.outbox.is_told or self._is_waiting:
            self.tell()

    def _drop_all(self, code: int) -> None:
        for stream in list(self.streams.values()):
            if stream.state != CLOSED:
                self.drop(stream, code)

    def _forget(self, stream: Stream) -> None:
        stream.state = CLOSED
        if stream.waits:
            self.outbox.forget(stream)
        stream.queue.clear()
        stream.queued = 0
        self.streams.pop(stream.id, None)
        if stream.held and not self.is_closing:
            self.intake.refund(stream.held)
        stream.held = 0

    def _report_reset(self, stream: Stream, code: int) -> None:
        exchange = stream.exchange
        if exchange is None:
            stream.fault = code
        else:
            stream.exchange = None
            exchange.reset(code)
