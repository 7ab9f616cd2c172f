"""A session beyond single frames: answers, what leaves when, PING, SETTINGS, losses, and the exchange's contract."""

from __future__ import annotations

import hpack
import pytest
from http2_rig import (
    DATA,
    END_STREAM,
    GOAWAY,
    GREETING,
    HEADERS,
    OK,
    PING,
    PREFACE,
    REQUEST,
    RST_STREAM,
    SETTINGS,
    SETTINGS_ACKED,
    TAIL,
    WINDOW_UPDATE,
    Exchange,
    Front,
    blocks,
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
    rst_stream,
    settings,
    window_update,
)

from twisted_rr.http2.blocks import BadResponse, Block
from twisted_rr.http2.codes import CANCEL, ENHANCE_YOUR_CALM, NO_ERROR, PROTOCOL_ERROR, name
from twisted_rr.http2.frames import HEADER_TABLE_SIZE
from twisted_rr.http2.settings import SessionSettings


def kinds(found: list) -> list[int]:
    return [one.kind for one in found]


# ------------------------------------------------------------------------------------ the greeting


def test_the_server_begins_with_its_settings_and_window() -> None:
    front = Front(
        greet=False, max_streams=7, stream_window=70000, connection_window=100000, max_header_list=5000
    )
    first, second = front.read()
    assert first.kind == SETTINGS and first.flags == 0
    pairs = {
        int.from_bytes(first.payload[i : i + 2], "big"): number(first.payload[i + 2 :])
        for i in range(0, 18, 6)
    }
    assert pairs == {3: 7, 4: 70000, 6: 5000}
    assert (second.kind, second.stream, number(second.payload)) == (WINDOW_UPDATE, 0, 100000 - 65535)


def test_the_client_s_settings_are_acknowledged() -> None:
    front = Front(greet=False)
    front.read()
    assert front.feed(PREFACE + settings([]) + settings([(3, 1)])) == frames_of(SETTINGS_ACKED * 2)


def test_a_window_below_the_default_is_refused() -> None:
    with pytest.raises(ValueError):
        SessionSettings(stream_window=65534)
    with pytest.raises(ValueError):
        SessionSettings(connection_window=2**31)


def test_a_small_table_is_confirmed_in_the_next_header_block() -> None:
    front = Front()
    decoder = hpack.Decoder()
    front.feed(settings([(1, 0)]))
    decoder.max_allowed_table_size = 0
    found = front.feed(request(1) + request(3))
    found = [one for one in found if one.kind == HEADERS]
    assert found[0].payload[0] == 0x20 and found[1].payload[0] != 0x20 and found[2].payload[0] != 0x20
    assert decoder.decode(found[0].payload, raw=True)[0] == (b":status", b"200")


# ------------------------------------------------------------------------------------ requests


def test_the_front_sees_what_was_asked() -> None:
    front = Front()
    front.feed(head(1, (*REQUEST, (b"x", b"1"), (b"x", b"2"))) + data(1, b"ab") + data(1, b"c", True))
    seen = front.last.head
    assert (seen.method, seen.scheme, seen.path, seen.authority) == (b"POST", b"http", b"/a/b", b"a.example")
    assert seen.fields == [(b"te", b"trailers"), (b"x", b"1"), (b"x", b"2")] and seen.length == -1
    assert front.last.content == b"abc" and front.last.trailing is None


def test_cookies_are_joined() -> None:
    front = Front()
    front.feed(request(1, b"", (*REQUEST, (b"cookie", b"a=1"), (b"x", b"y"), (b"cookie", b"b=2"))))
    assert front.last.head.fields == [(b"te", b"trailers"), (b"cookie", b"a=1; b=2"), (b"x", b"y")]


def test_a_host_stands_in_for_an_authority() -> None:
    front = Front()
    front.feed(request(1, b"", (*REQUEST[:3], (b"host", b"b.example:1"))))
    assert front.last.head.authority == b"b.example:1"


def test_trailers_reach_the_exchange() -> None:
    front = Front()
    found = front.feed(head(1) + data(1, b"x") + head(1, ((b"sum", b"1"),), True))
    assert front.last.trailing == [(b"sum", b"1")]
    assert content_of(found, 1) == b"x"


