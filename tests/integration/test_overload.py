"""More requests than the workers can answer, and clients that leave: the workers go on answering in time."""

import asyncio
import socket
import sys
import time

import pytest
from admin_rig import administered, ask
from rig import ROOT, Background, until

sys.path.insert(0, str(ROOT))

from benchmarks.overload.client import run

SERVICE, PATIENCE, WORKERS = 0.02, 1.0, 2
CAPACITY = WORKERS / SERVICE


def overloaded(folder, **pool):
    command = [sys.executable, "-m", "twisted_rr.worker", "--no-mux", "benchmarks.overload.app:wsgi"]
    env = {"SERVICE_MS": f"{SERVICE * 1000:g}", "PYTHONPATH": str(ROOT)}
    return administered(
        folder, server={"command": command, "env": env}, http={"pool": {"num_workers": WORKERS, **pool}}
    )


@pytest.mark.slow
def test_at_three_times_the_capacity_as_many_are_answered_in_time(tmp_path):
    with overloaded(tmp_path, max_queue_age="500ms") as server:
        best = asyncio.run(run(server.port, CAPACITY, 3.0, PATIENCE))
        over = asyncio.run(run(server.port, 3 * CAPACITY, 3.0, PATIENCE))
        assert set(over.statuses) <= {200, 503}, over.statuses
        # The benchmark has 0.9 and more where the machine is quiet; without max_queue_age it has 0.4.
        assert over.goodput >= 0.75 * best.goodput, (best, over)
        assert over.gave_up <= 0.05 * over.sent, "clients that nobody told to go waited in vain"
        until(lambda: "requests were turned away: Overloaded" in server.log())
        [pool] = ask(server, "GET", "/status")[1]["pools"]
        assert pool["shed"] == over.statuses[503] + best.statuses[503]
        assert pool["waiting"] == 0


def test_who_is_turned_away_is_told_to_come_again(tmp_path):
    with administered(
        tmp_path,
        "wsgi_app:app",
        workers=1,
        sdk=("--no-mux",),
        http={"pool": {"num_workers": 1, "max_queue_age": "200ms"}},
    ) as server:
        slow = Background(server.get, "/wait/slow?seconds=1")
        until(lambda: ask(server, "GET", "/status")[1]["pools"][0]["workers"][0]["calls"] == 1)
        begin = time.monotonic()
        status, headers, body = server.get("/hello")
        assert status == 503
        assert headers["retry-after"] == "1"
        assert body == b"too many requests are waiting\n"
        assert 0.15 < time.monotonic() - begin < 0.9
        assert slow.result()[0] == 200


def leave(server, path: str, started) -> float:
    """Ask for *path*, and close as soon as *started* says that it runs; when that was."""
    client = socket.create_connection(("127.0.0.1", server.port))
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
    until(started)
    client.close()
    return time.monotonic()


def test_a_client_that_leaves_frees_its_place_in_the_worker(tmp_path):
    pool = {"num_workers": 1, "concurrency": 1}
    with administered(tmp_path, "asgi_app:app", workers=1, http={"pool": pool}) as server:

        def worker():
            return ask(server, "GET", "/status")[1]["pools"][0]["workers"][0]

        took = []
        for _ in range(5):  # a busy machine may be late by more than that
            left = leave(server, "/wait/long?seconds=20", lambda: worker()["calls"] == 1)
            assert server.get("/hello")[0] == 200
            took.append(time.monotonic() - left)
        assert min(took) < 0.1, took
        assert worker()["abandoned"] == 0


def test_a_client_that_leaves_the_queue_is_never_served(tmp_path):
    with administered(tmp_path, "wsgi_app:app", workers=1, sdk=("--no-mux",)) as server:

        def pool():
            return ask(server, "GET", "/status")[1]["pools"][0]

        slow = Background(server.get, "/wait/slow?seconds=1")
        until(lambda: pool()["workers"][0]["calls"] == 1)
        leave(server, "/wait/gone?seconds=20", lambda: pool()["waiting"] == 1)
        until(lambda: pool()["waiting"] == 0, 0.5)
        assert slow.result()[0] == 200
        assert server.get("/hello")[0] == 200
        assert pool()["workers"][0]["served"] == 2


def test_a_wsgi_call_whose_client_left_is_counted_until_it_returns(tmp_path):
    with administered(tmp_path, "wsgi_app:app", workers=1, sdk=("--no-mux",)) as server:

        def worker():
            return ask(server, "GET", "/status")[1]["pools"][0]["workers"][0]

        left = leave(server, "/wait/long?seconds=1", lambda: worker()["calls"] == 1)
        until(lambda: worker()["abandoned"] == 1, 0.5)
        pid = worker()["pid"]
        assert server.get("/hello")[0] == 200
        assert time.monotonic() - left > 0.5
        assert (worker()["abandoned"], worker()["pid"]) == (0, pid)
