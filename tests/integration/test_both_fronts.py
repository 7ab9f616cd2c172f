"""HTTP and gRPC in one server: a pool each, one readiness, one stop. And services of gRPC with pools of their own."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from grpc_rig import GRPC_APPS, PROTO, Client, environment, grpc_server, run
from rig import APPS, Background, RunningServer, alive, free_port, until

pytestmark = pytest.mark.integration

SERVICER = [sys.executable, str(GRPC_APPS / "servicer.py")]


@contextlib.contextmanager
def both(folder: Path, **sections: Any) -> Iterator[tuple[RunningServer, int]]:
    """A server with both fronts, and the port of gRPC."""
    port, grpc_port, status_port = free_port(), free_port(), free_port()
    config = {
        "version": "3",
        "server": {"command": [sys.executable, "-m", "twisted_rr.worker", "wsgi_app:app"]},
        "http": {"address": f"127.0.0.1:{port}", "pool": {"num_workers": 1}},
        "grpc": {
            "listen": f"tcp://127.0.0.1:{grpc_port}", "proto": [PROTO], "pool": {"num_workers": 1, "command": SERVICER},
        },
        "status": {"address": f"127.0.0.1:{status_port}"},
        "logs": {"mode": "production"},
        **sections,
    }  # fmt: skip
    env = environment(EVENTS=str(folder / "events"))
    env["PYTHONPATH"] += f":{APPS}"
    server = RunningServer(folder, config, port=port, status_port=status_port, env=env)
    try:
        yield server.wait_ready(), grpc_port
    except BaseException:
        sys.stderr.write(server.log()[-6000:])
        raise
    finally:
        server.kill()


def started(folder: Path) -> bool:
    """Whether a call has reached its handler."""
    with contextlib.suppress(FileNotFoundError):
        return "started" in (folder / "events").read_text()
    return False


def entries(server: RunningServer, path: str) -> dict[str, dict[str, Any]]:
    return {entry["plugin_name"]: entry for entry in json.loads(server.status(path)[2])}


def in_flight(server: RunningServer) -> int:
    told = entries(server, "/health")["lifecycle"]["error_message"]
    return int(told.partition("in_flight=")[2].partition(";")[0] or 0)


def stopped(server: RunningServer) -> dict[str, Any]:
    """The report of the stop."""
    return next(record for record in server.records() if record.get("event") == "stopped")


def test_one_stop_waits_for_both_and_its_report_counts_both(tmp_path: Path) -> None:
    with both(tmp_path) as (server, grpc_port):
        assert {"http", "grpc"} <= set(entries(server, "/ready"))
        workers = server.workers()
        assert len(workers) == 2
        page = Background(server.get, "/wait/x?seconds=2")
        call = Client(grpc_port, "sleep:3")
        until(lambda: started(tmp_path))
        signalled = server.signal()
        until(lambda: server.status("/ready")[0] == 503)
        until(lambda: in_flight(server) == 2, why="the calls of both are not counted")
        assert server.status("/health")[0] == 200
        assert page.result()[0] == 200
        until(lambda: in_flight(server) == 1, why="the request that is done is still counted")
        assert call.results()["sleep"] == "OK"
        assert server.wait(10) == 0
        assert time.monotonic() - signalled < 8
        assert not any(alive(pid) for pid in workers)
        report = stopped(server)
        assert (report["finished"], report.get("cut", 0), report.get("lost", 0)) == (2, 0, 0)


def test_a_deadline_cuts_both_and_its_report_says_so(tmp_path: Path) -> None:
    with both(tmp_path, endure={"grace_period": "4s"}) as (server, grpc_port):
        page = Background(server.get, "/wait/x?seconds=20")
        call = Client(grpc_port, "sleep:20")
        until(lambda: started(tmp_path))
        signalled = server.signal()
        assert page.result()[0] == 503
        assert call.results()["sleep"]["code"] == "UNAVAILABLE"
        assert server.wait(10) == 3
        assert time.monotonic() - signalled < 5
        report = stopped(server)
        assert (report.get("finished", 0), report["cut"]) == (0, 2)
        blockers = {one["protocol"] for one in report["blockers"]}
        assert blockers == {"http", "grpc"}


def test_each_front_has_its_own_workers(tmp_path: Path) -> None:
    with both(tmp_path) as (server, grpc_port):
        held = Client(grpc_port, "many:200,2,2")
        held.event(call="begun")
        http_pid = int(server.get("/pid")[2])
        assert server.get("/hello")[0] == 200, "HTTP waits for the workers of gRPC"
        assert held.results()["many"] == {"OK": 200}
        grpc_pid = int(run(f"127.0.0.1:{grpc_port}", "unary")["unary"]["text"].split()[0])
        assert http_pid != grpc_pid and {http_pid, grpc_pid} == set(server.workers())


def test_a_service_has_the_pool_that_its_route_names(tmp_path: Path) -> None:
    """Its calls go there, the others' do not, each waits for its own workers only, and a stop for all of them."""
    pools = {"slow": {"num_workers": 1, "command": SERVICER}}
    proto = [PROTO, str(GRPC_APPS / "testing.proto")]
    routes = [{"service": "rr.interop.*", "pool": "slow"}]
    env = {"EVENTS": str(tmp_path / "events")}
    with grpc_server(
        tmp_path, worker="testservice.py", workers=1, proto=proto, pools=pools, routes=routes, env=env
    ) as server:
        assert {"grpc", "slow"} <= set(entries(server, "/ready"))
        # Each worker knows one of the services only, so an answer tells whose it was.
        found = run(server, "empty_unary", "raw:/grpc.testing.TestService/EmptyCall")
        assert found["empty_unary"] is True and found["raw"]["answer"] == ""
        long = Client(server.port, "sleep:2")
        until(lambda: started(tmp_path))
        began = time.monotonic()
        server.signal()
        assert long.results()["sleep"] == "OK"
        assert server.wait(10) == 0
        assert time.monotonic() - began > 1
        assert stopped(server)["finished"] == 1
