"""One test a rule of mux.md for the worker's end."""

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
    MuxWorker,
    call_frame,
    credit_frame,
    drain,
    frames,
    in_chunks,
    parse_all,
    steps,
)  # fmt: skip

from twisted_rr.errors import FrameError, TooLarge
from twisted_rr.wire.control import STOP_COMMAND, encode_control
from twisted_rr.wire.frame import encode

STOP_1 = call_frame(1, b"", b"", STOP)


def test_an_open_starts_a_stream():
    worker = MuxWorker()
    worker.end.feed(call_frame(1, b"request", b"body"))
    assert worker.log == [(1, "opened", MSGPACK, b"request", b"body", False)]
    assert list(worker.end.streams) == [1]


def test_an_answer_of_one_frame_ends_the_stream():
    worker = MuxWorker()
    stream = worker.accept()
    assert stream.send(b"head", b"hello", False)
    assert stream.ended
    assert worker.end.streams == {}
    assert frames(worker.end) == [(MSGPACK, 0, (4, 1), b"headhello")]


def test_nothing_can_be_sent_after_the_end():
    worker = MuxWorker()
    stream = worker.accept()
    stream.send(b"head", b"", False)
    stream.send(b"", b"late", True)
    stream.message(b"late", False, False)
    stream.error("late")
    stream.stop()
    assert len(frames(worker.end)) == 1


def test_dirty_is_said_once_until_nothing_is_left():
    worker = MuxWorker()
    first, second = worker.accept(1), worker.accept(2)
    first.send(b"h", b"", True)
    second.send(b"h", b"", True)
    assert worker.dirties == 1
    drain(worker.end)
    first.send(b"", b"", False)
    assert worker.dirties == 2


def test_frames_of_the_server_that_cross_the_terminal_one_are_ignored():
    worker = MuxWorker()
    worker.accept(1, bits=STREAM).send(b"head", b"", False)
    worker.log.clear()
    worker.end.feed(
        call_frame(1, b"", b"x", STREAM) + credit_frame(1, 5) + STOP_1 + call_frame(1, b"trailers", b"")
    )
    assert worker.log == []


def test_ids_may_leave_gaps_but_never_go_back():
    worker = MuxWorker()
    worker.accept(5)
    worker.end.feed(call_frame(3, b"old", b""))  # can only be a late frame of call 3
    assert [entry[0] for entry in worker.log] == [5]
    worker.accept(9)
    assert list(worker.end.streams) == [5, 9]


def test_more_calls_than_agreed_are_refused():
    worker = MuxWorker(streams=2)
    worker.accept(1)
    worker.accept(2)
    with pytest.raises(FrameError, match="more than 2 calls"):
        worker.accept(3)


def test_a_large_answer_is_split_and_waits_for_credit():
    worker = MuxWorker(max_frame=4096, peer_window=16384)
    stream = worker.accept()
    stream.send(b"head", bytes(20000), False)
    sent = frames(worker.end)
    assert [len(p) for *_, p in sent] == [4 + 4096, 4096, 4096, 4096]
    assert all(bits == STREAM for _, bits, _, _ in sent)
    worker.end.feed(credit_frame(1, 16384))
    assert [(bits, len(p)) for _, bits, _, p in frames(worker.end)] == [(0, 3616)]
    assert stream.ended


def test_trailers_follow_the_queued_body():
    worker = MuxWorker(max_frame=4096)
    stream = worker.accept()
    stream.send(b"head", bytes(5000), True)
    stream.send(b"trailers", b"", False)
    assert [(flags, bits, len(p)) for flags, bits, _, p in frames(worker.end)] == [
        (MSGPACK, STREAM, 4100), (RAW, STREAM, 904), (MSGPACK, 0, 8),
    ]  # fmt: skip


def test_each_call_has_one_frame_a_round():
    worker = MuxWorker(max_frame=4096)
    streams = [worker.accept(id) for id in (1, 2, 3)]
    for stream in streams:
        for _ in range(3):
            stream.send(b"", bytes(4096), True)
    assert [options[1] for _, _, options, _ in frames(worker.end)] == [1, 2, 3] * 3


