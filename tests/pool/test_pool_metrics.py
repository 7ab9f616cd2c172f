"""What the metrics page learns from a pool."""

from pool_world import World

from twisted_rr.pool.metrics import PoolMetrics


def numbers(world, mode="http"):
    return {
        (name, *labels.values()): value
        for name, _, _, labels, value in PoolMetrics(world.pool, mode).samples()
    }


def test_workers_and_calls_are_counted_under_roadrunners_names():
    world = World(num_workers=2, max_queue_age=1.0).start()
    for _ in range(4):
        world.open()
    world.reactor.advance(0.5)
    found = numbers(world)
    assert found[("rr_http_total_workers",)] == 2
    assert found[("rr_http_workers_working",)] == 2
    assert found[("rr_http_workers_ready",)] == 0
    assert found[("rr_http_calls_held",)] == 2
    assert found[("rr_http_calls_waiting",)] == 2
    assert found[("rr_http_calls_waiting_seconds",)] == 0.5
    assert found[("rr_http_worker_state", str(world.workers[0].pid), "working")] == 0
    world.reactor.advance(0.6)
    assert numbers(world)[("rr_http_calls_shed_total",)] == 2


def test_a_named_pool_has_its_name_as_a_label():
    world = World(num_workers=1).start()
    world.pool.name = "admin"
    assert numbers(world)[("rr_http_total_workers", "admin")] == 1


def test_a_call_that_nobody_waits_for_is_counted_until_it_is_done():
    world = World(mux=True, num_workers=1).start()
    call, _ = world.open()
    [worker] = world.workers
    [stream] = worker.read()
    call.cancel("client")
    assert numbers(world)[("rr_http_calls_abandoned",)] == 1
    stream.stop()
    worker.flush()
    assert numbers(world)[("rr_http_calls_abandoned",)] == 0
