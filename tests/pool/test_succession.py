"""Other settings for a pool that runs: one worker is tried first, then all follow, and nothing is lost."""

from __future__ import annotations

import signal

import attrs
import pytest
from pool_world import World
from twisted.internet.defer import CancelledError

from twisted_rr.errors import Draining, NoFreeWorker, WorkerStartError
from twisted_rr.pool.settings import AllocatorSettings, SupervisorSettings
from twisted_rr.pool.succession import LIVE, SERVER_LIVE, Succession

NEW = ("php", "new.php")


def results(deferred):
    seen = []
    deferred.addBoth(seen.append)
    return seen


def error_of(seen):
    [failure] = seen
    return failure.value


def succession(world, always=False, environ=None, server=None, **settings):
    plan = world.pool.plan
    plan = attrs.evolve(
        plan,
        settings=attrs.evolve(plan.settings, **settings),
        server=attrs.evolve(plan.server, **(server or {})),
        environ=plan.environ if environ is None else environ,
    )
    return Succession(world.pool, plan, always)


def commands(world):
    """What the living workers run, old ones that were told to stop too."""
    return [process.argv[-1] for process in world.alive]


def let_go(world):
    """Workers that were told to stop end."""
    for worker in world.workers:
        if worker.process.alive and worker.told_to_stop():
            worker.process.exit()
    world.turn()


def carry_out(world, change):
    """Prove and commit; the commit's outcome so far."""
    proved = results(change.prove())
    world.up()
    assert proved == [None]
    change.check()
    return results(change.commit())


# ------------------------------------------------------------------------------- trying


def test_the_first_new_worker_is_only_tried_and_takes_no_call():
    world = World().start()
    change = succession(world, command=NEW)
    assert change.replaces
    proved = results(change.prove())
    assert proved == []
    world.up()
    assert proved == [None]
    assert commands(world) == ["worker.php", "worker.php", "new.php"]
    for _ in range(3):
        world.open()
    busy = [worker for worker in world.workers if worker.request() is not None]
    assert [worker.process.argv[-1] for worker in busy] == ["worker.php", "worker.php"]
    assert world.pool.waiting() == 1
    assert world.pool.counts() == (2, 2)
    assert world.pool.settings.command == ("php", "worker.php")


def test_a_new_worker_that_does_not_start_changes_nothing():
    world = World().start()
    change = succession(world, command=NEW, num_workers=5)
    proved = results(change.prove())
    [tried] = world.new()
    tried.process.stderr(b"Parse error\n")
    tried.process.exit(code=255)
    assert isinstance(error_of(proved), WorkerStartError)
    assert error_of(proved).stderr == ["Parse error"]
    change.abandon()
    world.reactor.advance(600)
    assert commands(world) == ["worker.php", "worker.php"]
    assert world.pool.crew.failures.backoff.failures == 0
    assert world.pool.health.ready() is None
    assert not world.pool.replacing.locked


def test_abandoning_stops_the_tried_worker():
    world = World().start()
    change = succession(world, command=NEW)
    change.prove()
    world.up()
    change.abandon()
    change.abandon()
    let_go(world)
    assert commands(world) == ["worker.php", "worker.php"]
    assert world.pool.counts() == (2, 2)


def test_abandoning_kills_a_worker_that_still_starts():
    world = World().start()
    change = succession(world, command=NEW)
    proved = results(change.prove())
    change.abandon()
    world.turn()
    assert isinstance(error_of(proved), WorkerStartError)
    assert commands(world) == ["worker.php", "worker.php"]


def test_a_tried_worker_that_ends_before_the_decision_is_noticed():
    world = World().start()
    change = succession(world, command=NEW)
    change.prove()
    [tried] = world.up()
    tried.process.exit(code=3)
    with pytest.raises(WorkerStartError):
        change.check()


