"""What a request costs the server that a worker takes at once, that waits behind a full pool, and that is turned away.

CPU time only, of the server alone: it hardly depends on who else uses the machine. How much is answered in time under
overload is `benchmarks.overload`'s other subject.
"""

from __future__ import annotations

import gc
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.contender import ROOT, Contender
from benchmarks.overload.server import contender

CALLS = 2000
"""In one round of the pool alone."""
CONNECTIONS = 64
WAITING = 50
HEAD = b"\x92\xcc\xc8\x90"
"""A mux answer's head: 200, and no fields."""


def server_cpu(server: Contender) -> float:
    """CPU seconds of the server process, none of its workers."""
    assert server.process is not None
    # CPU clock of another process: clock_getcpuclockid(3), which Python does not offer.
    return time.clock_gettime((~server.process.pid << 3) | 2)


# ----------------------------------------------------------------------------- the whole server


def whole(folder: Path, rounds: int, seconds: float) -> dict[str, float]:
    """Microseconds of server CPU a request, the least of *rounds*: whatever shares a core only ever adds."""
    servers = {
        "free": contender(folder, "free", "wsgi", ["--no-mux"], 0, {"num_workers": 2}),
        # Nobody is let in but the one that waits for the worker.
        "full": contender(folder, "full", "wsgi", ["--no-mux"], 50, {"num_workers": 1, "max_queue_size": 1}),
    }
    loads = {
        "served": ("free", 2, ()),
        "served, behind a full pool": ("free", CONNECTIONS, ()),
        "turned away": ("full", CONNECTIONS, ()),
        "turned away, a connection each": ("full", CONNECTIONS, ("-H", "Connection: close")),
    }
    spent: dict[str, list[float]] = {name: [] for name in loads}
    try:
        for each in servers.values():
            each.start(folder)
        for _ in range(rounds):
            for name, (which, connections, more) in loads.items():
                before = server_cpu(servers[which])
                requests = _wrk(servers[which].port, connections, seconds, more)
                spent[name].append((server_cpu(servers[which]) - before) / requests * 1e6)
                print(".", end="", file=sys.stderr, flush=True)
    finally:
        for each in servers.values():
            each.stop()
    print(file=sys.stderr)
    return {name: round(min(found), 1) for name, found in spent.items()}


def _wrk(port: int, connections: int, seconds: float, more: tuple[str, ...]) -> int:
    done = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", *more, f"http://127.0.0.1:{port}/"],
        capture_output=True, text=True, timeout=seconds + 60, check=True,
    )  # fmt: skip
    found = re.search(r"(\d+) requests in", done.stdout)
    assert found is not None, done.stdout
    return int(found.group(1))


# ----------------------------------------------------------------------------- the pool alone


def alone(rounds: int) -> dict[str, float]:
    """Microseconds of a call without sockets, sessions and processes, and how many of them are due to its wait."""
    found = {}
    for kind, mux in (("one call at a time", False), ("mux", True)):
        at_once, behind = (min(_calls(mux, waiting) for _ in range(rounds)) for waiting in (0, WAITING))
        found[f"{kind}, taken at once"] = round(at_once, 1)
        found[f"{kind}, behind {WAITING} that wait"] = round(behind, 1)
        found[f"{kind}, the wait alone"] = round(behind - at_once, 1)
    return found


def _calls(mux: bool, waiting: int) -> float:
    """Each call is opened, written, answered; with *waiting*, so many are always before it."""
    sys.path.insert(0, str(ROOT / "tests/pool"))
    from pool_world import Head, To, World

    world = World(mux=mux, num_workers=1, concurrency=1).start()
    [worker] = world.workers
    head = Head()
    step = _answer_mux if mux else _answer_single
    for _ in range(waiting + 1 if waiting else 0):
        world.pool.open(head, b"", False, To())
    gc.collect()
    gc.disable()
    begun = time.process_time()
    for _ in range(CALLS):
        world.pool.open(head, b"", False, To())
        step(worker)
    spent = time.process_time() - begun
    gc.enable()
    assert world.pool.waiting() == waiting
    return spent / CALLS * 1e6


def _answer_single(worker: Any) -> None:
    assert worker.relay.output()
    worker.reply(b"hello")


def _answer_mux(worker: Any) -> None:
    [stream] = worker.read()
    stream.send(HEAD, b"hello", False)
    worker.flush()


def table(found: dict[str, dict[str, float]]) -> str:
    """For people."""
    lines = []
    for title, rows in found.items():
        lines += [
            "",
            f"| {title} | µs |",
            "|---|---|",
            *(f"| {name} | {us:g} |" for name, us in rows.items()),
        ]
    return "\n".join(lines)


def measure(folder: Path, rounds: int, seconds: float) -> dict[str, dict[str, float]]:
    """All of it."""
    return {
        "server CPU of a request": whole(folder, rounds, seconds),
        "the pool alone, a call": alone(10),
    }