def test_what_a_front_derives_stays_with_equal_heads() -> None:
    front = Front()
    front.feed(request(1) + request(3) + request(5, b"", (*REQUEST, (b"x", b"y"))))
    first, second, third = (exchange.head for exchange in front.exchanges)
    assert first is second and third is not first
    assert first.derived is None


# ------------------------------------------------------------------------------------- answers


def test_an_answer_leaves_as_one_piece() -> None:
    front = Front()
    writes = front.transport.writes
    found = front.feed(request(1, b"hello") + request(3))
    assert front.transport.writes == writes + 1
    assert [(one.kind, one.stream) for one in found] == [(1, 1), (0, 1), (1, 1), (1, 3), (1, 3)]
    assert [bool(one.flags & END_STREAM) for one in found] == [False, False, True, False, True]
    assert [exchange.calls for exchange in front.exchanges] == [["closed"], ["closed"]]


@pytest.mark.parametrize("content", [b"", b"x"])
@pytest.mark.parametrize("trailing", [None, TAIL, [(b"a", b"b")]])
def test_every_form_of_a_whole_answer(content: bytes, trailing: object) -> None:
    front = Front(answer=nothing)
    front.feed(request(1) + request(3))
    first, second = front.exchanges
    assert first.stream.respond([(b":status", b"200")], content, trailing is None, trailing)
    second.stream.respond(Block(blocks.encode([(b":status", b"200")])))
    second.stream.send(content)
    second.stream.send(b"", True) if trailing is None else second.stream.trailers(trailing)
    found = front.read()
    decoder = hpack.Decoder()
    for stream in (1, 3):
        mine = [one for one in found if one.stream == stream]
        assert content_of(mine, stream) == content
        heads = [decoder.decode(one.payload, raw=True) for one in mine if one.kind == HEADERS]
        assert heads[0] == [(b":status", b"200")] and len(heads) == 1 + (trailing is not None)
        assert [bool(one.flags & END_STREAM) for one in mine] == [False] * (len(mine) - 1) + [True]
    assert first.calls == second.calls == ["closed"]


def test_small_pieces_share_a_frame() -> None:
    front = Front(answer=nothing)
    front.feed(request(1))
    front.last.stream.respond(OK)
    for _ in range(300):
        front.last.stream.send(b"m" * 100)
    found = front.read()
    assert [len(one.payload) for one in found if one.kind == DATA] == [16384, 300 * 100 - 16384]


def test_interim_heads_come_before_the_final_one() -> None:
    front = Front(answer=nothing)
    front.feed(head(1))
    front.last.stream.interim(blocks.response(100))
    assert kinds(front.read()) == [HEADERS]
    front.last.stream.interim([(b":status", b"103"), (b"link", b"</a>")])
    front.last.stream.respond(OK, b"x", True)
    front.last.stream.interim(blocks.response(100))
    assert kinds(front.read()) == [HEADERS, HEADERS, DATA, RST_STREAM]


def test_an_answer_before_the_end_of_its_request_stops_the_client() -> None:
    front = Front(answer=nothing)
    front.feed(head(1) + data(1, b"part"))
    front.last.stream.respond(OK, b"no", True)
    assert resets_of(front.read()) == [(1, NO_ERROR)]
    assert front.last.calls == ["closed"]
    assert front.feed(data(1, b"late", True)) == [] and front.last.content == b"part"


def test_content_before_the_head_and_second_heads_are_bad() -> None:
    front = Front(answer=nothing)
    front.feed(request(1))
    stream = front.last.stream
    with pytest.raises(BadResponse):
        stream.send(b"x")
    with pytest.raises(BadResponse):
        stream.trailers(TAIL)
    stream.respond(OK)
    with pytest.raises(BadResponse):
        stream.respond(OK)


def test_nothing_is_done_once_the_answer_is_complete_or_the_stream_over() -> None:
    front = Front(answer=nothing)
    front.feed(request(1) + request(3) + request(5))
    one, two, three = (exchange.stream for exchange in front.exchanges)
    one.respond(OK, b"x", True)
    two.respond(OK)
    two.send(b"y", True)
    three.reset(CANCEL)
    front.read()
    for stream in (one, two, three):
        assert stream.respond(OK) and stream.send(b"z") and stream.send(b"", True)
        stream.trailers(TAIL)
        stream.interim(OK)
        stream.reset(CANCEL)
        stream.consumed(100)
    assert front.read() == []


