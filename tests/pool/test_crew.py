"""How many workers there are: start, replacement, back-off, max_jobs, reset, size, stop."""

import signal

import pytest
from pool_world import World

from twisted_rr.errors import CrashLoop, NoFreeWorker, WorkerDied, WorkerStartError
from twisted_rr.pool.rolling import ResetFailed
from twisted_rr.pool.state import WorkerState
from twisted_rr.pool.turns import Turns
from twisted_rr.testing.host import RecordingLog


def results(deferred):
    seen = []
    deferred.addBoth(seen.append)
    return seen


def error_of(seen):
    [failure] = seen
    return failure.value


def finish_signals(world):
    """Let signals that were sent take effect."""
    world.turn()


# ---------------------------------------------------------------------------------- start


def test_the_pool_is_ready_once_every_worker_answered():
    world = World(num_workers=3)
    world.pool.startService()
    seen = results(world.pool.ready())
    first, second, third = world.new()
    first.answer_handshake()
    second.answer_handshake()
    assert seen == []
    assert world.pool.health.ready() == "the workers are starting"
    third.answer_handshake()
    assert seen == [None]
    assert world.pool.health.ready() is None
    assert world.pool.counts() == (3, 3)
    assert results(world.pool.ready()) == [None]


@pytest.mark.parametrize("mux", [False, True])
def test_the_workers_answer_tells_whether_the_pool_is_mux(mux):
    assert World(mux=mux).start().pool.mux is mux


def test_a_start_that_a_stop_came_before_has_no_part_in_the_next_one():
    world = World(num_workers=1)
    world.pool.startService()
    first = results(world.pool.ready())
    [starting] = world.new()
    over = results(world.pool.stopService())
    assert isinstance(error_of(first), WorkerStartError)

    # As one does who restarts the service in the very turn in which its stop is over.
    second = []
    world.pool.crew.when_empty().addCallback(
        lambda _: (world.pool.startService(), world.pool.ready().addBoth(second.append))
    )
    starting.process.exit(code=0)
    finish_signals(world)
    assert over == [None]
    [worker] = world.new()
    worker.answer_handshake()
    assert second == [None]
    assert worker.process.signals == []


def test_a_command_that_does_not_exist_fails_the_start_with_its_name():
    world = World(num_workers=2)
    world.pool.startService()
    seen = results(world.pool.ready())
    broken, other = world.new()
    broken.process.status(b"exec 2")
    broken.process.exit(code=127)
    finish_signals(world)
    error = error_of(seen)
    assert isinstance(error, WorkerStartError)
    assert "command not found: php (PATH is " in str(error)
    assert not other.process.alive
    world.reactor.advance(600)
    assert len(world.reactor.processes) == 2


def test_a_worker_that_exits_at_once_fails_the_start_with_its_last_lines():
    world = World(num_workers=1)
    world.pool.startService()
    seen = results(world.pool.ready())
    [worker] = world.new()
    worker.process.stderr(b"Traceback:\nNo module")
    worker.process.stderr(b" named 'shop'\n")
    worker.process.exit(code=3)
    finish_signals(world)
    error = error_of(seen)
    assert "ended before the handshake with exit code 3" in str(error)
    assert error.stderr == ["Traceback:", "No module named 'shop'"]


def test_garbage_instead_of_an_answer_fails_the_start_and_is_shown():
    world = World(num_workers=1)
    world.pool.startService()
    seen = results(world.pool.ready())
    [worker] = world.new()
    worker.write(b"Hello, world!\n")
    finish_signals(world)
    assert "print to stdout" in str(error_of(seen))
    assert "Hello, world!" in str(error_of(seen))
    assert worker.process.signals[0] == signal.SIGKILL


def test_a_worker_that_never_answers_fails_the_start_after_allocate_timeout():
    world = World(num_workers=2, allocate_timeout=7.0)
    world.pool.startService()
    seen = results(world.pool.ready())
    world.reactor.advance(6.9)
    assert seen == []
    world.reactor.advance(0.2)
    finish_signals(world)
    assert "no answer to the handshake within 7 s" in str(error_of(seen))
    assert world.alive == []


