"""Going away, frame by frame: no request is lost, whatever crosses (drain.md I18, F22, F23)."""

from __future__ import annotations

from http2_rig import (
    GOAWAY,
    OK,
    PING,
    PREFACE,
    SETTINGS_ACKED,
    Front,
    code_of_goaway,
    content_of,
    data,
    ended,
    frame,
    frames_of,
    head,
    nothing,
    number,
    request,
    resets_of,
    settings,
)

from twisted_rr.http2.codes import CANCEL, NO_ERROR, REFUSED_STREAM
from twisted_rr.http2.frames import MAX_ID
from twisted_rr.http2.goaway import PING_PAYLOAD

ACKNOWLEDGED = frame(PING, 1, 0, PING_PAYLOAD)


def lasts(found: list) -> list[tuple[int, int]]:
    """Last stream and code of each GOAWAY."""
    return [(number(one.payload), number(one.payload[4:])) for one in found if one.kind == GOAWAY]


def test_the_first_goaway_names_the_highest_number_and_a_ping_follows() -> None:
    front = Front(answer=nothing)
    front.feed(request(1))
    front.session.drain()
    front.session.drain()
    found = front.read()
    assert [one.kind for one in found] == [GOAWAY, PING]
    assert lasts(found) == [(MAX_ID, NO_ERROR)] and found[1].flags == 0
    assert front.transport.closing == ""


def test_the_second_goaway_names_the_last_stream_once_the_ping_is_acknowledged() -> None:
    front = Front(answer=nothing)
    front.feed(request(1))
    front.session.drain()
    front.read()
    assert lasts(front.feed(request(7) + ACKNOWLEDGED)) == [(7, NO_ERROR)]
    assert front.feed(ACKNOWLEDGED) == []


def test_the_second_goaway_does_not_wait_longer_than_a_second() -> None:
    front = Front(answer=nothing)
    front.feed(request(1))
    front.session.drain()
    front.read()
    front.session.sweep(front.clock.now + 0.9)
    assert front.read() == []
    front.session.sweep(front.clock.now + 1.0)
    assert lasts(front.read()) == [(1, NO_ERROR)]


def test_another_ping_s_acknowledgement_is_none() -> None:
    front = Front(answer=nothing)
    front.session.drain()
    front.read()
    assert front.feed(frame(PING, 1, 0, bytes(8))) == []
    assert front.feed(ACKNOWLEDGED) and not front.session.streams


def test_streams_that_cross_the_first_goaway_are_served_and_then_the_connection_closes() -> None:
    front = Front(answer=nothing)
    front.feed(request(1))
    front.session.drain()
    front.read()
    front.feed(request(3, b"crossing") + head(5))
    front.feed(ACKNOWLEDGED)
    for exchange in front.exchanges[:2]:
        exchange.stream.respond(OK, b"done", True)
    found = front.read()
    assert ended(found, 1) and ended(found, 3) and front.transport.closing == ""
    assert front.feed(data(5, b"late content", True)) == []
    front.exchanges[2].stream.respond(OK, front.exchanges[2].content, True)
    assert content_of(front.read(), 5) == b"late content"
    assert front.transport.closing == "linger"
    assert [exchange.calls for exchange in front.exchanges] == [["closed"]] * 3


def test_streams_after_the_second_goaway_are_refused_and_the_others_unharmed() -> None:
    front = Front(answer=nothing)
    front.feed(request(1))
    front.session.drain()
    front.feed(ACKNOWLEDGED)
    found = front.feed(b"".join(request(number, b"x") for number in range(3, 43, 2)))
    assert resets_of(found) == [(number, REFUSED_STREAM) for number in range(3, 43, 2)]
    assert len(front.exchanges) == 1
    front.last.stream.respond(OK, b"served", True)
    assert ended(front.read(), 1)
    assert front.transport.closing == "linger"


def test_a_hundred_streams_and_one_crossing() -> None:
    front = Front(answer=nothing, max_streams=101)
    front.feed(b"".join(request(number) for number in range(1, 201, 2)))
    front.session.drain()
    front.session.receive(request(201))
    front.feed(ACKNOWLEDGED)
    assert len(front.exchanges) == 101
    for exchange in front.exchanges:
        exchange.stream.respond(OK, b"x", True)
    found = front.read()
    assert all(ended(found, number) for number in range(1, 203, 2))
    assert front.transport.closing == "linger"


def test_the_connection_outlives_an_answer_that_the_kernel_has_not_taken() -> None:
    front = Front(answer=nothing)
    front.feed(request(1))
    front.session.drain()
    front.feed(ACKNOWLEDGED)
    front.transport.hold(5)
    front.last.stream.respond(OK, b"slow", True)
    front.flush()
    front.feed(frame(PING, 1, 0, bytes(8)))
    assert front.transport.closing == "" and front.last.calls == []
    front.transport.release()
    front.flush()
    assert front.transport.closing == "linger" and front.last.calls == ["closed"]


def test_an_idle_connection_closes_when_the_client_has_read_the_goaway() -> None:
    front = Front()
    front.session.drain()
    assert front.transport.closing == ""
    found = front.feed(ACKNOWLEDGED)
    assert lasts(found) == [(MAX_ID, NO_ERROR), (0, NO_ERROR)]
    assert front.transport.closing == "linger" and front.refusals == []


def test_a_client_whose_first_request_is_on_its_way_is_served() -> None:
    front = Front(greet=False)
    front.session.drain()
    front.read()
    found = front.feed(PREFACE + settings([]) + SETTINGS_ACKED + request(1, b"first") + ACKNOWLEDGED)
    assert content_of(found, 1) == b"first" and lasts(found) == [(1, NO_ERROR)]
    assert front.transport.closing == "linger"


def test_a_client_that_ignores_goaway_is_closed_at_the_deadline() -> None:
    front = Front(answer=nothing)
    front.feed(request(1))
    front.session.drain()
    front.sweep(5)
    assert resets_of(front.feed(request(3))) == [(3, REFUSED_STREAM)]
    front.session.close(NO_ERROR, "deadline")
    assert code_of_goaway(front.read()) == NO_ERROR
    assert front.last.calls == [f"reset {CANCEL}"] and front.transport.closing == "linger"


def test_a_client_that_goes_in_the_middle_is_closed_after_its_last_stream() -> None:
    front = Front(answer=nothing)
    front.feed(request(1))
    front.session.drain()
    front.feed(frame(GOAWAY, 0, 0, bytes(8)))
    front.last.stream.respond(OK, b"x", True)
    assert ended(front.read(), 1) and front.transport.closing == "linger"


def test_a_reset_of_the_last_stream_closes_too() -> None:
    front = Front(answer=nothing)
    front.feed(request(1))
    front.session.drain()
    front.feed(ACKNOWLEDGED)
    front.feed(frame(3, 0, 1, b"\0\0\0\x08"))
    assert front.transport.closing == "linger"


def test_no_answer_is_ever_partial_for_a_refused_stream() -> None:
    front = Front()
    front.feed(head(1))
    front.session.drain()
    front.feed(ACKNOWLEDGED)
    found = front.feed(head(3) + data(3, b"x") + data(3, b"y", True))
    assert [(one.kind, one.stream) for one in found] == [(3, 3)]
    assert frames_of(b"") == []