def test_order_within_a_call_holds():
    worker = MuxWorker()
    stream = worker.accept()
    sent = b""
    for turn in range(50):
        piece = bytes([turn]) * (turn * 977 % 9000)
        sent += piece
        stream.send(b"", piece, True)
        if turn % 7 == 0:
            got = worker.end.take()
            assert got
            worker.taken = getattr(worker, "taken", b"") + got
    got = worker.taken + drain(worker.end)
    assert b"".join(p for *_, p in parse_all(got)) == sent


def test_ready_frames_do_not_starve_queued_ones():
    worker = MuxWorker()
    waiting = worker.accept(1)
    waiting.send(b"", b"a", True)
    waiting.send(b"", b"b", True)
    for id in range(2, 40):
        worker.accept(id).send(b"h", bytes(60000), True)
    assert (RAW, STREAM, (0, 1), b"b") in parse_all(worker.end.take())


def test_a_piece_is_256_kib_and_two_frames_at_most():
    worker = MuxWorker()
    for id in range(1, 100):
        worker.accept(id).send(b"h", bytes(60000), False)
    while piece := worker.end.take():
        assert len(piece) <= 262144 + 2 * 65536


def test_a_sender_is_held_above_256_kib_and_asked_to_go_on():
    worker = MuxWorker(peer_window=16384)
    stream = worker.accept()
    assert not stream.send(b"h", bytes(300000), True)
    drain(worker.end)
    for _ in range(12):
        worker.end.feed(credit_frame(1, 16384))
        drain(worker.end)
    assert stream.to.events == [("writable",)]


def test_credit_is_granted_when_the_application_took_half_a_window():
    worker = MuxWorker(window=16384)
    stream = worker.accept(1, bytes(8000), STREAM)
    stream.consumed(8000)
    assert worker.end.take() == b""
    worker.end.feed(call_frame(1, b"", bytes(192), STREAM))
    stream.consumed(192)
    assert frames(worker.end) == [(RAW, CREDIT, (0, 1, 8192), b"")]


def test_no_credit_after_the_end_of_the_body():
    worker = MuxWorker(window=16384)
    stream = worker.accept(1, bytes(16384), STREAM)
    worker.end.feed(call_frame(1, b"", b""))
    stream.consumed(16384)
    assert worker.end.take() == b""


def test_no_credit_after_our_own_end():
    worker = MuxWorker(window=16384)
    stream = worker.accept(1, bytes(16384), STREAM)
    stream.send(b"h", b"", False)
    stream.consumed(16384)
    assert [bits for _, bits, _, _ in frames(worker.end)] == [0]


def test_a_cancelled_call_answers_a_terminal_stop_when_the_application_ends():
    worker = MuxWorker(peer_window=16384)
    stream = worker.accept()
    stream.send(b"h", bytes(20000), True)
    drain(worker.end)
    worker.end.feed(call_frame(1, b'{"reason":"drain"}', b"", STOP, JSON))
    assert stream.to.events == [("cancelled", "drain")]
    stream.send(b"", b"dropped", True)
    assert worker.end.take() == b""
    assert 1 in worker.end.streams
    stream.stop()
    assert frames(worker.end) == [(RAW, STOP, (0, 1), b"")]
    assert worker.end.streams == {}


@pytest.mark.parametrize(
    "end",
    (
        lambda stream: stream.send(b"", b"x", False),
        lambda stream: stream.message(b"x", True, False),
        lambda stream: stream.error("x"),
        lambda stream: stream.stop(),
    ),
)
def test_whatever_ends_a_cancelled_call_is_a_stop(end):
    worker = MuxWorker()
    stream = worker.accept()
    worker.end.feed(STOP_1)
    end(stream)
    end(stream)
    assert frames(worker.end) == [(RAW, STOP, (0, 1), b"")]


def test_a_cancel_drops_an_answer_that_waits_for_credit():
    worker = MuxWorker(peer_window=16384)
    stream = worker.accept()
    stream.send(b"h", bytes(20000), False)
    drain(worker.end)
    worker.end.feed(STOP_1)
    assert frames(worker.end) == [(RAW, STOP, (0, 1), b"")]
    assert stream.to.events == []