def test_the_failed_start_is_told_only_when_all_are_reaped():
    world = World(num_workers=2)
    world.pool.startService()
    seen = results(world.pool.ready())
    broken, slow = world.new()
    slow.process.obeys.clear()
    broken.process.exit(code=1)
    finish_signals(world)
    assert seen == []
    assert slow.process.signals[0] == signal.SIGKILL
    slow.process.exit(signal=9)
    assert isinstance(error_of(seen), WorkerStartError)
    assert "did not start" in world.pool.health.ready()


def test_a_process_that_cannot_be_made_fails_the_start():
    world = World(num_workers=1)
    world.reactor.spawn_error = OSError(11, "Resource temporarily unavailable")
    world.pool.startService()
    seen = results(world.pool.ready())
    world.turn()
    assert "temporarily unavailable" in str(error_of(seen))


def test_a_stop_during_the_start_ends_it():
    world = World(num_workers=2)
    world.pool.startService()
    seen = results(world.pool.ready())
    world.new()[0].answer_handshake()
    stopped = results(world.pool.stopService())
    finish_signals(world)
    world.reactor.advance(1)
    world.reactor.advance(2)
    finish_signals(world)
    assert stopped == [None]
    assert isinstance(error_of(seen), WorkerStartError)


def test_a_pool_can_be_started_again_after_its_stop():
    world = World(num_workers=1).start()
    world.pool.stopService()
    world.workers[0].process.exit()
    world.start()
    assert world.pool.counts() == (1, 1)
    world.open(b"again")
    assert world.workers[-1].request() == b"again"


def test_num_workers_0_asks_the_machine_for_two_at_least():
    world = World(num_workers=0)
    world.pool.startService()
    assert len(world.reactor.processes) >= 2


# ------------------------------------------------------------------------------ replacing


def serve_all(world):
    """Every worker gives its first answer."""
    for _ in world.workers:
        world.open()
    for worker in world.workers:
        worker.request()
        worker.reply(b"")


def test_a_worker_that_answered_once_is_replaced_at_once():
    world = World(num_workers=2).start()
    serve_all(world)
    world.workers[0].process.exit(signal=9)
    assert len(world.up()) == 1
    assert world.pool.counts() == (2, 2)


def test_a_mux_worker_that_answered_once_is_replaced_at_once():
    world = World(mux=True, num_workers=1).start()
    [worker] = world.workers
    world.open()
    [stream] = worker.read()
    stream.send(b"\x92\xcc\xc8\x90", b"", False)
    worker.flush()
    worker.process.exit(signal=9)
    assert len(world.new()) == 1


def pauses_of(world, tries):
    """The pauses between starts that fail at once."""
    pauses = []
    for _ in range(tries):
        [worker] = world.new()
        worker.process.exit(code=1)
        pause = 0.0
        while not (len(world.reactor.processes) > len(world.workers)):
            world.reactor.advance(0.05)
            pause += 0.05
            assert pause < 10
        pauses.append(round(pause, 2))
    return pauses


def test_workers_that_die_before_an_answer_are_replaced_with_growing_pauses():
    world = World(num_workers=2).start()
    serve_all(world)
    world.workers[0].process.exit(signal=9)
    pauses = pauses_of(world, 8)
    assert pauses[:4] == pytest.approx([0.1, 0.2, 0.4, 0.8], abs=0.06)
    assert pauses[-1] == pytest.approx(5.0, abs=0.06)
    assert len(world.alive) == 2


def test_while_no_worker_is_alive_the_pauses_stay_short():
    world = World(num_workers=1).start()
    serve_all(world)
    world.workers[0].process.exit(signal=9)
    pauses = pauses_of(world, 8)
    assert pauses[:3] == pytest.approx([0.1, 0.2, 0.4], abs=0.06)
    assert pauses[3:] == pytest.approx([0.5] * 5, abs=0.06)


def test_a_start_that_takes_long_to_fail_is_not_repeated_more_often_than_half_of_the_time():
    world = World(num_workers=1).start()
    serve_all(world)
    world.workers[0].process.exit(signal=9)
    for _ in range(7):
        while not (new := world.new()):
            world.reactor.advance(0.05)
        world.reactor.advance(2.0)
        new[0].process.exit(code=1)
    world.reactor.advance(1.9)
    assert not world.new()
    world.reactor.advance(0.2)
    assert len(world.new()) == 1


