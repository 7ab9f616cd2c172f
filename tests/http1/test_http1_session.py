"""The session's own behaviour: order, back-pressure, time-outs, and how everything ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from http1_rig import OK, Exchange, Front, answered, echo, nothing, serve

from twisted_rr.http1.response import BadResponse, render
from twisted_rr.http1.settings import SessionSettings

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CLOSE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
HALF = b"GET / HTTP/1.1\r\nHos"


def post(content: bytes, length: int | None = None, fields: bytes = b"") -> bytes:
    size = len(content) if length is None else length
    return b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n%b\r\n%b" % (size, fields, content)


def chunked(*chunks: bytes) -> bytes:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)


def waiting(**settings: object) -> Front:
    return Front(SessionSettings(**settings), nothing)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------- one exchange


def test_a_small_answer_is_one_write() -> None:
    front = serve(GET)
    assert front.transport.writes == 1
    assert front.wire() == (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 7\r\n\r\nGET / 0"
    )
    assert front.last.calls == ["sent"]


def test_the_request_is_what_was_sent() -> None:
    request = serve(
        b"GET /a?b HTTP/1.1\r\nHost: h:1\r\nX-A: 1\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
    ).last.request
    assert (request.method, request.target, request.version, request.length) == ("GET", b"/a?b", "1.1", 0)
    assert request.host == b"h:1" and request.upgrade == b"x" and not request.expect
    assert request.headers[:2] == [(b"host", b"h:1"), (b"x-a", b"1")]


def test_upgrade_without_its_connection_option_is_not_seen() -> None:
    assert serve(b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: x\r\n\r\n").last.request.upgrade == b""


def test_a_repeated_header_block_is_the_same_object_and_keeps_what_was_derived() -> None:
    front = serve(GET)
    front.last.request.head.derived = "mine"
    front.feed(b"GET /other HTTP/1.1\r\nHost: a\r\n\r\n")
    assert front.last.request.head.derived == "mine"
    front.feed(b"GET / HTTP/1.1\r\nHost: b\r\n\r\n")
    assert front.last.request.head.derived is None


def test_a_request_that_comes_again_byte_for_byte_is_the_same_object() -> None:
    front = serve(GET)
    front.feed(GET)
    first, second = front.exchanges
    assert first.request is second.request
    assert [exchange.calls for exchange in front.exchanges] == [["sent"], ["sent"]]
    front.session.use(SessionSettings(max_fields=1))
    front.feed(GET)
    assert front.last.request is not first.request


def test_a_repeated_request_in_two_pieces_or_with_another_behind_it_is_read_as_ever() -> None:
    front = serve(GET)
    front.feed(GET[:9])
    front.feed(GET[9:])
    front.feed(GET + GET)
    assert len(front.exchanges) == 4 and front.wire().count(b"200 OK") == 4


def test_content_is_never_taken_for_a_repeated_request() -> None:
    front = serve(GET)
    front.feed(post(b"", len(GET)))
    front.feed(GET)
    assert len(front.exchanges) == 2
    assert front.last.content == GET


@pytest.mark.parametrize(
    ("field", "odd"),
    [(b"X-Forwarded-For: 1.1.1.1", True), (b"Real_Ip: 1.1.1.1", True), (b"X-Forwarded: 1", False)],
)
def test_a_block_tells_whether_a_front_has_to_look_at_its_names(field: bytes, odd: bool) -> None:
    for _ in range(2):  # the second time its lines are remembered
        front = serve(b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % field)
        assert front.last.request.head.odd is odd
        assert front.last.request.ordinary


@pytest.mark.parametrize(
    "head", [CLOSE, b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n", post(b"")]
)
def test_what_the_answer_depends_on_is_not_ordinary(head: bytes) -> None:
    assert serve(head).last.request.ordinary is (b"POST" in head)


def test_a_target_in_absolute_form_leaves_the_remembered_block_alone() -> None:
    front = serve(GET + b"GET http://x/ HTTP/1.1\r\nHost: a\r\n\r\n" + GET)
    assert [exchange.request.host for exchange in front.exchanges] == [b"a", b"x", b"a"]


def test_sent_waits_for_the_kernel() -> None:
    front = Front()
    front.transport.hold(10)
    front.feed(GET + GET)
    assert len(front.exchanges) == 1 and front.last.calls == []
    front.transport.release(100000)
    assert [exchange.calls for exchange in front.exchanges] == [["sent"], ["sent"]]


def test_a_thousand_pipelined_requests_do_not_recurse() -> None:
    front = serve(GET * 1000)
    assert len(front.exchanges) == 1000 and front.statuses() == [200] * 1000


def test_a_thousand_pipelined_posts_do_not_recurse() -> None:
    front = serve((post(b"ab") + chunked(b"xy", b"")) * 500)
    assert len(front.exchanges) == 1000 and front.statuses() == [200] * 1000


def test_the_next_request_waits_for_the_answer_before_it() -> None:
    front = waiting().feed(GET + GET)
    assert len(front.exchanges) == 1
    front.last.session.respond(OK, b"", True)
    front.last.session.send(b"x", False)
    assert len(front.exchanges) == 2 and front.exchanges[0].calls == ["sent"]


def test_what_is_answered_after_the_end_is_dropped() -> None:
    front = serve(GET)
    before = front.wire()
    front.session.respond(OK, b"again")
    front.session.send(b"again", False)
    front.session.simple(500)
    front.session.interim(render(103, []))
    front.session.trailers([])
    front.session.cut()
    assert front.wire() == before and front.transport.closing == ""


def test_a_second_head_is_refused() -> None:
    front = waiting().feed(GET)
    front.session.respond(OK, b"", True)
    with pytest.raises(BadResponse):
        front.session.respond(OK, b"", True)


def test_content_before_the_head_is_refused() -> None:
    front = waiting().feed(GET)
    with pytest.raises(BadResponse):
        front.session.send(b"x", True)


# ---------------------------------------------------------------------------------- answers


def test_an_answer_of_unknown_length_is_chunked() -> None:
    front = waiting().feed(GET)
    front.session.respond(OK, b"ab", True)
    front.session.send(b"", True)
    front.session.send(b"c" * 17, True)
    front.session.send(b"d", False)
    assert front.wire().endswith(
        b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\n11\r\n" + b"c" * 17 + b"\r\n1\r\nd\r\n0\r\n\r\n"
    )


def test_an_answer_of_unknown_length_ends_an_http_10_connection() -> None:
    front = waiting().feed(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    front.session.respond(OK, b"ab", True)
    front.session.send(b"cd", False)
    assert front.wire().endswith(b"connection: close\r\n\r\nabcd")
    assert front.transport.closing == "linger"


@pytest.mark.parametrize(
    ("pieces", "sent"), [((b"abcd",), b""), ((b"ab", b"cd"), b"ab"), ((b"ab", b""), b"ab")]
)
def test_content_that_contradicts_its_length_is_never_completed(
    pieces: tuple[bytes, ...], sent: bytes
) -> None:
    front = waiting().feed(GET)
    head = answered(200, [(b"Content-Length", b"3")])
    if len(pieces) == 1:
        with pytest.raises(BadResponse):
            front.session.respond(head, pieces[0], False)
        front.session.simple(500)
        assert front.statuses() == [500] and front.last.calls == ["sent"]
        return
    front.session.respond(head, pieces[0], True)
    front.session.send(pieces[1], False)
    assert front.last.calls == ["lost length"] and front.transport.closing == "abort"


def test_trailers_are_sent_when_announced_and_chunked() -> None:
    front = waiting().feed(GET)
    front.session.respond(answered(200, [(b"Trailer", b"X-Sum")]), b"ab", True)
    front.session.trailers([(b"X-Sum", b"1")])
    assert front.wire().endswith(b"2\r\nab\r\n0\r\nX-Sum: 1\r\n\r\n") and front.last.calls == ["sent"]


@pytest.mark.parametrize(
    "request_head", [GET, b"GET / HTTP/1.0\r\n\r\n", b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"]
)
def test_trailers_are_dropped_where_they_cannot_be_sent(request_head: bytes) -> None:
    front = waiting().feed(request_head)
    front.session.respond(OK, b"ab", True)
    front.session.trailers([(b"X-Sum", b"1")])
    assert b"X-Sum" not in front.wire() and front.last.calls == ["sent"]


def test_a_trailer_that_must_not_be_one_is_refused() -> None:
    front = waiting().feed(GET)
    front.session.respond(answered(200, [(b"Trailer", b"X-Sum")]), b"", True)
    for name in (b"Content-Length", b"X\r\n", b"Transfer-Encoding"):
        with pytest.raises(BadResponse):
            front.session.trailers([(name, b"1")])
    front.session.trailers([])
    assert front.wire().endswith(b"\r\n\r\n0\r\n\r\n")


def test_interim_heads_come_before_the_final_one() -> None:
    front = waiting().feed(GET)
    front.session.interim(render(103, [(b"Link", b"x")]))
    front.session.respond(OK, b"a")
    front.session.interim(render(103, []))
    assert front.wire().startswith(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert front.statuses() == [103, 200]


def test_an_interim_head_is_not_taken_for_a_final_one_nor_the_other_way_round() -> None:
    front = waiting().feed(GET)
    with pytest.raises(BadResponse):
        front.session.respond(render(103, []))
    with pytest.raises(BadResponse):
        front.session.interim(OK)


def test_simple_answers_are_plain_text() -> None:
    front = waiting().feed(GET)
    front.session.simple(503, b"busy\n", [(b"Retry-After", b"1")])
    assert front.wire() == (
        b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\ncontent-type: text/plain; charset=utf-8\r\n"
        b"content-length: 5\r\n\r\nbusy\n"
    )


def test_simple_after_a_head_cuts() -> None:
    front = waiting().feed(GET)
    front.session.respond(OK, b"", True)
    front.session.simple(500)
    assert front.last.calls == ["lost cut"] and front.transport.closing == "abort"


def test_cut_also_drops_an_answer_the_client_does_not_take() -> None:
    front = Front()
    front.transport.hold()
    front.feed(GET)
    front.session.cut()
    assert front.last.calls == ["lost cut"] and front.transport.closing == "abort"


# ----------------------------------------------------------------------------- re-entrancy


def test_an_exchange_cut_inside_begin_is_lost_after_it() -> None:
    front = Front(answer=lambda exchange: exchange.session.cut()).feed(GET)
    assert front.last.calls == ["lost cut"] and front.transport.closing == "abort"


def test_a_connection_lost_inside_begin_is_told_in_order() -> None:
    front = Front(answer=lambda exchange: exchange.session.connection_lost()).feed(GET)
    assert front.last.calls == ["lost client"] and front.closings == 1


def test_an_answer_that_backs_up_inside_begin_pauses_the_exchange_after_it() -> None:
    front = Front(answer=lambda exchange: exchange.session.respond(OK, b"x" * 100000, True))
    front.transport.hold()
    front.feed(GET)
    assert front.last.calls == ["pause"]
    front.transport.release()
    assert front.last.calls == ["pause", "resume"]


def test_resume_inside_body_means_go_on() -> None:
    front = waiting()
    front.takes_more = False
    front.answer = echo
    begin = Exchange.body

    def body(self: Exchange, data: bytes, more: bool) -> bool:
        self.session.resume_body()
        return begin(self, data, more)

    Exchange.body = body  # type: ignore[method-assign]
    try:
        front.feed(chunked(b"ab", b"cd", b""), 1)
    finally:
        Exchange.body = begin  # type: ignore[method-assign]
    assert front.transport.reading and front.statuses() == [200]


# ------------------------------------------------------------------------ the request's content


def test_content_is_held_until_resume() -> None:
    front = waiting()
    front.takes_more = False
    front.feed(post(b"ab", 6))
    assert front.last.pieces == [b"ab"] and not front.transport.reading
    front.feed(b"cd")  # a TLS layer may still have some
    assert front.last.pieces == [b"ab"]
    front.session.resume_body()
    assert front.last.pieces == [b"ab", b"cd"] and not front.transport.reading
    front.takes_more = True
    front.session.resume_body()
    assert front.transport.reading
    front.feed(b"ef")
    assert front.last.complete


def test_reading_pauses_when_too_much_is_read_ahead() -> None:
    front = waiting(read_ahead=100).feed(GET + GET * 10)
    assert not front.transport.reading
    for _ in range(11):
        front.session.respond(OK, b"")
    assert front.transport.reading and front.statuses() == [200] * 11


def test_100_is_sent_when_the_front_asks_for_content() -> None:
    front = waiting()
    front.answer = nothing
    front.feed(post(b"", 2, b"Expect: 100-continue\r\n"))
    assert front.wire() == b"HTTP/1.1 100 Continue\r\n\r\n"
    front.session.expect_continue()
    assert front.statuses() == [100]


def test_an_answer_without_100_says_close() -> None:
    front = Front(answer=nothing)
    front.eager = False
    front.feed(post(b"", 2, b"Expect: 100-continue\r\n"))
    front.session.respond(OK, b"no")
    assert b"connection: close\r\n" in front.wire() and front.transport.closing == "linger"


def test_content_nobody_reads_is_taken_off_and_the_connection_goes_on() -> None:
    front = waiting().feed(post(b"ab", 10))
    front.session.respond(OK, b"no")
    assert front.last.calls == ["sent"] and front.transport.closing == ""
    front.answer = echo
    front.feed(b"cdefghij" + GET)
    assert front.last.content == b"" and front.statuses() == [200, 200]


def test_chunked_content_nobody_reads_is_taken_off_too() -> None:
    front = waiting().feed(chunked(b"ab"))
    front.session.respond(OK, b"no")
    front.answer = echo
    front.feed(b"3\r\nabc\r\n0\r\n\r\n" + GET, 1)
    assert front.statuses() == [200, 200]


def test_too_much_content_nobody_reads_ends_the_connection_lingering() -> None:
    front = waiting(max_discard=100).feed(post(b"ab", 1000))
    front.session.respond(OK, b"no")
    assert b"connection: close\r\n" in front.wire()
    assert front.transport.closing == "linger" and front.last.calls == ["sent"]
    front = waiting(max_discard=10).feed(chunked(b"ab"))
    front.session.respond(OK, b"no")
    front.feed(b"40\r\n" + b"a" * 64)
    assert front.transport.closing == "linger"


def test_bad_chunks_nobody_reads_end_the_connection() -> None:
    front = waiting().feed(chunked(b"ab"))
    front.session.respond(OK, b"no")
    front.feed(b"zz\r\n")
    assert front.transport.closing == "linger" and front.statuses() == [200]


def test_a_client_that_must_send_before_it_takes_is_read_from() -> None:
    front = waiting().feed(post(b"ab", 4))
    front.transport.hold()
    front.session.respond(OK, b"no")
    front.feed(b"cd" + GET)
    assert front.last.content == b"ab" and front.last.calls == []
    front.answer = echo
    front.transport.release()
    assert front.statuses() == [200, 200]


def test_too_large_a_content_length_never_reaches_the_front() -> None:
    front = serve(post(b"", 11), max_request_size=10)
    assert front.statuses() == [413] and not front.exchanges and front.transport.closing == "linger"
    assert serve(post(b"a" * 10), max_request_size=10).statuses() == [200]


def test_too_many_chunks_end_the_exchange_with_413() -> None:
    front = serve(chunked(b"a" * 6, b"b" * 6), max_request_size=10)
    assert front.statuses() == [413]
    assert front.last.calls == ["lost too large"] and front.last.content == b"a" * 6


def test_malformed_content_after_the_head_cuts() -> None:
    front = waiting().feed(chunked(b"ab"))
    front.session.respond(OK, b"x", True)
    front.feed(b"zz\r\n")
    assert front.last.calls == ["lost malformed"] and front.transport.closing == "abort"
    assert front.statuses() == [200] and front.refusals[0][0] == 0


# --------------------------------------------------------------------------- back-pressure


def test_the_exchange_hears_of_a_full_buffer_once_each_way() -> None:
    front = waiting().feed(GET)
    front.transport.hold()
    front.session.respond(OK, b"x" * 70000, True)
    front.session.send(b"x" * 70000, True)
    assert front.last.calls == ["pause"]
    front.transport.release()
    front.session.send(b"", False)
    assert front.last.calls == ["pause", "resume", "sent"] and front.transport.producer is None


# ------------------------------------------------------------------------------ how it ends


def test_fin_before_the_answer_is_an_abort() -> None:
    front = waiting().feed(GET)
    front.session.eof_received()
    assert front.last.calls == ["lost client"] and front.transport.closing == "fin"
    front.session.respond(OK, b"late")
    assert front.wire() == b""


def test_fin_in_the_middle_of_an_answer_aborts_so_that_it_does_not_look_complete() -> None:
    front = waiting().feed(b"GET / HTTP/1.0\r\n\r\n")
    front.session.respond(OK, b"part", True)
    front.session.eof_received()
    assert front.last.calls == ["lost client"] and front.transport.closing == "abort"


def test_fin_after_the_answer_was_written_lets_it_be_taken() -> None:
    front = Front()
    front.transport.hold(5)
    front.feed(GET)
    front.session.eof_received()
    assert front.last.calls == [] and front.transport.closing == ""
    front.transport.release()
    assert front.last.calls == ["sent"] and front.transport.closing == "fin"


def test_with_half_close_all_requests_before_the_fin_are_answered() -> None:
    front = waiting(half_close=True).feed(GET + GET)
    front.session.eof_received()
    front.session.respond(OK, b"1")
    assert front.transport.closing == ""
    front.session.respond(OK, b"2")
    assert front.statuses() == [200, 200] and front.transport.closing == "fin"


def test_with_half_close_content_cut_short_is_still_an_abort() -> None:
    front = waiting(half_close=True).feed(post(b"ab", 3))
    front.session.eof_received()
    assert front.last.calls == ["lost client"]


def test_with_half_close_held_content_is_still_delivered() -> None:
    front = waiting(half_close=True)
    front.takes_more = False
    front.feed(chunked(b"ab"))
    front.feed(b"0\r\n\r\n")
    front.session.eof_received()
    front.session.resume_body()
    front.session.respond(OK, b"all")
    assert front.last.content == b"ab" and front.statuses() == [200] and front.transport.closing == "fin"


@pytest.mark.parametrize("data", [b"", HALF, GET])
def test_fin_between_requests_closes_quietly(data: bytes) -> None:
    front = serve(data) if data else Front()
    before = front.wire()
    front.session.eof_received()
    assert front.transport.closing == "fin" and front.wire() == before


def test_a_lost_connection_is_told_once() -> None:
    front = waiting().feed(GET)
    front.session.connection_lost()
    front.session.connection_lost()
    assert front.last.calls == ["lost client"] and front.closings == 1
    front.session.data_received(GET)
    front.session.sweep(2000.0)
    assert len(front.exchanges) == 1


def test_a_connection_lost_while_the_answer_is_taken_is_a_loss() -> None:
    front = Front()
    front.transport.hold(5)
    front.feed(GET)
    front.session.connection_lost()
    assert front.last.calls == ["lost client"]
    front.transport.release()
    assert front.last.calls == ["lost client"]


def test_the_last_answer_closes_lingering() -> None:
    front = serve(CLOSE, linger=3.0)
    assert front.transport.closing == "linger" and front.transport.linger == 3.0
    front.feed(GET)
    assert front.statuses() == [200]


def test_a_draining_front_closes_after_each_answer() -> None:
    front = waiting().feed(GET + GET)
    front.draining = True
    front.session.respond(OK, b"last")
    assert b"connection: close\r\n" in front.wire()
    assert front.last.calls == ["sent"] and len(front.exchanges) == 1
    assert front.transport.closing == "linger"


def test_idle_connections_close_on_request_and_busy_ones_do_not() -> None:
    assert Front().session.close_idle()
    front = serve(GET)
    assert front.session.close_idle() and front.transport.closing == "linger"
    front = waiting().feed(GET)
    assert not front.session.close_idle() and front.transport.closing == ""
    front = serve(HALF)
    assert not front.session.close_idle() and front.transport.closing == ""
    assert front.session.close_idle(half_received=True) and front.wire() == b""


def test_errors_are_plain_text_that_repeats_nothing_of_the_request() -> None:
    front = serve(b"GET /<script> HTTP/1.1\r\nHost : evil\r\n\r\n")
    assert front.wire() == (
        b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 39\r\n"
        b"connection: close\r\n\r\n400 Bad Request: a blank before the colon\n"
    ).replace(b"39", b"42")
    assert front.refusals == [(400, "a blank before the colon")] and front.transport.closing == "linger"


# -------------------------------------------------------------------------------- time-outs


def test_a_silent_connection_is_closed_quietly() -> None:
    front = Front()
    front.tick(10)
    assert front.transport.closing == ""
    front.tick(1)
    assert front.transport.closing == "linger" and front.wire() == b""


def test_a_head_must_be_complete_in_time_however_it_trickles() -> None:
    front = Front()
    for byte in range(10):
        front.feed(GET[byte : byte + 1])
        front.tick(1)
    assert front.transport.closing == ""
    front.feed(b"/")
    front.tick(1)
    assert front.statuses() == [408] and front.transport.closing == "linger"


def test_a_kept_alive_connection_is_closed_quietly() -> None:
    front = serve(GET)
    front.tick(75)
    assert front.transport.closing == ""
    front.tick(1)
    assert front.transport.closing == "linger" and front.statuses() == [200]


def test_content_may_trickle_but_not_stop() -> None:
    front = waiting().feed(post(b"", 100))
    for _ in range(5):
        front.tick(29)
        front.feed(b"x")
    assert front.transport.closing == ""
    front.tick(31)
    assert front.statuses() == [408] and front.last.calls == ["lost timeout"]


def test_content_is_not_timed_while_we_hold_it_back() -> None:
    front = waiting()
    front.takes_more = False
    front.feed(post(b"ab", 100))
    front.tick(100)
    assert front.last.calls == []
    front.takes_more = True
    front.session.resume_body()
    front.tick(30)
    assert front.last.calls == []
    front.tick(1)
    assert front.last.calls == ["lost timeout"]


def test_content_is_not_timed_before_it_was_asked_for() -> None:
    front = Front(answer=nothing)
    front.eager = False
    front.feed(post(b"", 2, b"Expect: 100-continue\r\n"))
    front.tick(100)
    assert front.last.calls == []


def test_content_that_stops_after_the_head_of_the_answer_cuts() -> None:
    front = waiting().feed(post(b"", 100))
    front.session.respond(OK, b"x", True)
    front.tick(31)
    assert front.last.calls == ["lost timeout"] and front.transport.closing == "abort"


def test_an_application_may_take_its_time() -> None:
    front = waiting().feed(GET)
    front.tick(1000)
    front.session.respond(OK, b"x", True)
    front.tick(1000)
    front.session.send(b"", False)
    assert front.last.calls == ["sent"]


def test_a_client_that_takes_nothing_is_cut() -> None:
    front = Front()
    front.transport.hold(5)
    front.feed(GET)
    front.tick(30)
    assert front.last.calls == []
    front.tick(1)
    assert front.last.calls == ["lost timeout"] and front.transport.closing == "abort"


def test_a_client_that_takes_a_byte_now_and_then_is_served() -> None:
    front = waiting().feed(GET)
    front.transport.hold(0)
    front.session.respond(OK, b"x" * 100, True)
    for _ in range(5):
        front.tick(29)
        front.transport.release(1)
        front.session.send(b"y" * 5, True)  # the buffer grows all the same
    assert front.last.calls == []
    front.tick(31)
    assert front.last.calls == ["lost timeout"]


def test_content_being_discarded_is_timed_too() -> None:
    front = waiting().feed(post(b"", 100))
    front.session.respond(OK, b"no")
    front.tick(31)
    assert front.transport.closing == "linger" and front.statuses() == [200]


def test_no_time_out_means_none() -> None:
    front = waiting(header_timeout=0, body_timeout=0, keep_alive_timeout=0, write_timeout=0)
    front.tick(1000)
    front.feed(HALF)
    front.tick(1000)
    front.feed(GET[len(HALF) :])
    front.transport.hold(0)
    front.session.respond(OK, b"x")
    front.tick(1000)
    assert front.transport.closing == ""


# ------------------------------------------------------------ a transport that ends synchronously


def abrupt(front: Front) -> Front:
    """Let each closing call lose the connection before it returns."""
    transport = front.transport
    for name in ("abortConnection", "loseConnection", "close_lingering"):
        plain = getattr(transport, name)

        def closing(*arguments: float, plain: Callable[..., None] = plain) -> None:
            plain(*arguments)
            front.session.connection_lost()

        setattr(transport, name, closing)
    return front


@pytest.mark.parametrize(
    "step",
    [
        lambda front: front.session.cut(),
        lambda front: front.session.respond(answered(200, [(b"Connection", b"close")]), b"x"),
        lambda front: front.session.eof_received(),
        lambda front: front.feed(b"zz\r\n"),
        lambda front: front.tick(31),
        lambda front: (
            front.session.respond(answered(200, [(b"Content-Length", b"1")]), b"", True),
            front.session.send(b"xx", True),
        ),
    ],
)
def test_a_connection_that_ends_inside_a_closing_call_is_told_once(step: Callable[[Front], object]) -> None:
    front = abrupt(waiting()).feed(chunked(b"ab"))
    step(front)
    assert len([call for call in front.last.calls if call == "sent" or call.startswith("lost")]) == 1
    assert front.closings == 1


def test_a_connection_whose_content_is_being_dropped_is_idle() -> None:
    front = waiting().feed(post(b"a", 10))
    front.session.respond(OK, b"no")
    assert front.session.close_idle() and front.transport.closing == "linger"


def test_a_front_that_fails_in_begin_still_hears_of_the_end() -> None:
    def fail(exchange: Exchange) -> None:
        raise ZeroDivisionError

    front = Front(answer=fail)
    with pytest.raises(ZeroDivisionError):
        front.feed(GET)
    front.session.connection_lost()
    assert front.closings == 1


# ------------------------------------------------------------------------------ small print


def test_nothing_can_be_cut_once_the_exchange_was_told_that_all_is_sent() -> None:
    front = waiting().feed(CLOSE)
    exchange = front.last
    plain = exchange.sent

    def sent() -> None:
        plain()
        front.session.cut()
        assert front.session.close_idle()

    exchange.sent = sent  # type: ignore[method-assign]
    front.session.respond(OK, b"x")
    assert exchange.calls == ["sent"] and front.transport.closing == "linger"


def test_a_stream_that_ends_before_a_long_upload_closes_at_once() -> None:
    front = waiting(max_discard=100).feed(post(b"ab", 1000))
    front.session.respond(OK, b"", True)
    front.session.send(b"", False)
    assert front.transport.closing == "linger" and front.last.calls == ["sent"]


@pytest.mark.parametrize("fields", [[], [(b"Connection", b"close")]])
def test_an_answer_ends_the_holding_of_content(fields: list[tuple[bytes, bytes]]) -> None:
    front = waiting()
    front.takes_more = False
    front.feed(post(b"ab", 6))
    assert not front.transport.reading
    front.session.respond(answered(200, fields), b"enough")
    assert front.transport.reading
    if not fields:
        front.answer = echo
        front.feed(b"cdef" + GET)
        assert front.statuses() == [200, 200]


def test_content_is_not_timed_while_the_client_still_takes_the_answer() -> None:
    front = waiting().feed(post(b"", 10))
    front.transport.hold()
    front.session.respond(OK, b"x" * 100)
    for _ in range(3):
        front.tick(29)
        front.transport.release(1)
    assert front.last.calls == []


def test_an_answer_to_head_says_how_long_the_content_would_be() -> None:
    front = waiting().feed(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    front.session.respond(OK, b"12345")
    assert front.wire().endswith(b"content-length: 5\r\n\r\n")


def test_many_small_chunk_extensions_are_too_many_together() -> None:
    chunk = b"1;" + b"a" * 1000 + b"\r\nx\r\n"
    head = chunked()
    assert serve(head + chunk * 16 + b"0\r\n\r\n").statuses() == [200]
    assert serve(head + chunk * 17 + b"0\r\n\r\n").statuses() == [400]


def test_trailers_are_limited_in_number() -> None:
    last = b"0\r\n" + b"a:\r\n" * 5 + b"\r\n"
    assert serve(chunked() + last, max_fields=5).statuses() == [200]
    assert serve(chunked() + last, max_fields=4).statuses() == [431]


def test_only_small_header_blocks_are_remembered() -> None:
    big = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 5000 + b"\r\n\r\n"
    front = serve(big + big)
    assert front.exchanges[0].request.head is not front.exchanges[1].request.head
