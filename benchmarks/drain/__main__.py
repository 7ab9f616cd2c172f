"""Runs the cells and prints the table and one JSON object. See benchmarks/README.md."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.drain.rig import Poller, Server, percentiles
from benchmarks.rounds import machine
from twisted_rr.draintest.processes import waited_for_cpu

POLL = 0.002


def signal_to_503(folder: Path, args: argparse.Namespace) -> dict:
    """From the signal to the first 503 of /ready that a client has read, at load, each time on a fresh server."""
    times, own, before = [], [], []
    for _ in range(args.signals):
        server = Server(folder)
        try:
            load = server.load(args.rate, 2)
            time.sleep(0.5)
            before += _poll(server, "/ready", 0.5)
            poller = Poller(server.status_port, "/ready")
            assert poller.ask() == 200
            waited = _waited(server)
            begun = server.signal()
            while poller.ask() != 503:
                time.sleep(POLL)
            times.append(time.monotonic() - begun)
            own.append(max(0.0, times[-1] - (_waited(server) - waited)))
            server.process.wait()
            load.communicate(timeout=30)
        finally:
            server.kill()
        print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    # What the machine and the load make of any answer, signal or not.
    plain = {f"before_{name}": value for name, value in percentiles(before).items()}
    plain |= {f"own_{name}": value for name, value in percentiles(own).items()}
    return {
        "signals": len(times),
        "rate_asked": args.rate,
        "poll_ms": POLL * 1000,
        "load_average": os.getloadavg()[0],
        **percentiles(times),
        **plain,
    }


def _waited(server: Server) -> float:
    """For how long the server and this client could have run and did not get a CPU: a neighbour's doing."""
    return waited_for_cpu(server.pid) + waited_for_cpu(os.getpid())


def idle_connections(folder: Path, args: argparse.Namespace) -> dict:
    """CPU time of the server from the signal to its exit, with and without idle connections, a request in flight."""
    found: dict[int, list[float]] = {0: [], args.connections: []}
    for _ in range(args.rounds):
        for count, spent in found.items():
            spent.append(_drain_cpu(folder, count))
            print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    none, many = (statistics.median(spent) * 1000 for spent in found.values())
    return {
        "connections": args.connections,
        "cpu_without_ms": round(none, 1),
        "cpu_with_ms": round(many, 1),
        "difference_ms": round(many - none, 1),
    }


