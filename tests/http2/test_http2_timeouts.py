"""Time-outs of a session, by sweeps over a clock that the test moves."""

from __future__ import annotations

import pytest
from http2_rig import (
    GOAWAY,
    HEADERS,
    OK,
    PING,
    PREFACE,
    REQUEST,
    Front,
    blocks,
    code_of_goaway,
    data,
    frame,
    head,
    nothing,
    request,
    resets_of,
    settings,
    window_update,
)

from twisted_rr.http2.codes import CANCEL, NO_ERROR, PROTOCOL_ERROR, SETTINGS_TIMEOUT
from twisted_rr.http2.goaway import PING_PAYLOAD


@pytest.mark.parametrize("sent", [b"", PREFACE[:10], PREFACE, PREFACE + settings([])[:5]])
def test_a_preface_must_come_in_time(sent: bytes) -> None:
    front = Front(greet=False)
    front.read()
    front.feed(sent)
    assert front.sweep(9) == []
    assert code_of_goaway(front.sweep(2)) == PROTOCOL_ERROR
    assert front.transport.closing == "linger"


def test_settings_must_be_acknowledged_in_time() -> None:
    front = Front(greet=False)
    front.feed(PREFACE + settings([]))
    assert front.sweep(9) == []
    assert code_of_goaway(front.sweep(2)) == SETTINGS_TIMEOUT


@pytest.mark.parametrize("whole", [True, False])
def test_a_header_block_must_be_complete_in_time(whole: bool) -> None:
    front = Front()
    block = blocks.encode(REQUEST)
    front.feed(frame(HEADERS, 0, 1, block) if whole else head(1)[:20])
    assert front.sweep(10) == []
    front.feed(b"" if whole else head(1)[20:22])
    assert code_of_goaway(front.sweep(2)) == PROTOCOL_ERROR


def test_a_block_that_is_completed_is_forgotten() -> None:
    front = Front(answer=nothing)
    front.feed(head(1)[:20])
    front.sweep(8)
    front.feed(head(1)[20:])
    front.sweep(1)
    front.feed(head(3)[:20])
    assert front.sweep(9) == []


def test_content_is_waited_for_only_so_long() -> None:
    front = Front(answer=nothing, body_timeout=30)
    front.feed(head(1))
    front.feed(head(3) + data(3, b"x"))
    front.sweep(20)
    front.feed(data(3, b"y"))
    assert resets_of(front.sweep(12)) == [(1, CANCEL)]
    assert front.exchanges[0].calls == ["reset 8"] and front.exchanges[1].calls == []
    assert resets_of(front.sweep(20)) == [(3, CANCEL)]


def test_content_that_we_hold_back_is_not_waited_for() -> None:
    front = Front(answer=nothing, body_timeout=30)
    front.consumes = False
    front.feed(head(1) + data(1, b"held"))
    assert front.sweep(100) == []
    front.last.stream.consumed(4)
    assert resets_of(front.sweep(40)) == [(1, CANCEL)]


def test_a_transport_that_takes_nothing_is_aborted() -> None:
    front = Front()
    front.transport.hold(5)
    front.feed(request(1))
    front.sweep(30)
    assert front.transport.closing == ""
    front.transport.release(3)
    front.sweep(30)
    assert front.transport.closing == ""
    front.sweep(2)
    assert front.transport.closing == "abort"


def test_a_window_is_waited_for_only_so_long_where_that_is_wanted() -> None:
    front = Front(answer=nothing, window_timeout=30)
    front.feed(settings([(4, 10)]) + request(1) + request(3))
    for exchange in front.exchanges:
        exchange.stream.respond(OK)
        exchange.stream.send(b"x" * 100, True)
    front.read()
    front.sweep(20)
    front.feed(window_update(3, 5))
    assert resets_of(front.sweep(12)) == [(1, CANCEL)]
    assert front.exchanges[1].calls == []
    assert Front(answer=nothing).sweep(1000) == []


def test_an_idle_connection_is_told_to_go() -> None:
    front = Front(answer=nothing, idle_timeout=60)
    front.feed(request(1))
    assert front.sweep(100) == []
    front.last.stream.respond(OK, b"", True)
    front.read()
    assert [one.kind for one in front.sweep(61)][:2] == [GOAWAY, PING]
    assert code_of_goaway(front.sweep(2)) == NO_ERROR
    assert front.transport.closing == "linger"


def test_a_stream_that_comes_while_an_idle_connection_is_told_to_go_is_served() -> None:
    front = Front(idle_timeout=60)
    front.sweep(61)
    found = front.feed(request(1) + frame(PING, 1, 0, PING_PAYLOAD))
    assert any(one.kind == HEADERS for one in found) and front.transport.closing == "linger"


def test_a_silent_client_is_asked_and_then_cut_off() -> None:
    front = Front(answer=nothing, keepalive_time=60, keepalive_timeout=20)
    front.feed(request(1))
    found = front.sweep(62)
    assert [(one.kind, one.flags) for one in found] == [(PING, 0)]
    front.feed(frame(PING, 1, 0, found[0].payload))
    assert [one.kind for one in front.sweep(62)] == [PING]
    assert front.transport.closing == ""
    assert front.sweep(20) == []
    assert front.transport.closing == "abort" and front.last.calls == ["reset 8"]
    assert front.refusals == [(0, CANCEL, "the client shows no sign of life")]


def test_an_old_connection_is_told_to_go_and_ended_after_its_grace() -> None:
    front = Front(answer=nothing, max_age=100, max_age_grace=50)
    front.feed(request(1))
    assert front.sweep(99) == []
    assert [one.kind for one in front.sweep(1)] == [GOAWAY, PING]
    front.sweep(48)
    assert front.transport.closing == "" and front.last.calls == []
    front.sweep(3)
    assert front.last.calls == ["reset 8"] and front.transport.closing == "linger"


def test_the_front_may_vary_the_age() -> None:
    front = Front(max_age=100)
    front.session.max_age = 90
    assert [one.kind for one in front.sweep(90)] == [GOAWAY, PING]


def test_without_limits_nothing_times_out() -> None:
    front = Front(answer=nothing, keepalive_time=0)
    front.feed(request(1) + head(3))
    assert front.sweep(5000) == [] and front.transport.closing == ""
