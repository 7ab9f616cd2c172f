"""Calls whose head and message come together, and messages that come together: the short ways say what the long ones do."""

from __future__ import annotations

import gzip
from typing import Any

import pytest
from grpc_world import Client, World, served

from twisted_rr.http2.frames import frame
from twisted_rr.plugins.grpc.framing import framed

HEALTH = "/grpc.health.v1.Health/Check"


def repeated(client: Client, times: int = 3, **what: Any) -> list[int]:
    """The same call some times over: from the second on the head is known."""
    return [client.call(**what) for _ in range(times)]


def test_a_call_that_repeats_is_served_as_the_first_was() -> None:
    world, client = served()
    numbers = repeated(client)
    assert [call.messages for call in world.pool.calls] == [[b"hi"]] * 3
    assert [call.complete for call in world.pool.calls] == [True] * 3
    for call in world.pool.calls:
        call.reply(b"ho", more=False)
    world.turn()
    for number in numbers:
        answer = client.answer(number)
        assert (answer.status, answer.messages, answer.ended, answer.reset) == (0, [b"ho"], True, None)
    assert world.front.in_flight.count() == 0 and world.front.in_flight.finished == 3


def test_calls_that_come_in_one_read_are_all_served() -> None:
    world, client = served()
    client.call()
    gathered: list[bytes] = []
    send, client.send = client.send, gathered.append  # type: ignore[method-assign, assignment]
    repeated(client, 4)
    send(b"".join(gathered))
    assert len(world.pool.calls) == 5 and all(call.complete for call in world.pool.calls)


def test_the_context_of_a_call_that_repeats_stays_the_same() -> None:
    world, client = served()
    repeated(client, 4, fields=[("x-id", "7")])
    assert len({call.context(0x10) for call in world.pool.calls}) == 1
    assert world.pool.calls[3].opened[2] == [("x-id", "7")]


def test_a_deadline_is_told_anew_each_time() -> None:
    world, client = served()
    repeated(client, 2, fields=[("grpc-timeout", "5S")])
    first, second = (call.opened[3] for call in world.pool.calls)
    assert first == second == 5000
    world.clock.advance(2)
    assert world.pool.calls[1].opened[3] == 3000
    world.advance(4)
    assert [client.answer(number).status for number in (1, 3)] == [4, 4]


def test_a_service_of_our_own_is_answered_each_time() -> None:
    world, client = served()
    numbers = repeated(client, path=HEALTH, message=b"")
    assert [client.answer(number).status for number in numbers] == [0, 0, 0]
    assert not world.pool.calls


@pytest.mark.parametrize(
    ("what", "status"),
    [({"path": "/nothing"}, 12), ({"fields": [("grpc-encoding", "snappy")]}, 12), ({"te": ""}, 13)],
)
def test_what_is_refused_is_refused_each_time(what: dict[str, Any], status: int) -> None:
    world, client = served()
    numbers = repeated(client, **what)
    assert [client.answer(number).status for number in numbers] == [status] * 3
    assert not world.pool.calls


def test_a_message_too_large_or_cut_short_is_refused_each_time() -> None:
    _, client = served(max_recv_msg_size=100)
    large = repeated(client, message=bytes(101))
    assert [client.answer(number).status for number in large] == [8, 8, 8]
    cut = [client.call(message=None, end=False) for _ in range(2)]
    for number in cut:
        client.data(number, framed(b"abc")[:-1], True)
    assert [client.answer(number).status for number in cut] == [13, 13]


def test_a_client_that_goes_on_in_the_announce_is_told_to_go() -> None:
    world, client = served()
    repeated(client, 2)
    world.front.draining = True
    world.advance(1.0)
    client.call()
    client.read()
    assert client.goaways == [(2**31 - 1, 0)] and len(world.pool.calls) == 3


@pytest.mark.parametrize("way", ["short", "drained", "pieces", "unary pieces"])
def test_a_fault_of_ours_ends_one_call(way: str) -> None:
    world, client = served(mux=not way.startswith("unary"))
    repeated(client, 2)
    world.front.draining = way == "drained"
    opened, world.pool.open = world.pool.open, None  # type: ignore[method-assign, assignment]
    if way.endswith("pieces"):
        broken = client.call(message=None, end=False)
        client.data(broken, framed(b"hi"), end=True)
    else:
        broken = client.call()
    world.pool.open = opened  # type: ignore[method-assign]
    assert client.answer(broken).status == 13
    assert "could not be started" in world.log("failure", "error", "critical")[0]
    assert world.front.in_flight.count() == 2
    client.call()
    assert len(world.pool.calls) == 3


# ------------------------------------------------------------------------- messages that come together


