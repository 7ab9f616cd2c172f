"""Two pools behind one port: what is slow in one does not take the other's workers, and each verb knows both."""

import json
import subprocess
import sys
import time

import pytest
import yaml
from admin_rig import administered, verb
from rig import BIN, Background, alive, until

COMMAND = [sys.executable, "-m", "twisted_rr.worker", "--no-mux", "wsgi_app:app"]


@pytest.fixture
def server(tmp_path):
    slow = {"num_workers": 1, "command": COMMAND, "reset_timeout": "10s"}
    routes = [{"path": "/wait", "pool": "slow"}]
    with administered(
        tmp_path, "wsgi_app:app", workers=1, sdk=("--no-mux",), http={"routes": routes}, pools={"slow": slow}
    ) as running:
        yield running


def pools(server) -> dict[str, dict]:
    told = verb(server, "status", "--json")
    return {pool["name"]: pool for pool in json.loads(told.stdout)["pools"]}


def test_a_slow_page_does_not_take_the_workers_of_the_others(server):
    slow = [Background(server.get, f"/wait/{number}?seconds=0.7") for number in range(3)]
    until(lambda: pools(server)["slow"]["waiting"] == 2, why="the slow calls do not wait")
    begin = time.monotonic()
    took = []
    while time.monotonic() - begin < 1.0:
        before = time.monotonic()
        assert server.get("/hello")[0] == 200
        took.append(time.monotonic() - before)
    assert len(took) >= 20
    took.sort()
    assert took[len(took) // 2] < 0.1, "the other pool's calls wait for the slow ones"
    assert max(took) < 0.7
    assert [call.result()[0] for call in slow] == [200] * 3
    seen = pools(server)
    assert seen["slow"]["workers"][0]["served"] == 3
    assert seen["http"]["workers"][0]["served"] == len(took)


def test_health_covers_both_and_a_stop_waits_for_both(server):
    plugins = [each["plugin_name"] for each in json.loads(server.status("/health")[2])]
    assert {"http", "slow"} <= set(plugins)
    slow = Background(server.get, "/wait/x?seconds=1")
    until(lambda: pools(server)["slow"]["workers"][0]["calls"] == 1)
    workers = server.workers()
    assert len(workers) == 2
    server.signal()
    assert slow.result()[0] == 200
    assert server.wait() == 0
    assert not any(alive(pid) for pid in workers)


def test_config_check_names_the_pool_that_is_not_there(tmp_path):
    file = tmp_path / "rr.yaml"
    file.write_text(
        'version: "3"\nserver: {command: x}\nhttp:\n  address: 127.0.0.1:0\n  routes:\n    - path: /a\n      pool: slwo\n'
        "pools:\n  slow: {num_workers: 1}\n"
    )
    told = subprocess.run(
        [BIN / "twisted-rr", "config", "check", file], capture_output=True, text=True, timeout=60
    )
    assert told.returncode == 1
    assert "rr.yaml:7:" in told.stdout
    assert "there is no pool 'slwo' under pools; did you mean 'slow'?" in told.stdout


def test_a_reload_changes_a_named_pool_and_the_routes(server):
    config = yaml.safe_load(server.file.read_text())
    config["pools"]["slow"]["num_workers"] = 2
    config["http"]["routes"].append({"path": "/pid", "pool": "slow"})
    server.file.write_text(yaml.safe_dump(config))
    told = verb(server, "reload")
    assert told.returncode == 0, told.stderr
    assert told.stdout == "changed: http.routes, pools.slow.num_workers\n"
    until(lambda: len(pools(server)["slow"]["workers"]) == 2)
    pid = int(server.get("/pid")[2])
    assert pid in [worker["pid"] for worker in pools(server)["slow"]["workers"]]
    config["pools"]["new"] = {"num_workers": 1}
    config["http"]["routes"].append({"path": "/new", "pool": "new"})
    server.file.write_text(yaml.safe_dump(config))
    told = verb(server, "reload")
    assert told.returncode == 1
    assert "http.routes[2].pool: no route led to pool new at the start" in told.stderr
    assert server.get("/hello")[0] == 200
