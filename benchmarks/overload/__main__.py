"""Goodput from half the capacity to three times of it, with and without `max_queue_age`; ``--costs``: the CPU time of a
request that waits, and of one that is turned away. See benchmarks/README.md."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.contender import Contender
from benchmarks.overload import costs
from benchmarks.overload.client import Outcome, run
from benchmarks.overload.costs import server_cpu
from benchmarks.overload.server import contender
from benchmarks.rounds import machine

APPS = {
    # application, more of the SDK's options, more of the pool
    "one-call": ("wsgi", ("--no-mux",), {}),
    "mux": ("asgi", (), {"concurrency": 1}),
    "busy": ("busy", (), {"concurrency": 1}),
}
FACTORS = (0.5, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0)


def _contender(folder: Path, kind: str, age: float, args: argparse.Namespace) -> Contender:
    app, options, more = APPS[kind]
    pool = {"num_workers": args.workers, **more, **({"max_queue_age": f"{age}s"} if age else {})}
    return contender(folder, f"{kind}-{age:g}", app, options, args.service_ms, pool)


def _cell(outcome: Outcome, factor: float, cpu: float) -> dict:
    return {
        "load": factor,
        "sent": outcome.sent,
        "goodput": round(outcome.goodput, 1),
        "gave_up": outcome.gave_up,
        "turned_away": outcome.statuses[503],
        "other": sum(count for status, count in outcome.statuses.items() if status not in (200, 503)),
        "p50_ms": round(outcome.percentile(0.5) * 1000),
        "p99_ms": round(outcome.percentile(0.99) * 1000),
        "client_lag_ms": round(outcome.lag * 1000),
        "server_us": round(cpu / outcome.sent * 1e6),
    }


def measure(folder: Path, kind: str, age: float, args: argparse.Namespace) -> dict:
    """One server, every load from low to high; the ratio of goodput at the highest to the best."""
    capacity = args.workers / (args.service_ms / 1000)
    cells = []
    server = _contender(folder, kind, age, args)
    server.start(folder)
    try:
        asyncio.run(run(server.port, capacity / 2, 1.0, args.patience))  # everything is warm then
        for factor in args.loads:
            before = server_cpu(server)
            outcome = asyncio.run(run(server.port, capacity * factor, args.seconds, args.patience))
            cells.append(_cell(outcome, factor, server_cpu(server) - before))
            print(".", end="", file=sys.stderr, flush=True)
            time.sleep(args.patience)  # what is left in the queue is nobody's concern in the next cell
    finally:
        server.stop()
    print(file=sys.stderr)
    best = max(cell["goodput"] for cell in cells)
    return {
        "workers": kind,
        "max_queue_age": age,
        "capacity": capacity,
        "best": best,
        "ratio": round(cells[-1]["goodput"] / best, 3),
        "cells": cells,
    }


def _table(found: list[dict]) -> str:
    lines = []
    for each in found:
        age = f"max_queue_age {each['max_queue_age']:g} s" if each["max_queue_age"] else "no max_queue_age"
        lines.append(
            f"\n{each['workers']}, {age}: {each['ratio']:.2f} of the best goodput at the highest load"
        )
        lines.append("  load  sent/s  good/s  turned away  gave up  p50 ms  p99 ms  server µs")
        for cell in each["cells"]:
            rate = each["capacity"] * cell["load"]
            lines.append(
                f"  {cell['load']:4.2f}  {rate:6.0f}  {cell['goodput']:6.1f}  {cell['turned_away']:11d}  "
                f"{cell['gave_up']:7d}  {cell['p50_ms']:6d}  {cell['p99_ms']:6d}  {cell['server_us']:9d}"
            )
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overload", description=__doc__)
    parser.add_argument("--kinds", nargs="*", choices=sorted(APPS), default=["one-call", "mux"])
    parser.add_argument("--ages", nargs="*", type=float, default=[0.5, 0.0], help="max_queue_age; 0: none")
    parser.add_argument("--loads", nargs="*", type=float, default=list(FACTORS), help="parts of the capacity")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--service-ms", type=float, default=20.0)
    parser.add_argument("--patience", type=float, default=1.0, help="seconds after which a client is gone")
    parser.add_argument("--seconds", type=float, default=5.0, help="of load in each cell")
    parser.add_argument(
        "--costs",
        action="store_true",
        help="instead, what a request costs that is served, waits, or is turned away",
    )
    args = parser.parse_args()
    if args.costs:
        with tempfile.TemporaryDirectory() as folder:
            spent = costs.measure(Path(folder), 5, 1.0)
        print(costs.table(spent))
        print(json.dumps({"machine": machine(), "load_average": os.getloadavg()[0], "costs": spent}))
        return
    with tempfile.TemporaryDirectory() as folder:
        found = [measure(Path(folder), kind, age, args) for kind in args.kinds for age in args.ages]
    print(_table(found))
    print(json.dumps({"machine": machine(), "load_average": os.getloadavg()[0], "overload": found}))


if __name__ == "__main__":
    main()