def test_one_start_at_a_time_while_starts_fail():
    world = World(num_workers=4).start()
    serve_all(world)
    for worker in list(world.workers):
        worker.process.exit(signal=9)
    for worker in world.new():
        worker.process.exit(code=1)
    for _ in range(40):
        world.open()
        world.reactor.advance(0.1)
    assert len(world.alive) == 1, "calls that come meanwhile start no other"


def test_after_five_starts_that_fail_nobody_waits_until_one_succeeds():
    world = World(num_workers=1, allocate_timeout=60.0).start()
    serve_all(world)
    world.workers[0].process.exit(signal=9)
    _, waiting = world.open()
    for _ in range(5):
        assert waiting.error is None
        [worker] = world.new()
        worker.process.stderr(b"Traceback\nModuleNotFoundError: No module named 'app'\n")
        worker.process.exit(code=3)
        world.reactor.advance(0.5)
    assert isinstance(waiting.error, CrashLoop)
    assert "5 starts have failed" in str(waiting.error)
    assert str(waiting.error).endswith("it said: ModuleNotFoundError: No module named 'app'")
    assert waiting.error.stderr[0] == "Traceback"
    _, refused = world.open()
    world.turn()
    assert isinstance(refused.error, CrashLoop)
    assert world.pool.health.alive() is None, "the next start may be the good one"
    world.up()
    _, served = world.open()
    assert world.workers[-1].request() is not None
    assert served.error is None


def test_what_starts_that_fail_have_in_common_is_logged_once(monkeypatch):
    world = World(num_workers=3).start()
    serve_all(world)
    log = world.pool.crew.workers[0].process._log
    lines = []
    monkeypatch.setattr(log, "info", lambda format, **fields: lines.append(fields.get("line")))
    for worker in list(world.workers):
        worker.process.exit(signal=9)
    for _ in range(6):
        for worker in world.new():
            worker.process.stderr(b"Traceback of %d\nValueError at 0x7f%d\n" % (worker.pid, worker.pid))
            worker.process.exit(code=3)
        world.reactor.advance(0.5)
    assert len([line for line in lines if line and line.startswith("ValueError")]) == 1
    [worker] = world.new()
    worker.process.stderr(b"another reason\n")
    worker.process.exit(code=3)
    assert lines[-1] == "another reason"


def test_a_worker_that_is_ready_after_all_has_said_what_it_said():
    world = World(num_workers=1).start()
    serve_all(world)
    world.workers[0].process.exit(signal=9)
    [worker] = world.new()
    worker.process.exit(code=3)
    world.reactor.advance(0.2)
    [worker] = world.new()
    assert world.pool.crew.workers[0].process.held
    worker.answer_handshake()
    assert not world.pool.crew.workers[0].process.held


def test_a_first_answer_ends_the_back_off():
    world = World(num_workers=2).start()
    serve_all(world)
    world.workers[0].process.exit(signal=9)
    [worker] = world.new()
    worker.process.exit(code=1)
    world.reactor.advance(0.1)
    [worker] = world.up()
    for _ in range(2):
        world.open()
    for each in world.workers:
        if each.process.alive and each.request() is not None:
            each.reply(b"")
    assert world.pool.crew.failures.backoff.failures == 0
    worker.process.exit(signal=9)
    assert len(world.new()) == 1


def test_one_start_a_back_off_step_however_many_are_missing():
    world = World(num_workers=4).start()
    for worker in world.workers:
        worker.process.exit(code=1)
    assert world.new() == []
    world.reactor.advance(5)
    assert len(world.new()) == 1


def test_a_worker_that_exits_with_0_unasked_before_an_answer_counts_as_a_failure():
    world = World(num_workers=1).start()
    world.workers[0].process.exit(code=0)
    assert world.new() == []
    world.reactor.advance(0.1)
    assert len(world.new()) == 1


def test_health_tells_a_crash_loop_from_a_command_that_cannot_run():
    world = World(num_workers=1).start()
    world.workers[0].process.exit(code=1)
    for _ in range(30):
        world.reactor.advance(5)
        for worker in world.new():
            worker.process.exit(code=1)
    assert world.pool.health.alive() is None
    assert world.pool.health.ready() == "no worker is alive"
    for _ in range(4):
        world.reactor.advance(5)
        for worker in world.new():
            worker.process.status(b"exec 2")
            worker.process.exit(code=127)
    assert "command not found" in world.pool.health.alive()


