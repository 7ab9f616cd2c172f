"""The scenario that it is all about: a long call, SIGTERM, and the call returns OK; with streams and a hundred calls."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from grpc_rig import PROTO, Client, grpc_server, run
from rig import RunningServer, until

pytestmark = pytest.mark.integration

LONG = float(os.environ.get("RR_LONG_CALL", "5"))
"""Seconds of the long call: 30 in a full run."""

GRACE = {"grace_period": f"{LONG + 25:g}s"}


def in_flight(server: RunningServer) -> int:
    """What /health counts."""
    code, _, body = server.status("/health")
    assert code == 200
    texts = [entry.get("error_message", "") for entry in json.loads(body)]
    return next(
        (int(text.partition("in_flight=")[2].partition(";")[0]) for text in texts if "in_flight=" in text), 0
    )


def begun(server: RunningServer, *cases: str) -> Client:
    client = Client(server.port, *cases)
    client.event(call="begun")
    return client


@pytest.mark.parametrize("kind", ["threads", "async"])
def test_a_long_call_survives_the_stop(tmp_path: Path, kind: str) -> None:
    # Long enough for a client that is started in it.
    announce = {"announce": {"min": "4s", "max": "5s"}}
    with grpc_server(tmp_path, kind, proto=[PROTO], endure=GRACE, drain=announce) as server:
        watch = Client(server.port, "watch:readiness")
        watch.event(watch="SERVING")
        live = Client(server.port, "watch:liveness")
        live.event(watch="SERVING")
        client = begun(server, f"sleep:{LONG}")
        time.sleep(1)
        stopped = server.signal()
        assert server.status("/ready")[0] == 503
        assert watch.event(watch="NOT_SERVING")["at"] - stopped < 0.5
        assert in_flight(server) == 1
        # New connections are still served, and the liveness of the call's holder is not in doubt.
        # They are told to go after a second, which a call may cross: ordinary clients try that again.
        assert run(server, "health", env={"RETRIES": "1"})["health"]["readiness"] == "NOT_SERVING"
        over = client.event(call="over")["at"]
        assert client.results()["sleep"] == "OK"
        assert server.wait(10) == 0
        assert time.monotonic() - over < 3
        assert watch.results()["watch"] == live.results()["watch"] == "UNAVAILABLE"
        statuses = [event["watch"] for event in live.events if "watch" in event]
        assert statuses == ["SERVING", "ended"]


def test_a_server_stream_is_finished_too(tmp_path: Path) -> None:
    with grpc_server(tmp_path, proto=[PROTO], endure=GRACE) as server:
        client = begun(server, f"slow_stream:{int(LONG * 10)},0.1")
        client.event(call="first")
        server.signal()
        assert client.results()["slow_stream"] == {"seen": int(LONG * 10)}
        assert server.wait(10) == 0


def test_a_hundred_calls_are_all_answered(tmp_path: Path) -> None:
    events = tmp_path / "events"
    events.touch()
    env = {"EVENTS": str(events)}
    with grpc_server(tmp_path, proto=[PROTO], endure=GRACE, env=env) as server:
        client = begun(server, f"many:100,3,{3 + 0.6 * LONG:g}")
        until(lambda: events.read_text().count("started") == 100, why="the calls did not begin")
        server.signal()
        assert client.results()["many"] == {"OK": 100}
        assert server.wait(15) == 0


def test_at_the_deadline_a_stream_ends_unavailable_with_the_reason(tmp_path: Path) -> None:
    with grpc_server(tmp_path, proto=[PROTO], endure={"grace_period": "6s"}) as server:
        client = begun(server, "slow_stream:10000,0.05")
        client.event(call="first")
        server.signal()
        found = client.results()["slow_stream"]
        assert found["code"] == "UNAVAILABLE"
        assert "the server is stopping" in found["details"]
        assert server.wait(10) != 0  # something was cut


def test_a_worker_that_dies_takes_only_its_calls(tmp_path: Path) -> None:
    import signal

    with grpc_server(tmp_path, proto=[PROTO]) as server:
        client = begun(server, "sleep:30")
        time.sleep(0.5)
        first = run(server, "unary")["unary"]["text"].split()[0]
        for pid in server.workers():
            os.kill(pid, signal.SIGKILL)
        assert client.results()["sleep"]["code"] == "INTERNAL"
        until(lambda: server.status("/ready")[0] == 200, why="no new worker came")
        assert run(server, "unary")["unary"]["text"].split()[0] != first
