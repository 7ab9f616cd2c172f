"""I18 and I19 on records made by hand, and the rig's HTTP/2 client on frames made by hand."""

import asyncio
import struct

import pytest

from twisted_rr.draintest import faults, records
from twisted_rr.draintest.h2 import Connection
from twisted_rr.draintest.invariants import INVARIANTS
from twisted_rr.draintest.records import Channel, Evidence, Exchange, Probe, Terms
from twisted_rr.draintest.verdicts import BROKEN, HOLDS, NOT_RUN
from twisted_rr.http2 import blocks, frames

TERMS = Terms(total=3.0, cut=2.0, announce=0.6, announce_max=0.9, stuck_after=1.0, worker_stop=0.5)
SIGNAL = 10.0
SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"
ADDRESS = ("127.0.0.1", 1)


def told_to_go(channel, *lasts):
    for number, last in enumerate(lasts):
        channel.goaways.append((SIGNAL + 0.02 + number / 50, last, 0))
        channel.said.append((SIGNAL + 0.02 + number / 50, "goaway", 0, last))


def watching(service):
    found = Channel(address=ADDRESS, client="watch", opened=8.0, watches=service, ended=11.0, ending="fin")
    found.streams[1] = None
    found.said.append((8.1, "message", 1, SERVING))
    if service == "readiness":
        found.said.append((SIGNAL + 0.01, "message", 1, NOT_SERVING))
    told_to_go(found, frames.MAX_ID, 1)
    found.said.append((10.9, "end", 1, 14))
    return found


def line(**more):
    more.setdefault("outcome", records.COMPLETE)
    return Exchange(
        number=0, protocol="grpc", client="grpc kept", opened=9.0, asked=9.0, began=9.5, ended=10.5, **more
    )


@pytest.fixture
def good():
    """A run as it should be."""
    found = Evidence("a run", TERMS, 7.0, ready=8.0, signalled=SIGNAL, exited=11.5, code=0)
    busy = Channel(address=ADDRESS, client="grpc kept", opened=9.0, ended=10.6, ending="left")
    busy.streams = {1: line(), 3: line()}
    told_to_go(busy, frames.MAX_ID, 3)
    found.channels = [busy, watching("readiness"), watching("liveness")]
    for at, name, code in (
        (9.0, "readiness", 200),
        (10.5, "readiness", 503),
        (10.5, "liveness", 200),
        (10.5, "list", 503),
    ):
        found.probes.append(Probe(channel=f"grpc {name}", at=at, took=0.01, code=code))
    return found


def word(evidence, name):
    return INVARIANTS[name].of(evidence).word


def test_a_good_run_holds(good):
    assert word(good, "I18") == word(good, "I19") == HOLDS, INVARIANTS["I19"].of(good)


def test_nothing_is_said_of_a_server_without_grpc(good):
    good.channels = []
    assert word(good, "I18") == word(good, "I19") == NOT_RUN


def never_told(run):
    run.channels[0].goaways.clear()


def one_goaway(run):
    run.channels[0].goaways[:] = [(SIGNAL + 0.1, 3, 0)]


def goaway_with_error(run):
    run.channels[0].goaways[1] = (SIGNAL + 0.1, 3, 2)


def last_stream_grows(run):
    run.channels[0].goaways.append((SIGNAL + 0.2, 5, 0))


def dropped(run):
    run.channels[0].streams[3].outcome = records.REFUSED


def dropped_by_the_end(run):
    run.channels[0].streams[3].outcome = records.EMPTY


def partial_beyond(run):
    run.channels[0].answered_beyond.append(5)


@pytest.mark.parametrize(
    "spoil",
    [
        never_told,
        one_goaway,
        goaway_with_error,
        last_stream_grows,
        dropped,
        dropped_by_the_end,
        partial_beyond,
    ],
)
def test_i18_is_broken_by(good, spoil):
    spoil(good)
    assert word(good, "I18") == BROKEN


def test_a_stream_beyond_the_last_may_be_refused(good):
    good.channels[0].streams[5] = line(outcome=records.REFUSED)
    assert word(good, "I18") == HOLDS


def test_a_client_that_breaks_the_rules_is_not_judged(good):
    dropped(good)
    good.channels[0].by_plan = True
    assert word(good, "I18") == HOLDS


