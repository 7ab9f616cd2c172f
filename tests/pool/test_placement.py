"""Which worker gets a call, who waits, and how a call ends that gets none."""

from pool_world import World

from twisted_rr.errors import Cancelled, Draining, NoFreeWorker, QueueFull, WorkerDied
from twisted_rr.wire.frame import CODEC_RAW, encode


def test_a_call_to_an_idle_one_call_worker_is_answered():
    world = World().start()
    _, to = world.open(b"question")
    asked = [body for worker in world.workers if (body := worker.request())]
    assert asked == [b"question"]
    world.workers[0].reply(b"answer")
    assert to.body == b"answer"


def test_the_body_is_collected_before_a_worker_is_taken():
    world = World(num_workers=1).start()
    slow, slow_to = world.open(b"first ", more=True)
    _, quick_to = world.open(b"quick")
    assert world.workers[0].request() == b"quick"
    slow.send(b"second", False)
    world.workers[0].reply(b"done")
    assert quick_to.body == b"done"
    assert world.workers[0].request() == b"first second"
    assert not slow_to.events


def test_the_spool_is_closed_once_the_call_is_over():
    world = World(num_workers=1).start()
    call, _ = world.open()
    [spool] = call.head.spools
    assert not spool._closed
    world.workers[0].request()
    world.workers[0].reply(b"")
    assert spool._closed


def test_calls_wait_first_come_first_served():
    world = World(num_workers=1).start()
    for body in (b"1", b"2", b"3"):
        world.open(body)
    worker = world.workers[0]
    served = []
    for _ in range(3):
        served.append(worker.request())
        worker.reply(b"")
    assert served == [b"1", b"2", b"3"]


def test_the_idle_worker_that_rested_longest_is_taken():
    world = World(num_workers=2).start()
    order = []
    for _ in range(4):
        world.reactor.advance(0.1)
        world.open()
        [worker] = [worker for worker in world.workers if worker.request() is not None]
        order.append(worker.pid)
        worker.reply(b"")
    assert order[0] != order[1]
    assert order[2:] == order[:2]


def test_above_max_queue_size_a_call_is_refused_after_open_returned():
    world = World(num_workers=1, max_queue_size=1).start()
    world.open()
    world.open()
    _, to = world.open()
    assert not to.events
    world.turn()
    assert isinstance(to.error, QueueFull)
    assert world.pool.health.saturated() == "the queue is full"
    assert world.pool.health.ready() is None


def test_a_call_that_waits_longer_than_allocate_timeout_is_refused():
    world = World(num_workers=1, allocate_timeout=5.0).start()
    world.open()
    _, to = world.open()
    world.reactor.advance(4.9)
    assert not to.events
    world.reactor.advance(0.2)
    assert isinstance(to.error, NoFreeWorker)


def test_the_wait_of_a_one_call_worker_counts_from_the_end_of_the_body():
    world = World(num_workers=1, allocate_timeout=5.0).start()
    world.open()
    call, to = world.open(b"slow", more=True)
    world.reactor.advance(60)
    assert not to.events
    call.send(b"", False)
    world.reactor.advance(4.9)
    assert not to.events
    world.reactor.advance(0.2)
    assert isinstance(to.error, NoFreeWorker)


def test_a_cancelled_waiting_call_leaves_the_queue_at_once():
    world = World(num_workers=1, max_queue_size=1).start()
    world.open(b"a")
    waiting, to = world.open(b"b")
    waiting.cancel("client")
    assert isinstance(to.error, Cancelled)
    assert world.pool.waiting() == 0
    _, third = world.open(b"c")
    world.workers[0].request()
    world.workers[0].reply(b"")
    assert world.workers[0].request() == b"c"
    assert waiting.head.spools[0]._closed
    assert not third.events


def test_a_call_cancelled_while_its_body_comes_is_forgotten():
    world = World(num_workers=1).start()
    call, to = world.open(b"half", more=True)
    call.cancel("client")
    assert call.send(b"rest", False)
    assert world.workers[0].request() is None
    assert [event[0] for event in to.events] == ["failed"]