def test_a_closed_relay_is_a_death_even_if_the_process_stays():
    world = World(num_workers=1).start()
    _, to = world.open()
    [worker] = world.workers
    worker.request()
    worker.relay.owner.relay_lost("closed by the worker")
    assert not to.events
    world.reactor.advance(0.5)
    finish_signals(world)
    assert worker.process.signals[0] == signal.SIGKILL
    assert isinstance(to.error, WorkerDied)
    assert "closed by the worker" in str(to.error)


def test_a_bad_frame_kills_the_worker_and_fails_its_call():
    world = World(num_workers=1).start()
    _, to = world.open()
    [worker] = world.workers
    worker.request()
    worker.write(b"Notice: undefined index\n")
    assert "bad frame" in str(to.error)
    assert worker.process.signals == [signal.SIGKILL]


def test_a_receiver_that_calls_an_answer_nonsense_kills_the_worker():
    from pool_world import Head, To

    from twisted_rr.errors import FrameError

    class Picky(To):
        def context(self, codec, context, body, more):
            raise FrameError("no head", context)

    world = World(num_workers=1).start()
    to = Picky()
    world.pool.open(Head(), b"", False, to)
    [worker] = world.workers
    worker.request()
    worker.reply(b"x")
    assert isinstance(to.error, WorkerDied)
    assert worker.process.signals == [signal.SIGKILL]


def test_the_rest_of_the_group_is_killed_when_the_worker_has_ended():
    world = World(num_workers=1).start()
    [worker] = world.workers
    killed = []
    worker.relay.owner.process._killpg = lambda group, number: killed.append((group, number))
    worker.process.exit(code=1)
    assert killed == [(worker.pid, signal.SIGKILL)]


# ------------------------------------------------------------------------------- max_jobs


def test_a_small_max_jobs_is_exact():
    world = World(num_workers=1, max_jobs=2).start()
    [worker] = world.workers
    for body in (b"1", b"2", b"3"):
        world.open(body)
    assert worker.request() == b"1"
    worker.reply(b"")
    assert worker.request() == b"2"
    [new] = world.new()  # started with the last call, not after it
    worker.reply(b"")
    assert worker.told_to_stop()
    new.answer_handshake()
    assert new.request() == b"3"


def test_at_max_jobs_a_worker_goes_on_until_its_replacement_is_up():
    world = World(num_workers=1, max_jobs=10).start()
    [worker] = world.workers
    for _ in range(12):
        world.open()
        assert worker.request() is not None
        worker.reply(b"")
    [new] = world.new()
    assert world.pool.workers()[0].status == WorkerState.MAX_JOBS
    new.answer_handshake()
    assert worker.told_to_stop()
    world.open()
    assert new.request() is not None


def test_a_worker_serves_on_for_as_long_as_no_replacement_is_up():
    world = World(num_workers=1, max_jobs=10).start()
    [worker] = world.workers
    for _ in range(50):
        world.open()
        assert worker.request() is not None
        worker.reply(b"")
    [late] = world.new()
    late.process.exit(code=1)
    world.open()
    assert worker.request() is not None
    worker.reply(b"")
    assert world.pool.waiting() == 0
    world.reactor.advance(10)
    [better] = world.new()
    better.answer_handshake()
    assert worker.told_to_stop()


def wear_out(world):
    """Give every worker as many calls as it may get."""
    workers = list(world.workers)
    for _ in range(10):
        for _ in workers:
            world.open()
        for worker in workers:
            assert worker.request() is not None
            worker.reply(b"")
    return workers


def test_workers_that_are_worn_together_are_replaced_in_turns():
    world = World(num_workers=8, max_jobs=10).start()
    old = wear_out(world)
    starting = world.new()
    gone = []
    while starting:
        assert len(starting) == min(2, len(old) - len(gone)), "a fourth of them at a time"
        starting.pop(0).answer_handshake()
        gone += [worker for worker in old if worker not in gone and worker.told_to_stop()]
        starting += world.new()
    assert gone == old
    assert len(world.alive) == 16  # the old ones are ending


def test_that_workers_do_not_start_as_fast_as_max_jobs_is_reached_is_told_once():
    world = World(num_workers=3, max_jobs=10)
    world.pool.crew._log = log = RecordingLog()
    world.start()
    _, second, _ = wear_out(world)
    wear_out(world)
    world.new()[0].answer_handshake()
    world.new()[0].answer_handshake()
    [line] = log.lines("warn")
    assert f"worker {second.pid} got 20 calls until it was its turn" in line
    assert "max_jobs (10)" in line


