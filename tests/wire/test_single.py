"""One test a rule of protocol.md 3.4 and 3.8 for the server's end of a one-call worker."""

import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_recorders import PING, PONG, STOP, STREAM, Receiver, Single, drain, in_chunks

from twisted_rr.errors import BadChecksum, FrameError, TooLarge, Truncated, WorkerDied
from twisted_rr.wire.call import Call
from twisted_rr.wire.frame import encode, prefix
from twisted_rr.wire.payload import join

FOLDER = Path(__file__).parent / "vectors"
FRAMES = {v["name"]: v for v in json.loads((FOLDER / "frames.json").read_text())["frames"]}
STOP_FRAME = bytes.fromhex(FRAMES["stream_stop"]["frame"])
PONG_FRAME = bytes.fromhex(FRAMES["pong"]["frame"])


def answer(context, body, bits=0, flags=0x80):
    return join(flags, bits, context, body)


def wire(name):
    return bytes.fromhex(FRAMES[name]["frame"])


def summed(events):
    """Events with neighbouring pieces of body joined, since their borders are those of the reads."""
    out = []
    for event in events:
        kind = event[0]
        if kind == "data" and out and out[-1][0] in ("context", "data") and out[-1][-1]:
            last = out.pop()
            event = (*last[:-2], last[-2] + event[1], event[2])
        out.append(event)
    return out


def test_a_request_is_one_frame():
    single = Single()
    payload = bytes.fromhex(FRAMES["http_request"]["payload"])
    single.start(payload)
    assert drain(single.end) == wire("http_request")


def test_a_small_answer_is_one_callback_and_frees_the_worker():
    single = Single()
    call = single.asked()
    single.end.feed(wire("http_response"))
    context = bytes.fromhex(FRAMES["http_response"]["payload"])[:33]
    assert call.to.events == [("context", 0x80, context, b"hello", False)]
    assert (single.owner.free, single.end.load, single.end.call) == ([call], 0, None)
    assert call.length == 5


@pytest.mark.parametrize("flags", (0, 0x04, 0x08, 0x80))
def test_the_codec_is_read_from_the_answers_own_flags(flags):
    single = Single()
    call = single.asked()
    single.end.feed(answer(b"ctx", b"", flags=flags))
    assert call.to.events == [("context", flags, b"ctx", b"", False)]


def test_a_control_flag_on_an_answer_is_ignored():
    single = Single()
    call = single.asked()
    single.end.feed(answer(b"ctx", b"x", flags=0x09))
    assert call.to.events == [("context", 0x08, b"ctx", b"x", False)]


def test_an_answer_without_context_is_still_the_first_frame():
    single = Single()
    call = single.asked()
    single.end.feed(wire("jobs_ack"))
    assert call.to.events == [("context", 0, b"", b'{"type":2}', False)]


def test_a_stream_is_delivered_frame_by_frame():
    single = Single()
    call = single.asked()
    context = bytes.fromhex(FRAMES["http_stream_first"]["payload"])[:33]
    single.end.feed(wire("http_stream_first") + wire("http_stream_next"))
    assert single.end.streaming
    single.end.feed(wire("http_stream_last"))
    assert call.to.events == [
        ("context", 0x80, context, b"part1", True), ("data", b"part2", True), ("data", b"", False),
    ]  # fmt: skip
    assert single.owner.free == [call]
    assert call.length == -1


def test_a_later_context_in_a_stream_is_delivered_as_one():
    single = Single()
    call = single.asked()
    single.end.feed(answer(b"103", b"", STREAM) + answer(b"200", b"x", STREAM) + answer(b"", b""))
    assert [event[0] for event in call.to.events] == ["context", "context", "data"]


def test_a_ping_after_the_first_frame_is_answered():
    single = Single()
    single.asked()
    single.end.feed(answer(b"h", b"", STREAM | PING))
    assert single.end.take() == b""
    single.end.feed(wire("http_stream_ping"))
    assert drain(single.end) == PONG_FRAME


def test_a_cancelled_stream_is_stopped_and_drained():
    single = Single()
    call = single.asked()
    single.end.feed(answer(b"h", b"1", STREAM))
    call.cancel("client")
    assert drain(single.end) == STOP_FRAME
    single.end.feed(answer(b"", b"2", STREAM | PING) + answer(b"", bytes(100000), STREAM))
    assert single.owner.free == []
    assert single.end.take() == b""  # no PONG while draining
    single.end.feed(wire("http_stream_last"))
    assert single.owner.free == [call]
    assert [event[0] for event in call.to.events] == ["context", "failed"]
    assert single.end.accepting