def test_a_call_before_the_start_is_over_waits_for_the_workers():
    world = World(num_workers=1)
    world.pool.startService()
    _, to = world.open(b"early")
    assert not to.events
    [worker] = world.up()
    assert worker.request() == b"early"


def test_a_stopped_pool_refuses_after_open_returned():
    world = World().start()
    world.pool.stopService()
    _, to = world.open()
    assert not to.events
    world.turn()
    assert isinstance(to.error, Draining)


def test_a_refusal_is_not_told_to_who_has_cancelled_meanwhile():
    world = World(num_workers=1, max_queue_size=1).start()
    world.open()
    world.open()
    call, to = world.open()
    call.cancel("client")
    world.turn()
    assert [type(event[1]) for event in to.events] == [Cancelled]


# ------------------------------------------------------------------------------------ mux


def test_mux_calls_go_to_the_worker_with_the_fewest():
    world = World(mux=True).start()
    for _ in range(10):
        world.open()
        for worker in world.workers:
            worker.read()  # the relay was written: no longer hot
    assert loads(world) == [5, 5]


def loads(world):
    return sorted(worker.relay.owner.end.load for worker in world.workers)


def test_no_call_waits_behind_a_busy_worker_while_another_rests():
    world = World(mux=True, num_workers=4).start()
    for _ in range(4):
        world.open()  # one reactor turn: every relay that got a call is written anyway
    assert loads(world) == [1, 1, 1, 1]
    for _ in range(4):
        world.open()
    assert loads(world) == [2, 2, 2, 2]


def test_pool_concurrency_is_the_most_that_a_worker_gets_at_once():
    world = World(mux=True, num_workers=1, concurrency=3).start()
    for _ in range(5):
        world.open()
    [worker] = world.workers
    assert len(worker.read()) == 3
    assert world.pool.waiting() == 2


def test_mux_calls_beyond_the_limit_wait_and_keep_their_body():
    world = World(mux=True, num_workers=1)
    world.pool.startService()
    [worker] = world.up(streams=1)
    world.open(b"one")
    [stream] = worker.read()
    second, to = world.open(b"two ", more=True)
    assert second.send(b"three", False)
    assert world.pool.waiting() == 1
    stream.send(b"\x92\xcc\xc8\x90", b"", False)
    worker.flush()
    [stream] = worker.read()
    assert stream.to.body == b"two three"
    assert world.pool.waiting() == 0
    stream.send(b"\x92\xcc\xc8\x90", b"ok", False)
    worker.flush()
    assert to.body == b"ok"


def test_a_waiting_mux_call_holds_its_source_above_256_kib():
    world = World(mux=True, num_workers=1)
    world.pool.startService()
    [worker] = world.up(streams=1)
    world.open(b"one")
    [stream] = worker.read()
    call, to = world.open(b"x" * 200_000, more=True)
    assert call.send(b"y" * 100_000, True) is False
    stream.send(b"\x92\xcc\xc8\x90", b"", False)
    worker.flush()
    worker.read()
    assert ("writable",) in to.events


def test_a_call_that_a_mux_worker_gives_back_is_run_once_more_elsewhere():
    world = World(mux=True).start()
    _, to = world.open(b"whole body")
    first = next(worker for worker in world.workers if worker.read())
    other = next(worker for worker in world.workers if worker is not first)
    first.streams[0].stop()
    first.flush()
    [stream] = other.read()
    assert stream.to.body == b"whole body"
    assert not to.events
    stream.stop()
    other.flush()
    assert isinstance(to.error, NoFreeWorker)


def test_a_worker_that_answers_stop_is_replaced_and_its_call_run_elsewhere():
    world = World().start()
    _, to = world.open(b"again")
    first = next(worker for worker in world.workers if worker.request())
    other = next(worker for worker in world.workers if worker is not first)
    first.write(frame_stop())
    assert other.request() == b"again"
    assert first.told_to_stop()
    assert len(world.new()) == 1
    other.reply(b"done")
    assert to.body == b"done"