def test_a_turn_is_not_lost_with_the_worker_whose_turn_it_is():
    world = World(num_workers=2, max_jobs=10).start()
    first, second = wear_out(world)
    [new] = world.new()
    first.process.exit(signal=9)
    new.answer_handshake()
    [other] = world.new()
    other.answer_handshake()
    assert second.told_to_stop()
    assert world.new() == []


def test_one_that_has_left_already_takes_no_turn_of_another():
    class Going:
        def __init__(self, left):
            self.left = left
            self.retired = False

        def retire(self, state, limit):
            self.retired = True

    turns = Turns()
    lost, waits = Going(left=True), Going(left=False)
    for worker in (waits, lost):
        turns.put_first(worker, WorkerState.MAX_JOBS, None)
    turns.let_go(1)
    assert waits.retired


def test_one_that_waits_for_its_turn_and_dies_is_replaced_once():
    world = World(num_workers=2, max_jobs=10).start()
    first, second = wear_out(world)
    [new] = world.new()
    second.process.exit(signal=9)
    [other] = world.new()
    new.answer_handshake()
    other.answer_handshake()
    assert first.told_to_stop()
    assert world.new() == []


def test_a_worker_that_a_failed_reset_kept_is_recycled_as_before():
    world = World(num_workers=1, max_jobs=10).start()
    [worker] = world.workers
    world.pool.reset().addErrback(lambda failure: None)
    [bad] = world.new()
    bad.process.exit(code=1)
    for _ in range(10):
        world.open()
        worker.request()
        worker.reply(b"")
    world.reactor.advance(10)
    assert len(world.new()) == 1


def test_max_jobs_has_a_jitter_of_at_most_14_percent():
    from twisted_rr.pool.limits import jobs_limit

    assert jobs_limit(100, lambda: 0.0) == 100
    assert jobs_limit(100, lambda: 0.999) == 114
    assert jobs_limit(7, lambda: 0.999) == 7
    assert jobs_limit(0, lambda: 0.999) == 0


def test_a_replaced_mux_worker_finishes_its_calls():
    world = World(mux=True, num_workers=1, max_jobs=1).start()
    [worker] = world.workers
    _, to = world.open()
    [stream] = worker.read()
    assert worker.told_to_stop() is False
    stream.send(b"\x92\xcc\xc8\x90", b"done", False)
    worker.flush()
    assert to.body == b"done"
    worker.read()
    assert worker.end.stopping


# ------------------------------------------------------------------- reset, grow, shrink


def test_reset_starts_the_new_worker_first_and_one_at_a_time():
    world = World(num_workers=2).start()
    old = list(world.workers)
    seen = results(world.pool.reset())
    [first] = world.new()
    assert all(worker.process.alive for worker in old)
    assert not any(worker.told_to_stop() for worker in old)
    first.answer_handshake()
    assert old[0].told_to_stop()
    [second] = world.new()
    second.answer_handshake()
    assert old[1].told_to_stop()
    assert seen == []
    for worker in old:
        worker.process.exit()
    assert seen == [None]
    assert world.new() == []
    assert world.pool.counts() == (2, 2)


def test_a_reset_that_cannot_start_new_workers_keeps_the_old():
    world = World(num_workers=2).start()
    seen = results(world.pool.reset())
    [new] = world.new()
    new.process.exit(code=1)
    assert isinstance(error_of(seen), WorkerStartError)
    world.reactor.advance(60)
    assert world.new() == []
    for body in (b"1", b"2"):
        world.open(body)
    assert sorted(worker.request() for worker in world.workers[:2]) == [b"1", b"2"]


def test_a_reset_replaces_so_many_at_a_time():
    world = World(num_workers=5, reset_batch=2).start()
    old = list(world.workers)
    told = results(world.pool.replace())
    waves = []
    while new := world.new():
        waves.append(len(new))
        assert sum(worker.process.alive and not worker.told_to_stop() for worker in old) >= 5 - sum(
            waves
        ) + len(new)
        for worker in new:
            world.reactor.advance(0.25)
            worker.answer_handshake()
    assert waves == [2, 2, 1]
    for worker in old:
        worker.process.exit()
    [report] = told
    assert sorted(each.old for each in report.replaced) == sorted(worker.pid for worker in old)
    assert [each.new for each in report.replaced] == [worker.pid for worker in world.workers[5:]]
    assert [each.seconds for each in report.replaced] == [0.25, 0.5, 0.25, 0.5, 0.25]
    assert report.kept == ()
    assert world.pool.counts() == (5, 5)


