"""No worker alive and none to be had: nobody waits for one in vain (drain.md F3)."""

from __future__ import annotations

from pool_world import World

from twisted_rr.errors import NoFreeWorker
from twisted_rr.lifecycle.budget import Budget
from twisted_rr.lifecycle.drain import Drain


def lose_all(world: World) -> None:
    """The program is gone, and so is every worker."""
    for worker in world.workers:
        if worker.process.alive:
            worker.process.exit(signal=9)
    refuse_new(world)


def refuse_new(world: World) -> None:
    for worker in world.new():
        worker.process.status(b"exec 2")
        worker.process.exit(code=127)


def answer_one(world: World) -> None:
    """A worker that has answered proves that its program works: another is started without a pause."""
    world.open()
    world.workers[0].request()
    world.workers[0].reply(b"")


def test_while_serving_waiting_calls_are_given_up_when_it_has_lasted() -> None:
    world = World(num_workers=1, allocate_timeout=60.0).start()
    lose_all(world)
    _, to = world.open()
    for _ in range(9):
        world.reactor.advance(1)
        refuse_new(world)
    assert to.error is None and world.pool.health.alive() is None
    for _ in range(3):
        world.reactor.advance(1)
        refuse_new(world)
    assert isinstance(to.error, NoFreeWorker)
    assert str(world.pool.health.alive()).startswith("no worker can be started")


def test_from_then_on_a_call_is_refused_in_its_own_turn_until_a_worker_answers() -> None:
    world = World(num_workers=1, allocate_timeout=60.0).start()
    lose_all(world)
    for _ in range(12):
        world.reactor.advance(1)
        refuse_new(world)
    _, to = world.open()
    assert not to.events
    world.turn()
    assert isinstance(to.error, NoFreeWorker)
    for _ in range(60):
        world.reactor.advance(1)
        if world.up():
            break
    _, to = world.open()
    world.workers[-1].request()
    world.workers[-1].reply(b"again")
    assert to.body == b"again"


def test_in_a_drain_it_is_known_at_once() -> None:
    world = World(num_workers=1).start()
    answer_one(world)
    world.drain.begin("SIGTERM")
    world.workers[0].process.exit(signal=9)
    _, first = world.open()
    refuse_new(world)
    assert isinstance(first.error, NoFreeWorker)
    _, second = world.open()
    world.turn()
    assert isinstance(second.error, NoFreeWorker)
    assert world.pool.stranded == 2
    assert str(world.pool.health.alive()).startswith("no worker can be started")


def test_calls_given_up_while_serving_do_not_spoil_a_later_drain() -> None:
    world = World(num_workers=1, allocate_timeout=60.0).start()
    lose_all(world)
    world.open()
    for _ in range(12):
        world.reactor.advance(1)
        refuse_new(world)
    assert world.pool.stranded == 0


def test_a_worker_that_gets_ready_in_a_drain_is_told_of_it_too() -> None:
    world = World(mux=True, num_workers=1).start()
    world.drain.begin("SIGTERM")
    world.workers[0].process.exit(signal=9)
    world.open()
    world.reactor.advance(5)  # it had not answered anything yet: there is a pause
    (worker,) = world.up()
    worker.read()
    assert {"draining": {"deadline_ms": 30000}} in worker.said_to_us


def test_workers_are_told_how_long_endless_streams_may_go_on() -> None:
    budget = Budget(total=30.0, stream_grace=5.0)
    world = World(mux=True, num_workers=1, drain=lambda reactor: Drain(budget, reactor.seconds)).start()
    drain = world.drain
    drain.start()
    drain.ready()
    drain.begin("SIGTERM")
    (worker,) = world.workers
    worker.read()
    assert worker.said_to_us == [{"draining": {"deadline_ms": 26000, "stream_grace_ms": 5000}}]
    world.reactor.advance(2)
    drain.announced()
    worker.read()
    assert worker.said_to_us[-1] == {"draining": {"deadline_ms": 24000, "stream_grace_ms": 3000}}


def test_busy_is_when_no_worker_would_take_a_call() -> None:
    world = World(num_workers=2).start()
    health = world.pool.health
    world.open()
    assert health.saturated() is None
    world.open()
    assert health.saturated() == "all workers are busy" and health.ready() is None
    assert health.counts() == (2, 2)


def test_activity_changes_with_what_workers_send() -> None:
    world = World(num_workers=1).start()
    before = world.pool.health.activity()
    world.open()
    world.workers[0].request()
    world.workers[0].reply(b"x")
    assert world.pool.health.activity() != before