def test_a_worker_of_another_kind_is_refused():
    world = World(mux=False).start()
    change = succession(world, command=NEW)
    proved = results(change.prove())
    world.mux = True
    world.up()
    world.turn()
    assert "restart the server" in str(error_of(proved))


def test_a_dying_old_worker_is_replaced_though_a_new_one_is_being_tried():
    world = World().start()
    change = succession(world, command=NEW)
    change.prove()
    world.up()
    first = world.workers[0]
    world.open()
    first.request()
    first.reply(b"done")
    first.process.exit(code=1)
    world.up()
    assert sorted(commands(world)) == ["new.php", "worker.php", "worker.php"]
    assert world.pool.counts() == (2, 2)


# ------------------------------------------------------------------------------- replacing


def test_all_workers_follow_one_by_one_the_new_one_first():
    world = World(num_workers=3).start()
    done = carry_out(world, succession(world, command=NEW))
    let_go(world)
    alive = []
    while not done:
        # One old worker has gone for each new one that serves; the next new one is starting.
        serving = [worker for worker in world.pool.crew.workers if worker.ready]
        alive.append(len(serving))
        world.up()
        let_go(world)
    assert done == [None]
    assert alive == [3, 3]
    assert commands(world) == ["new.php"] * 3
    assert world.pool.settings.command == NEW
    assert len(world.reactor.processes) == 6


@pytest.mark.parametrize("mux", [False, True])
def test_calls_in_flight_end_where_they_are(mux):
    world = World(mux=mux, num_workers=1).start()
    [old] = world.workers
    _, to = world.open(b"slow")
    [stream] = old.read() if mux else [None]
    if not mux:
        old.request()
    done = carry_out(world, succession(world, command=NEW))
    assert done == [None]  # whoever is replaced may still finish
    _, other = world.open(b"quick")
    new = world.workers[-1]
    assert (new.read()[0].to.body if mux else new.request()) == b"quick"
    if mux:
        stream.send(b"{}", b"late", False)
        old.flush()
    else:
        old.reply(b"late")
    assert to.body == b"late"
    assert old.process.alive
    let_go(world)
    assert not old.process.alive


def test_more_workers_come_and_fewer_go():
    for wanted in (1, 5):
        world = World(num_workers=3).start()
        done = carry_out(world, succession(world, command=NEW, num_workers=wanted))
        for _ in range(10):
            world.up()
            let_go(world)
        assert done == [None]
        assert commands(world) == ["new.php"] * wanted
        assert world.pool.counts() == (wanted, wanted)


def test_capacity_never_falls_below_the_smaller_number():
    world = World(num_workers=4).start()
    done = carry_out(world, succession(world, command=NEW, num_workers=2))
    least = 4
    while not done:
        least = min(least, sum(worker.ready for worker in world.pool.crew.workers))
        world.up()
        let_go(world)
    assert least == 2


def test_a_pool_in_a_crash_loop_is_healed_at_once():
    world = World().start()
    for worker in list(world.workers):
        worker.process.exit(code=1)
    for _ in range(4):  # the pauses grow
        for worker in world.new():
            worker.process.exit(code=1)
        world.reactor.advance(2)
    assert world.pool.counts()[0] == 0
    done = carry_out(world, succession(world, command=NEW))
    world.up()
    for _ in range(5):
        world.up()
        let_go(world)
    assert done == [None]
    assert commands(world) == ["new.php", "new.php"]
    assert world.pool.counts() == (2, 2)


def test_a_later_one_that_does_not_start_leaves_the_rest_as_it_was():
    world = World(num_workers=3).start()
    done = carry_out(world, succession(world, command=NEW))
    [second] = world.new()
    second.process.exit(code=1)
    assert isinstance(error_of(done), WorkerStartError)
    let_go(world)
    assert sorted(commands(world)) == ["new.php", "worker.php", "worker.php"]
    assert world.pool.counts() == (3, 3)
    assert not world.pool.replacing.locked