def test_a_second_stop_does_nothing():
    worker = MuxWorker()
    stream = worker.accept()
    worker.end.feed(STOP_1 + STOP_1)
    assert stream.to.events == [("cancelled", "")]


def test_a_body_that_crosses_the_cancel_is_dropped():
    worker = MuxWorker()
    stream = worker.accept(bits=STREAM)
    worker.end.feed(STOP_1 + call_frame(1, b"", b"x", STREAM) + call_frame(1, b"", b"m", STREAM | MESSAGE))
    assert stream.to.events == [("cancelled", "")]


def test_a_call_can_be_given_back():
    worker = MuxWorker()
    worker.accept().stop()
    assert frames(worker.end) == [(RAW, STOP, (0, 1), b"")]


def test_an_error_drops_what_is_queued_and_needs_no_credit():
    worker = MuxWorker(peer_window=16384)
    stream = worker.accept()
    stream.send(b"h", bytes(20000), True)
    drain(worker.end)
    stream.error("boom")
    assert frames(worker.end) == [(ERROR | RAW, 0, (0, 1), b"boom")]


def test_an_error_comes_after_the_frames_handed_over_before_it():
    worker = MuxWorker()
    stream = worker.accept()
    stream.send(b"h", b"x", True)
    stream.error("boom")
    assert [flags for flags, *_ in frames(worker.end)] == [MSGPACK, ERROR | RAW]


def test_an_error_text_is_cut_at_64_kib():
    worker = MuxWorker()
    worker.accept().error("\u00e4" * 65536)
    ((_, _, _, payload),) = frames(worker.end)
    assert len(payload) == 65536


def test_messages_arrive_whole():
    worker = MuxWorker()
    stream = worker.accept(bits=STREAM)
    worker.end.feed(
        call_frame(1, b"", b"he", STREAM | MESSAGE | PART | TEXT)
        + call_frame(1, b"", b"llo", STREAM | MESSAGE | TEXT)
        + call_frame(1, b"", b"", STREAM | MESSAGE)
        + call_frame(1, b"close", b"bye", MESSAGE)
    )
    assert stream.to.events == [
        ("message", b"hello", True, True), ("message", b"", False, True), ("message", b"bye", False, True),
        ("finished", b"close"),
    ]  # fmt: skip


def test_a_message_in_the_open_follows_it():
    worker = MuxWorker()
    worker.end.feed(call_frame(1, b"call", b"request", MESSAGE))
    assert worker.log == [
        (1, "opened", MSGPACK, b"call", b"", True), (1, "message", b"request", False, False),
    ]  # fmt: skip


def test_a_body_that_ends_with_trailers():
    worker = MuxWorker()
    stream = worker.accept(bits=STREAM)
    worker.end.feed(call_frame(1, b"trailers", b"last"))
    assert stream.to.events == [("data", b"last", True), ("finished", b"trailers")]


@pytest.mark.parametrize("bits", [0, MESSAGE])
def test_an_application_that_ends_its_call_at_the_last_piece_hears_no_more_of_it(bits):
    worker = MuxWorker()
    stream = worker.accept(bits=STREAM)

    def end(*piece):
        stream.send(b"end", b"", False)

    stream.to.data = stream.to.message = end
    worker.end.feed(call_frame(1, b"trailers", b"last", bits))
    assert stream.to.events == []


def test_a_message_larger_than_the_window_does_not_wait_for_itself():
    worker = MuxWorker(window=16384)
    worker.accept(bits=STREAM)
    credit = 16384
    for _ in range(20):
        worker.end.feed(call_frame(1, b"", bytes(4096), STREAM | MESSAGE | PART))
        credit += sum(options[2] for _, _, options, _ in frames(worker.end)) - 4096
        assert credit >= 4096


