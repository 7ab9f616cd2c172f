"""One test a rule of mux.md for the server's end."""

import json

import pytest
from hypothesis import given
from wire_recorders import (
    CREDIT,
    ERROR,
    JSON,
    MESSAGE,
    MSGPACK,
    PART,
    PING,
    RAW,
    SIZES,
    STOP,
    STREAM,
    TEXT,
    MuxServer,
    Receiver,
    call_frame,
    credit_frame,
    drain,
    frames,
    in_chunks,
    parse_all,
    steps,
)  # fmt: skip

from twisted_rr.errors import FrameError, TooLarge, WorkerDied
from twisted_rr.wire.call import Call
from twisted_rr.wire.control import encode_control
from twisted_rr.wire.frame import encode

HEAD = b"head"
PONG_FRAME = encode(0, 8, (), b"")


def test_ids_start_at_one_and_rise_in_the_order_of_handing_over():
    server = MuxServer()
    calls = [server.open() for _ in range(3)]
    assert [call.id for call in calls] == [0, 0, 0]
    assert [options for _, _, options, _ in frames(server.end)] == [(3, 1), (3, 2), (3, 3)]
    assert [call.id for call in calls] == [1, 2, 3]


def test_a_call_cancelled_before_it_is_handed_over_sends_nothing_and_frees_its_slot():
    server = MuxServer()
    first, second = server.open(), server.open()
    first.cancel("client")
    assert first.to.events == [("failed", "Cancelled", "cancelled (client)")]
    assert server.owner.free == [first]
    assert server.end.load == 1
    assert [options for _, _, options, _ in frames(server.end)] == [(3, 1)]
    assert second.id == 1


def test_dirty_is_said_once_until_nothing_is_left():
    server = MuxServer()
    server.open()
    server.open()
    assert server.owner.dirties == 1
    assert server.end.take()
    server.open()
    assert server.owner.dirties == 1
    drain(server.end)
    server.open()
    assert server.owner.dirties == 2


def test_a_small_call_is_one_frame_each_way():
    server = MuxServer()
    call = server.opened(b"request", b"body")
    server.end.feed(call_frame(1, HEAD, b"hello"))
    assert call.to.events == [("context", MSGPACK, HEAD, b"hello", False)]
    assert call.ended
    assert server.owner.free == [call]
    assert (server.end.load, server.end.calls) == (0, {})
    assert server.end.take() == b""


def test_head_data_and_trailers_reach_the_receiver_in_order():
    server = MuxServer()
    call = server.opened()
    server.end.feed(
        call_frame(1, HEAD, b"", STREAM)
        + call_frame(1, b"", b"one", STREAM)
        + call_frame(1, b"", b"two", STREAM)
        + call_frame(1, b"trailers", b"")
    )
    assert call.to.events == [
        ("context", MSGPACK, HEAD, b"", True),
        ("data", b"one", True),
        ("data", b"two", True),
        ("context", MSGPACK, b"trailers", b"", False),
    ]


def test_the_answers_end_closes_both_directions():
    server = MuxServer()
    call = server.opened(more=True)
    server.end.feed(call_frame(1, HEAD, b""))
    assert call.send(b"late", True)
    call.finish(lambda codec: b"t")
    assert server.end.take() == b""


def test_a_body_larger_than_a_frame_is_split():
    server = MuxServer(max_frame=4096)
    server.open(b"ctx", bytes(range(256)) * 40, False)
    sent = frames(server.end)
    assert [len(payload) for *_, payload in sent] == [3 + 4096, 4096, 2048]
    assert [bits for _, bits, _, _ in sent] == [STREAM, STREAM, 0]
    assert b"".join(payload for *_, payload in sent)[3:] == bytes(range(256)) * 40


def test_a_body_sent_before_the_open_is_handed_over_follows_it():
    server = MuxServer()
    call = server.open(b"ctx", b"a", True)
    call.send(b"b", True)
    call.send(b"c", False)
    assert frames(server.end) == [(MSGPACK, STREAM, (3, 1), b"ctxa"), (RAW, 0, (0, 1), b"bc")]


def test_small_pieces_travel_together():
    server = MuxServer()
    call = server.opened(more=True)
    for piece in (b"a", b"b", b"c"):
        call.send(piece, True)
    assert frames(server.end) == [(RAW, STREAM, (0, 1), b"abc")]