def test_an_answer_given_inside_begin_closes_after_it() -> None:
    front = Front()
    front.feed(request(1))
    assert front.last.calls == ["closed"]


def test_a_reset_inside_begin_is_silent() -> None:
    front = Front(answer=lambda exchange: exchange.stream.reset(CANCEL))
    assert resets_of(front.feed(request(1))) == [(1, CANCEL)]
    assert front.last.calls == []


def test_a_session_closed_inside_begin_tells_the_exchange_afterwards() -> None:
    front = Front(answer=lambda exchange: exchange.stream.session.close())
    found = front.feed(request(1) + request(3))
    assert front.last.calls == [f"reset {CANCEL}"] and len(front.exchanges) == 1
    assert code_of_goaway(found) == NO_ERROR


def test_a_flush_inside_begin_is_made_up_for() -> None:
    front = Front(answer=nothing)

    def answer(exchange: Exchange) -> None:
        exchange.stream.respond(OK, b"x", True)
        exchange.stream.session.flush()
        assert exchange.calls == []

    front.answer = answer
    assert ended(front.feed(request(1)), 1)
    assert front.last.calls == ["closed"]


def test_a_flush_that_the_front_was_asked_for_is_not_lost_inside_begin() -> None:
    front = Front(answer=nothing)
    front.feed(request(1))
    front.last.stream.respond(OK)
    assert front.dirty_calls == 1
    front.dirty_calls = 0
    front.answer = lambda exchange: exchange.stream.session.flush()
    front.session.receive(request(3))
    assert front.dirty_calls == 1
    assert kinds(front.read()) == [HEADERS]


# ------------------------------------------------------------------------------- what leaves when


def test_the_front_is_told_once_a_turn() -> None:
    front = Front(answer=nothing)
    front.feed(request(1) + request(3))
    for exchange in front.exchanges:
        exchange.stream.respond(OK, b"x", True)
    assert front.dirty_calls == 1
    front.flush()
    assert front.dirty_calls == 0


def test_streams_take_turns() -> None:
    front = Front(answer=nothing)
    front.feed(window_update(0, 10**7) + settings([(4, 10**6)]) + request(1) + request(3))
    for exchange in front.exchanges:
        exchange.stream.respond(OK)
        exchange.stream.send(b"x" * 50000, True)
    order = [one.stream for one in front.read() if one.kind == DATA]
    assert order == [1, 3] * 4


def test_a_small_answer_is_not_kept_behind_a_large_one() -> None:
    front = Front(answer=nothing, max_write=65536)
    front.feed(window_update(0, 10**7) + settings([(4, 10**7)]) + request(1))
    front.last.stream.respond(OK)
    front.last.stream.send(b"x" * 10**6, True)
    front.session.flush()
    front.transport.take()
    front.feed(request(3))
    front.last.stream.respond(OK, b"small", True)
    front.session.flush()
    assert ended(frames_of(front.transport.take()), 3)


def test_a_large_answer_is_not_kept_behind_small_ones() -> None:
    front = Front(max_write=65536, max_streams=1000)
    front.feed(window_update(0, 10**8) + settings([(4, 10**7)]))
    front.answer = nothing
    front.feed(request(1))
    front.last.stream.respond(OK)
    front.last.stream.send(b"x" * 10**6, True)
    front.answer = lambda exchange: exchange.stream.respond(OK, b"y" * 16000, True)
    front.session.flush()
    front.transport.take()
    got = []
    for turn in range(10):
        front.session.receive(b"".join(request(101 + 2 * (turn * 3 + i)) for i in range(3)))
        front.session.flush()
        got.append(len(content_of(frames_of(front.transport.take()), 1)))
    assert min(got) >= 16384


