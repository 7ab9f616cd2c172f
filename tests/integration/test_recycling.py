"""Workers that are replaced all the time, by number of calls, age and memory: nobody notices.

`RR_SOAK_SECONDS` sets how long each of the two runs takes (6 by default; 60 is the figure the documentation quotes).

The times of the run with recycling are compared to those of one without, round by round beside each other. Only a long run on
a machine that does nothing else is judged by them: what the others use is measured, and told.
"""

import asyncio
import contextlib
import os
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from load import Broken, Ledger, read_answer
from rig import children, serving

SECONDS = float(os.environ.get("RR_SOAK_SECONDS", "6"))
CONNECTIONS = 64
#: A pool that gets 320 calls a second has worn all its workers once in 4 s at most.
ROUNDS = max(3, round(SECONDS / 5))
QUIET = 0.15
"""Of the processors, that others may use where times are judged."""
TICKS = os.sysconf("SC_CLK_TCK")
#: Age and memory are looked at twice a second; each worker that lives long enough meets its age once or twice.
TTL = max(3.0, SECONDS / 3)
LIMITS = {"max_jobs": 50, "supervisor": {"watch_tick": "500ms", "ttl": f"{TTL:g}s", "max_worker_memory": 64}}


@dataclass
class Seen(Ledger):
    """What the clients saw, and which workers answered them."""

    pids: set[str] = field(default_factory=set)


async def clients(port: int, seconds: float, path: str, pause: float) -> tuple[Seen, list[float]]:
    """Each of the connections asks, reads the answer, pauses, and asks again."""
    ledger, times = Seen(), []
    end = time.monotonic() + seconds

    async def one(number: int) -> None:
        await asyncio.sleep(pause * number / CONNECTIONS)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.monotonic() < end:
            begin = time.monotonic()
            ledger.sent += 1
            writer.write(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
            try:
                status, _, body = await read_answer(reader)
            except Broken as error:
                ledger.broken.append(str(error))
                return
            times.append(time.monotonic() - begin)
            ledger.statuses[status] += 1
            ledger.pids.add(body.split()[0].decode())
            if not body.endswith(path.partition("?")[0].encode()):
                ledger.wrong.append(repr(body[:60]))
            await asyncio.sleep(pause)
        writer.close()

    await asyncio.gather(*(one(number) for number in range(CONNECTIONS)))
    return ledger, sorted(times)


def recycling(folder, app: str, sdk: tuple[str, ...], workers: int, limits: dict):
    folder.mkdir()
    pool = {"num_workers": workers, **limits}
    return serving(folder, app, workers=workers, sdk=("--preload", *sdk), http={"pool": pool})


def p99(times: list[float]) -> float:
    return times[int(len(times) * 0.99)]


def used_by(*servers) -> float:
    """CPU seconds of the clients, the servers, and all workers that they have or had."""
    total = time.process_time()
    for pid in [each for server in servers for each in (server.pid, *children(server.pid))]:
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, words[11:15])) / TICKS
    return total


def used_by_all() -> float:
    """CPU seconds of everybody on this machine."""
    user, nice, system, _idle, _iowait, *interrupts = (
        Path("/proc/stat").read_text().split("\n")[0].split()[1:9]
    )
    return sum(map(int, (user, nice, system, *interrupts))) / TICKS


@pytest.mark.slow
@pytest.mark.parametrize(
    ("app", "sdk", "workers"),
    [("asgi_app:app", (), 4), ("wsgi_app:app", ("--no-mux",), 24)],
    ids=["mux", "one-call"],
)
def test_recycling_every_fifty_calls_fails_nothing_and_delays_nobody(tmp_path, app, sdk, workers):
    found: dict[int, list[float]] = {0: [], 1: []}
    pids: dict[int, set[str]] = {0: set(), 1: set()}
    sent = 0
    with (
        recycling(tmp_path / "calm", app, sdk, workers, {}) as calm,
        recycling(tmp_path / "recycled", app, sdk, workers, LIMITS) as recycled,
    ):
        for server in (calm, recycled):
            asyncio.run(clients(server.port, 1.0, "/wait/warm?seconds=0.02", 0.1))
        begun, ours, all_of_it = time.monotonic(), used_by(calm, recycled), used_by_all()
        for _ in range(ROUNDS):  # one beside the other, because the machine may have other work
            for which, server in enumerate((calm, recycled)):
                seen = asyncio.run(clients(server.port, SECONDS / ROUNDS, "/wait/x?seconds=0.05", 0.15))
                ledger, times = seen
                assert not ledger.broken and not ledger.wrong, (ledger.broken[:3], server.log()[-2000:])
                assert dict(ledger.statuses) == {200: ledger.sent}
                found[which].append(p99(times))
                pids[which] |= ledger.pids
                sent += ledger.sent * which
        passed = (time.monotonic() - begun) * (os.cpu_count() or 1)
        own = (used_by(calm, recycled) - ours) / passed
        others = max(0.0, (used_by_all() - all_of_it) / passed - own)
    assert len(pids[0]) <= workers
    # A worker gets 50 to 57 calls, and goes on until the next one is there.
    assert len(pids[1]) >= workers + sent / 120
    before, after = (statistics.median(each) * 1000 for each in found.values())
    judged = SECONDS >= 30 and others < QUIET
    sys.stderr.write(
        f"\nrecycling, {app}: {sent} requests by {len(pids[1])} workers, p99 {after:.0f} ms, "
        f"without {before:.0f} ms: {after / before:.2f}; of the processors {own:.0%} for this test, "
        f"{others:.0%} for others{'' if judged else ': times are not judged'}\n"
    )
    if judged:
        assert after <= 1.5 * before
    assert after <= 5.0 * before + 500, "such a time is no matter of who else uses the machine"