def test_a_call_cancelled_before_its_answer_waits_for_it_and_drops_it():
    single = Single()
    call = single.asked()
    call.cancel("client")
    assert call.to.events == [("failed", "Cancelled", "cancelled (client)")]
    assert single.end.load == 1
    assert single.end.take() == b""
    single.end.feed(wire("http_response"))
    assert single.owner.free == [call]
    assert len(call.to.events) == 1


def test_a_stream_that_begins_after_the_cancel_is_stopped():
    single = Single()
    call = single.asked()
    call.cancel("client")
    single.end.feed(answer(b"h", b"", STREAM) + answer(b"", b"x", STREAM))
    assert drain(single.end) == STOP_FRAME
    single.end.feed(answer(b"", b""))
    assert single.owner.free == [call]


def test_a_call_cancelled_before_it_was_written_sends_nothing():
    single = Single()
    call = single.start()
    call.cancel("client")
    assert single.owner.free == [call]
    assert single.end.take() == b""


def test_a_request_begun_is_completed_although_cancelled():
    single = Single()
    body = io.BytesIO(bytes(200000))
    call = single.start(b"ctx", body, 200000)
    first = single.end.take()
    call.cancel("client")
    assert len(first + drain(single.end)) == 16 + 3 + 200000
    single.end.feed(answer(b"h", b""))
    assert single.owner.free == [call]


def test_a_file_is_sent_in_pieces_of_64_kib():
    single = Single()
    data = bytes(range(256)) * 1000
    single.start(b"ctx", io.BytesIO(data), len(data))
    pieces = []
    while piece := single.end.take():
        assert len(piece) <= 65536 + 19
        pieces.append(piece)
    assert len(pieces) == 4
    assert b"".join(pieces) == join(0x80, 0, b"ctx", data)


def test_only_the_announced_bytes_of_a_file_are_sent():
    single = Single()
    single.start(b"", io.BytesIO(b"0123456789"), 4)
    assert drain(single.end) == join(0x80, 0, b"", b"0123")


def test_a_file_shorter_than_announced_is_an_error_of_ours():
    single = Single()
    single.start(b"", io.BytesIO(b"012"), 4)
    with pytest.raises(RuntimeError, match="1 bytes shorter"):
        drain(single.end)


def test_a_request_above_four_gigabytes_is_refused():
    single = Single()
    with pytest.raises(TooLarge):
        single.start(b"c", io.BytesIO(), 0xFFFFFFFF)
    assert single.end.load == 0


def test_a_stop_frame_waits_for_the_request_under_way():
    single = Single()
    single.start(b"", io.BytesIO(bytes(100000)), 100000)
    single.end.take()
    single.end.control({"stop": True})
    assert drain(single.end).endswith(wire("stop_command"))


def test_an_error_frame_fails_the_call_and_keeps_the_worker():
    single = Single()
    call = single.asked()
    single.end.feed(wire("worker_error"))
    assert call.to.events == [("failed", "ApplicationError", "boom")]
    assert single.owner.free == [call]
    assert single.end.accepting


def test_an_error_that_is_no_utf_8_is_kept_as_it_came():
    single = Single()
    call = single.asked()
    failures = []
    call.to.failed = failures.append
    single.end.feed(encode(0x40, 0, (), b"3|:|b|:|\xff\x00"))
    assert failures[0].raw == b"3|:|b|:|\xff\x00" and failures[0].text == "3|:|b|:|\ufffd\x00"


def test_an_error_frame_may_have_options_and_the_control_flag():
    single = Single()
    call = single.asked()
    single.end.feed(encode(0x41, 0, (1, 2), b"boom"))
    assert call.to.events == [("failed", "ApplicationError", "boom")]


def test_an_empty_error_is_an_error():
    single = Single()
    call = single.asked()
    single.end.feed(encode(0x40, 0, (), b""))
    assert call.to.events == [("failed", "ApplicationError", "")]


def test_a_giant_error_text_is_cut():
    single = Single()
    call = single.asked()
    for chunk in in_chunks(encode(0x40, 0, (), b"x" * 300000), [65536]):
        single.end.feed(chunk)
    assert call.to.events == [("failed", "ApplicationError", "x" * 65536)]
    assert single.owner.free == [call]