def test_a_sender_without_credit_waits_and_goes_on_with_credit():
    server = MuxServer(peer_window=16384)
    call = server.opened(more=True)
    call.send(bytes(20000), False)
    assert [(bits, len(p)) for _, bits, _, p in frames(server.end)] == [(STREAM, 16384)]
    assert call.credit_out == 0
    server.end.feed(credit_frame(1, 1000))
    assert [(bits, len(p)) for _, bits, _, p in frames(server.end)] == [(STREAM, 1000)]
    server.end.feed(credit_frame(1, 100000))
    assert [(bits, len(p)) for _, bits, _, p in frames(server.end)] == [(0, 2616)]


def test_bytes_in_the_open_count_against_credit():
    server = MuxServer(peer_window=16384)
    call = server.opened(b"ctx", bytes(10000), True)
    call.send(bytes(10000), True)
    assert [len(p) for *_, p in frames(server.end)] == [6384]


def test_an_empty_end_needs_no_credit():
    server = MuxServer(peer_window=16384)
    call = server.opened(b"ctx", bytes(16384), True)
    call.send(b"", False)
    assert frames(server.end) == [(RAW, 0, (0, 1), b"")]


def test_an_end_with_a_context_needs_no_credit_but_keeps_its_place():
    server = MuxServer(peer_window=16384)
    call = server.opened(more=True)
    call.send(bytes(16385), True)
    call.finish(lambda codec: b"trailers %d" % codec)
    assert [len(p) for *_, p in frames(server.end)] == [16384]
    server.end.feed(credit_frame(1, 16384))
    assert frames(server.end) == [(RAW, STREAM, (0, 1), b"\0"), (MSGPACK, 0, (11, 1), b"trailers 16")]


def test_an_empty_message_waits_for_a_byte_of_credit_and_costs_it():
    server = MuxServer(peer_window=16384)
    call = server.opened(b"ctx", bytes(16384), True)
    call.message(b"", True, True)
    call.message(b"", True, False)
    assert server.end.take() == b""
    server.end.feed(credit_frame(1, 1))
    assert frames(server.end) == [(RAW, STREAM | MESSAGE | TEXT, (0, 1), b"")]
    assert call.credit_out == 0
    server.end.feed(credit_frame(1, 1))
    assert frames(server.end) == [(RAW, MESSAGE | TEXT, (0, 1), b"")]


@pytest.mark.parametrize("more", (False, True))
def test_an_empty_message_in_the_open_costs_the_same(more):
    server = MuxServer(peer_window=16384)
    call = server.open(more=True)
    call.message(b"", False, more)
    assert len(frames(server.end)) == 1
    assert call.credit_out == 16383


def test_a_source_of_empty_messages_is_held_when_the_worker_takes_none():
    server = MuxServer(peer_window=16384)
    call = server.opened(more=True)
    sent = 1
    while call.message(b"", False, True):
        sent += 1
        if sent % 1000 == 0:
            drain(server.end)
        assert sent < 40000
    drain(server.end)
    waiting = len(call.queue)
    assert sent - waiting == 16384
    server.end.feed(credit_frame(1, waiting))
    drain(server.end)
    assert call.to.events == [("writable",)]
    assert (call.credit_out, call.queued, len(call.queue)) == (0, 0, 0)


@pytest.mark.parametrize("runs", (False, True))
@pytest.mark.parametrize("bits", (0, TEXT))
def test_empty_messages_are_granted_again_like_others(runs, bits):
    server = MuxServer(window=16384)
    call = server.opened(b"ctx", b"", False)
    call.runs = runs
    server.end.feed(call_frame(1, b"", b"", MESSAGE | STREAM | bits) * 8191)
    assert server.end.take() == b""
    assert (call.credit_in, call.empties) == (8193, 8191)
    server.end.feed(call_frame(1, b"", b"x", MESSAGE | STREAM | bits))
    assert frames(server.end) == [(RAW, CREDIT, (0, 1, 8192), b"")]
    assert (call.credit_in, call.empties) == (16384, 8191)


def held_worker_sent(*sent):
    """A call whose consumer takes nothing, after its worker has sent all of *sent*."""
    server = MuxServer(window=16384)
    call = server.opened(b"ctx", b"", False)
    call.runs = True
    call.pauseProducing()
    for data in sent:
        server.end.feed(data)
    return server, call


EMPTY = call_frame(1, b"", b"", MESSAGE | STREAM)


def test_a_worker_that_has_empty_messages_for_nothing_is_not_lost_for_it():
    full = call_frame(1, b"", bytes(8192), MESSAGE | STREAM)
    server, call = held_worker_sent(EMPTY * 5000, full, full, EMPTY * 5000)
    assert call.credit_in == -10000
    call.resumeProducing()
    assert frames(server.end) == [(RAW, CREDIT, (0, 1, 26384), b"")]
    server.end.feed(EMPTY + call_frame(1, b"end", b""))
    assert server.owner.free == [call]


