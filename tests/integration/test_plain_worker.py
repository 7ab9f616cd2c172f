"""The server with a worker that knows the protocol from docs/worker-protocol.md only."""

from __future__ import annotations

import http.client
import os
import sys
import time
from pathlib import Path

import pytest
from rig import Background, RunningServer, free_port, until

pytestmark = pytest.mark.integration

WORKER = Path(__file__).resolve().parent / "workers" / "mux_plain.py"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    port, status = free_port(), free_port()
    config = {
        "version": "3",
        "server": {"command": [sys.executable, str(WORKER)], "env": {"MARK": str(folder / "refused")}},
        "http": {"address": f"127.0.0.1:{port}", "pool": {"num_workers": 1}},
        "status": {"address": f"127.0.0.1:{status}"},
    }
    running = RunningServer(folder, config, port=port, status_port=status)
    try:
        yield running.wait_ready()
        assert running.stop() == 0
        assert "is killed" not in running.log()
    finally:
        running.kill()


def test_a_call_is_answered(server):
    status, headers, body = server.get("/hello?x=1")
    assert (status, headers["content-type"], body) == (200, "text/plain", b"GET /hello?x=1 ")


def test_calls_are_answered_beside_one_that_waits(server):
    slow = Background(server.get, "/slow")
    began = time.monotonic()
    assert all(server.get("/quick")[0] == 200 for _ in range(5))
    assert slow.result()[2] == b"GET /slow "
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("size", [0, 1, 16384, 65536, 1_000_000])
def test_bodies_go_both_ways_beyond_windows_and_frames(server, size):
    body = os.urandom(size)
    assert server.request("POST", "/body", body)[2] == b"POST /body " + body
    assert server.get(f"/big?{size}")[2] == bytes(size)


def test_an_error_is_a_500_and_the_worker_lives(server):
    workers = server.workers()
    assert server.get("/error")[0] == 500
    assert server.get("/")[0] == 200
    assert server.workers() == workers


def test_a_client_that_leaves_is_a_stop(server):
    before = int(server.get("/told")[2])
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", "/never")
    time.sleep(0.1)
    connection.close()
    until(lambda: int(server.get("/told")[2]) == before + 1, 10)


def test_a_call_that_is_given_back_is_run_again(server):
    # There is one worker: it gets the call once more.
    assert server.get("/refuse")[2] == b"GET /refuse "
    assert server.get("/refuse")[2] == b"GET /refuse "
