"""Requests that a read brings in any order of frames: told to the front once, whole where they are whole, or never."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from http2_rig import (
    REQUEST,
    Exchange,
    Front,
    content_of,
    data,
    echo,
    ended,
    head,
    nothing,
    request,
    resets_of,
    rst_stream,
    window_update,
)

from twisted_rr.http2.codes import CANCEL, FLOW_CONTROL_ERROR, PROTOCOL_ERROR, STREAM_CLOSED
from twisted_rr.http2.streams import Stream

SIZED = (*REQUEST, (b"content-length", b"2"))


class Counting(Front):
    """Notes which of both ways a request came.

    :ivar ways: the numbers of streams, negative for requests that came whole.
    """

    def __init__(self, **what: Any) -> None:
        self.ways: list[int] = []
        super().__init__(**what)

    def begin(self, session: Any, stream: Stream, head: Any, end: bool) -> Exchange:
        self.ways.append(stream.id)
        return super().begin(session, stream, head, end)

    def begin_whole(self, session: Any, stream: Stream, head: Any, content: bytes) -> Exchange:
        exchange = super().begin_whole(session, stream, head, content)
        self.ways[-1] = -stream.id
        return exchange


@pytest.mark.parametrize("fields", [REQUEST, SIZED])
@pytest.mark.parametrize("known", [False, True])
def test_heads_of_several_requests_before_their_contents_come_whole(fields: Any, known: bool) -> None:
    front = Counting()
    if known:
        front.feed(request(1, b"ab", fields))
    found = front.feed(head(3, fields) + head(5, fields) + data(3, b"cd", True) + data(5, b"ef", True))
    assert front.ways[-2:] == [-3, -5]
    assert [content_of(found, number) for number in (3, 5)] == [b"cd", b"ef"] and ended(found, 5)


def test_windows_between_head_and_content_do_not_part_them() -> None:
    front = Counting()
    found = front.feed(head(1) + window_update(1, 5) + data(1, b"ab", True) + window_update(0, 40))
    assert front.ways == [-1] and content_of(found, 1) == b"ab"
    assert front.session.outbox.window == 65535 + 40 - 2


def test_a_head_alone_is_told_when_its_read_ends() -> None:
    front = Counting(answer=nothing)
    front.feed(head(1) + head(3) + data(3, b"x"))
    assert sorted(front.ways) == [1, 3]
    front.feed(data(1, b"ab", True))
    assert {one.stream.id: one.content for one in front.exchanges} == {1: b"ab", 3: b"x"}


def test_content_that_is_more_than_one_frame_comes_in_pieces() -> None:
    front = Counting()
    found = front.feed(head(1) + data(1, b"ab") + data(1, b"cd", True))
    assert front.ways == [1] and content_of(found, 1) == b"abcd"


def test_a_request_that_its_read_takes_back_is_never_told() -> None:
    front = Counting(answer=nothing)
    front.feed(head(1) + head(3) + rst_stream(1, CANCEL) + data(3, b"x", True))
    assert front.ways == [-3] and list(front.session.streams) == [3]
    # What still comes for it is not for anybody.
    assert resets_of(front.feed(data(1, b"late", True))) == [(1, STREAM_CLOSED)]


def test_no_request_is_told_after_the_fault_that_ends_its_connection() -> None:
    front = Counting(answer=nothing)
    front.feed(head(1) + data(3, b"x"))
    assert front.ways == [] and front.transport.closing == "linger" and not front.session.streams


@pytest.mark.parametrize(("content", "way"), [(b"abc", 1), (b"a", 1), (b"ab", -1)])
def test_content_is_held_to_its_length_on_the_short_way_too(content: bytes, way: int) -> None:
    front = Counting(answer=nothing)
    found = front.feed(head(1, SIZED) + data(1, content, True))
    assert front.ways == [way]
    assert resets_of(found) == ([] if way < 0 else [(1, PROTOCOL_ERROR)])


def test_windows_hold_on_the_short_way_too() -> None:
    front = Counting(answer=nothing)
    front.session.stream_window = 10  # as if SETTINGS had made it so
    found = front.feed(head(3) + data(3, b"x" * 11, True))
    assert resets_of(found) == [(3, FLOW_CONTROL_ERROR)]


def test_a_request_of_the_short_way_gives_its_bytes_back() -> None:
    front = Counting(connection_window=65535)
    for number in range(1, 201, 2):
        front.feed(request(number, b"x" * 1000))
    assert front.ways == [-number for number in range(1, 201, 2)]
    assert front.session.intake._window + front.session.intake._consumed == 65535


def test_trailers_in_the_read_of_their_head_reach_the_exchange() -> None:
    front = Counting()
    front.feed(head(1) + head(1, [(b"x-end", b"1")], True))
    assert front.ways == [1] and front.last.trailing == [(b"x-end", b"1")] and front.last.complete


def test_a_stream_that_waits_for_its_window_is_woken_by_any_update() -> None:
    front = Front(answer=echo)
    found = front.feed(head(1) + b"".join(data(1, b"x" * 16000, i == 5) for i in range(6)))
    assert not ended(found, 1)
    found = front.feed(window_update(0, 1 << 20) + window_update(1, 1 << 20))
    assert ended(found, 1)


def test_nothing_is_left_of_a_request_for_the_collector() -> None:
    front = Front(answer=echo)
    front.feed(request(1, b"ab") + head(3))
    front.feed(rst_stream(3, CANCEL))
    front.exchanges.clear()
    gc.collect()
    gc.disable()
    try:
        for number in range(5, 105, 2):
            front.feed(head(number) + data(number, b"ab", True))
            front.exchanges.clear()
        assert gc.collect() == 0
    finally:
        gc.enable()