def test_but_no_byte_more_than_empty_messages_came():
    full = call_frame(1, b"", bytes(8192), MESSAGE | STREAM)
    server, _ = held_worker_sent(EMPTY * 10, full, full)
    with pytest.raises(FrameError, match="1 bytes beyond a credit of -10"):
        server.end.feed(call_frame(1, b"", b"x", MESSAGE | STREAM))


def test_and_one_window_beyond_its_credit_only_the_call_ends():
    server, call = held_worker_sent(EMPTY * 32768)
    assert not call.ended
    server.end.feed(EMPTY)
    assert call.to.events[-1] == ("failed", "ApplicationError", "messages beyond its credit")
    assert frames(server.end) == [(RAW, STOP, (0, 1), b"")]
    server.end.feed(EMPTY * 2 + call_frame(1, b"", b"", STOP))
    assert server.owner.free == [call]


def test_credit_is_granted_after_half_a_window():
    server = MuxServer(window=16384)
    server.opened()
    server.end.feed(call_frame(1, HEAD, bytes(8191), STREAM))
    assert server.end.take() == b""
    server.end.feed(call_frame(1, b"", b"x", STREAM))
    assert frames(server.end) == [(RAW, CREDIT, (0, 1, 8192), b"")]
    assert server.end.calls[1].credit_in == 16384


def test_grants_of_one_turn_are_one_frame():
    server = MuxServer(window=16384)
    server.opened()
    server.end.feed(call_frame(1, HEAD, bytes(8192), STREAM) + call_frame(1, b"", bytes(8192), STREAM))
    assert frames(server.end) == [(RAW, CREDIT, (0, 1, 16384), b"")]


def test_a_paused_call_is_granted_nothing_until_it_is_resumed():
    server = MuxServer(window=16384)
    call = server.opened()
    call.pauseProducing()
    server.end.feed(call_frame(1, HEAD, bytes(16384), STREAM))
    assert server.end.take() == b""
    call.resumeProducing()
    assert frames(server.end) == [(RAW, CREDIT, (0, 1, 16384), b"")]
    call.resumeProducing()
    assert server.end.take() == b""


def test_a_paused_call_holds_back_only_itself():
    server = MuxServer(window=16384)
    slow, quick = server.opened(), server.opened()
    slow.pauseProducing()
    server.end.feed(call_frame(1, HEAD, bytes(16384), STREAM) + call_frame(2, HEAD, bytes(16384), STREAM))
    assert frames(server.end) == [(RAW, CREDIT, (0, 2, 16384), b"")]
    assert not quick.ended


def test_no_credit_goes_to_a_direction_that_has_ended():
    server = MuxServer(window=16384)
    server.opened()
    server.end.feed(call_frame(1, HEAD, bytes(16384), STREAM) + call_frame(1, b"", b""))
    assert server.end.take() == b""


def test_no_credit_goes_to_a_cancelled_call():
    server = MuxServer(window=16384)
    call = server.opened()
    server.end.feed(call_frame(1, HEAD, bytes(16384), STREAM))
    call.cancel("client")
    assert [bits for _, bits, _, _ in frames(server.end)] == [STOP]


def test_credit_for_a_body_that_has_ended_is_taken_without_effect():
    server = MuxServer()
    server.opened()
    server.end.feed(credit_frame(1, 131072))
    assert server.end.take() == b""


def test_frames_of_the_relay_credit_and_stop_go_before_data():
    server = MuxServer(window=16384)
    first = server.opened(more=True)
    second = server.opened(more=True)
    first.send(b"body", True)
    server.open()
    server.end.feed(call_frame(1, HEAD, bytes(8192), STREAM))
    second.cancel("drain")
    server.end.control({"draining": {"deadline_ms": 5}})
    sent = frames(server.end)
    assert [(flags, bits) for flags, bits, _, _ in sent] == [
        (9, 0), (RAW, CREDIT), (JSON, STOP), (MSGPACK, 0), (RAW, STREAM),
    ]  # fmt: skip


def test_calls_take_turns_one_frame_each():
    server = MuxServer(max_frame=4096)
    calls = [server.opened(more=True) for _ in range(3)]
    for call in calls:
        call.send(bytes(12288), True)
    assert [options[1] for _, _, options, _ in frames(server.end)] == [1, 2, 3] * 3


def test_a_late_call_does_not_wait_for_a_large_one():
    server = MuxServer(peer_window=4 << 20)
    large = server.opened(more=True)
    large.send(bytes(4 << 20), True)
    assert 262144 <= len(server.end.take()) < 262144 + 65536 + 100
    small = server.opened(more=True)
    small.send(b"x", True)
    ids = [options[1] for _, _, options, _ in parse_all(server.end.take())]
    assert small.id in ids[:2]


