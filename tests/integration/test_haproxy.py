"""A rolling restart of two servers behind a real HAProxy, at 500 requests a second: none may fail.

`RR_RESTARTS` sets how many restarts (3 by default; 10 is the figure the documentation quotes).
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest
from haproxy_rig import RESTARTS, Pair, needs_haproxy
from rig import until

from twisted_rr.draintest.clients import HttpClients, Paths
from twisted_rr.draintest.records import COMPLETE, LEFT, Exchange

RATE = 500.0

pytestmark = needs_haproxy


@pytest.fixture
def pair(tmp_path):
    made = Pair(tmp_path, "haproxy.cfg", ".rr.yaml", {})
    yield made
    made.end()


@pytest.mark.proves("I1", "I2", "I3", "I4", "I5", "I17")
def test_a_rolling_restart_fails_no_request(pair):
    lines: list[Exchange] = []

    async def run() -> list[int]:
        clients = HttpClients(lines, ("127.0.0.1", pair.front), Paths(plain="/hello"), 10.0)
        until(lambda: answers(pair.front), 10, why="HAProxy did not answer")
        clients.load(RATE)
        await asyncio.sleep(1.0)
        codes = []
        for number in range(RESTARTS):
            name = ("one", "two")[number % 2]
            codes.append(await asyncio.get_running_loop().run_in_executor(None, pair.restart, name))
        await asyncio.sleep(1.0)
        await clients.finish(5.0)
        return codes

    begun = time.monotonic()
    codes = asyncio.run(run())
    took = time.monotonic() - begun
    assert codes == [0] * RESTARTS
    failed = [
        line
        for line in lines
        if line.outcome != LEFT and not (line.outcome == COMPLETE and line.status == 200)
    ]
    kinds = Counter((line.client, line.outcome, line.status) for line in failed)
    assert not failed, f"{len(failed)} of {len(lines)}: {kinds}"
    assert len(lines) / took > RATE * 0.5, f"only {len(lines) / took:.0f} requests a second"


def answers(port: int) -> bool:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
