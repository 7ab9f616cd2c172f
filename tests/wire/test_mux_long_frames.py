"""Frames with more body than a read holds: handed on as they come, with the same rules as others."""

import pytest
from wire_recorders import CREDIT, RAW, STREAM, MuxServer, MuxWorker, Receiver, call_frame, frames, in_chunks

from twisted_rr.errors import FrameError, Truncated, WorkerDied

WINDOW = 524288
BODY = bytes(range(256)) * 800  # 204800
HEAD = b"head"


def server_with_a_call(**settings):
    server = MuxServer(window=WINDOW, max_frame=262144, **settings)
    return server, server.opened()


def worker_with_a_call(**settings):
    worker = MuxWorker(window=WINDOW, max_frame=262144, **settings)
    worker.end.feed(call_frame(1, b"context", b"", STREAM))
    return worker, worker.streams[1]


def bodies(events):
    """The body in *events* put together, and the ``more`` of each."""
    datas = [event[-2:] for event in events if event[0] in ("data", "context")]
    return b"".join(body for body, _ in datas), [more for _, more in datas]


# Cuts within the header, behind it, within and behind the context, and everywhere in the body.
CUTS = (
    [65536],
    [1, 65536],
    [12, 65536],
    [19, 7, 65536],
    [20, 65536],
    [24, 65536],
    [25, 65536],
    [5000],
    [204823, 1],
)


@pytest.mark.parametrize("sizes", CUTS)
@pytest.mark.parametrize("bits", (STREAM, 0))
def test_a_long_answer_is_the_same_however_it_is_cut(sizes, bits):
    server, call = server_with_a_call()
    for chunk in in_chunks(
        call_frame(1, HEAD, BODY, bits) + call_frame(1, b"", b"next", bits)[: bits * 24], sizes
    ):
        server.end.feed(chunk)
    got, more = bodies(call.to.events)
    assert got == BODY + b"next" * bits
    assert [event[0] for event in call.to.events].count("context") == 1
    assert call.to.events[0][2] == HEAD
    assert more == [True] * (len(more) - 1) + [bits == STREAM]
    assert server.owner.free == ([] if bits else [call])


def test_a_read_in_the_middle_of_a_long_frame_is_not_copied():
    server, call = server_with_a_call()
    chunks = in_chunks(call_frame(1, b"", BODY, STREAM), [65536])
    server.end.feed(call_frame(1, HEAD, b"", STREAM))
    for chunk in chunks:
        server.end.feed(chunk)
    assert call.to.events[2][1] is chunks[1]


def test_a_frame_that_a_read_can_hold_is_handed_on_whole():
    server, call = server_with_a_call()
    for chunk in in_chunks(call_frame(1, HEAD, bytes(65536)), [60000]):
        server.end.feed(chunk)
    assert [event[0] for event in call.to.events] == ["context"]
    assert call.to.events[0][-2:] == (bytes(65536), False)


def test_credit_is_granted_while_a_long_frame_is_coming():
    server, call = server_with_a_call()
    frame = call_frame(1, HEAD, bytes(262144), STREAM) + call_frame(1, b"", bytes(262144), STREAM)
    server.end.feed(frame[:300000])
    assert call.credit_in == 0
    ((flags, bits, (_, _, granted), _),) = frames(server.end)
    assert (flags, bits) == (RAW, CREDIT)
    assert granted >= 262144
    assert call.credit_in == granted


def test_a_long_frame_beyond_credit_is_refused_before_its_body_came():
    server, call = server_with_a_call()
    server.end.feed(call_frame(1, HEAD, bytes(262144), STREAM) + call_frame(1, b"", bytes(262143), STREAM))
    with pytest.raises(FrameError, match="beyond a credit of 1"):
        server.end.feed(call_frame(1, b"", bytes(70000), STREAM)[:21])


def test_a_call_cancelled_within_a_long_frame_hears_no_more_and_ends_with_it():
    server, call = server_with_a_call()
    frame = call_frame(1, HEAD, BODY)
    server.end.feed(frame[:70000])
    call.cancel("client")
    heard = len(call.to.events)
    server.end.feed(frame[70000:140000])
    assert server.owner.free == []
    server.end.feed(frame[140000:])
    assert len(call.to.events) == heard
    assert server.owner.free == [call]
    assert server.end.load == 0