def test_opens_do_not_starve_data():
    server = MuxServer()
    call = server.opened(more=True)
    call.send(b"data", True)
    for _ in range(100):
        server.open(b"ctx", bytes(65536), False)
    assert (RAW, STREAM, (0, 1), b"data") in parse_all(server.end.take())


def test_a_piece_is_256_kib_and_one_frame_at_most():
    server = MuxServer()
    for _ in range(100):
        server.open(b"ctx", bytes(60000), False)
    while piece := server.end.take():
        assert len(piece) < 262144 + 65536


def test_cancel_sends_stop_with_the_reason_and_waits_for_the_terminal_frame():
    server = MuxServer()
    call = server.opened(more=True)
    call.send(b"queued", True)
    call.cancel("deadline")
    assert call.to.events == [("failed", "Cancelled", "cancelled (deadline)")]
    ((flags, bits, _, payload),) = frames(server.end)
    assert (flags, bits, json.loads(payload)) == (JSON, STOP, {"reason": "deadline"})
    assert server.end.load == 1
    assert server.owner.free == []
    server.end.feed(call_frame(1, HEAD, b"crossed", STREAM) + call_frame(1, b"", b"", STOP))
    assert len(call.to.events) == 1
    assert server.owner.free == [call]
    assert server.end.load == 0


@pytest.mark.parametrize("terminal", (call_frame(1, b"h", b""), call_frame(1, b"", b"boom", 0, ERROR | RAW)))
def test_any_terminal_frame_ends_a_cancelled_call(terminal):
    server = MuxServer()
    call = server.opened()
    call.cancel("client")
    server.end.feed(terminal)
    assert server.owner.free == [call]
    assert server.end.take() == b""  # and the STOP that crossed it is not sent any more


def test_cancel_twice_or_after_the_end_does_nothing():
    server = MuxServer()
    call = server.opened()
    server.end.feed(call_frame(1, HEAD, b""))
    call.cancel("client")
    other = server.opened()
    other.cancel("client")
    other.cancel("drain")
    other.stopProducing()
    assert len(call.to.events) == len(other.to.events) == 1
    assert len(frames(server.end)) == 1


def test_an_error_before_or_after_the_head_fails_the_call_alone():
    server = MuxServer()
    first, second = server.opened(), server.opened()
    server.end.feed(call_frame(1, b"", b"boom \xff", 0, ERROR | RAW))
    server.end.feed(call_frame(2, HEAD, b"", STREAM) + call_frame(2, b"", b"late", 0, ERROR))
    assert first.to.events == [("failed", "ApplicationError", "boom \ufffd")]
    assert second.to.events[1:] == [("failed", "ApplicationError", "late")]
    assert server.owner.free == [first, second]


def test_a_refused_call_is_offered_to_the_owner_with_its_body():
    server = MuxServer()
    server.owner.elsewhere = True
    call = server.opened(b"ctx", b"body", False)
    server.end.feed(call_frame(1, b"", b"", STOP))
    assert server.owner.asked == [call] == server.owner.free
    assert (call.to.events, call.held, call.more, call.id) == ([], b"body", False, 0)


def test_a_refused_call_can_be_opened_on_another_relay():
    server, other = MuxServer(), MuxServer()
    server.owner.elsewhere = True
    call = server.opened(b"ctx", b"body", True)
    server.end.feed(call_frame(1, b"", b"", STOP))
    call.send(b" and more", False)
    other.end.open(call, b"ctx", call.held, call.more)
    call.send(b"dropped", True)
    assert frames(other.end) == [(MSGPACK, STREAM, (3, 1), b"ctxbody"), (RAW, 0, (0, 1), b" and more")]
    other.end.feed(call_frame(1, HEAD, b"done"))
    assert call.to.events == [("context", MSGPACK, HEAD, b"done", False)]
    assert server.end.take() == b""


def test_a_refused_call_whose_body_has_gone_cannot_be_run_again():
    server = MuxServer()
    call = server.opened(b"ctx", b"body", True)
    call.send(b"more", True)
    drain(server.end)
    server.end.feed(call_frame(1, b"", b"", STOP))
    assert call.held is None
    assert [event[:2] for event in call.to.events] == [("failed", "Refused")]