def test_no_more_than_a_portion_is_handed_to_a_stalled_transport() -> None:
    front = Front(answer=nothing, max_write=65536)
    front.feed(window_update(0, 10**7) + settings([(4, 10**7)]) + request(1))
    front.transport.hold()
    front.last.stream.respond(OK)
    front.last.stream.send(b"x" * 10**6, True)
    front.flush()
    assert 65536 <= front.transport.buffered() < 65536 + 20000
    front.feed(request(3) + frame(PING, 0, 0, bytes(8)))
    assert front.transport.buffered() < 65536 + 20000
    writes = front.transport.writes
    front.transport.release()
    front.flush()
    found = frames_of(front.transport.take())
    assert len(content_of(found, 1)) == 10**6 and ended(found, 1)
    assert PING in kinds(found) and front.transport.writes > writes
    assert front.exchanges[0].calls == ["closed"]


def test_an_exchange_is_closed_when_the_kernel_has_it_all() -> None:
    front = Front()
    front.transport.hold(10)
    front.feed(request(1))
    assert front.last.calls == []
    front.transport.release(10)
    assert front.last.calls == []
    front.transport.release()
    assert front.last.calls == ["closed"]


def test_an_answer_that_was_not_taken_is_reset_by_the_loss() -> None:
    front = Front()
    front.transport.hold()
    front.feed(request(1) + head(3))
    front.session.connection_lost()
    front.session.connection_lost()
    assert [exchange.calls for exchange in front.exchanges] == [["reset 8"], ["reset 8"]]
    assert front.closings == 1
    front.last.stream.respond(OK, b"x", True)
    front.session.receive(request(5))
    front.session.flush()
    front.session.sweep(0)
    front.session.drain()
    front.session.close()
    assert len(front.exchanges) == 2 and front.closings == 1


def test_a_client_that_asks_and_does_not_read_is_cut_off() -> None:
    front = Front(max_unread=4096)
    front.transport.hold()
    front.feed(request(1))
    for _ in range(400):
        front.feed(frame(PING, 0, 0, bytes(8)))
    assert front.transport.closing == "abort"
    assert front.refusals == [(0, CANCEL, "the client asks for answers and does not read them")]
    assert front.session.outbox.size < 8192


def test_a_client_that_never_reads_cannot_have_us_gather_answers() -> None:
    front = Front(answer=lambda exchange: exchange.stream.respond(OK, b"x" * 15000, True))
    front.transport.hold()
    front.feed(window_update(0, 10**9))
    for i in range(300):
        front.feed(request(2 * i + 1))
    queued = sum(exchange.stream.queued for exchange in front.exchanges)
    assert queued <= 100 * 15000
    assert len(front.session.streams) <= 100
    assert front.transport.buffered() + front.session.outbox.size < 300_000


# ---------------------------------------------------------------------------------- PING, GOAWAY, end


def test_pings_are_answered_with_their_payload() -> None:
    assert Front().feed(frame(PING, 0, 0, b"12345678")) == frames_of(frame(PING, 1, 0, b"12345678"))


def test_too_many_pings_end_the_connection_with_grpc_s_words() -> None:
    front = Front(ping_interval=300.0)
    front.feed(head(1))
    assert kinds(front.feed(frame(PING, 0, 0, bytes(8)) * 3)) == [PING] * 3
    found = front.feed(frame(PING, 0, 0, bytes(8)))
    assert code_of_goaway(found) == ENHANCE_YOUR_CALM and found[-1].payload[8:] == b"too_many_pings"
    assert front.last.calls == [f"reset {ENHANCE_YOUR_CALM}"]


def test_pings_at_the_allowed_pace_or_after_an_answer_are_fine() -> None:
    front = Front(ping_interval=300.0, keepalive_time=0)
    for i in range(10):
        front.clock.now += 301
        assert kinds(front.feed(frame(PING, 0, 0, bytes(8)))) == [PING]
        front.feed(request(2 * i + 1) + frame(PING, 0, 0, bytes(8)) * 2)
    assert not front.transport.closing


def test_pings_without_a_stream_may_be_allowed_every_two_hours_only() -> None:
    front = Front(ping_interval=10.0, ping_without_streams=False, keepalive_time=0)
    for _ in range(3):
        front.feed(frame(PING, 0, 0, bytes(8)))
        front.clock.now += 3600
    assert not front.transport.closing
    assert code_of_goaway(front.feed(frame(PING, 0, 0, bytes(8)))) == ENHANCE_YOUR_CALM


