"""Runs the cells and prints the table and one JSON object. See benchmarks/README.md."""

from __future__ import annotations

import argparse
import datetime
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from benchmarks import compiled, roadrunner
from benchmarks.choice import add_options, available, chosen, run_and_tell, unknown, words
from benchmarks.contender import Contender
from benchmarks.http.contenders import HERE, contenders
from benchmarks.http.idle import descriptors, idle_cost
from benchmarks.http.open_loop import percentiles
from benchmarks.rounds import against_pure, alternate, machine, ratio, summaries

#: cell -> (wrk script, connections)
CELLS = {"hello": ("hello.lua", 32), "varied": ("varied.lua", 32)}
FULL = {
    "hello-256": ("hello.lua", 256),
    "closing": ("closing.lua", 32),
    "upload-100K": ("upload.lua", 32),
    "download-100K": ("download.lua", 32),
    "upload-1M": ("upload_1m.lua", 32),
    "download-1M": ("download_1m.lua", 32),
    "await-10ms": ("await.lua", 256),
}
BODIES = ("upload.lua", "download.lua", "upload_1m.lua", "download_1m.lua")
AWAIT = "await.lua"
IDLE = 10_000
GO = "roadrunner"


def wrk(contender: Contender, script: str, connections: int, seconds: float) -> dict:
    command = [
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{seconds:g}s",
        "-s",
        script,
        f"http://127.0.0.1:{contender.port}/",
    ]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=seconds + 60, check=True)
    found = re.search(r"^RESULT (\{.*\})$", done.stdout, re.M)
    if found is None:
        raise SystemExit(f"wrk said nothing about {contender.name}:\n{done.stdout}{done.stderr}")
    result = json.loads(found.group(1))
    result["calls"] = result["verified"]
    if result["wrong"] or result["errors"] or not result["verified"]:
        result["failed"] = True
    return result


def run(args: argparse.Namespace) -> dict:
    cells = {**CELLS, **(FULL if args.full else {})}
    if args.cells:
        cells = {name: size for name, size in {**CELLS, **FULL}.items() if name in args.cells}
    result: dict = {
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "rounds": args.rounds,
        "seconds": args.seconds,
        "left_out": {},
        "cells": {},
    }
    if args.full:
        descriptors()
    with tempfile.TemporaryDirectory() as folder:
        found = choose(Path(folder), args.contenders, result["left_out"])
        try:
            for each in found:
                each.start(Path(folder))
            result["pss_idle"] = {each.name: each.pss() for each in found}
            for name, (script, connections) in cells.items():
                result["cells"][name] = cell(found, script, connections, args)
            result["pss_loaded"] = {each.name: each.pss() for each in found}
            if args.full:
                # Of ours only: others close idle connections before so many are open.
                ours = [each for each in found if each.name in ("rr-asgi", "rr-wsgi", "rr-asgi-compiled")]
                result["idle"] = {each.name: idle_cost(each, IDLE) for each in ours}
            if not args.no_latency:
                result["half_load"] = half_load(found, result["cells"].get("hello", {}), args)
        finally:
            for each in found:
                each.stop()
    return result


def choose(folder: Path, only: list[str], left_out: dict) -> list[Contender]:
    """The contenders; Go RoadRunner and our compiled build where they can be built."""
    program = available(GO, roadrunner.build(folder), left_out) if not only or GO in only else None
    built = available("compiled", compiled.build(), left_out) if compiled.asked(only) else None
    return chosen(contenders(program, built), only, left_out)


def cell(chosen: list[Contender], script: str, connections: int, args: argparse.Namespace) -> dict:
    able = [each for each in chosen if each.bodies or script not in BODIES]
    if script == AWAIT:
        able = [each for each in able if "asgi" in each.name or "uvicorn" in each.name]
    return summaries(
        alternate(
            able,
            lambda each: wrk(each, script, connections, args.seconds),
            args.rounds,
            lambda each: wrk(each, script, connections, 1),
        )
    )


def half_load(chosen: list[Contender], hello: dict, args: argparse.Namespace) -> dict:
    """Latency of rr-wsgi and gunicorn gthread at half of the slower one's peak."""
    pair = [each for each in chosen if each.name in ("rr-wsgi", "rr-asgi", "gunicorn-gthread")]
    if len(pair) < 3 or not hello:
        return {}
    # Above some thousand a second the Python client itself would be what is measured.
    rate = min(min(hello[each.name]["rate"] for each in pair) / 2, 2500)
    return {each.name: percentiles(each.port, rate, args.seconds) for each in pair}


def peer_of(server: str) -> str:
    """Whose rate is 1 for it."""
    if "worker" in server or server == GO:
        return GO
    return "uvicorn-2" if "asgi" in server or "uvicorn" in server else "gunicorn-sync"


def table(result: dict) -> str:
    lines = []
    for name, rows in result["cells"].items():
        lines += [
            "",
            f"## {name}",
            "",
            f"| server | requests/s | x its peer (spread) | x {GO} (spread) | x pure (CPU) | p50 ms | p99 ms |"
            " CPU µs a request |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for server, row in rows.items():
            peer = peer_of(server)
            shown = ratio(row, peer, server)
            lines.append(
                f"| {server}{' FAILED' if row['failed'] else ''} | {row['rate']} |"
                f" {shown if shown == '-' else f'{shown} {peer}'} | {ratio(row, GO, server)} |"
                f" {against_pure(rows, server)} | {row['p50_ms']} | {row['p99_ms']} | {row.get('cpu_us', '-')} |"
            )
    lines += [f"\n{name} is left out: {why}" for name, why in result["left_out"].items()]
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
    for server, cost in result.get("idle", {}).items():
        lines.append(f"\n{server}: {cost['kib']} KiB an idle connection, {cost['connections']} open")
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
    parser.add_argument(
        "--full", action="store_true", help="256 connections, no keep-alive, bodies, waiting, idle ones too"
    )
    parser.add_argument("--rounds", type=int, help="5 unless given, 2 with --full")
    parser.add_argument("--seconds", type=float, help="length of a round, 5 unless given, 2 with --full")
    parser.add_argument(
        "--cells", type=words, default=[], metavar="LIST", help="these only, with commas between"
    )
    parser.add_argument("--no-latency", action="store_true")
    add_options(parser)
    args = parser.parse_args()
    unknown(parser, args.cells, [*CELLS, *FULL])
    args.rounds = args.rounds or (2 if args.full else 5)
    args.seconds = args.seconds or (2.0 if args.full else 5.0)
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed (Debian: apt-get install wrk)")
    run_and_tell(run, table, args)


if __name__ == "__main__":
    main()