def test_old_workers_that_were_starting_are_of_no_use_any_more():
    world = World().start()
    first, _ = world.workers
    world.open()
    first.request()
    first.reply(b"x")
    first.process.exit(code=1)
    [late] = world.new()  # of the old kind, and not ready
    change = succession(world, command=NEW)
    change.prove()
    world.up()
    done = results(change.commit())
    assert late.process.signals == [signal.SIGKILL]
    for _ in range(6):
        world.up()
        world.turn()
        let_go(world)
    assert done == [None]
    assert commands(world) == ["new.php", "new.php"]


def test_unchanged_settings_replace_only_when_told_to():
    world = World().start()
    assert not succession(world).replaces
    assert not succession(world).changes
    done = carry_out(world, succession(world, always=True))
    for _ in range(4):
        world.up()
        let_go(world)
    assert done == [None]
    assert len(world.reactor.processes) == 4


def test_what_workers_are_started_with_decides_whether_they_are_replaced():
    world = World().start()
    assert succession(world, environ={"PATH": "/bin", "APP_KEY": "x"}).replaces
    assert not succession(world, environ={"PATH": "/bin", "LISTEN_FDS": "1"}).replaces
    for server in ({"env": {"a": "b"}}, {"directory": "/srv"}, {"nice": 3}, {"rlimits": {"nofile": 100}}):
        assert succession(world, server=server).replaces
    for settings in ({"num_workers": 7}, {"max_jobs": 9}, {"allocate_timeout": 1.0}):
        change = succession(world, **settings)
        assert change.changes
        assert not change.replaces


# ------------------------------------------------------------------------------- drain


def test_a_drain_ends_the_trial():
    world = World().start()
    change = succession(world, command=NEW)
    work = change.prove()
    proved = results(work)
    world.drain.enter("draining:announce")
    work.cancel()
    change.abandon()
    assert isinstance(error_of(proved), CancelledError)
    world.turn()
    assert commands(world) == ["worker.php", "worker.php"]


def test_a_drain_ends_the_replacement_where_it_is():
    world = World(num_workers=3).start()
    change = succession(world, command=NEW)
    change.prove()
    world.up()
    work = change.commit()
    done = results(work)
    let_go(world)
    world.drain.enter("draining:announce")
    work.cancel()
    assert isinstance(error_of(done), CancelledError)
    world.turn()
    assert sorted(commands(world)) == ["new.php", "worker.php", "worker.php"]
    stopped = results(world.pool.stopService())
    for process in world.alive:
        process.exit()
    assert stopped == [None]
    assert world.alive == []


def test_none_is_tried_in_a_drain():
    world = World().start()
    world.drain.enter("draining:announce")
    assert isinstance(error_of(results(succession(world, command=NEW).prove())), Draining)
    assert len(world.reactor.processes) == 2


# ------------------------------------------------------------------------------- together with a reset


def test_a_reset_waits_for_the_reload_and_the_other_way_round():
    world = World(num_workers=1).start()
    change = succession(world, command=NEW)
    change.prove()
    world.up()
    reset = results(world.pool.reset())
    assert world.new() == []
    change.commit()
    [next_one] = world.new()  # the reset's
    assert next_one.process.argv[-1] == "new.php"
    other = succession(world, always=True)
    proved = results(other.prove())
    assert world.new() == []
    next_one.answer_handshake()
    let_go(world)
    assert reset == [None]
    world.up()
    assert proved == [None]
    other.abandon()


# ------------------------------------------------------------------------------- settings alone


def test_another_number_of_workers_is_reached_without_replacing_any():
    world = World(num_workers=2).start()
    first = list(world.workers)
    done = carry_out(world, succession(world, num_workers=4))
    assert done == []
    world.up()
    assert done == [None]
    assert world.pool.counts() == (4, 4)
    assert carry_out(world, succession(world, num_workers=1)) == [None]
    let_go(world)
    assert len(world.alive) == 1
    assert all(worker.process.argv[-1] == "worker.php" for worker in first)