def _drain_cpu(folder: Path, count: int) -> float:
    server = Server(folder)
    idle = []
    try:
        for _ in range(count):
            connection = socket.create_connection(("127.0.0.1", server.port), 5)
            connection.sendall(b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
            idle.append(connection)
        busy = socket.create_connection(("127.0.0.1", server.port), 10)
        busy.sendall(b"GET /?3 HTTP/1.1\r\nHost: bench\r\n\r\n")
        time.sleep(0.5)
        # Whoever is told to go goes, as clients do.
        ends = [threading.Thread(target=_close_after_fin, args=(idle,))]
        for thread in ends:
            thread.start()
        before = server.cpu()
        server.signal()
        assert busy.recv(4096).startswith(b"HTTP/1.1 200")
        after = server.cpu_until_gone()
        for thread in ends:
            thread.join()
        return after - before
    finally:
        server.kill()


def _close_after_fin(idle: list[socket.socket]) -> None:
    for connection in idle:
        connection.settimeout(30)
        try:
            connection.recv(1)
        except OSError:
            pass
        connection.close()


def bookkeeping(folder: Path, args: argparse.Namespace) -> dict:
    """CPU time a request with the set of what is in flight, and without it, in alternating rounds at full load.

    The server is one core, so its CPU time is its throughput, and does not depend on what else the machine does.
    """
    servers = {"with": Server(folder), "without": Server(folder, bookkeeping=False)}
    spent: dict[str, list[float]] = {name: [] for name in servers}
    try:
        for each in servers.values():
            _wrk(each, 1)
        for _ in range(args.rounds * 5):  # many short ones: some of them are not disturbed
            for name, each in servers.items():
                before = each.cpu()
                requests = _wrk(each, 1)
                spent[name].append((each.cpu() - before) / requests * 1e6)
                print(".", end="", file=sys.stderr, flush=True)
    finally:
        for each in servers.values():
            each.kill()
    print(file=sys.stderr)
    # The best rounds: whatever shares the core only ever adds.
    least = {name: min(found) for name, found in spent.items()}
    return {
        "cpu_us_with": round(least["with"], 1),
        "cpu_us_without": round(least["without"], 1),
        "cost_percent": round(100 * (least["with"] / least["without"] - 1), 2),
        "all_rounds_us": {name: [round(each, 1) for each in found] for name, found in spent.items()},
        **_bookkeeping_alone(),
    }


def _bookkeeping_alone(count: int = 200_000) -> dict:
    """What begin and end take by themselves, among 100 others in flight."""
    from twisted_rr.lifecycle.in_flight import InFlight

    flight = InFlight("bench", time.monotonic)
    items = [object() for _ in range(100)]
    for item in items[:-1]:
        flight.begin(item)
    one = items[-1]
    best = float("inf")
    for _ in range(5):
        at = time.process_time()
        for _ in range(count):
            flight.begin(one)
            flight.end(one)
        best = min(best, time.process_time() - at)
    return {"begin_and_end_ns": round(best / count * 1e9)}


def _wrk(server: Server, seconds: float) -> int:
    """How many requests were answered."""
    done = subprocess.run(
        ["wrk", "-t1", "-c32", f"-d{seconds:g}s", f"http://127.0.0.1:{server.port}/"],
        capture_output=True, text=True, timeout=seconds + 60, check=True,
    )  # fmt: skip
    found = re.search(r"(\d+) requests in", done.stdout)
    assert found is not None, done.stdout
    return int(found.group(1))


# ----------------------------------------------------------------------------- health under stress


def health(folder: Path, args: argparse.Namespace) -> dict:
    """How long /health and /ready take to answer while the pool can do nothing for anybody."""
    return {name: _stressed(folder, stress, args.seconds) for name, stress in STRESSES.items()}


def _stressed(folder: Path, stress: Callable[[Server, threading.Event], None], seconds: float) -> dict:
    server = Server(folder, app="apps:blocking", sdk=("--no-mux",))
    ending = threading.Event()
    thread = threading.Thread(target=stress, args=(server, ending))
    out = {}
    try:
        thread.start()
        time.sleep(0.5)
        for path in ("/health", "/ready"):
            out[path] = percentiles(_poll(server, path, seconds))
    finally:
        ending.set()
        server.kill()
        thread.join()
    return out


def _poll(server: Server, path: str, seconds: float) -> list[float]:
    poller = Poller(server.status_port, path)
    times, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        at = time.monotonic()
        poller.ask()
        times.append(time.monotonic() - at)
        time.sleep(0.005)
    poller.close()
    return times


def _saturate(server: Server, ending: threading.Event, seconds: int = 60) -> None:
    """Many more calls than workers, each of which takes long."""
    held = []
    for _ in range(200):
        connection = socket.create_connection(("127.0.0.1", server.port), 5)
        connection.sendall(b"GET /?%d HTTP/1.1\r\nHost: bench\r\n\r\n" % seconds)
        held.append(connection)
    ending.wait()
    for connection in held:
        connection.close()


def _reset(server: Server, ending: threading.Event) -> None:
    """Resets one after the other, behind slow calls."""
    threading.Thread(target=_saturate, args=(server, ending, 2)).start()
    while not ending.wait(0.5):
        server.signal(signal.SIGUSR2)


def _stop_all(server: Server, ending: threading.Event) -> None:
    """Every worker is stopped, with a call in hand and more that wait."""
    threading.Thread(target=_saturate, args=(server, ending)).start()
    time.sleep(0.3)
    workers = server.workers()
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    ending.wait()


STRESSES = {"saturated": _saturate, "resetting": _reset, "all workers stopped": _stop_all}

CELLS = {
    "signal_to_503": signal_to_503,
    "idle_connections": idle_connections,
    "bookkeeping": bookkeeping,
    "health": health,
}


def table(result: dict) -> str:
    """For people."""
    lines = ["", "| what | measured | limit |", "|---|---|---|"]
    cells = result["cells"]
    if found := cells.get("signal_to_503"):
        lines.append(
            f"| signal to the first 503, {found['signals']} signals at {found['rate_asked']} requests/s "
            f"| p50 {found['p50_ms']} ms, p99 {found['p99_ms']} ms; without what server and client waited for a CPU "
            f"p50 {found['own_p50_ms']} ms, p99 {found['own_p99_ms']} ms (any answer before it: p50 {found['before_p50_ms']} ms, "
            f"p99 {found['before_p99_ms']} ms) | p99 < 20 ms |"
        )
    if found := cells.get("idle_connections"):
        lines.append(
            f"| a stop with {found['connections']} idle connections, CPU time of the server "
            f"| {found['cpu_with_ms']} ms, {found['difference_ms']} ms more than with none | < 100 ms |"
        )
    if found := cells.get("bookkeeping"):
        lines.append(
            f"| the set of what is in flight, share of a request's CPU time | {found['cost_percent']} % "
            f"of {found['cpu_us_without']} µs; {found['begin_and_end_ns']} ns a request alone | < 3 % |"
        )
    for name, paths in cells.get("health", {}).items():
        for path, row in paths.items():
            lines.append(
                f"| {path} while {name} | p50 {row['p50_ms']} ms, p99 {row['p99_ms']} ms | p99 < 100 ms |"
            )
    return "\n".join(lines)


def main() -> None:
    """``python -m benchmarks.drain``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drain", description=__doc__)
    parser.add_argument("--signals", type=int, default=100)
    parser.add_argument("--rate", type=int, default=5000, help="requests a second while signals are sent")
    parser.add_argument("--connections", type=int, default=1000, help="idle ones")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a round")
    parser.add_argument("--cells", help=f"comma list of {', '.join(CELLS)}")
    parser.add_argument("--json", help="write the JSON object to this file as well")
    args = parser.parse_args()
    for tool in ("wrk", "h2load"):
        if shutil.which(tool) is None:
            raise SystemExit(f"{tool} is not installed (Debian: apt-get install wrk nghttp2-client)")
    chosen = args.cells.split(",") if args.cells else list(CELLS)
    result: dict = {"date": datetime.date.today().isoformat(), "machine": machine(), "cells": {}}
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen:
            print(name, file=sys.stderr)
            result["cells"][name] = CELLS[name](Path(folder), args)
    print(table(result))
    print()
    print(json.dumps(result))
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
