"""The client's frames that carry no request: windows, resets, SETTINGS, PING and the like (RFC 9113 section 6).

It also counts what a client does that brings nothing, and refuses streams. Requests, and the room for their content,
are the subject of `intake`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twisted_rr.http2.codes import (
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    PROTOCOL_ERROR,
    STREAM_CLOSED,
    ConnectionFault,
)
from twisted_rr.http2.flow import OVERFLOW, grown
from twisted_rr.http2.frames import (
    ACK,
    CONTINUATION,
    GOAWAY,
    MAX_ID,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    SETTINGS_ACK,
    U32,
    WINDOW_UPDATE,
    ping,
)
from twisted_rr.http2.limits import Allowance, PingPolicy
from twisted_rr.http2.peer import Peer
from twisted_rr.http2.settings import MAX_WINDOW
from twisted_rr.http2.states import (
    ACCEPT,
    HALF_CLOSED,
    IDLE,
    NOT_ALLOWED,
    OPEN,
    RULES,
    STREAM_ENDED,
    Numbers,
)
from twisted_rr.http2.streams import WINDOW, Stream

if TYPE_CHECKING:
    from twisted_rr.http2.session import Session

SELF_DEPENDENT: Final = "a stream that depends on itself"


class Control:
    """What the client has said of the connection so far, and how much patience is left with it.

    :ivar peer: its SETTINGS.
    :ivar is_acked: whether it has acknowledged ours.
    :ivar is_leaving: whether it has sent GOAWAY.
    """

    __slots__ = (
        "is_acked", "is_leaving", "peer",
        "_clock", "_glitches", "_numbers", "_outbox", "_pings", "_resets", "_session", "_streams",
    )  # fmt: skip

    def __init__(self, session: Session, numbers: Numbers) -> None:
        settings = session.settings
        self.peer = Peer()
        self.is_acked = False
        self.is_leaving = False
        self._session = session
        self._outbox = session.outbox
        self._streams = session.streams
        self._numbers = numbers
        self._clock = session.clock
        self._resets = Allowance(settings.resets_per_second, settings.max_resets)
        self._glitches = Allowance(settings.glitches_per_second, settings.max_glitches)
        self._pings = PingPolicy(settings.ping_interval, settings.ping_without_streams, settings.ping_strikes)

    def frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        """A frame that is neither DATA nor HEADERS, outside of a header block.

        :raises ConnectionFault: the client broke a rule that the connection depends on.
        """
        if kind == WINDOW_UPDATE:
            self._window_update(number, payload)
        elif kind == SETTINGS:
            self.settings(flags, number, payload)
        elif kind == PING:
            self._ping(flags, number, payload)
        elif kind == RST_STREAM:
            self._rst_stream(number, payload)
        elif kind == PRIORITY:
            self._priority(number, payload)
        elif kind == GOAWAY:
            self._goaway(number, payload)
        elif kind == CONTINUATION:
            raise ConnectionFault(PROTOCOL_ERROR, "CONTINUATION without a header block")
        elif kind == PUSH_PROMISE:
            raise ConnectionFault(PROTOCOL_ERROR, "PUSH_PROMISE from a client")
        else:
            self.glitch()  # unknown frames are ignored (section 4.1)

    # ------------------------------------------------------------------------------------ windows

    def widen(self, number: int, increment: int) -> bool:
        """The short way of an ordinary WINDOW_UPDATE, of which some clients send two for each request.

        False, and nothing was done, when anybody waits for it or anything is special.
        """
        if number:
            stream = self._streams.get(number)
            if stream is None or stream.waits == WINDOW:
                return False
            window = stream.send_window + increment
            if not 0 < increment <= MAX_WINDOW >= window:
                return False
            stream.send_window = window
            return True
        outbox = self._outbox
        window = outbox.window + increment
        if outbox.starved or not 0 < increment <= MAX_WINDOW >= window:
            return False
        outbox.window = window
        return True

    def _window_update(self, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(FRAME_SIZE_ERROR, "the length of WINDOW_UPDATE")
        increment = U32.unpack(payload)[0] & MAX_ID
        if self.rule(WINDOW_UPDATE, number) != ACCEPT:
            if not increment:
                self.glitch()
        elif not number:
            if not increment:
                raise ConnectionFault(PROTOCOL_ERROR, "WINDOW_UPDATE by 0")
            if not self._outbox.widen(increment):
                raise ConnectionFault(FLOW_CONTROL_ERROR, "the window of the connection overflows")
        elif not increment:
            self.refuse(number, PROTOCOL_ERROR, "WINDOW_UPDATE by 0")
        elif not self._widen(self._streams[number], increment):
            self.refuse(number, FLOW_CONTROL_ERROR, "the window of the stream overflows")

    def _widen(self, stream: Stream, increment: int) -> bool:
        """False when the stream's window overflows. Wakes it if it waits for that window."""
        stream.send_window = grown(stream.send_window, increment)
        if stream.waits == WINDOW and stream.send_window > 0:
            self._outbox.enter(stream)
        return stream.send_window != OVERFLOW

    # ------------------------------------------------------------------------------ other frames

    def settings(self, flags: int, number: int, payload: bytes) -> None:
        """SETTINGS, or the acknowledgement of ours.

        :raises ConnectionFault: they make no sense.
        """
        if number:
            raise ConnectionFault(PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & ACK:
            if payload:
                raise ConnectionFault(FRAME_SIZE_ERROR, "an acknowledgement with content")
            self.is_acked = True
            return
        self.glitch()
        window = self.peer.window
        self.peer.read(payload)
        outbox = self._outbox
        if self.peer.small_table:
            outbox.shrink_table()
        outbox.put(SETTINGS_ACK)
        if self.peer.window != window:
            for stream in self._streams.values():
                if not self._widen(stream, self.peer.window - window):
                    raise ConnectionFault(FLOW_CONTROL_ERROR, "SETTINGS let the window of a stream overflow")

    def _ping(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise ConnectionFault(FRAME_SIZE_ERROR, "the length of PING")
        if flags & ACK:
            self._session.ping_acknowledged(payload)
            return
        self.glitch()
        if self._pings.exceeded(self._clock(), len(self._streams), self._outbox.answers):
            raise ConnectionFault(ENHANCE_YOUR_CALM, "too_many_pings")  # gRPC clients know this word
        self._outbox.put(ping(payload, True))

    def _rst_stream(self, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(FRAME_SIZE_ERROR, "the length of RST_STREAM")
        if self.rule(RST_STREAM, number) == ACCEPT:
            self._session.drop(self._streams[number], U32.unpack(payload)[0])
            self.count_reset()

    def _priority(self, number: int, payload: bytes) -> None:
        """Priorities are ignored, but for what would be wrong in any case (section 6.3)."""
        self.rule(PRIORITY, number)
        if len(payload) == 5 and depends_on(payload) != number:
            self.glitch()
            return
        code = PROTOCOL_ERROR if len(payload) == 5 else FRAME_SIZE_ERROR
        reason = SELF_DEPENDENT if len(payload) == 5 else "the length of PRIORITY"
        state = self._state(number)
        if state in (OPEN, HALF_CLOSED):
            self.refuse(number, code, reason)
        elif state == IDLE or code == FRAME_SIZE_ERROR:
            # An idle stream cannot be reset (section 6.4), nor one that is over; and no sound client gets here.
            raise ConnectionFault(code, reason)
        else:
            self.glitch()

    def _goaway(self, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(payload) < 8:
            raise ConnectionFault(FRAME_SIZE_ERROR, "the length of GOAWAY")
        self.is_leaving = True

    # --------------------------------------------------------------------------- rules and limits

    def _state(self, number: int) -> int:
        stream = self._streams.get(number)
        return self._numbers.state(number) if stream is None else stream.state

    def rule(self, kind: int, number: int) -> int:
        """What becomes of a frame.

        :raises ConnectionFault: it ends the connection.
        """
        rule = RULES[self._state(number)][kind]
        if rule == NOT_ALLOWED:
            raise ConnectionFault(PROTOCOL_ERROR, "a frame for a stream that is not open")
        if rule == STREAM_ENDED:
            raise ConnectionFault(STREAM_CLOSED, "HEADERS for a stream that has ended")
        return rule

    def refuse(self, number: int, code: int, reason: str) -> None:
        """A stream error of the client's making.

        :raises ConnectionFault: one too many.
        """
        self._session.reset_stream(number, code, reason)
        self.count_reset()

    def count_reset(self) -> None:
        """A stream was ended early by the client, or for its fault.

        :raises ConnectionFault: one too many.
        """
        if self._resets.exceeded(self._clock()):
            raise ConnectionFault(ENHANCE_YOUR_CALM, "too many streams were reset")

    def glitch(self) -> None:
        """Something that makes work and brings nothing.

        :raises ConnectionFault: one too many.
        """
        if self._glitches.exceeded(self._clock()):
            raise ConnectionFault(ENHANCE_YOUR_CALM, "too many frames that bring nothing")


def depends_on(payload: bytes) -> int:
    """The stream that a priority at the beginning of *payload* names."""
    stream: int = U32.unpack_from(payload)[0] & MAX_ID
    return stream