def test_an_error_in_mid_stream_retires_the_worker():
    single = Single()
    call = single.asked()
    single.end.feed(answer(b"h", b"1", STREAM) + wire("worker_error"))
    assert call.to.events[1] == ("failed", "ApplicationError", "boom")
    assert not single.end.accepting
    assert single.owner.messages == [{"retire": True}]
    assert single.owner.free == [call]


def test_an_error_for_a_cancelled_call_just_ends_it():
    single = Single()
    call = single.asked()
    call.cancel("client")
    single.end.feed(wire("worker_error"))
    assert len(call.to.events) == 1
    assert single.owner.free == [call]


@pytest.mark.parametrize("elsewhere", (True, False))
def test_a_worker_that_asks_to_be_replaced_gives_its_call_back(elsewhere):
    single = Single()
    single.owner.elsewhere = elsewhere
    call = single.asked()
    single.end.feed(wire("worker_stop_request"))
    assert single.owner.asked == [call] == single.owner.free
    assert not single.end.accepting
    assert [event[1] for event in call.to.events] == ([] if elsewhere else ["Refused"])


def test_the_request_to_be_replaced_counts_only_as_the_whole_first_answer():
    single = Single()
    call = single.asked()
    single.end.feed(answer(b"h", b"", STREAM) + wire("worker_stop_request"))
    assert call.to.events[1][0] == "context"
    assert single.owner.asked == []


def test_a_cancelled_call_is_not_run_again():
    single = Single()
    call = single.asked()
    call.cancel("client")
    single.end.feed(wire("worker_stop_request"))
    assert single.owner.asked == []
    assert single.owner.free == [call]
    assert not single.end.accepting


def test_a_large_answer_is_streamed_without_being_kept():
    single = Single()
    call = single.asked()
    size = 10 << 20
    single.end.feed(prefix(4, 0x80, 0, 4 + size) + (4).to_bytes(4, "little") + b"head")
    for _ in range(160):
        single.end.feed(bytes(65536))
        assert single.end._pending.size == 0
    (event,) = summed(call.to.events)
    assert event[:3] == ("context", 0x80, b"head")
    assert (len(event[3]), event[4]) == (size, False)
    assert call.length == size
    assert max(len(event[-2]) for event in call.to.events) == 65536


def test_an_answer_up_to_64_kib_is_one_callback_however_it_comes():
    single = Single()
    call = single.asked()
    for chunk in in_chunks(answer(b"head", bytes(65532)), [1000]):
        single.end.feed(chunk)
    assert call.to.events == [("context", 0x80, b"head", bytes(65532), False)]


def test_a_paused_call_stops_the_reading_of_its_relay():
    single = Single()
    call = single.asked()
    call.pauseProducing()
    single.end.feed(answer(b"h", b"1", STREAM))
    single.end.feed(answer(b"", b"2", STREAM))
    assert single.owner.reading == ["pause"]
    call.resumeProducing()
    assert single.owner.reading == ["pause", "resume"]


def test_cancelling_a_paused_call_reads_on_to_drain_it():
    single = Single()
    call = single.asked()
    call.pauseProducing()
    single.end.feed(answer(b"h", b"1", STREAM))
    call.cancel("client")
    assert single.owner.reading == ["pause", "resume"]


def test_a_call_that_ends_while_paused_leaves_the_relay_readable():
    single = Single()
    call = single.asked()
    single.end.feed(answer(b"h", b"1", STREAM))
    call.pauseProducing()
    single.end.feed(answer(b"", b"2", STREAM))
    single.end.feed(answer(b"", b""))
    assert single.owner.reading == ["pause", "resume"]
    assert call.ended


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (encode(0, 0, (), b"x"), "options length should be equal 1"),
        (encode(0x09, 0, (), b'{"pid":1}'), "options length should be equal 1"),
        (encode(0, 0, (1, 2), b"xyz"), "options length should be equal 1"),
        (encode(0, 0, (5,), b"xyz"), "a context of 5 bytes in a payload of 3"),
        (prefix(4, 0, 0, 4 << 20) + (2 << 20).to_bytes(4, "little"), "a context of 2097152 bytes"),
        (prefix(14, 0, 0, 0), "a header of 14 words"),
        (b"Hello", "no frame but other bytes"),
        (b"\nNotice: x", "no frame but other bytes"),
    ],
)
@pytest.mark.parametrize("step", (1, 1000))
def test_what_is_no_answer_is_refused_with_its_first_bytes(data, reason, step):
    single = Single()
    single.asked()
    with pytest.raises(FrameError, match=reason) as caught:
        for chunk in in_chunks(data, [step]):
            single.end.feed(chunk)
    assert data.startswith(caught.value.first[:1])