def test_messages_that_nobody_takes_are_bounded_by_one_message_and_the_window():
    worker = MuxWorker(window=16384)
    stream = worker.accept(bits=STREAM)
    credit = 16384
    size = 0
    for turn in range(1000):
        if credit < 4096:
            break
        last = turn % 4 == 3
        worker.end.feed(call_frame(1, b"", bytes(4096), STREAM | MESSAGE | (0 if last else PART)))
        size += 4096
        credit += sum(options[2] for _, _, options, _ in frames(worker.end)) - 4096
    assert size <= 16384 + 16384
    for event in stream.to.events:
        stream.consumed(len(event[1]))
    assert credit + sum(options[2] for _, _, options, _ in frames(worker.end)) >= 8192


def test_all_that_was_consumed_is_granted_in_the_end():
    worker = MuxWorker(window=16384)
    stream = worker.accept(bits=STREAM)
    total = granted = 0
    for turn in range(200):
        size = turn * 37 % 4000
        last = turn % 3 == 2
        worker.end.feed(call_frame(1, b"", bytes(size), STREAM | MESSAGE | (0 if last else PART)))
        total += size
        for event in stream.to.events:
            stream.consumed(len(event[1]))
        stream.to.events.clear()
        granted += sum(options[2] for _, _, options, _ in frames(worker.end))
    assert granted + stream.taken + stream._unpaid == total
    assert stream.taken < 8192


def test_empty_messages_cost_a_byte_of_credit_and_are_granted_as_such():
    worker = MuxWorker(window=16384)
    stream = worker.accept(bits=STREAM)
    empty = call_frame(1, b"", b"", STREAM | MESSAGE)
    worker.end.feed(empty * 16384)
    assert stream.credit_in == 0
    for _ in range(8192):
        stream.consumed(1)
    assert frames(worker.end) == [(RAW, CREDIT, (0, 1, 8192), b"")]
    worker.end.feed(empty * 8192)
    with pytest.raises(FrameError, match="1 bytes beyond a credit of 0"):
        worker.end.feed(empty)


def test_an_empty_message_in_the_open_costs_the_same():
    worker = MuxWorker(window=16384)
    worker.end.feed(call_frame(1, b"call", b"", STREAM | MESSAGE))
    assert worker.streams[1].credit_in == 16383


def test_an_empty_last_part_costs_a_byte_and_empty_parts_nothing():
    worker = MuxWorker(window=16384)
    stream = worker.accept(bits=STREAM)
    part = STREAM | MESSAGE | PART
    worker.end.feed(call_frame(1, b"", b"ab", part) + call_frame(1, b"", b"", part) * 3)
    assert stream.credit_in == 16382
    worker.end.feed(call_frame(1, b"", b"", STREAM | MESSAGE))
    assert stream.to.events == [("message", b"ab", False, True)]
    assert stream.credit_in == 16381
    stream.consumed(2)
    worker.end.feed(call_frame(1, b"", b"", part) + call_frame(1, b"", b"", STREAM | MESSAGE))
    stream.consumed(1)
    assert stream.credit_in + stream.taken == 16384
    assert stream._outstanding == 0


def test_an_application_that_sends_empty_messages_is_held_when_nobody_takes_them():
    worker = MuxWorker(peer_window=16384)
    stream = worker.accept(bits=STREAM)
    sent = 1
    while stream.message(b"", False, True):
        sent += 1
        drain(worker.end)
        assert sent < 40000
    assert sent - len(stream.queue) == 16384
    worker.end.feed(credit_frame(1, len(stream.queue)))
    assert len(frames(worker.end)) == sent - 16384
    assert stream.to.events == [("writable",)]
    assert (stream.credit_out, stream.queued) == (0, 0)


def test_a_last_message_that_is_empty_waits_with_its_status_for_credit():
    worker = MuxWorker(peer_window=16384)
    stream = worker.accept()
    stream.message(bytes(16384), False, True)
    drain(worker.end)
    stream.message(b"", False, False, b"status")
    assert worker.end.take() == b""
    worker.end.feed(credit_frame(1, 1))
    assert frames(worker.end) == [(MSGPACK, MESSAGE, (6, 1), b"status")]