def test_a_worker_that_stops_itself_after_its_answer_costs_nobody_anything():
    world = World().start()
    tos = [world.open(b"first")[1], world.open(b"second")[1], world.open(b"third")[1]]
    first, other = world.workers
    assert (first.request(), other.request()) == (b"first", b"second")
    from twisted_rr.wire.frame import CODEC_RAW, encode

    first.write(encode(CODEC_RAW, 0, (2,), b"{}done") + frame_stop())  # with the next call placed in between
    assert tos[0].body == b"done"
    assert first.told_to_stop()
    assert first.process.alive
    other.reply(b"two")
    assert other.request() == b"third"
    other.reply(b"three")
    assert (tos[1].body, tos[2].body) == (b"two", b"three")
    assert not any(to.error for to in tos)


def test_a_call_outlives_any_number_of_workers_that_stop_themselves_after_an_answer():
    world = World().start()
    for body in (b"a", b"b"):
        world.open(body)
    first, other = world.workers
    for worker in (first, other):
        worker.request()
        worker.reply(b"done")
    _, to = world.open(b"next")
    assert first.request() == b"next"  # written before the worker's word came
    first.write(frame_stop())
    assert other.request() == b"next"
    other.write(frame_stop())
    assert to.error is None
    [fresh, *_] = world.new()
    fresh.answer_handshake()
    assert fresh.request() == b"next"
    fresh.reply(b"at last")
    assert to.body == b"at last"


def frame_stop():
    return encode(CODEC_RAW, 0, (13,), b'{"stop":true}')


def test_a_worker_that_died_takes_only_its_own_calls():
    world = World(mux=True).start()
    tos = []
    for _ in range(6):
        tos.append(world.open()[1])
        for worker in world.workers:
            worker.read()
    victim = world.workers[0]
    victim.process.exit(signal=9)
    errors = [to.error for to in tos if to.error]
    assert len(errors) == 3
    assert all(isinstance(error, WorkerDied) and error.pid == victim.pid for error in errors)
    assert "signal 9" in str(errors[0])


def test_an_answer_written_before_the_death_counts():
    world = World(mux=True, num_workers=1).start()
    _, to = world.open()
    [worker] = world.workers
    [stream] = worker.read()
    stream.send(b"\x92\xcc\xc8\x90", b"last words", False)
    while data := worker.end.take():
        worker.relay.unread.append(data)
    worker.process.exit(signal=9)
    assert to.body == b"last words"


def test_who_waits_is_not_given_to_a_worker_whose_last_answer_is_read_after_its_death():
    world = World(num_workers=1).start()
    _, first = world.open(b"first")
    _, second = world.open(b"second")
    [worker] = world.workers
    assert worker.request() == b"first"
    worker.relay.unread.append(encode(CODEC_RAW, 0, (2,), b"{}last words"))
    worker.process.exit(code=1)
    assert first.body == b"last words"
    assert world.pool.crew.failures.count == 0
    [new] = world.up()
    assert new.request() == b"second"
    new.reply(b"done")
    assert second.body == b"done"


def test_a_worker_that_said_it_would_go_is_no_failure_however_late_that_is_read():
    world = World(num_workers=1).start()
    _, to = world.open(b"whose")
    [worker] = world.workers
    assert worker.request() == b"whose"
    worker.relay.unread.append(frame_stop())
    worker.process.exit(code=0)
    assert not world.pool.crew.failures.pausing
    [new] = world.up()
    assert new.request() == b"whose"
    new.reply(b"done")
    assert to.body == b"done"


def test_a_head_that_is_too_large_fails_its_call_alone():
    world = World(mux=True, num_workers=1).start()

    from pool_world import Head, To

    class Huge(Head):
        def mux_context(self, codec):
            return b"x" * 2_000_000

    to = To()
    world.pool.open(Huge(), b"", False, to)
    assert not to.events
    world.turn()
    assert to.error is not None
    assert world.workers[0].process.alive


def test_calls_that_never_left_for_a_dying_worker_go_to_another():
    world = World(mux=True).start()
    tos = [world.open(b"whole body")[1] for _ in range(4)]
    victim, other = world.workers
    victim.process.exit(signal=9)
    assert not [to for to in tos if to.events or to.error]
    assert [stream.to.body for stream in other.read()] == [b"whole body"] * 4
