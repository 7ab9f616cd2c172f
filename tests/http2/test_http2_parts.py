"""The small parts on their own: the table of states, frames, limits, departure."""

from __future__ import annotations

import pytest
from http2_rig import Front, data, frames_of, head

from twisted_rr.http2 import frames, states
from twisted_rr.http2.codes import ENHANCE_YOUR_CALM, PROTOCOL_ERROR, ConnectionFault
from twisted_rr.http2.goaway import ANNOUNCED, LEAVING, STAYING, Departure
from twisted_rr.http2.limits import Allowance, PingPolicy, Wait
from twisted_rr.http2.partial import PartialBlock
from twisted_rr.http2.peer import Peer
from twisted_rr.http2.states import MAX_GAPS, MAX_RESETS, RULES, Numbers

STREAM_FRAMES = {frames.HEADERS, frames.DATA, frames.PRIORITY, frames.RST_STREAM, frames.WINDOW_UPDATE}


def test_the_table_has_a_rule_for_every_state_and_frame() -> None:
    assert len(RULES) == 8
    assert all(set(row) == STREAM_FRAMES for row in RULES)


def test_the_short_ways_of_the_intake_are_in_the_table() -> None:
    """DATA on an open stream and HEADERS on an idle one are taken without asking the table."""
    assert RULES[states.OPEN][frames.DATA] == states.ACCEPT
    assert [RULES[state][frames.DATA] for state in range(1, 8)].count(states.ACCEPT) == 0
    assert RULES[states.IDLE][frames.HEADERS] == states.ACCEPT


def test_numbers_know_what_became_of_each() -> None:
    numbers = Numbers()
    numbers.skipped_to(1)
    numbers.skipped_to(9)
    numbers.last = 11
    numbers.was_reset(9)
    found = {number: numbers.state(number) for number in (0, 1, 2, 3, 7, 9, 11, 13, 2**31 - 1)}
    assert found == {
        0: states.CONNECTION, 1: states.CLOSED, 2: states.FOREIGN, 3: states.SKIPPED, 7: states.SKIPPED,
        9: states.RESET, 11: states.CLOSED, 13: states.IDLE, 2**31 - 1: states.IDLE,
    }  # fmt: skip


def test_numbers_remember_a_bounded_past() -> None:
    numbers = Numbers()
    for number in range(1, 8001, 8):
        numbers.skipped_to(number)
        numbers.was_reset(number)
    assert len(numbers._resets) == MAX_RESETS and len(numbers._gaps) == MAX_GAPS
    assert numbers.state(7993) == states.RESET and numbers.state(1) == states.CLOSED
    assert numbers.state(7991) == states.SKIPPED and numbers.state(3) == states.CLOSED


def test_frames_as_bytes() -> None:
    assert frames.frame(0, 1, 5, b"abc") == b"\0\0\x03\0\x01\0\0\0\x05abc"
    assert frames.settings([(3, 100)]) == b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64"
    assert frames.rst_stream(1, 8) == b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x08"
    assert frames.ping(b"12345678", True) == b"\0\0\x08\x06\x01\0\0\0\x0012345678"
    assert frames.goaway(3, 1, b"why") == b"\0\0\x0b\x07\0\0\0\0\0\0\0\0\x03\0\0\0\x01why"
    assert frames.window_update(0, 10) == b"\0\0\x04\x08\0\0\0\0\0\0\0\0\x0a"


def test_hyperframe_reads_what_we_write() -> None:
    from hyperframe.frame import Frame as Hyper

    made = frames.frame(1, 0x5, 7, b"\x82") + frames.goaway(1, 2, b"x") + frames.settings([(4, 9)])
    for one in frames_of(made):
        parsed, length = Hyper.parse_frame_header(frames.frame(*one)[:9])
        parsed.parse_body(memoryview(one.payload))
        assert length == len(one.payload) and parsed.serialize() == frames.frame(*one)


def test_an_allowance_fills_with_time() -> None:
    allowance = Allowance(10.0, 5)
    assert [allowance.exceeded(0.0) for _ in range(6)] == [False] * 5 + [True]
    assert not allowance.exceeded(0.1) and allowance.exceeded(0.1)
    assert [allowance.exceeded(100.0) for _ in range(6)] == [False] * 5 + [True]


def test_steady_work_within_the_rate_goes_on_for_ever() -> None:
    front = Front(answer=lambda exchange: None, resets_per_second=10, max_resets=5)
    for i in range(200):
        front.clock.now += 0.1
        front.feed(head(2 * i + 1))
        front.feed(frames.rst_stream(2 * i + 1, 8))
    assert not front.transport.closing and len(front.exchanges) == 200


def test_a_ping_policy_forgives_after_an_answer_only() -> None:
    policy = PingPolicy(10.0, True, 2)
    assert [policy.exceeded(now, 1, 0) for now in (0.0, 1.0, 2.0, 3.0)] == [False, False, False, True]
    assert not policy.exceeded(4.0, 1, 1) and not policy.exceeded(5.0, 1, 1)
    assert not PingPolicy(0.0, True, 0).exceeded(0.0, 0, 0)


def test_a_wait_begins_with_the_sweep_that_sees_it() -> None:
    wait = Wait()
    assert [wait.seconds(float(now), True, 7) for now in (10, 11, 15)] == [0.0, 1.0, 5.0]
    assert wait.seconds(16.0, True, 8) == 0.0
    assert wait.seconds(17.0, False, 8) == 0.0 and wait.seconds(18.0, True, 8) == 0.0


def test_a_departure_goes_one_way() -> None:
    departure = Departure()
    assert departure.state == STAYING and departure.settle(5) == b"" and not departure.is_overdue(99.0, 1.0)
    assert departure.announce(0.0) and departure.state == ANNOUNCED
    assert departure.announce(0.0) == b""
    assert not departure.is_overdue(0.5, 1.0) and departure.is_overdue(1.0, 1.0)
    assert departure.settle(5) == frames.goaway(5, 0) and departure.state == LEAVING
    assert departure.settle(7) == b"" and not departure.is_overdue(9.0, 1.0)


def test_a_partial_block_is_bounded() -> None:
    partial = PartialBlock(1, True, "", b"a", 100, 2)
    partial.add(1, b"b")
    assert partial.whole() == b"ab"
    with pytest.raises(ConnectionFault) as other:
        partial.add(3, b"c")
    assert other.value.code == PROTOCOL_ERROR
    partial.add(1, b"c")
    with pytest.raises(ConnectionFault) as flood:
        partial.add(1, b"")
    assert flood.value.code == ENHANCE_YOUR_CALM


def test_the_last_of_equal_settings_counts() -> None:
    peer = Peer()
    peer.read(frames.settings([(4, 1), (6, 2000), (4, 7)])[9:])
    assert (peer.window, peer.header_list, peer.small_table) == (7, 2000, False)


def test_many_settings_in_one_frame_touch_streams_once() -> None:
    front = Front(answer=lambda exchange: None)
    front.feed(head(1) + head(3))
    front.feed(frames.settings([(4, value) for value in range(2000)]))
    assert {exchange.stream.send_window for exchange in front.exchanges} == {1999}
    assert front.feed(data(1, b"", True)) == []