def goaway_first(run):
    said = run.channels[1].said
    said[1], said[2] = said[2], said[1]


def serving_again(run):
    run.channels[1].said.insert(2, (10.02, "message", 1, SERVING))


def not_ended(run):
    run.channels[1].said.pop()


def ended_as_a_mistake(run):
    run.channels[1].said[-1] = (10.9, "end", 1, 13)


def liveness_lost(run):
    run.channels[2].said.insert(1, (10.2, "message", 1, NOT_SERVING))


def check_serves(run):
    run.probes.append(Probe(channel="grpc readiness", at=10.6, took=0.01, code=200))


def liveness_check_fails(run):
    run.probes.append(Probe(channel="grpc liveness", at=10.6, took=0.01, code=503))


def stream_ended_internal(run):
    endless = line()
    endless.client = "grpc endless"
    run.exchanges.append(endless)
    run.channels[0].streams[7] = endless
    run.channels[0].said.append((10.5, "end", 7, 13))


@pytest.mark.parametrize(
    "spoil",
    [
        goaway_first, serving_again, not_ended, ended_as_a_mistake, liveness_lost, check_serves, liveness_check_fails,
        stream_ended_internal,
    ],
)  # fmt: skip
def test_i19_is_broken_by(good, spoil):
    spoil(good)
    assert word(good, "I19") == BROKEN


def test_a_killed_server_promised_nothing(good):
    never_told(good)
    good.effects.add(faults.KILLED)
    assert word(good, "I18") == NOT_RUN


# -------------------------------------------------------------------------------- the client


class Wire:
    """A socket's other end, in memory."""

    eof, reset = False, False

    def __init__(self):
        self.sent = b""
        self.pieces = asyncio.Queue()

    def write(self, data):
        self.sent += data

    async def piece(self):
        return await self.pieces.get()

    def close(self):
        pass


def headers(number, *fields, end=False):
    block = blocks.encode(fields)
    return frames.frame(frames.HEADERS, frames.END_HEADERS | (frames.END_STREAM if end else 0), number, block)


def answer(number):
    return (
        headers(number, (b":status", b"200"), (b"content-type", b"application/grpc"))
        + frames.frame(frames.DATA, 0, number, struct.pack(">BI", 0, 2) + SERVING)
        + headers(number, (b"grpc-status", b"0"), end=True)
    )


def talk(*pieces, acknowledge=True, calls=2):
    """What a client with so many calls wrote down of these bytes."""

    async def run():
        wire = Wire()
        connection = Connection(wire, Channel(address=ADDRESS, client="x", opened=0.0), 100, acknowledge)
        streams = [connection.call("/a.B/C") for _ in range(calls)]
        for piece in (*pieces, b""):
            wire.pieces.put_nowait(piece)
        await connection.closed()
        return connection, streams, wire

    return asyncio.run(run())


def test_an_answer_in_any_pieces_is_one_answer():
    data = answer(1)
    connection, (first, second), _ = talk(*(data[at : at + 1] for at in range(len(data))))
    assert (first.status, first.messages, first.done) == (0, [SERVING], True)
    assert second.done and second.status is None and second.began is None
    assert [kind for _, kind, *_ in connection.record.said] == ["message", "end"]


def test_a_stream_beyond_the_last_of_a_goaway_is_refused():
    connection, (first, second), _ = talk(frames.goaway(1, 0), answer(1))
    assert second.refused and first.status == 0 and connection.leaving
    assert not connection.record.answered_beyond


def test_an_answer_beyond_it_is_noted():
    connection, _, _ = talk(frames.goaway(1, 0), answer(3))
    assert connection.record.answered_beyond


def test_a_ping_is_answered_unless_the_client_will_not():
    pong = frames.ping(b"goaway-1", ack=True)
    assert pong in talk(frames.ping(b"goaway-1"))[2].sent
    assert pong not in talk(frames.ping(b"goaway-1"), acknowledge=False)[2].sent


def test_a_reset_stream_tells_whether_it_was_refused():
    _, (first, second), _ = talk(frames.rst_stream(1, 7), frames.rst_stream(3, 2))
    assert first.refused and not second.refused and second.reset == 2