def test_a_missing_script_is_understandable():
    single = Single()
    with pytest.raises(BadChecksum) as caught:
        single.end.feed(b"Could not open input file: worker.php\n")
    assert str(caught.value) == (
        "the interpreter could not open the worker's script; "
        "it begins b'Could not open input file: worker.php\\n'"
    )


def test_a_frame_that_nobody_asked_for_is_refused():
    single = Single()
    with pytest.raises(FrameError, match="answers no call"):
        single.end.feed(answer(b"h", b""))


@pytest.mark.parametrize("flags", (0, 0x04, 0x08, 0x80))
@pytest.mark.parametrize("size", (1, 7, 13, 100))
def test_a_worker_that_wants_to_go_after_its_answer_is_replaced(flags, size):
    single = Single()
    call = single.asked()
    data = answer(b"h", b"done") + answer(b'{"stop":true}', b"", flags=flags)
    for chunk in in_chunks(data, [size]):
        single.end.feed(chunk)
    assert summed(call.to.events) == [("context", 0x80, b"h", b"done", False)]
    assert (single.owner.messages, single.end.accepting, single.end.load) == ([{"retire": True}], False, 0)
    single.end.feed(answer(b"h", b"to a call that was given to another meanwhile"))
    assert len(single.owner.messages) == 1
    assert len(call.to.events) == 1


def test_a_worker_that_wants_to_go_gives_back_the_call_that_is_not_written_yet():
    single = Single()
    single.owner.elsewhere = True
    single.asked()
    single.end.feed(answer(b"h", b"done"))
    call = single.start(b"next")
    single.end.feed(answer(b'{"stop":true}', b""))
    assert single.owner.asked == [call]
    assert single.end.call is None
    assert drain(single.end) == b""
    assert not call.to.events


@pytest.mark.parametrize("body", (b"x", b'{"stop":tru}'))
def test_nothing_else_is_taken_unasked(body):
    single = Single()
    single.asked()
    single.end.feed(answer(b"h", b""))
    with pytest.raises(FrameError, match="answers no call"):
        single.end.feed(answer(b"", body) if len(body) == 1 else answer(body, b"x"))


def test_an_answer_to_a_request_that_is_not_complete_is_refused():
    single = Single()
    single.start(b"", io.BytesIO(bytes(100000)), 100000)
    single.end.take()
    with pytest.raises(FrameError, match="before the request was written"):
        single.end.feed(answer(b"h", b""))


def test_an_end_inside_a_frame_is_told():
    for data in (wire("http_response")[:20], prefix(4, 0, 0, 100000) + bytes(4) + b"x"):
        single = Single()
        single.asked()
        single.end.feed(data)
        with pytest.raises(Truncated):
            single.end.eof()
    Single().end.eof()


def test_a_lost_relay_fails_the_call_once():
    single = Single()
    call = single.asked()
    for _ in range(2):
        single.end.fail_all(lambda call: WorkerDied(7, "signal 9"))
    assert call.to.events == [("failed", "WorkerDied", "worker 7 died: signal 9")]
    assert not single.end.accepting


def test_a_receiver_that_refuses_an_answer_is_told_when_the_relay_is_given_up():
    single = Single()

    class Critical(Receiver):
        def context(self, codec, context, body, more):
            raise FrameError("no status")

    to = Critical()
    call = Call(None, to, single.end)
    single.end.start(call, 0, b"c", b"", 0)
    drain(single.end)
    with pytest.raises(FrameError, match="no status"):
        single.end.feed(answer(b"h", b""))
    single.end.fail_all(lambda call: WorkerDied(7, "bad frame"))
    assert [event[1] for event in to.events] == ["WorkerDied"]


def test_a_request_is_pushed_at_once_but_a_file_waits_for_the_turn():
    single = Single()
    single.start(b"c", b"body")
    assert (single.owner.pushes, single.owner.dirties) == (1, 0)
    single = Single()
    single.start(b"c", io.BytesIO(b"body"), 4)
    assert (single.owner.pushes, single.owner.dirties) == (0, 1)


