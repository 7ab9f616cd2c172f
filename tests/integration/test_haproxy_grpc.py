"""A rolling restart of two gRPC servers behind a real HAProxy that speaks HTTP/2 on both sides: no call may fail.

The client makes a call once more after UNAVAILABLE only, and the workers' notes show that such a call had not begun.
`RR_RESTARTS` sets how many restarts (3 by default).
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from grpc_rig import GRPC_APPS, run
from haproxy_rig import RESTARTS, Pair, needs_haproxy, serving_example
from rig import free_port

RATE = 300.0
THREADS = 16

pytestmark = [pytest.mark.integration, needs_haproxy]


#: Without an announce HAProxy hears of a stop by GOAWAY and by connections that are refused, and not before.
UNANNOUNCED = ("drain.announce.min=0", "drain.announce.max=0")


@pytest.fixture(params=[(), UNANNOUNCED], ids=["announced", "unannounced"])
def pair(request: Any, tmp_path: Path) -> Iterator[Pair]:
    pytest.importorskip("grpc")
    environ = {"WORKER": str(GRPC_APPS / "numbered.py"), "NOTES": str(tmp_path / "notes")}
    made = Pair(tmp_path, "grpc.cfg", "grpc.yaml", environ, request.param)
    yield made
    made.end()


class Client:
    """Numbered calls from a process of their own."""

    def __init__(self, port: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(GRPC_APPS / "numbering.py"), f"127.0.0.1:{port}", str(THREADS), str(RATE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.process.stdout.readline()

    def results(self) -> dict[str, Any]:
        watchdog = threading.Timer(60, self.process.kill)
        watchdog.start()
        try:
            out, _ = self.process.communicate()
        finally:
            watchdog.cancel()
        return dict(json.loads(out))


@pytest.mark.proves("I18")
def test_a_rolling_restart_fails_no_call(pair: Pair) -> None:
    client = Client(pair.front)
    begun = time.monotonic()
    time.sleep(1)
    codes = [pair.restart(("one", "two")[number % 2]) for number in range(RESTARTS)]
    time.sleep(1)
    took = time.monotonic() - begun
    found = client.results()
    assert codes == [0] * RESTARTS
    assert not found["failed"], f"{len(found['failed'])} of {found['done']}: {found['failed'][:5]}"
    noted = Counter(int(line) for line in (pair.folder / "notes").read_text().splitlines())
    assert {number for number, times in noted.items() if times > 1} == set()
    assert len(noted) == found["done"]
    assert found["done"] / took > RATE * 0.3, f"only {found['done'] / took:.0f} calls a second"
    print(f"{found['done']} calls, made once more: {found['retried']}")


def test_the_examples_own_worker_answers(tmp_path: Path) -> None:
    port = free_port()
    server = serving_example(tmp_path, "grpc.yaml", port, free_port(), {})
    try:
        server.wait_ready()
        assert run(server, "raw:/echo.Echo/Say,hello")["raw"]["answer"] == "hello"
        assert server.stop() == 0
    finally:
        server.kill()
