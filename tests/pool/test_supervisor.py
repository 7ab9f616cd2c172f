"""What is looked at while a pool runs: exec_ttl, cancels that are not obeyed, heartbeats, ttl, memory, idleness."""

import signal

import pytest
from pool_world import World

from twisted_rr.errors import Cancelled, ExecTimeout
from twisted_rr.pool import supervisor as supervising
from twisted_rr.pool.settings import AllocatorSettings, SupervisorSettings
from twisted_rr.pool.state import WorkerState
from twisted_rr.testing.host import RecordingLog
from twisted_rr.wire.frame import CODEC_RAW, STREAM, encode

HEAD = b"\x92\xcc\xc8\x90"


def supervised(**limits):
    return SupervisorSettings(watch_tick=1.0, **limits)


def pass_time(world, seconds, step=0.25):
    for _ in range(int(seconds / step)):
        world.reactor.advance(step)


# ------------------------------------------------------------------------------- exec_ttl


def test_a_one_call_worker_that_takes_too_long_is_killed_and_its_call_cut():
    world = World(num_workers=1, supervisor=supervised(exec_ttl=2.0)).start()
    _, to = world.open()
    [worker] = world.workers
    worker.request()
    pass_time(world, 1.75)
    assert not to.events
    pass_time(world, 0.5)
    assert isinstance(to.error, ExecTimeout)
    assert worker.process.signals[0] == signal.SIGKILL
    assert len(to.events) == 1


def test_the_time_a_call_waits_does_not_count_for_exec_ttl():
    world = World(num_workers=1, supervisor=supervised(exec_ttl=2.0)).start()
    [worker] = world.workers
    world.open(b"1")
    worker.request()
    _, second = world.open(b"2")
    pass_time(world, 1.5)
    worker.reply(b"")
    worker.request()
    pass_time(world, 1.5)
    assert not second.events


def test_a_mux_call_that_takes_too_long_is_cut_alone():
    world = World(mux=True, num_workers=1, supervisor=supervised(exec_ttl=2.0)).start()
    [worker] = world.workers
    _, late = world.open(b"late")
    [late_stream] = worker.read()
    pass_time(world, 1.5)
    _, quick = world.open(b"quick")
    [quick_stream] = worker.read()
    pass_time(world, 0.75)
    assert isinstance(late.error, ExecTimeout)
    worker.read()
    assert late_stream.to.cancel_reason == "deadline"
    late_stream.stop()
    quick_stream.send(HEAD, b"ok", False)
    worker.flush()
    assert quick.body == b"ok"
    assert worker.process.signals == []


def test_an_answer_that_has_begun_is_not_cut_in_a_mux_worker():
    world = World(mux=True, num_workers=1, supervisor=supervised(exec_ttl=2.0)).start()
    [worker] = world.workers
    _, to = world.open()
    [stream] = worker.read()
    stream.send(HEAD, b"", True)
    worker.flush()
    pass_time(world, 10)
    assert to.error is None


def test_exec_ttl_does_not_count_while_the_client_holds_the_answer():
    world = World(num_workers=1, supervisor=supervised(exec_ttl=2.0)).start()
    call, to = world.open()
    world.workers[0].request()
    call.pauseProducing()
    pass_time(world, 10)
    assert to.error is None


def test_exec_ttl_counts_anew_once_the_client_takes_on():
    world = World(num_workers=1, supervisor=supervised(exec_ttl=2.0)).start()
    call, to = world.open()
    [worker] = world.workers
    worker.request()
    worker.write(encode(CODEC_RAW, STREAM, (2,), b"{}first"))
    pass_time(world, 0.5)
    call.pauseProducing()
    pass_time(world, 10)
    call.resumeProducing()
    pass_time(world, 1.5)
    assert to.error is None
    pass_time(world, 1)
    assert isinstance(to.error, ExecTimeout)


# --------------------------------------------------------------------------------- cancel