def test_a_message_above_the_limit_fails_its_call_alone():
    worker = MuxWorker(max_message=10)
    stream, other = worker.accept(1, bits=STREAM), worker.accept(2)
    worker.end.feed(call_frame(1, b"", b"12345678901", STREAM | MESSAGE))
    assert stream.to.events == [("cancelled", "limit")]
    assert frames(worker.end) == [(ERROR | RAW, 0, (0, 1), b"a message of more than 10 bytes")]
    stream.stop()
    other.send(b"h", b"", False)
    assert len(frames(worker.end)) == 1


def test_parts_of_a_message_belong_together():
    for bits, reason in ((STREAM, "between the parts"), (STREAM | MESSAGE | TEXT, "one part only")):
        worker = MuxWorker()
        worker.accept(bits=STREAM)
        worker.end.feed(call_frame(1, b"", b"a", STREAM | MESSAGE | PART))
        with pytest.raises(FrameError, match=reason):
            worker.end.feed(call_frame(1, b"", b"b", bits))


def test_a_sent_message_is_split_into_parts():
    worker = MuxWorker(max_frame=4096)
    stream = worker.accept()
    stream.message(bytes(5000), False, True, b"head")
    stream.message(bytes(5000), False, False, b"status")
    assert [(flags, bits, len(p)) for flags, bits, _, p in frames(worker.end)] == [
        (MSGPACK, STREAM | MESSAGE | PART, 4100), (RAW, STREAM | MESSAGE, 904),
        (RAW, STREAM | MESSAGE | PART, 4096), (MSGPACK, MESSAGE, 910),
    ]  # fmt: skip


def test_after_stop_new_calls_are_refused_and_open_ones_finish():
    worker = MuxWorker()
    stream = worker.accept(1)
    worker.end.feed(STOP_COMMAND + call_frame(2, b"ctx", b"", STREAM) + call_frame(2, b"", b"x"))
    assert worker.end.stopping
    assert worker.messages == [{"stop": True}]
    assert [entry[0] for entry in worker.log] == [1]
    stream.send(b"h", b"", False)
    assert {options[1]: bits for _, bits, options, _ in frames(worker.end)} == {2: STOP, 1: 0}


def test_draining_refuses_nothing():
    worker = MuxWorker()
    worker.end.feed(encode_control({"draining": {"deadline_ms": 100}}))
    worker.accept(1)
    assert not worker.end.stopping
    assert worker.messages == [{"draining": {"deadline_ms": 100}}]


def test_frames_of_the_relay_and_credit_go_before_data():
    worker = MuxWorker(window=16384)
    stream = worker.accept(1, bytes(16384), STREAM)
    stream.send(b"h", b"x", True)
    stream.consumed(16384)
    worker.end.control({"capacity": 1})
    assert [(flags, bits) for flags, bits, _, _ in frames(worker.end)] == [
        (9, 0), (RAW, CREDIT), (MSGPACK, STREAM),
    ]  # fmt: skip


def test_a_server_that_answers_no_heartbeat_is_noticed():
    worker = MuxWorker(caps=["heartbeat"])
    worker.accept()
    for now in range(25):
        worker.end.tick(float(now))
    assert worker.end.missed
    assert [bits for _, bits, _, _ in frames(worker.end)] == [PING]


def test_a_context_above_a_mebibyte_is_refused_before_it_is_queued():
    worker = MuxWorker()
    stream = worker.accept()
    for send in (
        lambda: stream.send(bytes(1048577), b"", True),
        lambda: stream.message(b"", True, True, bytes(1048577)),
    ):
        with pytest.raises(TooLarge):
            send()
    assert worker.end.take() == b""
    stream.error("too large")
    assert len(frames(worker.end)) == 1


STEPS = steps("open", "more", "data", "end", "trailers", "message", "part", "stop", "credit", "junk")


def heard(chunks):
    worker = MuxWorker()
    error = None
    try:
        for chunk in chunks:
            worker.end.feed(chunk)
        worker.end.eof()
    except FrameError as caught:
        error = type(caught).__name__
    return worker.log, error, list(worker.end.streams), drain(worker.end)


@given(STEPS, SIZES)
def test_any_chunking_gives_the_same_events(data, sizes):
    data = encode(0, PING, (), b"") + data
    assert heard(in_chunks(data, sizes)) == heard([data])
