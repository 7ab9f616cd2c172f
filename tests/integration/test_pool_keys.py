"""What each key of a pool does in a real server, where no other test of this folder shows it."""

import http.client
import time
from collections import Counter

import pytest
from rig import Background, alive, serving, until

ONE_CALL = ("--no-mux",)
PRELOADED = ("--preload", "--no-mux")


def pool(folder, app="wsgi_app:app", sdk=ONE_CALL, workers=1, **keys):
    return serving(folder, app, workers=workers, sdk=sdk, http={"pool": {"num_workers": workers, **keys}})


def hold(server, seconds=3.0):
    """A call that has its worker for so long."""
    call = Background(server.get, f"/wait/x?seconds={seconds}")
    time.sleep(0.3)
    return call


def pid(server) -> int:
    status, _, body = server.get("/pid")
    assert status == 200
    return int(body)


def test_workers_get_max_jobs_calls_and_up_to_14_percent_more(tmp_path):
    with pool(tmp_path, sdk=PRELOADED, workers=4, max_jobs=50) as server:
        served = Counter(pid(server) for _ in range(600))
        first = [served[each] for each in list(served)[:4]]
    # Each goes on until its replacement is there; it gets a fourth of the calls of that time, which is short.
    assert min(first) >= 50
    assert max(first) <= 57 + 30
    assert len(served) >= 8


def test_a_call_waits_allocate_timeout_for_a_worker_and_no_longer(tmp_path):
    with pool(tmp_path, allocate_timeout="1500ms") as server:
        slow = hold(server, 3)
        begin = time.monotonic()
        status, headers, _ = server.get("/hello")
        assert status == 503 and "retry-after" in headers
        assert 1.3 < time.monotonic() - begin < 2.5
        assert slow.result()[0] == 200


def test_beyond_max_queue_size_a_call_is_turned_away_at_once(tmp_path):
    with pool(tmp_path, max_queue_size=1) as server:
        slow = hold(server, 2)
        waiting = Background(server.get, "/hello")
        time.sleep(0.3)
        begin = time.monotonic()
        assert server.get("/hello")[0] == 503
        assert time.monotonic() - begin < 0.5
        assert slow.result()[0] == waiting.result()[0] == 200


@pytest.mark.parametrize("supervisor", [{"ttl": "1s"}, {"idle_ttl": "500ms"}], ids=["ttl", "idle_ttl"])
def test_a_worker_past_its_time_is_replaced(tmp_path, supervisor):
    with pool(tmp_path, supervisor={"watch_tick": "200ms", **supervisor}) as server:
        old = pid(server)
        until(lambda: not alive(old), 10, why="it was not replaced")
        assert pid(server) != old


def test_a_worker_past_its_ttl_finishes_its_call(tmp_path):
    with pool(tmp_path, supervisor={"watch_tick": "200ms", "ttl": "1s"}) as server:
        slow = hold(server, 4)
        begin = time.monotonic()
        assert server.get("/hello")[0] == 200
        assert time.monotonic() - begin < 3, "its replacement is there already"
        assert slow.result()[0] == 200


def test_a_worker_above_its_memory_is_replaced_and_the_log_has_the_figure(tmp_path):
    limits = {"watch_tick": "200ms", "max_worker_memory": 90}
    with pool(tmp_path, "wsgi_app:app", supervisor=limits) as server:
        old = pid(server)
        assert server.get("/grow?mib=80")[0] == 200
        until(lambda: not alive(old), 10, why="it was not replaced")
        assert pid(server) != old
        assert any(
            f"worker {old} uses " in record["msg"] and "it is replaced" in record["msg"]
            for record in server.records()
        )


def test_extra_workers_come_while_calls_wait_and_go_when_they_do_not(tmp_path):
    allocator = {"max_workers": 3, "spawn_rate": 2, "idle_timeout": "1s"}
    with pool(tmp_path, dynamic_allocator=allocator, sdk=PRELOADED) as server:
        template = len(server.workers()) - 1
        calls = [Background(server.get, f"/wait/{number}?seconds=2.5") for number in range(6)]
        until(lambda: len(server.workers()) - template == 3, 2.0, why="the first batch did not come")
        until(lambda: len(server.workers()) - template == 4, 4.0, why="the second batch did not come")
        assert [call.result()[0] for call in calls] == [200] * 6
        until(lambda: len(server.workers()) - template == 1, 15, why="they did not go")


def test_a_reset_waits_reset_timeout_for_calls(tmp_path):
    with pool(tmp_path, reset_timeout="1s") as server:
        old = pid(server)
        slow = hold(server, 30)
        server.signal(12)
        until(lambda: not alive(old), 15, why="the old worker did not go")
        assert outcome(slow) in (0, 502, 503)
        assert pid(server) != old


@pytest.mark.parametrize("sdk", [ONE_CALL, ()], ids=["one-call", "mux"])
def test_a_stop_waits_destroy_timeout_for_calls(tmp_path, sdk):
    """RoadRunner forgets it there: its deadline is grace_period alone."""
    with pool(
        tmp_path, "asgi_app:app" if not sdk else "wsgi_app:app", sdk=sdk, destroy_timeout="1s"
    ) as server:
        slow = hold(server, 60)
        begin = server.signal()
        server.wait(15)
        assert 1.0 < time.monotonic() - begin < 8
        assert any("destroy_timeout" in record["msg"] for record in server.records())
        assert outcome(slow) in (0, 502, 503)


def outcome(call) -> int:
    """The status that the client of a call saw, 0 where its connection ended."""
    try:
        return call.result()[0]
    except (OSError, http.client.HTTPException):
        return 0