def run_of(*messages: bytes, **keys: Any) -> tuple[World, Client, int]:
    """A call that is answered with *messages* at once."""
    fields = keys.pop("fields", ())
    world, client = served(**keys)
    number = client.call(fields=fields)
    world.call.to.messages(list(messages))
    world.turn()
    return world, client, number


def test_messages_that_come_together_are_sent_each_behind_its_prefix() -> None:
    world, client, number = run_of(b"one", b"", b"three", bytes(300))
    world.call.end()
    world.turn()
    assert client.answer(number).messages == [b"one", b"", b"three", bytes(300)]
    assert client.answer(number).status == 0
    assert client.order.count("data") == 1


def test_messages_that_come_together_are_compressed_one_by_one() -> None:
    fields = [("grpc-encoding", "gzip"), ("grpc-accept-encoding", "gzip")]
    world, client = served()
    number = client.call(message=None, end=False, fields=fields)
    client.data(number, framed(b"hi"), True)
    world.call.to.messages([bytes(300), b"small"])
    world.turn()
    found = client.answer(number)
    assert found.head["grpc-encoding"] == "gzip" and found.data[0] == 1
    assert gzip.decompress(found.messages[0]) == bytes(300) and found.messages[1] == b"small"


def test_small_ones_are_one_piece_where_larger_ones_would_be_compressed() -> None:
    world, client = served()
    fields = [("grpc-encoding", "gzip"), ("grpc-accept-encoding", "gzip")]
    number = client.call(message=None, end=False, fields=fields)
    client.data(number, framed(b"hi"), True)
    world.call.to.messages([b""] * 1000)
    stream = world.call.to._exchange._stream
    assert [len(piece) for piece in stream.queue if isinstance(piece, bytes)] == [5000]
    world.call.end()
    world.turn()
    assert client.answer(number).messages == [b""] * 1000


def test_one_too_large_among_them_ends_the_call_there() -> None:
    _, client, number = run_of(b"fine", bytes(101), b"late", max_send_msg_size=100)
    found = client.answer(number)
    assert found.messages == [b"fine"] and found.status == 8


def test_a_client_that_does_not_read_holds_back_empty_ones_too() -> None:
    world, client, number = run_of(*[b""] * 40000)
    assert world.call.paused
    client.send(frame(8, 0, 0, (200000).to_bytes(4)))
    client.grant(number, 200000)
    assert not world.call.paused


def test_a_client_that_does_not_read_holds_them_back() -> None:
    world, client, number = run_of(*[bytes(1000)] * 150)
    assert world.call.paused
    client.send(frame(8, 0, 0, (200000).to_bytes(4)))
    client.grant(number, 200000)
    assert not world.call.paused


def test_heads_that_differ_in_their_time_alone_come_to_the_same() -> None:
    world, client = served()
    for timeout in ("5S", "4999m", "3S"):
        client.call(fields=[("x-id", "7"), ("grpc-timeout", timeout)])
    assert [call.opened[3] for call in world.pool.calls] == [5000, 4999, 3000]
    assert [call.opened[2] for call in world.pool.calls] == [[("x-id", "7")]] * 3
    (connection,) = world.front.connections.values()
    assert len(connection.known) == 1
    client.call(fields=[("x-id", "8"), ("grpc-timeout", "3S")])
    assert world.call.opened[2] == [("x-id", "8")] and len(connection.known) == 2


def test_a_time_that_is_none_is_refused_among_others_that_are_one() -> None:
    world, client = served()
    client.call(fields=[("grpc-timeout", "5S")])
    bad = client.call(fields=[("grpc-timeout", "soon")])
    client.call(fields=[("grpc-timeout", "4S")])
    assert client.answer(bad).head[":status"] == "400" and client.answer(bad).status == 13
    assert [call.opened[3] for call in world.pool.calls] == [5000, 4000]


def test_a_call_with_a_time_that_is_refused_for_its_method_is_refused_each_time() -> None:
    _, client = served()
    numbers = [client.call(path="/nothing", fields=[("grpc-timeout", time)]) for time in ("5S", "4S", "x")]
    assert [client.answer(number).status for number in numbers] == [12, 12, 12]


def test_a_connection_remembers_few_heads_and_no_large_ones() -> None:
    world, client = served(max_concurrent_streams=100)
    client.call(fields=[("x-large", "x" * 2048)])
    (connection,) = world.front.connections.values()
    assert not connection.known
    for number in range(40):
        client.call(fields=[("x-id", str(number))])
    assert len(connection.known) == 16
    assert [call.opened[2] for call in world.pool.calls[1:]] == [[("x-id", str(n))] for n in range(40)]