def test_a_client_that_goes_is_served_and_then_closed() -> None:
    front = Front(answer=nothing)
    assert front.feed(request(1) + frame(GOAWAY, 0, 0, bytes(8))) == []
    front.last.stream.respond(OK, b"x", True)
    found = front.read()
    assert ended(found, 1) and code_of_goaway(found) == NO_ERROR
    assert front.transport.closing == "linger" and front.last.calls == ["closed"]


def test_a_client_s_fin_resets_what_is_open() -> None:
    front = Front(answer=nothing)
    front.feed(request(1))
    front.session.eof_received()
    front.flush()
    assert front.last.calls == ["reset 8"] and front.transport.closing == "linger"


def test_close_sends_what_can_be_sent() -> None:
    front = Front(answer=nothing)
    front.feed(request(1) + request(3) + head(5))
    one, two, _ = front.exchanges
    one.stream.respond(OK, b"whole", False, TAIL)
    two.stream.respond(OK)
    two.stream.send(b"last words")
    two.stream.trailers(TAIL)
    front.session.close(NO_ERROR, "deadline")
    found = front.read()
    assert ended(found, 1) and ended(found, 3) and resets_of(found) == []
    assert found[-1].kind == GOAWAY and found[-1].payload == b"\0\0\0\x05\0\0\0\0deadline"
    assert [exchange.calls for exchange in front.exchanges] == [["closed"], ["closed"], ["reset 8"]]
    assert front.transport.closing == "linger" and front.transport.linger == 2.0


def test_a_fault_ends_all_streams_with_its_code() -> None:
    front = Front(answer=nothing)
    front.feed(request(1) + head(3))
    front.feed(data(0))
    assert [exchange.calls for exchange in front.exchanges] == [[f"reset {PROTOCOL_ERROR}"]] * 2
    assert front.refusals == [(0, PROTOCOL_ERROR, "a frame for a stream that is not open")]
    front.session.receive(request(5))
    assert len(front.exchanges) == 2


def test_a_client_s_reset_frees_the_stream() -> None:
    front = Front(answer=nothing, max_streams=1)
    front.feed(request(1) + rst_stream(1, CANCEL) + request(3))
    assert front.exchanges[0].calls == ["reset 8"] and front.exchanges[1].calls == []
    assert front.session.open_streams == 1


@pytest.mark.parametrize("when", ["writable", "closed"])
def test_a_connection_whose_exchange_fails_within_a_flush_is_aborted(when: str) -> None:
    """Nobody would ever ask for its output again, and its other calls would wait for ever."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    front = Front(answer=nothing, max_queued=1000)
    front.feed(request(1) + request(3))
    stream = front.exchanges[0].stream
    if when == "writable":
        front.writable = fail
        stream.respond(OK)
        assert not stream.send(b"x" * 2000)
    else:
        front.exchanges[0].closed = fail  # type: ignore[method-assign]
        stream.respond(OK, b"x", True)
    with pytest.raises(ZeroDivisionError):
        front.flush()
    assert front.transport.closing == "abort"
    front.session.connection_lost()
    assert front.exchanges[1].calls == ["reset 8"] and front.closings == 1


def test_codes_have_names() -> None:
    assert name(0xB) == "ENHANCE_YOUR_CALM" and name(77) == "0x4d"


def test_an_answer_to_an_oversized_head_says_first_that_no_table_is_used() -> None:
    """The next block after SETTINGS that shrink the table, whatever it answers (RFC 7541 section 4.2)."""
    front = Front(max_header_list=2000)
    front.feed(settings([(HEADER_TABLE_SIZE, 0)]))
    found = front.feed(request(1, b"", (*REQUEST, (b"x", b"v" * 3000))))
    decoder = hpack.Decoder()
    decoder.max_allowed_table_size = 0
    assert decoder.decode(found[0].payload) == [(":status", "431")]
    # Once is enough.
    assert front.feed(request(3))[0].payload == OK.data


def test_an_oversized_head_may_be_cut_in_frames() -> None:
    front = Front(max_header_list=2000)
    found = front.feed(request(1, b"", (*REQUEST, (b"x", b"v" * 3000))))
    assert hpack.Decoder().decode(found[0].payload) == [(":status", "431")]
    assert front.refusals == [(1, NO_ERROR, "the header fields are too large")]
    assert GREETING and not front.exchanges