def test_a_paused_call_is_granted_nothing_for_a_long_frame():
    server, call = server_with_a_call()
    call.pauseProducing()
    server.end.feed(
        call_frame(1, HEAD, bytes(262144), STREAM) + call_frame(1, b"", bytes(262144), STREAM)[:100000]
    )
    assert frames(server.end) == []
    call.resumeProducing()
    assert [bits for _, bits, _, _ in frames(server.end)] == [CREDIT]


def test_a_relay_that_ends_within_a_long_frame_is_truncated():
    server, call = server_with_a_call()
    server.end.feed(call_frame(1, HEAD, BODY)[:70000])
    with pytest.raises(Truncated):
        server.end.eof()
    server.end.fail_all(lambda call: WorkerDied(1, "signal 9"))
    assert call.to.events[-1][0] == "failed"
    server.end.feed(bytes(1000))
    assert call.to.events[-1][0] == "failed"


def test_a_receiver_that_finds_the_end_of_a_long_frame_to_be_nonsense_is_still_told_of_the_loss():
    server, call = server_with_a_call()

    class Strict(Receiver):
        def data(self, body, more):
            if not more:
                raise FrameError("nonsense", body)

    call.to = Strict()
    server.end.feed(call_frame(1, HEAD, b"", STREAM))
    frame = call_frame(1, b"", BODY)
    server.end.feed(frame[:70000])
    with pytest.raises(FrameError, match="nonsense"):
        server.end.feed(frame[70000:])
    server.end.fail_all(lambda call: WorkerDied(1, "signal 9"))
    assert call.to.events[-1][0] == "failed"


@pytest.mark.parametrize("sizes", CUTS)
@pytest.mark.parametrize("bits", (STREAM, 0))
def test_a_long_upload_is_the_same_however_it_is_cut(sizes, bits):
    worker, stream = worker_with_a_call()
    follows = call_frame(2, b"context", b"")
    for chunk in in_chunks(call_frame(1, b"", BODY, bits) + follows, sizes):
        worker.end.feed(chunk)
    got, more = bodies(stream.to.events)
    assert got == BODY
    assert more == [True] * (len(more) - 1) + [bits == STREAM]
    assert stream.closed == (not bits)
    assert list(worker.end.streams) == [1, 2]


def test_a_long_upload_is_granted_as_the_application_takes_it():
    worker, stream = worker_with_a_call()
    frame = call_frame(1, b"", bytes(262144), STREAM) + call_frame(1, b"", bytes(262144), STREAM)
    worker.end.feed(frame[:400000])
    assert frames(worker.end) == []
    stream.consumed(262144)
    assert [(bits, options[2]) for _, bits, options, _ in frames(worker.end)] == [(CREDIT, 262144)]


def test_a_long_upload_to_a_call_that_has_answered_is_dropped():
    worker, stream = worker_with_a_call()
    frame = call_frame(1, b"", BODY, 0)
    worker.end.feed(frame[:70000])
    heard = len(stream.to.events)
    stream.send(b"head", b"", False)
    for chunk in (frame[70000:140000], frame[140000:] + call_frame(2, b"context", b"")):
        worker.end.feed(chunk)
    assert len(stream.to.events) == heard
    assert list(worker.end.streams) == [2]


def test_a_long_frame_after_the_end_of_the_body_is_refused():
    worker, stream = worker_with_a_call()
    worker.end.feed(call_frame(1, b"", b"", 0))
    with pytest.raises(FrameError, match="after the server's end"):
        worker.end.feed(call_frame(1, b"", BODY, STREAM)[:70000])


def test_a_relay_that_ends_within_a_long_upload_is_truncated():
    worker, stream = worker_with_a_call()
    worker.end.feed(call_frame(1, b"", BODY, STREAM)[:70000])
    with pytest.raises(Truncated):
        worker.end.eof()


@pytest.mark.parametrize("size", (0, 100, 70000, 300000))
def test_what_is_taken_in_parts_is_what_is_taken_joined(size):
    """Both ways of taking give the same bytes, and large bodies are not copied."""
    body = bytes(size)
    taken = []
    for way in ("take", "take_parts"):
        worker, stream = worker_with_a_call()
        stream.send(HEAD, body, False)
        server = MuxServer(max_frame=262144)
        server.open(b"context", b"x", True).send(body, False)
        out = []
        for end in (worker.end, server.end):
            while piece := getattr(end, way)():
                out += [piece] if way == "take" else piece
        taken.append(b"".join(out))
        if way == "take_parts" and size >= 70000:
            assert any(part is body or getattr(part, "obj", None) is body for part in out)
    assert taken[0] == taken[1]