def test_a_refused_call_takes_its_first_message_elsewhere():
    server, other = MuxServer(), MuxServer()
    server.owner.elsewhere = True
    call = server.open(b"ctx", b"", True)
    call.message(b"one", False, False)
    opened = frames(server.end)
    assert opened == [(MSGPACK, MESSAGE, (3, 1), b"ctxone")]
    server.end.feed(call_frame(1, b"", b"", STOP))
    assert (call.to.events, call.held, call.more) == ([], b"", False)
    other.end.open(call, b"ctx", call.held, call.more)
    assert frames(other.end) == opened
    other.end.feed(call_frame(1, b"", b"done", MESSAGE))
    assert call.to.events == [("message", b"done", False, False)]


def test_a_refused_stream_of_messages_goes_elsewhere_while_only_its_first_was_framed():
    server, other = MuxServer(), MuxServer()
    server.owner.elsewhere = True
    call = server.open(b"ctx", b"", True)
    call.message(b"one", False, True)
    assert frames(server.end) == [(MSGPACK, MESSAGE | STREAM, (3, 1), b"ctxone")]
    call.message(b"two", False, True)
    server.end.feed(call_frame(1, b"", b"", STOP))
    other.end.open(call, b"ctx", call.held, call.more)
    assert frames(other.end) == [
        (MSGPACK, MESSAGE | STREAM, (3, 1), b"ctxone"),
        (RAW, MESSAGE | STREAM, (0, 1), b"two"),
    ]


@pytest.mark.parametrize("more", [b"two", bytes(70000)])
def test_a_refused_call_of_which_more_messages_were_framed_cannot_be_run_again(more):
    server = MuxServer()
    call = server.open(b"ctx", b"", True)
    call.message(more if len(more) > 3 else b"one", False, True)
    call.message(more, False, True)
    drain(server.end)
    server.end.feed(call_frame(1, b"", b"", STOP))
    assert call.held is None and call.first is None
    assert [event[:2] for event in call.to.events] == [("failed", "Refused")]


def test_messages_that_come_together_are_given_together_to_who_asked_for_it():
    server = MuxServer()
    first, second = server.opened(b"ctx", b"", False), server.opened(b"ctx", b"", False)
    first.runs = True
    many = b"".join(call_frame(1, b"", b"%d" % number, MESSAGE | STREAM) for number in range(3))
    server.end.feed(
        many + call_frame(2, b"", b"other", MESSAGE | STREAM)
        + many + call_frame(1, b"", b"text", MESSAGE | STREAM | TEXT) + call_frame(1, b"", b"last", MESSAGE)
    )  # fmt: skip
    run = ("messages", [b"0", b"1", b"2"])
    assert first.to.events == [run, run, ("message", b"text", True, True), ("message", b"last", False, False)]
    assert second.to.events == [("message", b"other", False, True)]


def test_a_run_of_messages_takes_no_more_than_the_credit():
    server = MuxServer(window=16384)
    call = server.opened(b"ctx", b"", False)
    call.runs = True
    call.pauseProducing()
    wrong = call_frame(1, b"", bytes(4000), MESSAGE | STREAM) * 5
    with pytest.raises(FrameError, match="4000 bytes beyond a credit of 384"):
        server.end.feed(wrong)
    assert [len(event[1]) for event in call.to.events] == [4]


def test_a_run_of_messages_is_granted_once():
    server = MuxServer(window=16384)
    call = server.opened(b"ctx", b"", False)
    call.runs = True
    server.end.feed(call_frame(1, b"", bytes(4000), MESSAGE | STREAM) * 4)
    assert frames(server.end) == [(RAW, CREDIT, (0, 1, 16000), b"")]


def test_an_end_that_was_sent_alone_leaves_the_call_repeatable():
    server = MuxServer()
    server.owner.elsewhere = True
    call = server.opened(b"ctx", b"body", True)
    call.send(b"", False)
    drain(server.end)
    server.end.feed(call_frame(1, b"", b"", STOP))
    assert (call.held, call.more, call.sent_end) == (b"body", False, False)


def test_a_stop_after_the_head_is_an_abort():
    server = MuxServer()
    call = server.opened()
    server.end.feed(call_frame(1, HEAD, b"", STREAM) + call_frame(1, b"", b"", STOP))
    assert server.owner.asked == []
    assert call.to.events[1][:2] == ("failed", "ApplicationError")


def test_messages_are_delivered_whole():
    server = MuxServer()
    call = server.opened(more=True)
    server.end.feed(
        call_frame(1, HEAD, b"", STREAM)
        + call_frame(1, b"", b"he", STREAM | MESSAGE | PART | TEXT)
        + call_frame(1, b"", b"llo", STREAM | MESSAGE | TEXT)
        + call_frame(1, b"", b"", STREAM | MESSAGE)
        + call_frame(1, b"", b"bye", MESSAGE)
    )
    assert call.to.events[1:] == [
        ("message", b"hello", True, True), ("message", b"", False, True), ("message", b"bye", False, False),
    ]  # fmt: skip
    assert call.ended