def test_a_mux_worker_that_does_not_end_a_cancelled_call_is_replaced_after_the_others():
    world = World(mux=True, num_workers=1).start()
    [worker] = world.workers
    stubborn, to = world.open(b"stubborn")
    _, other = world.open(b"other")
    _, other_stream = worker.read()
    stubborn.cancel("client")
    assert isinstance(to.error, Cancelled)
    pass_time(world, 11, step=1.0)
    [new] = world.up()
    world.open(b"next")
    assert new.read()
    worker.read()
    assert not worker.end.stopping
    other_stream.send(HEAD, b"ok", False)
    worker.flush()
    assert other.body == b"ok"
    pass_time(world, 2, step=1.0)
    worker.read()
    assert worker.end.stopping


def test_a_cancelled_call_that_ends_in_time_changes_nothing():
    world = World(mux=True, num_workers=1).start()
    [worker] = world.workers
    call, _ = world.open()
    [stream] = worker.read()
    call.cancel("client")
    worker.read()
    stream.stop()
    worker.flush()
    pass_time(world, 30, step=1.0)
    assert world.new() == []


def test_a_cancelled_call_that_has_ended_is_forgotten_when_no_other_follows():
    world = World(mux=True, num_workers=1).start()
    [worker] = world.workers
    call, _ = world.open()
    [stream] = worker.read()
    call.cancel("client")
    pass_time(world, 1, step=1.0)
    assert list(world.pool.crew.workers[0].overdue) == [call]
    worker.read()
    stream.stop()
    worker.flush()
    pass_time(world, 1, step=1.0)
    assert not world.pool.crew.workers[0].overdue, "its place in memory may be another call's by then"


def test_a_one_call_worker_that_streams_on_after_its_client_left_is_killed():
    world = World(num_workers=1, stream_timeout=7.0).start()
    [worker] = world.workers
    call, _ = world.open()
    worker.request()
    worker.write(encode(CODEC_RAW, STREAM, (2,), b"{}first"))
    call.cancel("client")
    pass_time(world, 6, step=1.0)
    assert worker.process.signals == []
    pass_time(world, 3, step=1.0)
    assert worker.process.signals[0] == signal.SIGKILL


def test_a_one_call_worker_may_finish_a_cancelled_call_that_is_no_stream():
    world = World(num_workers=1, stream_timeout=7.0).start()
    [worker] = world.workers
    call, _ = world.open()
    worker.request()
    call.cancel("client")
    pass_time(world, 60, step=1.0)
    worker.reply(b"nobody reads this")
    world.open(b"next")
    assert worker.request() == b"next"


# ----------------------------------------------------------------------------- heartbeats


def test_a_worker_that_misses_its_heartbeat_gets_no_new_calls_until_it_speaks():
    world = World(mux=True, num_workers=2).start()
    for _ in range(2):
        world.open()
        for worker in world.workers:
            worker.read()
    deaf, well = world.workers
    for _ in range(25):
        world.reactor.advance(1.0)
        well.read()
        well.flush()
    assert world.pool.workers()[0].progress is False
    for _ in range(3):
        world.open()
    assert deaf.relay.owner.end.load == 1
    assert deaf.process.signals == []
    deaf.read()
    deaf.flush()
    world.reactor.advance(1.0)
    assert world.pool.workers()[0].progress is True
    well.read()  # its relay was written: no longer preferred
    world.open()
    assert deaf.relay.owner.end.load == 2


# ---------------------------------------------------------------------- ttl, memory, idle


def test_a_worker_past_its_ttl_goes_once_its_replacement_is_up():
    world = World(num_workers=1, supervisor=supervised(ttl=30.0)).start()
    [old] = world.workers
    pass_time(world, 29, step=1.0)
    assert world.new() == []
    pass_time(world, 2, step=1.0)
    assert not old.told_to_stop()
    assert world.pool.workers()[0].status == WorkerState.TTL
    world.up()
    assert old.told_to_stop()


def test_ttl_does_not_interrupt_a_call():
    world = World(num_workers=1, supervisor=supervised(ttl=5.0)).start()
    [old] = world.workers
    _, to = world.open()
    old.request()
    pass_time(world, 6, step=1.0)
    world.up()
    pass_time(world, 60, step=1.0)
    old.reply(b"late")
    assert to.body == b"late"


def test_not_all_workers_are_replaced_by_one_look():
    world = World(num_workers=8, supervisor=supervised(ttl=5.0)).start()
    pass_time(world, 5, step=1.0)
    assert len(world.new()) == 2


