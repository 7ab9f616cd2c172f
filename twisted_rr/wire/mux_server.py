"""The server's end of one mux relay (mux.md): calls out, answers in.

Sockets, the choice of a worker and what becomes of a lost call are its owner's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted_rr.errors import ApplicationError, Cancelled, FrameError, TooLarge, Truncated
from twisted_rr.wire.buffer import Pending
from twisted_rr.wire.call import Call, Refused
from twisted_rr.wire.control import encode_control, parse_control
from twisted_rr.wire.credit import threshold, topped_up
from twisted_rr.wire.frame import CODEC_RAW, FIRST_BYTES, MESSAGE, PART, PREFIX, TEXT
from twisted_rr.wire.heartbeat import Heartbeat
from twisted_rr.wire.messages import Assembly
from twisted_rr.wire.mux_frames import (
    CALL_WORDS,
    IS_CONTEXT,
    IS_CONTROL,
    IS_CREDIT,
    IS_MESSAGE,
    IS_PING,
    IS_PLAIN,
    IS_PONG,
    IS_STOP,
    LONG,
    PING_FRAME,
    PONG_FRAME,
    THREE,
    TWO,
    table_for,
    wrong,
)
from twisted_rr.wire.mux_server_out import ServerOutput
from twisted_rr.wire.mux_settings import MAX_CONTEXT, MAX_ID, MuxSettings


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

    :ivar load: calls opened whose terminal frame has not come; keep it below *limit*.
    :ivar limit: calls at once; the worker's ``capacity`` lowers it.
    :ivar accepting: False after ``retire``, while a heartbeat is missed, and when ids have run out.
    :ivar missed: the worker did not answer a heartbeat, nor send anything since.
    :ivar calls: by id, those on the wire whose terminal frame has not come; cancelled ones too.
    """

    __slots__ = (
        "owner", "settings", "codec", "limit", "load", "accepting", "missed", "calls",
        "_out", "_half", "_max_frame", "_window", "_peer_window", "_table", "_pending", "_beat", "_lost", "_retired",
        "_long", "_long_left", "_long_more",
    )  # fmt: skip

    def __init__(self, owner: Any, settings: MuxSettings) -> None:
        self.owner = owner
        self.settings = settings
        self.codec = settings.codec
        self.limit = settings.streams
        self.load = 0
        self.accepting = True
        self.missed = False
        self.calls: dict[int, Call] = {}
        self._out = ServerOutput(owner, self.calls, settings)
        self._max_frame = settings.max_frame
        self._window = settings.window
        self._peer_window = settings.peer_window
        self._half = threshold(settings.window)
        self._table = table_for(settings.codec, settings.max_frame)
        self._pending = Pending()
        self._beat = Heartbeat()
        self._lost = False
        self._retired = False
        self._long: Call | None = None  # whose long frame is coming
        self._long_left = 0
        self._long_more = False

    # ------------------------------------------------------------------ calls, as the owner sees them

    def open(self, call: Call, context: bytes, body: bytes, more: bool) -> None:
        """Queue *call*'s open; it gets its id when `take` hands the frame over.

        *body* comes before what is in ``call.queue``; *more* says whether the source will still send.
        Whether a slot is free is the owner's to see.

        :raises TooLarge: a context of more than 1 MiB; nothing was queued.
        """
        if len(context) > MAX_CONTEXT:
            raise TooLarge(f"a context of {len(context)} bytes, at most {MAX_CONTEXT} are possible")
        call.end = self
        call.more = more
        call.held = body
        call.credit_in = self._window
        call.credit_out = self._peer_window
        self.load += 1
        self._out.open(call, context, body)

    def pump(self, call: Call) -> None:
        """For `Call`: it has more to send."""
        # Without an id its open is still queued: the waker is take(), which looks at the queue then.
        if call.id and not call.active and call.ready():
            self._out.activate(call)

    def cancel(self, call: Call, reason: str) -> None:
        """For `Call`: give it up. Before its id was given nothing is sent and the slot is free at once."""
        call.cancelled = True
        if call.id == 0:
            self.load -= 1  # take() skips its open, since it has ended
            call.fail(Cancelled(reason))
            self.owner.freed(call)
        else:
            self._out.stop(call, reason)
            call.fail(Cancelled(reason))

    def resume(self, call: Call) -> None:
        """For `Call`: its consumer takes again, so what was held back is granted."""
        if call.taken >= self._half and not call.granting and call.id in self.calls:
            self._out.grant(call)

    def control(self, message: dict[str, Any]) -> None:
        """Queue a control frame of the relay: ``{"stop": True}``, ``{"draining": {"deadline_ms": n}}``."""
        self._out.relay(encode_control(message))

    def tick(self, now: float) -> None:
        """Heartbeat; call it about once a second with monotonic seconds. Sets `missed`."""
        if "heartbeat" in self.settings.caps:
            if self._beat.tick(now, self.load > 0):
                self._out.relay(PING_FRAME)
            self._set_missed(self._beat.missed)

    def take_back(self) -> list[Call]:
        """The relay is lost: the calls whose open never left it, which can be opened elsewhere."""
        calls = [call for call in self._out.waiting() if not call.ended]
        self._out.forget_opens()
        self.load -= len(calls)
        return calls

    def fail_all(self, error_for: Callable[[Call], Exception]) -> None:
        """The relay is lost: every call that has not ended gets ``failed(error_for(call))``. Idempotent."""
        self._lost = True
        self.accepting = False
        calls = list(self.calls.values()) + self._out.waiting()
        self.calls.clear()
        self._out.clear()
        self.load = 0
        for call in calls:
            if not call.ended:
                call.fail(error_for(call))

    def take(self) -> bytes:
        """The next piece to write, about 256 KiB at most; empty when there is none."""
        return b"".join(self.take_parts())

    def take_parts(self) -> list[Any]:
        """The same not joined, bytes and views of bytes: large bodies are written from where they are."""
        if self._lost:
            return []
        parts = self._out.take()
        if self._out.last >= MAX_ID - 1 and not self._retired:
            self._retired = True
            self.accepting = False
            self.owner.said({"retire": True})
        return parts

    def take_piece(self) -> Any:
        """The same for a writer that takes either: bytes, or a list of parts."""
        parts = self.take_parts()
        return parts[0] if len(parts) == 1 else parts

    # ------------------------------------------------------------------ from the worker

    def feed(self, data: bytes) -> None:
        """Bytes from the worker, in any pieces; calls receivers and the owner.

        :raises FrameError: mux.md 5's list. The relay is lost then: kill the worker, `fail_all`.
        """
        if self._lost:
            return
        self._beat.heard = True
        try:
            if self._long is not None:
                data = self._go_on(self._long, data)
            elif self._pending.size:
                data = self._pending.join(data)
            if not data:
                return
            pos = self._read(data)
            if pos < len(data):
                self._leave_off(data, pos)
        except FrameError:
            if self._lose():
                raise
            # else `fail_all` was called out of a callback, and what is left means nothing
        except Exception:
            self._lose()
            raise

    def eof(self) -> None:
        """The worker closed its end.

        :raises Truncated: inside a frame.
        """
        if (self._pending.size or self._long is not None) and not self._lost:
            raise Truncated("the relay ended inside a frame", self._pending.peek()[:FIRST_BYTES])

    def _lose(self) -> bool:
        """Read no further; whether this was the first time."""
        first = not self._lost
        self._lost = True
        return first

    def _read(self, data: bytes) -> int:  # noqa: C901
        """Every complete frame of *data*; returns where the incomplete one starts.

        Flat on purpose: each answer passes here.
        """
        known = self._table.known
        calls = self.calls
        max_frame = self._max_frame
        pos = 0
        size = len(data)
        while size - pos >= PREFIX:
            fields = known.get(data[pos : pos + PREFIX])
            if fields is None:
                fields = self._table.check(data, pos)
            kind, more, length = fields
            if kind > IS_CONTEXT:
                end = self._plain(more, data, pos, length) if kind == IS_PLAIN else 0
                if not end:
                    end = self._rare(kind, more, data, pos, length)
                if end < 0:
                    break
                pos = end
                continue
            end = pos + 20 + length
            if end > size:
                break
            split, id = TWO.unpack_from(data, pos + PREFIX)
            call = calls.get(id)
            if call is None:
                raise self._stray(id, data, pos)
            taken = length - split
            if (
                taken > call.credit_in
                or call.assembly is not None
                or length > max_frame
                or (not split or taken < 0 if kind else split)
            ):
                self._check_data(call, kind, split, length, data, pos)
            middle = pos + 20 + split
            if more:
                call.credit_in -= taken
                if not call.cancelled:
                    call.taken += taken
                    call.answered = True
                    call.held = None
                    if kind:
                        call.to.context(self.codec, data[pos + 20 : middle], data[middle:end], True)
                    else:
                        call.to.data(data[middle:end], True)
                    if call.taken >= self._half and not call.paused and not call.granting:
                        self._out.grant(call)
            else:
                del calls[id]
                self.load -= 1
                if not call.cancelled:
                    call.ended = True
                    if call.queue:
                        call.drop()
                    try:
                        if kind:
                            call.to.context(self.codec, data[pos + 20 : middle], data[middle:end], False)
                        else:
                            call.to.data(data[middle:end], False)
                    except FrameError:
                        self._put_back(call)
                        raise
                self.owner.freed(call)
            pos = end
        return pos

    def _leave_off(self, data: bytes, pos: int) -> None:
        """Keep the incomplete frame at *pos*, or begin with it if it is long; refuse what is known to be wrong already."""
        need = self._table.need(data, pos)
        if len(data) - pos < 20:
            need = min(need, 20)
        elif data[pos] & 15 >= CALL_WORDS:
            split, id = TWO.unpack_from(data, pos + PREFIX)
            call = self.calls.get(id)
            if call is None:
                raise self._stray(id, data, pos)
            if split > MAX_CONTEXT or split > need - 20:
                raise wrong(f"call {id}: a context of {split} bytes in {need - 20}", data, pos)
            kind, more, length = self._table.check(data, pos)
            if kind <= IS_CONTEXT and length - split > LONG:
                need = 20 + split
                if len(data) - pos > need:
                    self._begin_long(call, kind, more, split, length, data, pos)
                    return
        self._pending.keep(data[pos:], need)

    def _begin_long(
        self, call: Call, kind: int, more: bool, split: int, length: int, data: bytes, pos: int
    ) -> None:
        """The first part of a long frame: its receiver takes it as a piece of its own."""
        self._check_data(call, kind, split, length, data, pos)
        middle = pos + 20 + split
        first = len(data) - middle
        call.credit_in -= length - split
        self._long = call
        self._long_left = length - split - first
        self._long_more = more
        if call.cancelled:
            return
        call.taken += first
        call.answered = True
        call.held = None
        if kind:
            call.to.context(self.codec, data[pos + 20 : middle], data[middle:], True)
        else:
            call.to.data(data[middle:], True)
        self._took(call)

    def _go_on(self, call: Call, data: bytes) -> bytes:
        """More of *call*'s long frame; what follows it."""
        size = min(len(data), self._long_left)
        left = self._long_left = self._long_left - size
        rest = data[size:]
        if rest:
            data = data[:size]
        if not left:
            self._long = None
        if left or self._long_more:
            if not call.cancelled:
                call.taken += size
                call.to.data(data, True)
                self._took(call)
            return rest
        del self.calls[call.id]
        self.load -= 1
        if not call.cancelled:
            call.ended = True
            call.drop()
            try:
                call.to.data(data, False)
            except FrameError:
                self._put_back(call)
                raise
        self.owner.freed(call)
        return rest

    def _took(self, call: Call) -> None:
        """*call*'s receiver has more of its credit now."""
        if call.taken >= self._half and not call.paused and not call.granting:
            self._out.grant(call)

    def _rare(self, kind: int, more: bool, data: bytes, pos: int, length: int) -> int:
        """A frame of another kind than body and context; its end, or -1 when it is incomplete."""
        start = pos + 4 * (data[pos] & 15)
        end = start + length
        if end > len(data):
            return -1
        if kind >= IS_CONTROL:
            self._relay_frame(kind, data[start:end], data, pos)
            return end
        split, id = TWO.unpack_from(data, pos + PREFIX)
        call = self.calls.get(id)
        if call is None:
            raise self._stray(id, data, pos)
        if kind <= IS_MESSAGE:
            self._message(call, more, split, length, data, pos)
        elif kind == IS_CREDIT:
            self._credit(call, split, data, pos)
        elif kind == IS_STOP:
            if split != length:
                raise wrong(f"call {id}: a STOP with data", data, pos)
            self._stopped(call)
        else:
            if split:
                raise wrong(f"call {id}: an ERROR with a context", data, pos)
            self._over(call, ApplicationError(data[start:end].decode("utf-8", "replace")))
        return end

    def _plain(self, more: bool, data: bytes, pos: int, length: int) -> int:
        """The short way of a whole message of bytes; its end, -1 when it is incomplete, 0 when it has to go the long way."""
        end = pos + 20 + length
        if end > len(data):
            return -1
        split, id = TWO.unpack_from(data, pos + PREFIX)
        call = self.calls.get(id)
        if (
            call is None
            or split
            or length >= call.credit_in  # one that is empty needs a byte of it too
            or length > self.settings.max_message
            or call.cancelled
            or call.assembly is not None
        ):
            return 0
        if more:
            if call.runs:
                return self._run(call, data, pos)
            price = length or 1
            if not length:
                call.empties += 1
            call.credit_in -= price
            call.taken += price
            call.answered = True
            call.held = call.first = None
            call.to.message(data[pos + 20 : end], False, True)
            if call.taken >= self._half and not call.paused and not call.granting:
                self._out.grant(call)
            return end
        del self.calls[id]
        self.load -= 1
        call.ended = True
        if call.queue:
            call.drop()
        try:
            call.to.message(data[pos + 20 : end], False, False)
        except FrameError:
            self._put_back(call)
            raise
        self.owner.freed(call)
        return end

    def _run(self, call: Call, data: bytes, pos: int) -> int:
        """All messages of *call* that follow one another from *pos* on, for a receiver that takes them together."""
        known = self._table.known
        largest = self.settings.max_message
        left = call.credit_in
        size = len(data)
        number = call.id
        unpack = TWO.unpack_from
        run: list[bytes] = []
        start = pos
        while size - pos >= PREFIX:
            fields = known.get(data[pos : pos + PREFIX])
            if fields is None:
                break
            kind, more, length = fields
            if kind != IS_PLAIN or not more:
                break
            end = pos + 20 + length
            price = length or 1
            if end > size or price > left or length > largest:
                break
            split, id = unpack(data, pos + PREFIX)
            if split or id != number:
                break
            left -= price
            run.append(data[pos + 20 : end])
            pos = end
        spent = call.credit_in - left
        call.empties += spent - (pos - start - 20 * len(run))
        call.taken += spent
        call.credit_in = left
        call.answered = True
        call.held = call.first = None
        call.to.messages(run)
        if call.taken >= self._half and not call.paused and not call.granting:
            self._out.grant(call)
        return pos

    def _message(self, call: Call, more: bool, split: int, length: int, data: bytes, pos: int) -> None:
        bits = data[pos + 10]
        size = length - split
        self._check_data(call, 0 if data[pos + 1] == CODEC_RAW else IS_CONTEXT, split, length, data, pos)
        text = bits & TEXT != 0
        assembly = call.assembly
        if assembly is not None and assembly.text != text:
            raise wrong(f"call {call.id}: a message that is text in one part only", data, pos)
        price = size
        if not size and not bits & PART:
            price = 1
            call.empties += 1
        call.credit_in -= price
        middle = pos + 20 + split
        context = data[pos + 20 : middle]
        if call.cancelled:
            if not more:
                self._over(call, None)
            return
        if more and call.credit_in < -self._window:
            # The worker is of the older rule, and the client does not read: something has to bound it.
            self._give_up(call, "messages beyond its credit")
            return
        call.taken += price
        call.answered = True
        call.held = call.first = None
        if context and more:
            call.to.context(self.codec, context, b"", True)
        whole = self._assemble(call, text, bits & PART != 0, data[middle : middle + size])
        if whole is None:
            if not more:
                if not call.ended:
                    raise wrong(f"call {call.id}: ended inside a message", data, pos)
                if call.id in self.calls:  # given up just now, and this was its terminal frame
                    self._over(call, None)
        elif more:
            call.to.message(whole, text, True)
        else:
            self._last_message(call, whole, text, context)
        if more and call.taken >= self._half and not call.paused and not call.granting:
            self._out.grant(call)

    def _assemble(self, call: Call, text: bool, part: bool, data: bytes) -> bytes | None:
        """The whole message if this was its last part. One that is too large ends its call alone."""
        assembly = call.assembly
        if call.ended:  # by a callback just now
            return None
        if (assembly.size if assembly else 0) + len(data) > self.settings.max_message:
            self._give_up(call, f"a message of more than {self.settings.max_message} bytes")
            return None
        if assembly is None:
            if not part:
                return data
            assembly = call.assembly = Assembly(text)
        assembly.add(data)
        if part:
            return None
        call.assembly = None
        return assembly.whole()

    def _give_up(self, call: Call, reason: str) -> None:
        """End *call* for what its worker sent, and nothing but the call."""
        call.assembly = None
        call.cancelled = True
        self._out.stop(call, "")
        call.fail(ApplicationError(reason))

    def _last_message(self, call: Call, whole: bytes, text: bool, context: bytes) -> None:
        """The message of the frame that ends the call; a context on that frame comes after it."""
        del self.calls[call.id]
        self.load -= 1
        try:
            if context:
                call.to.message(whole, text, True)
            if not call.ended:
                call.ended = True
                call.drop()
                if context:
                    call.to.context(self.codec, context, b"", False)
                else:
                    call.to.message(whole, text, False)
        except FrameError:
            self._put_back(call)
            raise
        self.owner.freed(call)

    def _put_back(self, call: Call) -> None:
        """The receiver found its end to be nonsense, so it has not had one: `fail_all` will tell it."""
        call.ended = False
        self.calls[call.id] = call

    def _credit(self, call: Call, split: int, data: bytes, pos: int) -> None:
        if split:
            raise wrong(f"call {call.id}: a CREDIT with a context", data, pos)
        grant = THREE.unpack_from(data, pos + PREFIX)[2]
        try:
            call.credit_out = topped_up(call.credit_out, grant)
        except FrameError as error:
            raise wrong(f"call {call.id}: {error.reason}", data, pos) from None
        if not call.active and not call.ended and call.ready():
            self._out.activate(call)

    def _stopped(self, call: Call) -> None:
        """STOP: the terminal of a cancelled call, or "not started", or an abort."""
        if call.cancelled or call.answered:
            self._over(call, ApplicationError("the worker stopped the call before its end"))
            return
        del self.calls[call.id]
        self.load -= 1
        call.restart()
        if not self.owner.refused(call):
            call.fail(Refused())
        self.owner.freed(call)

    def _over(self, call: Call, error: Exception | None) -> None:
        """*call*'s terminal frame came, with *error* unless it was cancelled before."""
        del self.calls[call.id]
        self.load -= 1
        if error is not None:
            call.fail(error)
        self.owner.freed(call)

    def _relay_frame(self, kind: int, payload: bytes, data: bytes, pos: int) -> None:
        if kind == IS_PING:
            self._out.relay(PONG_FRAME)
        elif kind == IS_CONTROL:
            self._control(parse_control(payload), data, pos)
        elif kind != IS_PONG:
            text = payload.decode("utf-8", "replace")
            raise wrong(f"the worker gave up: {text}", data, pos)

    def _control(self, message: dict[str, Any], data: bytes, pos: int) -> None:
        capacity = message.get("capacity")
        if capacity is not None:
            if type(capacity) is not int or not 1 <= capacity <= self.settings.capacity:
                raise wrong(f"capacity {capacity!r}, allowed are 1 to {self.settings.capacity}", data, pos)
            self.limit = min(capacity, self.settings.streams)
        if message.get("retire"):
            self._retired = True
            self.accepting = False
        self.owner.said(message)

    def _set_missed(self, missed: bool) -> None:
        self.missed = missed
        self.accepting = not missed and not self._retired and not self._lost

    def _stray(self, id: int, data: bytes, pos: int) -> FrameError:
        if 0 < id <= self._out.last:
            return wrong(f"call {id}: a frame after its terminal frame", data, pos)
        return wrong(f"call {id}: never opened", data, pos)

    def _is_older_rule(self, call: Call, size: int, bits: int) -> bool:
        """Whether a message of *size* bytes is within the credit of a worker that had empty ones for nothing."""
        return bits & MESSAGE != 0 and size <= call.credit_in + call.empties

    def _check_data(self, call: Call, kind: int, split: int, length: int, data: bytes, pos: int) -> None:
        """Raise for what is wrong with a frame of body or context; one that is only large passes."""
        size = length - split
        if size < 0:
            reason = f"a context of {split} bytes in a payload of {length}"
        elif (split == 0) == (kind == IS_CONTEXT):
            reason = f"a context of {split} bytes and {size} of data with flags {data[pos + 1]:#04x}"
        elif split > MAX_CONTEXT or size > self._max_frame:
            reason = f"a context of {split} bytes and {size} of data are too large"
        elif size > call.credit_in and not self._is_older_rule(call, size, data[pos + 10]):
            reason = f"{size} bytes beyond a credit of {call.credit_in}"
        elif call.assembly is not None and data[pos + 10] & MESSAGE == 0:
            reason = "other data between the parts of a message"
        else:
            return
        raise wrong(f"call {call.id}: {reason}", data, pos)