def test_a_batch_of_which_one_does_not_start_keeps_one_old_worker_and_ends_there():
    world = World(num_workers=4, reset_batch=2).start()
    old = list(world.workers)
    told = results(world.pool.replace())
    first, second = world.new()
    first.answer_handshake()
    second.process.exit(code=1)
    failed = error_of(told)
    assert isinstance(failed, ResetFailed)
    assert len(failed.report.replaced) == 1
    assert failed.report.replaced[0].new == first.pid
    assert len(failed.report.kept) == 3
    assert "3 old workers stay, 1 replaced before" in str(failed)
    gone = [worker for worker in old if worker.told_to_stop()]
    assert len(gone) == 1
    gone[0].process.exit()
    world.reactor.advance(60)
    assert world.new() == []
    assert world.pool.counts() == (4, 4)


def test_a_reset_tells_the_calls_that_were_cut():
    world = World(num_workers=1, reset_timeout=9.0).start()
    [old] = world.workers
    world.open()
    old.request()
    told = results(world.pool.replace())
    world.up()
    world.reactor.advance(9.1)
    old.process.exit()
    assert told[0].lost == 1


def test_a_busy_worker_gets_reset_timeout_to_finish():
    world = World(num_workers=1, reset_timeout=9.0).start()
    [old] = world.workers
    _, to = world.open()
    old.request()
    world.pool.reset()
    world.up()
    world.reactor.advance(8.9)
    assert not old.told_to_stop()
    old.reply(b"in time")
    assert to.body == b"in time"
    assert old.told_to_stop()


def test_after_reset_timeout_a_busy_worker_is_stopped():
    world = World(num_workers=1, reset_timeout=9.0).start()
    [old] = world.workers
    world.open()
    old.request()
    world.pool.reset()
    world.up()
    world.reactor.advance(9.1)
    world.reactor.advance(1.0)
    assert old.process.signals == [signal.SIGTERM]


def test_a_new_worker_of_the_other_kind_is_refused():
    world = World(num_workers=1).start()
    seen = results(world.pool.reset())
    [new] = world.new()
    new.answer_handshake(mux=True)
    finish_signals(world)
    assert "restart the server" in str(error_of(seen))
    assert not new.process.alive
    world.open(b"still")
    assert world.workers[0].request() == b"still"


def test_grow_starts_more_and_fires_when_they_are_up():
    world = World(num_workers=1).start()
    seen = results(world.pool.grow(2))
    assert seen == []
    assert len(world.up()) == 2
    assert seen == [None]
    assert world.pool.counts() == (3, 3)


def test_shrink_retires_workers_but_never_the_last():
    world = World(num_workers=3).start()
    seen = results(world.pool.shrink(5))
    stopped = [worker for worker in world.workers if worker.told_to_stop()]
    assert len(stopped) == 2
    for worker in stopped:
        worker.process.exit()
    assert seen == [None]
    assert world.new() == []
    assert world.pool.counts() == (1, 1)


def test_shrink_leaves_those_that_serve_when_others_are_missing_anyway():
    world = World(num_workers=4).start()
    for worker in world.workers[:2]:
        worker.process.exit(code=1)
    seen = results(world.pool.shrink(2))
    assert seen == [None]
    assert not any(worker.told_to_stop() for worker in world.workers[2:])
    assert world.pool.counts() == (2, 2)


def test_shrink_takes_the_idle_first_and_lets_a_busy_one_finish():
    world = World(num_workers=2).start()
    world.open()
    busy = next(worker for worker in world.workers if worker.request())
    idle = next(worker for worker in world.workers if worker is not busy)
    world.pool.shrink(1)
    assert idle.told_to_stop()
    assert not busy.told_to_stop()


# ----------------------------------------------------------------------------------- stop


