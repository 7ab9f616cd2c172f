"""Runs the cells and prints the table and one JSON object. See benchmarks/README.md."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.http.contenders import HERE, Contender, contenders
from benchmarks.http.open_loop import percentiles

#: cell -> (wrk script, connections)
CELLS = {"hello": ("hello.lua", 32), "varied": ("varied.lua", 32)}
FULL = {
    "hello-256": ("hello.lua", 256),
    "closing": ("closing.lua", 32),
    "upload-100K": ("upload.lua", 32),
    "download-100K": ("download.lua", 32),
}
#: cell -> the peer whose rate is 1
PEERS = {"rr-asgi": "uvicorn-2", "rr-wsgi": "gunicorn-sync"}


def wrk(contender: Contender, script: str, connections: int, seconds: float) -> dict:
    command = [
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{seconds:g}s",
        "-s",
        str(HERE / script),
        f"http://127.0.0.1:{contender.port}/",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=True)
    found = re.search(r"^RESULT (\{.*\})$", done.stdout, re.M)
    if found is None:
        raise SystemExit(f"wrk said nothing about {contender.name}:\n{done.stdout}{done.stderr}")
    result = json.loads(found.group(1))
    if result["wrong"] or result["errors"] or not result["verified"]:
        result["failed"] = True
    return result


def run(args: argparse.Namespace) -> dict:
    cells = {**CELLS, **(FULL if args.full else {})}
    if args.cells:
        cells = {name: {**CELLS, **FULL}[name] for name in args.cells.split(",")}
    chosen = [each for each in contenders() if not args.only or each.name in args.only.split(",")]
    result: dict = {
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "rounds": args.rounds,
        "seconds": args.seconds,
        "cells": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        try:
            for each in chosen:
                each.start(Path(folder))
            result["pss_idle"] = {each.name: each.pss() for each in chosen}
            for name, (script, connections) in cells.items():
                result["cells"][name] = cell(chosen, script, connections, args)
            result["pss_loaded"] = {each.name: each.pss() for each in chosen}
            if not args.no_latency:
                result["half_load"] = half_load(chosen, result["cells"].get("hello", {}), args)
        finally:
            for each in chosen:
                each.stop()
    return result


def cell(chosen: list[Contender], script: str, connections: int, args: argparse.Namespace) -> dict:
    """Alternating rounds; a discarded one first, so that nobody is measured cold."""
    rounds: dict[str, list[dict]] = {each.name: [] for each in chosen}
    for each in chosen:
        wrk(each, script, connections, 1)
    for _ in range(args.rounds):
        for each in chosen:
            rounds[each.name].append(wrk(each, script, connections, args.seconds))
            print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return {name: summary(name, rounds) for name in rounds}


def summary(name: str, rounds: dict[str, list[dict]]) -> dict:
    mine = [each["rate"] for each in rounds[name]]
    out = {
        "rate": round(statistics.median(mine)),
        "p50_ms": round(statistics.median(each["p50"] for each in rounds[name]), 2),
        "p99_ms": round(statistics.median(each["p99"] for each in rounds[name]), 2),
        "failed": any(each.get("failed") for each in rounds[name]),
        "ratios": {},
    }
    for peer, theirs in rounds.items():
        pairs = [a / b["rate"] for a, b in zip(mine, theirs, strict=True)]
        out["ratios"][peer] = [round(statistics.median(pairs), 2), round(min(pairs), 2), round(max(pairs), 2)]
    return out


def half_load(chosen: list[Contender], hello: dict, args: argparse.Namespace) -> dict:
    """Latency of rr-wsgi and gunicorn gthread at half of the slower one's peak."""
    pair = [each for each in chosen if each.name in ("rr-wsgi", "rr-asgi", "gunicorn-gthread")]
    if len(pair) < 3 or not hello:
        return {}
    # Above some thousand a second the Python client itself would be what is measured.
    rate = min(min(hello[each.name]["rate"] for each in pair) / 2, 2500)
    return {each.name: percentiles(each.port, rate, args.seconds) for each in pair}


def machine() -> dict:
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "cpu": model.group(1) if model else platform.machine(),
        "python": platform.python_version(),
        "kernel": platform.release(),
    }


def table(result: dict) -> str:
    lines = []
    for name, rows in result["cells"].items():
        lines += [
            "",
            f"## {name}",
            "",
            "| server | requests/s | ratio to its peer (spread) | p50 ms | p99 ms |",
            "|---|---|---|---|---|",
        ]
        for server, row in rows.items():
            peer = PEERS.get(
                server, "uvicorn-2" if "asgi" in server or "uvicorn" in server else "gunicorn-sync"
            )
            ratio = row["ratios"].get(peer)
            shown = f"{ratio[0]} x {peer} ({ratio[1]}-{ratio[2]})" if ratio and peer != server else "-"
            lines.append(
                f"| {server}{' FAILED' if row['failed'] else ''} | {row['rate']} | {shown} | {row['p50_ms']} | {row['p99_ms']} |"
            )
    lines += [
        "",
        "## memory, MiB PSS",
        "",
        "| server | first process idle | whole family idle | whole family after load |",
        "|---|---|---|---|",
    ]
    for server, idle in result["pss_idle"].items():
        lines.append(
            f"| {server} | {idle['server']} | {idle['all']} | {result['pss_loaded'][server]['all']} |"
        )
    if result.get("half_load"):
        lines += [
            "",
            "## open loop, half of the slower one's peak",
            "",
            "| server | requests/s | p50 ms | p99 ms |",
            "|---|---|---|---|",
        ]
        lines += [
            f"| {name} | {row['rate']} | {row['p50']} | {row['p99']} |"
            for name, row in result["half_load"].items()
        ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.http", description=__doc__)
    parser.add_argument("--full", action="store_true", help="256 connections, no keep-alive, bodies as well")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a round")
    parser.add_argument("--only", help="comma list of contenders")
    parser.add_argument("--cells", help="comma list of cells")
    parser.add_argument("--no-latency", action="store_true")
    parser.add_argument("--json", help="write the JSON object to this file as well")
    args = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed (Debian: apt-get install wrk)")
    result = run(args)
    print(table(result))
    print()
    print(json.dumps(result))
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
