"""How long calls may wait in a queue that is too long for everybody, and who is turned away so that others are in time."""

from pool_world import World

from twisted_rr.errors import NoFreeWorker, Overloaded, QueueFull


def busy_world(**settings):
    """One worker that holds a call; the next ones wait."""
    world = World(num_workers=1, **settings).start()
    world.open(b"busy")
    assert world.workers[0].request() == b"busy"
    return world


def test_a_call_older_than_max_queue_age_is_turned_away_and_counted():
    world = busy_world(max_queue_age=2.0)
    _, to = world.open()
    world.reactor.advance(1.9)
    assert not to.events
    world.reactor.advance(0.2)
    assert isinstance(to.error, Overloaded)
    assert isinstance(to.error, QueueFull), "fronts answer it as they answer a full queue"
    assert "it waited 2" in str(to.error)
    assert world.pool.shed == 1


def test_without_max_queue_age_only_allocate_timeout_ends_the_wait():
    world = busy_world(allocate_timeout=5.0)
    tos = [world.open()[1] for _ in range(3)]
    world.reactor.advance(4.9)
    assert not any(to.events for to in tos)
    world.workers[0].reply(b"")
    world.reactor.advance(0.2)
    assert [type(to.error) for to in tos] == [type(None), NoFreeWorker, NoFreeWorker]
    assert world.pool.shed == 0


def test_a_burst_waits_as_long_as_the_age_allows():
    world = busy_world(max_queue_age=2.0)
    tos = [world.open(b"%d" % number)[1] for number in range(4)]
    [worker] = world.workers
    for number in range(4):
        world.reactor.advance(0.45)
        worker.reply(b"")
        assert worker.request() == b"%d" % number
    assert world.pool.shed == 0
    assert not any(to.error for to in tos)


def test_in_a_queue_that_stands_only_the_fresh_are_served():
    world = busy_world(max_queue_age=1.0)
    [worker] = world.workers
    tos = []
    for step in range(22):  # a call each 50 ms, and never an empty queue
        tos.append(world.open(b"%d" % step)[1])
        world.reactor.advance(0.05)
    assert world.pool.shed in (2, 3)  # these alone have waited a second
    worker.reply(b"")
    served = int(worker.request())
    world.turn()
    # Of those left, whoever has waited a tenth of the age is turned away; the oldest of the others is served.
    assert served in (20, 21)
    assert world.pool.shed == served
    assert all(isinstance(to.error, Overloaded) for to in tos[:served])


def test_the_last_one_that_waits_is_served_however_old_below_the_age():
    world = busy_world(max_queue_age=1.0)
    [worker] = world.workers
    world.open(b"first")
    world.reactor.advance(0.9)
    _, last = world.open(b"last")
    world.reactor.advance(0.5)
    worker.reply(b"")
    assert worker.request() == b"last"
    assert last.error is None


def test_an_empty_queue_ends_the_overload():
    world = busy_world(max_queue_age=1.0)
    [worker] = world.workers
    world.open(b"a")
    world.reactor.advance(0.7)
    world.open(b"b")
    worker.reply(b"")
    assert worker.request() == b"a"
    worker.reply(b"")
    assert worker.request() == b"b"  # nobody waits now
    first, second = world.open(b"c")[1], world.open(b"d")[1]
    world.reactor.advance(0.5)
    worker.reply(b"")
    assert worker.request() == b"c"
    assert not first.error and not second.error


def test_who_is_shed_is_told_once_and_may_have_left_before():
    world = busy_world(max_queue_age=1.0)
    [worker] = world.workers
    calls = []
    for _ in range(22):
        calls.append(world.open())
        world.reactor.advance(0.05)
    worker.reply(b"")
    gone, to = calls[10]
    gone.cancel("client")
    world.turn()
    assert [type(event[1]).__name__ for event in to.events] == ["Cancelled"]


def test_a_reload_changes_the_age_of_those_that_wait():
    import attrs

    from twisted_rr.pool.spec import PoolPlan

    world = busy_world(max_queue_age=10.0)
    _, to = world.open()
    world.reactor.advance(3.0)
    pool = world.pool
    pool.apply(PoolPlan(attrs.evolve(pool.settings, max_queue_age=2.0), pool.plan.server, pool.plan.environ))
    world.reactor.advance(0.1)
    assert isinstance(to.error, Overloaded)