def test_the_stop_is_a_frame_then_sigterm_then_sigkill():
    world = World(num_workers=1).start()
    [worker] = world.workers
    seen = results(world.pool.stopService())
    assert worker.told_to_stop()
    world.reactor.advance(0.9)
    assert worker.process.signals == []
    world.reactor.advance(0.2)
    assert worker.process.signals == [signal.SIGTERM]
    world.reactor.advance(1.8)
    assert seen == []
    world.reactor.advance(0.2)
    world.turn()
    assert worker.process.signals[:2] == [signal.SIGTERM, signal.SIGKILL]
    assert seen == [None]


def test_stop_fires_only_when_every_process_is_reaped():
    world = World(num_workers=2).start()
    seen = results(world.pool.stopService())
    world.workers[0].process.exit()
    assert seen == []
    world.workers[1].process.exit()
    assert seen == [None]


def test_a_worker_that_closes_its_relay_while_stopping_is_no_event():
    world = World(num_workers=1).start()
    [worker] = world.workers
    world.pool.stopService()
    worker.relay.owner.relay_lost("closed by the worker")
    world.reactor.advance(0.9)
    assert worker.process.signals == []


def test_hurry_kills_at_once_and_stop_still_waits_for_the_reaping():
    world = World(num_workers=1).start()
    [worker] = world.workers
    worker.process.obeys.clear()
    _, to = world.open()
    worker.request()
    seen = results(world.pool.stopService())
    world.pool.hurry()
    assert worker.process.signals == [signal.SIGKILL]
    assert seen == []
    worker.process.exit(signal=9)
    assert seen == [None]
    assert isinstance(to.error, WorkerDied)


def test_no_worker_is_replaced_after_the_stop():
    world = World(num_workers=2).start()
    world.pool.stopService()
    for worker in world.workers:
        worker.process.exit(code=1)
    world.reactor.advance(60)
    assert world.new() == []


def test_nothing_is_left_on_the_reactor_after_the_stop():
    world = World(num_workers=2).start()
    world.pool.stopService()
    for worker in world.workers:
        worker.process.exit()
    assert world.reactor.getDelayedCalls() == []
    assert world.reactor.readers == []


# ---------------------------------------------------------------------------------- drain


def test_in_a_drain_no_worker_is_recycled():
    world = World(num_workers=1, max_jobs=10).start()
    [worker] = world.workers
    world.drain.begin("SIGTERM")
    for _ in range(40):
        world.open()
        assert worker.request() is not None
        worker.reply(b"")
    assert world.new() == []


def test_when_a_drain_is_called_off_the_workers_are_all_there_again():
    world = World(mux=True, num_workers=2).start()
    for _ in world.workers:
        world.open()
    for worker in world.workers:
        [stream] = worker.read()
        stream.send(b"\x92\xcc\xc8\x90", b"", False)
        worker.flush()
    world.drain.begin("SIGTERM")
    world.workers[0].process.exit(signal=9)
    assert world.new() == []
    world.drain.undrain()
    assert len(world.new()) == 1


@pytest.mark.parametrize("max_jobs", [10, 2])
def test_a_worker_that_was_worn_in_a_drain_is_recycled_when_that_is_called_off(max_jobs):
    world = World(num_workers=1, max_jobs=max_jobs).start()
    world.drain.begin("SIGTERM")
    wear_out(world)
    assert world.new() == []
    world.drain.undrain()
    world.open()
    assert len(world.new()) == 1


def test_in_a_drain_a_dead_worker_is_replaced_only_for_a_call_that_waits():
    world = World(num_workers=2).start()
    serve_all(world)
    world.drain.begin("SIGTERM")
    world.workers[0].process.exit(signal=9)
    assert world.new() == []
    world.open(b"1")
    assert world.new() == []
    world.open(b"2")
    assert len(world.new()) == 1


def test_in_a_drain_a_worker_that_cannot_be_started_fails_the_waiting_calls_at_once():
    world = World(num_workers=1).start()
    serve_all(world)
    world.drain.begin("SIGTERM")
    world.workers[0].process.exit(signal=9)
    _, to = world.open()
    [worker] = world.new()
    worker.process.status(b"exec 2")
    worker.process.exit(code=127)
    assert isinstance(to.error, NoFreeWorker)


