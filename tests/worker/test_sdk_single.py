"""The worker's end of a one-call relay, without input or output."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_rr.errors import BadChecksum, FrameError, Truncated
from twisted_rr.wire import frame
from twisted_rr.wire.control import STOP_COMMAND
from twisted_rr.worker.single import SingleWorkerEnd

STOP = frame.encode(0, frame.STOP, (), b"")
PONG = frame.encode(0, frame.PONG, (), b"")


def call(context: bytes, body: bytes, codec: int = frame.CODEC_JSON) -> bytes:
    return frame.encode(codec, 0, (len(context),), context + body)


class Owner:
    """Records what the end tells; is the receiver too."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.streams: list[Any] = []
        self.end = SingleWorkerEnd(self)

    def opened(self, stream: Any, codec: int, context: bytes, body: bytes, more: bool) -> None:
        stream.to = self
        self.streams.append(stream)
        self.events.append(("opened", codec, context, body, more))

    def said(self, message: dict[str, Any]) -> None:
        self.events.append(("said", message))

    def dirty(self) -> None:
        self.events.append("dirty")

    def cancelled(self, reason: str) -> None:
        self.events.append(("cancelled", reason))

    def writable(self) -> None:
        self.events.append("writable")

    def taken(self) -> bytes:
        data = b""
        while piece := self.end.take():
            data += piece
        return data


@given(st.lists(st.integers(1, 60), max_size=30))
def test_any_chunking_gives_the_same_events(cuts: list[int]) -> None:
    data = PONG + call(b"context", b"body") + STOP + STOP_COMMAND
    owner = Owner()
    at = 0
    for cut in cuts:
        owner.end.feed(data[at : at + cut])
        at += cut
    owner.end.feed(data[at:])
    assert owner.events == [
        ("opened", frame.CODEC_JSON, b"context", b"body", False), ("said", {"stop": True}),
    ]  # fmt: skip


def test_dirty_is_said_once_until_everything_was_taken() -> None:
    owner = Owner()
    owner.end.feed(call(b"c", b""))
    stream = owner.streams[0]
    stream.send(b"h", b"1", True)
    stream.send(b"", b"2", False)
    assert owner.events[1:] == ["dirty"]
    assert owner.taken() == frame.encode(8, 1, (1,), b"h1") + frame.encode(8, 0, (0,), b"2")
    owner.end.feed(call(b"c", b""))
    owner.streams[1].send(b"", b"", False)
    assert owner.events.count("dirty") == 2


def test_a_full_queue_holds_the_source_until_half_of_it_was_taken() -> None:
    owner = Owner()
    owner.end.feed(call(b"c", b""))
    stream = owner.streams[0]
    pieces = 1
    while stream.send(b"", b"x" * 50_000, True):
        pieces += 1
    assert pieces == 6
    while "writable" not in owner.events:
        assert owner.end.take()
        pieces -= 1
    assert pieces == 2


def test_stop_ends_a_stream_at_once_and_nothing_follows() -> None:
    owner = Owner()
    owner.end.feed(call(b"c", b""))
    stream = owner.streams[0]
    stream.send(b"", b"1", True)
    owner.taken()
    owner.end.feed(STOP + STOP)
    assert owner.events[-1] == ("cancelled", "client") or owner.events[-2] == ("cancelled", "client")
    assert owner.taken() == frame.encode(8, 0, (0,), b"")
    stream.send(b"", b"2", True)
    stream.error("late")
    stream.stop()
    assert owner.taken() == b""
    assert owner.end.streams == {}


def test_stop_outside_a_stream_is_stale() -> None:
    owner = Owner()
    owner.end.feed(STOP + call(b"c", b"") + STOP)
    assert [event[0] for event in owner.events] == ["opened"]


def test_a_call_that_comes_after_the_end_was_announced_is_given_back() -> None:
    owner = Owner()
    owner.end.stopping = True
    owner.end.feed(call(b"c", b""))
    assert owner.streams == []
    assert owner.taken() == frame.encode(0, 0, (13,), b'{"stop":true}')


def test_an_error_has_no_options_and_is_cut_at_its_limit() -> None:
    owner = Owner()
    owner.end.feed(call(b"c", b""))
    owner.streams[0].error("é" * 100_000)
    error = owner.taken()
    assert error[:2] == bytes((0x13, frame.ERROR))
    assert len(error) == 12 + 65536


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"nonsense nonsense nonsense", BadChecksum),
        (frame.encode(8, 0, (), b"body"), FrameError),
        (frame.encode(8, 0, (5,), b"body"), FrameError),
        (frame.encode(8, 0, (1, 2), b"body"), FrameError),
        (call(b"c", b"") + call(b"c", b""), FrameError),
        (frame.encode(frame.CONTROL, 0, (), b"[]"), FrameError),
    ],
)
def test_what_breaks_the_protocol_is_an_error(data: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        Owner().end.feed(data)


def test_an_end_inside_a_frame_is_an_error() -> None:
    owner = Owner()
    owner.end.eof()
    owner.end.feed(call(b"c", b"body")[:-1])
    with pytest.raises(Truncated):
        owner.end.eof()