def test_a_worker_above_its_memory_is_replaced(monkeypatch):
    memory = {"bytes": 100}
    monkeypatch.setattr(supervising, "usage", lambda pid, told, age: (memory["bytes"], 0.0))
    world = World(num_workers=1, supervisor=supervised(max_worker_memory=1000)).start()
    pass_time(world, 3, step=1.0)
    assert world.new() == []
    memory["bytes"] = 2000
    pass_time(world, 1, step=1.0)
    assert len(world.new()) == 1


def test_in_a_drain_nothing_is_said_of_memory_because_no_worker_is_replaced(monkeypatch):
    monkeypatch.setattr(supervising, "usage", lambda pid, told, age: (300 << 20, 0.0))
    log = RecordingLog()
    world = World(num_workers=1, supervisor=supervised(max_worker_memory=200))
    world.pool._supervisor._log = log
    world.start()
    world.open()
    world.workers[0].request()
    world.drain.begin("SIGTERM")
    pass_time(world, 5, step=1.0)
    assert log.lines("info") == []


def test_a_limit_below_what_a_fresh_worker_needs_is_told_once_with_figures(monkeypatch):
    monkeypatch.setattr(supervising, "usage", lambda pid, told, age: (30 << 20, 0.0))
    log = RecordingLog()
    world = World(num_workers=2, supervisor=supervised(max_worker_memory=20 << 20))
    world.pool._supervisor._log = log
    world.start()
    pass_time(world, 20, step=1.0)
    assert world.new() == []
    [line] = log.lines("warn")
    assert "uses 30 MiB before its first call, more than supervisor.max_worker_memory (20 MiB)" in line
    world.open()
    [worker] = [worker for worker in world.workers if worker.request() is not None]
    worker.reply(b"")
    pass_time(world, 1, step=1.0)
    assert len(world.new()) == 1


def test_idle_ttl_counts_only_after_the_first_use():
    world = World(num_workers=1, supervisor=supervised(idle_ttl=5.0)).start()
    pass_time(world, 60, step=1.0)
    assert world.new() == []
    world.open()
    world.workers[0].request()
    world.workers[0].reply(b"")
    pass_time(world, 6, step=1.0)
    assert len(world.new()) == 1


def test_without_a_supervisor_section_nothing_is_limited():
    world = World(num_workers=1).start()
    world.open()
    pass_time(world, 600, step=1.0)
    assert world.new() == []
    assert world.workers[0].process.signals == []


# ------------------------------------------------------------------------------ allocator


@pytest.fixture
def elastic():
    settings = AllocatorSettings(max_workers=3, spawn_rate=2, idle_timeout=10.0)
    return World(num_workers=1, dynamic_allocator=settings).start()


def test_extra_workers_start_when_a_call_has_to_wait(elastic):
    elastic.open(b"1")
    elastic.open(b"2")
    assert len(elastic.new()) == 2


def test_extra_workers_are_bounded_and_started_once_a_second(elastic):
    for _ in range(10):
        elastic.open()
    assert len(elastic.reactor.processes) == 3
    pass_time(elastic, 5, step=1.0)
    assert len(elastic.reactor.processes) == 4


def test_extra_workers_go_when_there_is_no_shortage(elastic):
    elastic.open(b"1")
    elastic.open(b"2")
    extras = elastic.up()
    for worker in elastic.workers:
        if worker.request() is not None:
            worker.reply(b"")
    pass_time(elastic, 12, step=1.0)
    assert sum(worker.told_to_stop() for worker in elastic.workers) == 2
    assert len(extras) == 2
    assert elastic.pool.counts()[1] == 1


def test_the_time_for_an_upload_counts_for_a_mux_worker_and_not_for_one_call_at_a_time():
    """As docs/workers.md says."""
    for mux in (True, False):
        world = World(mux=mux, num_workers=1, supervisor=SupervisorSettings(exec_ttl=10)).start()
        call, to = world.open(b"a", more=True)
        world.workers[0].relay.output()
        world.reactor.advance(9)
        call.send(b"b", True)
        world.reactor.advance(9)
        assert isinstance(to.error, ExecTimeout) is mux
        if not mux:
            call.send(b"c", False)
            world.workers[0].relay.output()
            world.reactor.advance(9)
            assert to.error is None
            world.reactor.advance(2)
            assert isinstance(to.error, ExecTimeout)