def test_a_mux_worker_is_told_of_the_drain():
    world = World(mux=True, num_workers=1).start()
    world.drain.begin("SIGTERM")
    [worker] = world.workers
    worker.read()
    assert worker.said_to_us == [{"draining": {"deadline_ms": 30000}}]


# ---------------------------------------------------------------------------------- debug


@pytest.mark.parametrize("mux", [False, True])
def test_in_a_stop_calls_have_destroy_timeout_from_when_the_listeners_close(mux):
    world = World(mux=mux, num_workers=2, destroy_timeout=5.0).start()
    _, to = world.open()
    busy, idle = world.workers
    busy.relay.output()  # it has the call
    world.drain.enter("draining:announce")
    world.reactor.advance(10)
    world.drain.enter("draining:finish")
    world.reactor.advance(4.9)
    assert busy.process.signals == []
    world.reactor.advance(0.2)
    assert not to.events, "it may end now, but is not cut yet"
    world.reactor.advance(1.1)
    assert busy.process.signals == [signal.SIGTERM]
    world.reactor.advance(2.1)
    assert isinstance(to.error, WorkerDied)
    assert idle.process.alive
    assert world.pool.killed == 1


def test_nobody_is_stopped_by_destroy_timeout_when_the_stop_came_first():
    world = World(num_workers=1, destroy_timeout=5.0).start()
    world.drain.enter("draining:finish")
    world.pool.stopService()
    world.workers[0].process.exit()
    assert world.reactor.getDelayedCalls() == []


def test_a_mux_worker_is_told_the_shorter_of_both_times():
    world = World(mux=True, num_workers=1, destroy_timeout=5.0).start()
    [worker] = world.workers
    world.drain.enter("draining:finish")
    worker.read()
    assert worker.said_to_us == [{"draining": {"deadline_ms": 5000}}]


def test_debug_starts_a_fresh_worker_for_each_call():
    world = World(debug=True)
    world.pool.startService()
    seen = results(world.pool.ready())
    [probe] = world.up()
    assert seen == [None]
    assert probe.told_to_stop()
    probe.process.exit()
    for body in (b"1", b"2"):
        world.open(body)
    first, second = world.up()
    assert [first.request(), second.request()] == [b"1", b"2"]
    first.reply(b"")
    assert first.told_to_stop()
    assert not second.told_to_stop()
    assert world.new() == []


def test_debug_does_not_keep_a_worker_whose_call_was_given_up():
    world = World(debug=True)
    world.start()
    call, _ = world.open()
    [worker] = world.new()
    call.cancel("client")
    worker.answer_handshake()
    assert worker.told_to_stop()


# ------------------------------------------------------------------- calls that a worker never had


def given_and_lost(world, unread):
    """A worker that has answered goes with a call in its relay, of which it has not read the last *unread* bytes."""
    world.open(b"one")
    [first] = world.new() or world.workers[-1:]
    assert first.request() == b"one"
    first.reply(b"")
    _, to = world.open(b"two")
    written = first.relay.output()
    first.relay.unsent = len(written) if unread is None else unread
    first.process.exit(code=0)
    return to


def test_a_call_of_which_a_worker_that_goes_has_no_byte_is_run_by_another():
    world = World(num_workers=1).start()
    to = given_and_lost(world, None)
    assert to.events == []
    [second] = world.up()
    assert second.request() == b"two"
    second.reply(b"done")
    assert to.body == b"done"


def test_a_call_of_which_one_byte_may_have_been_read_is_not_run_again():
    world = World(num_workers=1).start()
    to = given_and_lost(world, 5)
    assert isinstance(to.error, WorkerDied)
    [second] = world.up()
    assert second.request() is None


def test_a_call_that_no_worker_has_read_is_run_again_once_where_they_die_before_an_answer():
    world = World(num_workers=1).start()
    _, to = world.open(b"x")
    for _ in range(2):
        [worker] = world.workers[-1:]
        worker.relay.unsent = len(worker.relay.output())
        worker.process.exit(signal=9)
        world.reactor.advance(1)
        world.up()
    assert isinstance(to.error, WorkerDied)


def test_a_call_that_no_worker_has_read_fails_with_the_stop_of_its_pool():
    world = World(num_workers=1).start()
    call, to = world.open(b"x")
    [worker] = world.workers
    worker.relay.unsent = len(worker.relay.output())
    world.pool.stopService()
    worker.process.exit(code=0)
    assert to.error is not None