def test_a_request_behind_a_control_frame_waits_for_the_turn_with_it():
    single = Single()
    single.end.control({"ping": True})
    single.start(b"c", b"")
    assert (single.owner.pushes, single.owner.dirties) == (0, 1)


def test_the_worker_has_its_next_call_before_the_client_has_the_answer():
    single = Single()
    order = []
    single.owner.freed = lambda call: order.append("freed")
    single.asked()
    single.end.feed(answer(b"h", b"the header is parsed and kept the first time"))
    order.clear()

    class Ordered(Receiver):
        def context(self, *said):
            order.append("answered")
            super().context(*said)

    call = Call(None, Ordered(), single.end)
    single.end.start(call, 0x80, b"c", b"", 0)
    drain(single.end)
    single.end.feed(answer(b"h", b"the header is parsed and kept the first time"))
    assert order == ["freed", "answered"]
    assert call.length == 44


def test_a_call_that_began_before_a_refused_answer_is_told_of_the_end_too():
    single = Single()

    class Critical(Receiver):
        def context(self, codec, context, body, more):
            raise FrameError("no status")

    single.asked()
    single.end.feed(answer(b"h", b""))
    call = Call(None, Critical(), single.end)
    single.end.start(call, 0, b"c", b"", 0)
    drain(single.end)
    nexts = []
    single.owner.freed = lambda call: nexts.append(single.start(b"next"))
    with pytest.raises(FrameError, match="no status"):
        single.end.feed(answer(b"h", b""))
    single.end.fail_all(lambda call: WorkerDied(7, "bad frame"))
    assert [event[1] for event in call.to.events] == ["WorkerDied"]
    assert [event[1] for event in nexts[0].to.events] == ["WorkerDied"]


def test_the_next_call_may_start_out_of_freed():
    single = Single()
    nexts = []

    def freed(call):
        if not nexts:
            nexts.append(single.start(b"next"))

    single.owner.freed = freed
    single.asked()
    single.end.feed(answer(b"h", b""))
    assert drain(single.end) == join(0x80, 0, b"next", b"")
    single.end.feed(answer(b"h", b"2"))
    assert nexts[0].ended


def test_a_pong_flag_from_the_worker_means_nothing():
    single = Single()
    call = single.asked()
    single.end.feed(answer(b"h", b"", PONG))
    assert call.ended
    assert STOP_FRAME[10] == STOP


PARTS = st.lists(
    st.tuples(st.sampled_from(("first", "next", "last", "error", "junk", "large")), st.binary(max_size=30)),
    max_size=6,
)


def heard(chunks):
    single = Single()
    call = single.asked()
    error = None
    try:
        for chunk in chunks:
            single.end.feed(chunk)
        single.end.eof()
    except FrameError as caught:
        error = type(caught).__name__
    return summed(call.to.events), error, call.ended, len(single.owner.free), drain(single.end)


@given(PARTS, st.lists(st.integers(1, 50), min_size=1, max_size=5))
def test_any_chunking_gives_the_same_events(parts, sizes):
    made = {
        "first": lambda data: answer(b"head", data, STREAM),
        "next": lambda data: answer(b"", data, STREAM | PING),
        "last": lambda data: answer(b"", data),
        "error": lambda data: encode(0x40, 0, (), data),
        "junk": lambda data: data,
        "large": lambda data: answer(b"", bytes(66000), STREAM),
    }
    data = b"".join(made[what](piece) for what, piece in parts)
    sizes = [size * (200 if len(data) > 60000 else 1) for size in sizes]
    assert heard(in_chunks(data, sizes)) == heard([data])


def test_a_worker_has_one_call_at_a_time():
    single = Single()
    single.start()
    with pytest.raises(RuntimeError, match="not idle"):
        single.start()


def test_a_relay_given_up_in_a_callback_is_read_no_further():
    single = Single()
    call = single.asked()

    class Killer(Receiver):
        def context(self, codec, context, body, more):
            super().context(codec, context, body, more)
            single.end.fail_all(lambda call: WorkerDied(7, "killed"))

    call.to = Killer()
    single.end.feed(answer(b"h", b"") + answer(b"", b"x"))
    assert [event[0] for event in call.to.events] == ["context"]
    assert single.owner.free == []