def test_a_context_comes_before_its_message_but_after_the_last_one():
    server = MuxServer()
    call = server.opened(more=True)
    server.end.feed(call_frame(1, HEAD, b"one", STREAM | MESSAGE) + call_frame(1, b"status", b"two", MESSAGE))
    assert call.to.events == [
        ("context", MSGPACK, HEAD, b"", True), ("message", b"one", False, True),
        ("message", b"two", False, True), ("context", MSGPACK, b"status", b"", False),
    ]  # fmt: skip


def test_a_message_larger_than_the_window_does_not_wait_for_itself():
    server = MuxServer(window=16384)
    call = server.opened(more=True)
    granted = 16384
    part = bytes(4096)
    for _ in range(20):
        server.end.feed(call_frame(1, b"", part, STREAM | MESSAGE | PART))
        granted += sum(options[2] for _, bits, options, _ in frames(server.end) if bits == CREDIT) - 4096
        assert granted >= 4096
    server.end.feed(call_frame(1, b"", b"", STREAM | MESSAGE))
    assert len(call.to.events[0][1]) == 20 * 4096


def test_a_message_above_the_limit_ends_its_call_alone():
    server = MuxServer(max_message=10)
    call, other = server.opened(more=True), server.opened()
    server.end.feed(
        call_frame(1, b"", b"123456", STREAM | MESSAGE | PART)
        + call_frame(1, b"", b"78901", STREAM | MESSAGE)
    )
    assert call.to.events == [("failed", "ApplicationError", "a message of more than 10 bytes")]
    assert frames(server.end) == [(RAW, STOP, (0, 1), b"")]
    server.end.feed(call_frame(1, b"", b"x", STREAM | MESSAGE) + call_frame(1, b"", b"", STOP))
    server.end.feed(call_frame(2, HEAD, b""))
    assert server.owner.free == [call, other]


@pytest.mark.parametrize("context", [b"", b"status"])
@pytest.mark.parametrize("parts", [(b"12345678901",), (b"123456", b"78901")])
def test_a_message_above_the_limit_that_ends_its_call_frees_its_slot(parts, context):
    server = MuxServer(max_message=10)
    call, other = server.opened(more=True), server.opened()
    for part in parts[:-1]:
        server.end.feed(call_frame(1, b"", part, STREAM | MESSAGE | PART))
    server.end.feed(call_frame(1, context, parts[-1], MESSAGE))
    assert call.to.events == [("failed", "ApplicationError", "a message of more than 10 bytes")]
    assert server.owner.free == [call]
    assert (server.end.load, list(server.end.calls)) == (1, [2])
    assert frames(server.end) == []
    server.end.feed(call_frame(2, HEAD, b""))
    assert server.owner.free == [call, other]


@pytest.mark.parametrize(
    ("bits", "reason"), [(STREAM, "between the parts"), (STREAM | MESSAGE | TEXT, "text in one part only")]
)
def test_parts_of_a_message_belong_together(bits, reason):
    server = MuxServer()
    server.opened(more=True)
    server.end.feed(call_frame(1, b"", b"a", STREAM | MESSAGE | PART))
    with pytest.raises(FrameError, match=reason):
        server.end.feed(call_frame(1, b"", b"b", bits))


def test_messages_to_the_worker_are_split_into_parts():
    server = MuxServer(max_frame=4096)
    call = server.opened(more=True)
    call.message(bytes(9000), True, True)
    call.message(b"", False, True)
    call.message(b"last", False, False)
    sent = [(bits, len(p)) for _, bits, _, p in frames(server.end)]
    text = STREAM | MESSAGE | TEXT
    assert sent == [
        (text | PART, 4096), (text | PART, 4096), (text, 808), (STREAM | MESSAGE, 0), (MESSAGE, 4),
    ]  # fmt: skip


def test_a_message_sent_at_once_rides_in_the_open():
    server = MuxServer()
    call = server.open(b"call", b"", True)
    call.message(b"request", False, False)
    assert frames(server.end) == [(MSGPACK, MESSAGE, (4, 1), b"callrequest")]


def test_a_source_is_held_above_256_kib_and_asked_to_go_on_below_half():
    server = MuxServer(peer_window=16384)
    call = server.opened(more=True)
    assert call.send(bytes(262144), True)
    assert not call.send(b"x", True)
    drain(server.end)
    for _ in range(8):
        assert call.to.events == []
        server.end.feed(credit_frame(1, 16384))
        drain(server.end)
    assert call.to.events == [("writable",)]


