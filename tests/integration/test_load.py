"""Under load: killed workers, large bodies.

`RR_SOAK_SECONDS` sets how long each runs (6 by default; 60 is the figure the documentation quotes).
"""

import asyncio
import os
import random
import signal
import time
from pathlib import Path

import pytest
from load import Ledger, download, steady, transfers, upload
from rig import memory_kib, serving, until

SECONDS = float(os.environ.get("RR_SOAK_SECONDS", "6"))


def sleeps(pid: int) -> bool:
    """Whether it is in the sleep of a call, and not waiting for the next one; False where the kernel does not say."""
    try:
        return "nanosleep" in Path(f"/proc/{pid}/wchan").read_text()
    except OSError:
        return False


async def killer(server, count: int, seconds: float, seed: int) -> int:
    """SIGKILL *count* workers, busy ones as far as that can be seen, spread over *seconds*; how many were killed."""
    dice = random.Random(seed)
    killed = 0
    end = time.monotonic() + seconds
    for number in range(count):
        target = end - seconds + (number + 0.5) * seconds / count
        await asyncio.sleep(max(0.0, target - time.monotonic()))
        workers = server.workers()
        if workers:
            os.kill(dice.choice([pid for pid in workers if sleeps(pid)] or workers), signal.SIGKILL)
            killed += 1
    return killed


def held_on_killed(server) -> tuple[int, int]:
    """From the server's log: calls that were held by workers lost to signal 9, and how many such workers held any."""
    lost = [
        record
        for record in server.records()
        if record.get("event") == "worker_died" and "signal 9" in record["ending"]
    ]
    return sum(int(record["calls"]) for record in lost), sum(int(record["calls"]) > 0 for record in lost)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("app", "sdk", "workers", "rate"),
    [("asgi_app:app", (), 4, 500), ("wsgi_app:app", ("--no-mux",), 24, 100)],
    ids=["mux", "one-call"],
)
@pytest.mark.proves("F10:running")
def test_only_the_calls_of_killed_workers_fail(tmp_path, app, sdk, workers, rate):
    dice = random.Random(7)
    kills = max(10, int(50 * SECONDS / 60))
    with serving(tmp_path, app, workers=workers, sdk=sdk) as server:
        ledger = Ledger()

        async def run():
            load = steady(
                server.port,
                rate,
                SECONDS,
                lambda number: f"/wait/{number}?seconds={dice.uniform(0.02, 0.2):.3f}",
                ledger,
            )
            _, killed = await asyncio.gather(load, killer(server, kills, SECONDS - 1, 3))
            return killed

        killed = asyncio.run(run())
        until(lambda: len(server.workers()) == workers, 1.0, why="the worker count did not come back")
        assert killed >= kills - 1
        assert not ledger.broken and not ledger.wrong, (ledger.broken[:3], ledger.wrong[:3])
        assert set(ledger.statuses) <= {200, 502}
        assert sum(ledger.statuses.values()) == ledger.sent == int(rate * SECONDS)
        lost, busy = held_on_killed(server)
        assert ledger.statuses[502] == lost
        assert busy >= kills // 3


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["mux", "one-call"])
@pytest.mark.parametrize(
    ("kind", "size"),
    [(upload, 100_000), (upload, 1_000_000), (download, 1_000_000)],
    ids=["up100K", "up1M", "down1M"],
)
def test_transfers_never_stall(tmp_path, mode, kind, size):
    app, sdk = ("asgi_app:app", ()) if mode == "mux" else ("wsgi_app:app", ("--no-mux",))
    with serving(tmp_path, app, sdk=sdk) as server:
        progress = asyncio.run(transfers(server.port, kind, size, 32, SECONDS))
        assert not progress.errors, progress.errors[:3]
        assert progress.stalls == 0
        assert progress.transfers >= 32


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["mux", "one-call"])
def test_a_gibibyte_never_sits_in_the_server(tmp_path, mode):
    """A big upload and a big download pass through; the server's memory stays small."""
    size = 1 << 30 if SECONDS >= 60 else 256 << 20
    app, sdk = ("asgi_app:app", ()) if mode == "mux" else ("wsgi_app:app", ("--no-mux",))
    with serving(tmp_path, app, sdk=sdk, http={"max_request_size": 2000}) as server:
        before = memory_kib(server.pid)
        peak = 0

        async def watch():
            nonlocal peak
            while True:
                peak = max(peak, memory_kib(server.pid))
                await asyncio.sleep(0.1)

        async def run():
            watcher = asyncio.ensure_future(watch())
            now = time.monotonic()
            up = await transfers(server.port, upload, size, 1, 0.1)
            down = await transfers(server.port, download, size, 1, 0.1)
            watcher.cancel()
            return up, down, time.monotonic() - now

        up, down, _ = asyncio.run(run())
        assert not up.errors and not down.errors, (up.errors, down.errors)
        assert up.transfers and down.transfers
        assert peak - before < 8 * 1024, f"{peak - before} KiB more"
