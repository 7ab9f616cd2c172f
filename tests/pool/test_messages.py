"""Calls of messages (gRPC) that their worker gives back before it began: run by another one, with what they had sent."""

from __future__ import annotations

from pool_world import World

from twisted_rr.errors import NoFreeWorker


def given_back(*messages: bytes, more: bool = False) -> tuple[World, object]:
    """Two workers, and a call that the first to get it has given back."""
    world = World(mux=True, num_workers=2).start()
    call, to = world.open(b"", True)
    for message in messages:
        call.message(message, False, True)
    if not more:
        call.send(b"", False)
    first = next(worker for worker in world.workers if worker.read())
    first.streams[0].stop()
    first.flush()
    return world, to


def test_a_call_that_was_given_back_is_run_by_another_worker_with_its_message() -> None:
    world, to = given_back(b"asked")
    (stream,) = [stream for worker in world.workers for stream in worker.read()]
    assert stream.to.body == b"asked" and stream.closed
    stream.message(b"answer", False, False)
    for worker in world.workers:
        worker.flush()
    assert to.events == [("message", b"answer", False, False)]


def test_a_stream_of_which_more_was_sent_is_not_run_again() -> None:
    _, to = given_back(b"one", b"two")
    assert isinstance(to.error, NoFreeWorker)


def test_a_call_is_given_to_another_worker_once() -> None:
    world, to = given_back(b"asked")
    second = next(worker for worker in world.workers if worker.read())
    second.streams[0].stop()
    second.flush()
    assert isinstance(to.error, NoFreeWorker)