def test_a_source_may_send_or_cancel_when_it_is_asked_to_go_on():
    server = MuxServer(peer_window=1 << 20)
    call = server.opened(more=True)

    class Eager(Receiver):
        def writable(self):
            super().writable()
            call.send(b"again", True)
            call.cancel("client")

    call.to = Eager()
    assert not call.send(bytes(300000), True)
    sent = frames(server.end)
    assert [event[0] for event in call.to.events] == ["writable", "failed"]
    assert sent[-1][1] == STOP
    assert sum(len(p) for _, bits, _, p in sent if bits == STREAM) <= 300000


def test_the_workers_capacity_lowers_the_limit():
    server = MuxServer(streams=10)
    assert server.end.limit == 10
    server.end.feed(encode_control({"capacity": 3}))
    assert server.end.limit == 3
    assert server.owner.messages == [{"capacity": 3}]


def test_a_capacity_above_the_agreement_is_cut_to_it():
    server = MuxServer(streams=10, capacity=1000)
    server.end.feed(encode_control({"capacity": 500}))
    assert server.end.limit == 10


def test_retire_ends_the_taking_of_calls_but_not_the_calls():
    server = MuxServer()
    call = server.opened()
    server.end.feed(encode_control({"retire": True, "why": "max_jobs"}))
    assert not server.end.accepting
    server.end.feed(call_frame(1, HEAD, b""))
    assert call.ended
    assert server.owner.messages == [{"retire": True, "why": "max_jobs"}]


def test_a_worker_that_answers_no_heartbeat_gets_no_calls_until_it_is_heard():
    server = MuxServer(caps=["heartbeat"])
    server.opened()
    for now in range(25):
        server.end.tick(float(now))
    assert [bits for _, bits, _, _ in frames(server.end)] == [PING]
    assert server.end.missed
    assert not server.end.accepting
    server.end.feed(PONG_FRAME)
    server.end.tick(25.0)
    assert server.end.accepting
    assert not server.end.missed


def test_a_worker_without_the_cap_is_never_asked():
    server = MuxServer()
    server.opened()
    for now in range(100):
        server.end.tick(float(now))
    assert server.end.accepting
    assert server.end.take() == b""


def test_a_worker_retires_when_its_ids_run_out():
    server = MuxServer()
    server.end._out.last = 2**31 - 2
    call = server.opened()
    assert call.id == 2**31 - 1
    assert not server.end.accepting
    assert server.owner.messages == [{"retire": True}]
    server.end.feed(call_frame(call.id, HEAD, b""))
    assert call.ended


def test_a_lost_relay_fails_every_call_once():
    server = MuxServer()
    opened, waiting, cancelled = server.opened(), server.opened(more=True), server.opened()
    queued = server.open()
    cancelled.cancel("client")
    for _ in range(2):
        server.end.fail_all(lambda call: WorkerDied(7, f"call {call.id}"))
    assert opened.to.events == [("failed", "WorkerDied", "worker 7 died: call 1")]
    assert waiting.to.events == [("failed", "WorkerDied", "worker 7 died: call 2")]
    assert [event[1] for event in cancelled.to.events] == ["Cancelled"]
    assert queued.to.events == [("failed", "WorkerDied", "worker 7 died: call 0")]
    assert (server.end.take(), server.end.load, server.end.accepting) == (b"", 0, False)
    server.end.feed(call_frame(1, HEAD, b""))


def test_answers_before_a_broken_frame_count():
    server = MuxServer()
    first, second = server.opened(), server.opened()
    with pytest.raises(FrameError):
        server.end.feed(call_frame(1, HEAD, b"") + b"Hello, world\n")
    assert first.ended
    assert not second.ended


class Critical(Receiver):
    """Finds every context to be nonsense."""

    def context(self, codec, context, body, more):
        raise FrameError("a second final head")


@pytest.mark.parametrize("bits", (0, STREAM))
def test_a_receiver_that_refuses_a_frame_ends_the_relay_and_is_then_told(bits):
    server = MuxServer()
    to = Critical()
    call = Call(None, to, server.end)
    server.end.open(call, b"ctx", b"", False)
    drain(server.end)
    with pytest.raises(FrameError, match="a second final head"):
        server.end.feed(call_frame(1, HEAD, b"", bits))
    server.end.fail_all(lambda call: WorkerDied(7, "bad frame"))
    assert to.events == [("failed", "WorkerDied", "worker 7 died: bad frame")]


