"""Resets of a server that works: nobody is turned away, and it is told what became of each worker."""

import asyncio
import json
import os
import signal
import sys
import threading
import time

import pytest
from admin_rig import administered, ask, verb
from load import Ledger, steady
from rig import alive, until

SECONDS = float(os.environ.get("RR_SOAK_SECONDS", "6"))
WSGI = [sys.executable, "-m", "twisted_rr.worker", "--no-mux", "wsgi_app:app"]

BREAKABLE = """
import os
if os.path.exists({flag!r}):
    raise RuntimeError("the new release does not start")

async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({{"type": "http.response.start", "status": 200, "headers": []}})
        await send({{"type": "http.response.body", "body": b"old"}})
"""


def workers(server, pool: str = "http") -> list[dict]:
    told = ask(server, "GET", "/status")[1]
    return next(each["workers"] for each in told["pools"] if each["name"] == pool)


def serving_count(server) -> int:
    return sum(each["state"] in ("ready", "working") for each in workers(server))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("app", "sdk", "batch"),
    [("asgi_app:app", (), 1), ("asgi_app:app", (), 2), ("wsgi_app:app", ("--no-mux",), 1)],
    ids=["mux", "two at a time", "one-call"],
)
def test_a_reset_under_load_fails_nothing_and_keeps_the_capacity(tmp_path, app, sdk, batch):
    pool = {"num_workers": 3, "reset_batch": batch}
    with administered(tmp_path, app, workers=3, sdk=sdk, http={"pool": pool}) as server:
        ledger, counts, over = Ledger(), [], threading.Event()
        before = {each["pid"] for each in workers(server)}

        def watch():
            while not over.is_set():
                counts.append(serving_count(server))
                time.sleep(0.02)

        def reset():
            time.sleep(SECONDS / 4)
            return [verb(server, "reset", "--wait", "--json") for _ in range(2)]

        async def run():
            loop = asyncio.get_running_loop()
            watching = loop.run_in_executor(None, watch)
            resets = loop.run_in_executor(None, reset)
            await steady(server.port, 60, SECONDS, lambda number: f"/wait/{number}?seconds=0.02", ledger)
            told = await resets
            over.set()
            await watching
            return told

        told = [json.loads(each.stdout) for each in asyncio.run(run())]
        assert not ledger.broken and not ledger.wrong, (ledger.broken[:3], ledger.wrong[:3])
        assert dict(ledger.statuses) == {200: ledger.sent}
        assert min(counts) >= 3, "fewer workers than num_workers took calls"
        for each in told:
            [pool] = each["pools"]
            assert len(pool["replaced"]) == 3
            assert pool["lost"] == 0
        assert {each["old"] for each in told[0]["pools"][0]["replaced"]} == before


def test_a_reset_that_cannot_start_new_workers_keeps_the_old_ones_and_says_so(tmp_path):
    flag = tmp_path / "broken"
    (tmp_path / "breakable.py").write_text(BREAKABLE.format(flag=str(flag)))
    env = {"PYTHONPATH": str(tmp_path)}
    with administered(tmp_path, "breakable:app", workers=2, server={"env": env}) as server:
        before = sorted(each["pid"] for each in workers(server))
        flag.touch()
        told = verb(server, "reset", "--wait")
        assert told.returncode == 1
        assert "2 old workers stay, none replaced" in told.stderr
        assert told.stdout.splitlines() == [f"http: {pid} stays" for pid in before]
        assert sorted(each["pid"] for each in workers(server)) == before
        assert server.get("/")[2] == b"old"
        flag.unlink()
        told = verb(server, "reset", "--wait")
        assert told.returncode == 0, told.stderr
        for pid in before:
            assert f"http: {pid} by " in told.stdout
            assert not alive(pid)


def test_sigusr2_tells_of_each_worker(tmp_path):
    with administered(tmp_path, "asgi_app:app", workers=2) as server:
        before = {each["pid"] for each in workers(server)}
        server.signal(signal.SIGUSR2)
        until(lambda: '"reloaded"' in server.log())
        told = [record for record in server.records() if record.get("event") == "worker_replaced"]
        # One new worker was tried first and took the place of one; the others were replaced after that.
        assert {int(record["old"]) for record in told} == before
        until(lambda: {each["pid"] for each in workers(server)} == {int(record["new"]) for record in told})


@pytest.fixture
def two_pools(tmp_path):
    pools = {"slow": {"num_workers": 1, "command": WSGI}}
    http = {"routes": [{"path": "/wait", "pool": "slow"}]}
    with administered(
        tmp_path, "wsgi_app:app", workers=1, sdk=("--no-mux",), http=http, pools=pools
    ) as server:
        yield server


def test_a_reset_of_one_pool_leaves_the_other_alone(two_pools):
    server = two_pools
    before = {name: workers(server, name)[0]["pid"] for name in ("http", "slow")}
    told = verb(server, "reset", "slow", "--wait")
    assert told.returncode == 0, told.stderr
    after = {name: workers(server, name)[0]["pid"] for name in ("http", "slow")}
    assert after["http"] == before["http"]
    assert after["slow"] != before["slow"]
    assert f"slow: {before['slow']} by {after['slow']}" in told.stdout
    told = verb(server, "reset", "fast")
    assert told.returncode == 1
    assert "there is no pool 'fast'; expected one of: http, slow" in told.stderr
    told = verb(server, "reset")
    assert (told.returncode, told.stdout) == (
        0,
        "http: its workers are being replaced\nslow: its workers are being replaced\n",
    )