def test_more_workers_that_do_not_start_are_told():
    world = World(num_workers=1).start()
    done = carry_out(world, succession(world, num_workers=2))
    [more] = world.new()
    more.process.exit(code=1)
    assert isinstance(error_of(done), WorkerStartError)
    assert world.pool.counts() == (1, 2)


def test_who_waits_already_waits_as_long_as_the_new_limit_says():
    world = World(num_workers=1, allocate_timeout=60.0).start()
    world.open()
    world.workers[0].request()
    _, waiting = world.open()
    world.reactor.advance(10)
    carry_out(world, succession(world, allocate_timeout=15.0))
    world.reactor.advance(4.9)
    assert waiting.error is None
    world.reactor.advance(0.2)
    assert isinstance(waiting.error, NoFreeWorker)
    assert "15.0 s" in str(waiting.error)


def test_a_limit_that_is_already_over_ends_the_wait_in_the_next_turn():
    world = World(num_workers=1, allocate_timeout=60.0).start()
    world.open()
    world.workers[0].request()
    _, waiting = world.open()
    world.reactor.advance(10)
    carry_out(world, succession(world, allocate_timeout=5.0))
    assert waiting.error is None
    world.turn()
    assert isinstance(waiting.error, NoFreeWorker)


def test_a_longer_limit_counts_for_those_who_wait_too():
    world = World(num_workers=1, allocate_timeout=5.0).start()
    world.open()
    world.workers[0].request()
    _, waiting = world.open()
    carry_out(world, succession(world, allocate_timeout=50.0))
    world.reactor.advance(49)
    assert waiting.error is None
    world.reactor.advance(2)
    assert isinstance(waiting.error, NoFreeWorker)


def test_the_queue_is_as_long_as_the_new_limit_says():
    world = World(num_workers=1).start()
    carry_out(world, succession(world, max_queue_size=1))
    for _ in range(3):
        _, last = world.open()
    world.turn()
    assert "queue" in str(last.error)


def test_max_jobs_holds_for_workers_that_are_there():
    world = World(num_workers=1).start()
    carry_out(world, succession(world, max_jobs=2))
    for _ in range(2):
        world.open()
        world.workers[0].request()
        world.workers[0].reply(b"x")
    let_go(world)
    assert not world.workers[0].process.alive


def test_the_supervisors_limits_change():
    world = World(num_workers=1).start()
    carry_out(world, succession(world, supervisor=SupervisorSettings(exec_ttl=2.0)))
    _, to = world.open()
    world.workers[0].request()
    world.reactor.pump([0.5] * 6)
    assert "no answer within 2 s" in str(to.error)


def test_extra_workers_that_are_not_allowed_any_more_go():
    allocator = AllocatorSettings(max_workers=3, spawn_rate=3)
    world = World(num_workers=1, dynamic_allocator=allocator).start()
    for _ in range(2):
        world.open()
    world.up()
    assert world.pool.counts() == (4, 4)
    carry_out(world, succession(world, dynamic_allocator=None))
    assert world.pool.counts()[1] == 1
    world.reactor.advance(5)
    let_go(world)
    assert world.pool.crew.extra == 0


def test_a_debug_pool_starts_its_next_worker_by_the_new_command():
    world = World(debug=True)
    world.pool.startService()
    world.up()
    let_go(world)
    done = carry_out(world, succession(world, command=NEW))
    assert done == [None]
    world.open()
    assert [worker.process.argv[-1] for worker in world.new()][-1:] == ["new.php"]


def test_only_what_is_about_the_server_itself_needs_a_restart():
    assert "debug" not in LIVE
    assert {"num_workers", "command", "max_jobs", "supervisor", "dynamic_allocator"} <= LIVE
    assert not SERVER_LIVE & {"user", "group", "relay", "relay_pipes", "on_init"}