def test_a_receiver_that_refuses_the_last_message_is_told_too():
    server = MuxServer()

    class Strict(Receiver):
        def message(self, body, text, more):
            raise FrameError("a message before the head")

    to = Strict()
    call = Call(None, to, server.end)
    server.end.open(call, b"ctx", b"", False)
    drain(server.end)
    with pytest.raises(FrameError, match="before the head"):
        server.end.feed(call_frame(1, b"", b"x", MESSAGE))
    server.end.fail_all(lambda call: WorkerDied(7, "bad frame"))
    assert [event[1] for event in to.events] == ["WorkerDied"]


def test_a_receivers_own_mistake_ends_the_relay_too():
    server = MuxServer()
    call = server.opened()
    call.to.data = None
    with pytest.raises(TypeError):
        server.end.feed(call_frame(1, b"", b"x", STREAM))
    server.end.feed(call_frame(1, b"", b"x", STREAM))  # read no further


def test_a_message_may_be_cancelled_between_its_head_and_its_body():
    server = MuxServer()
    call = server.opened()

    class Quitter(Receiver):
        def context(self, codec, context, body, more):
            super().context(codec, context, body, more)
            call.cancel("client")

    call.to = Quitter()
    server.end.feed(call_frame(1, HEAD, b"x", STREAM | MESSAGE) + call_frame(1, b"", b"y", MESSAGE))
    assert [event[0] for event in call.to.events] == ["context", "failed"]
    assert server.owner.free == [call]


def test_a_context_with_the_last_message_is_not_told_to_one_who_cancelled():
    server = MuxServer()
    call = server.opened()

    class Quitter(Receiver):
        def message(self, body, text, more):
            super().message(body, text, more)
            call.cancel("client")

    call.to = Quitter()
    server.end.feed(call_frame(1, b"status", b"x", MESSAGE))
    assert [event[0] for event in call.to.events] == ["message", "failed"]
    assert server.owner.free == [call]
    assert server.end.take() == b""


def test_wrong_options_are_refused_before_the_payload_has_come():
    for frame, reason in (
        (call_frame(9, b"", bytes(60000), STREAM), "never opened"),
        (encode(MSGPACK, STREAM, (70000, 1), bytes(60000)), "a context of 70000 bytes"),
    ):
        server = MuxServer()
        server.opened()
        with pytest.raises(FrameError, match=reason):
            server.end.feed(frame[:20])


def test_a_relay_given_up_in_a_callback_is_read_no_further():
    server = MuxServer()
    call, other = server.opened(), server.opened()

    class Killer(Receiver):
        def context(self, codec, context, body, more):
            super().context(codec, context, body, more)
            server.end.fail_all(lambda call: WorkerDied(7, "killed"))

    call.to = Killer()
    server.end.feed(call_frame(1, HEAD, b"", STREAM) + call_frame(2, HEAD, b""))
    assert [event[0] for event in call.to.events] == ["context", "failed"]
    assert [event[0] for event in other.to.events] == ["failed"]


def test_a_context_above_a_mebibyte_is_refused_before_it_is_queued():
    server = MuxServer()
    with pytest.raises(TooLarge):
        server.open(bytes(1048577))
    assert server.end.load == 0
    server.open(bytes(1048576))
    assert len(server.end.take()) == 20 + 1048576


def test_a_context_of_a_mebibyte_is_taken_in_pieces():
    server = MuxServer()
    call = server.opened()
    for chunk in in_chunks(call_frame(1, bytes(1048576), bytes(65536)), [65536]):
        server.end.feed(chunk)
    assert call.to.events == [("context", MSGPACK, bytes(1048576), bytes(65536), False)]


def test_a_callback_may_open_and_cancel_calls():
    server = MuxServer()
    call, victim = server.opened(), server.opened()

    class Busy(Receiver):
        def context(self, codec, context, body, more):
            super().context(codec, context, body, more)
            victim.cancel("client")
            server.open()

    call.to = Busy()
    server.end.feed(call_frame(1, HEAD, b"") + call_frame(2, HEAD, b""))
    assert [event[0] for event in victim.to.events] == ["failed"]
    assert server.owner.free == [call, victim]
    assert [options for _, _, options, _ in frames(server.end)] == [(3, 3)]


ANSWERS = steps("more", "data", "end", "message", "part", "error", "stop", "credit", "ping", "junk")


def heard(chunks):
    server = MuxServer()
    calls = [server.opened(more=True) for _ in range(3)]
    error = None
    try:
        for chunk in chunks:
            server.end.feed(chunk)
        server.end.eof()
    except FrameError as caught:
        error = type(caught).__name__
    return server.log, error, [call.ended for call in calls], server.owner.free.__len__(), drain(server.end)


@given(ANSWERS, SIZES)
def test_any_chunking_gives_the_same_events(data, sizes):
    assert heard(in_chunks(data, sizes)) == heard([data])
