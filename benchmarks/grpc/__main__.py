"""Runs the cells and prints the table and one JSON object. See benchmarks/README.md."""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks import compiled, roadrunner
from benchmarks.choice import add_options, available, chosen, run_and_tell, words
from benchmarks.contender import Contender
from benchmarks.grpc.contenders import ONE_ANSWER, contenders, generate
from benchmarks.grpc.load import Idle, by_core, by_h2load, streamed
from benchmarks.rounds import against_pure, alternate, machine, ratio, summaries

GO, PEER = "roadrunner", "grpcio-sync"
QUICK = ((4, 8), (1, 1))
CELLS = (*QUICK, (4, 1), (4, 16), (32, 1), (32, 16))
"""Connections and streams on each."""

FAST, SLOW = 200_000, 10_000
"""Messages of a stream, of ours and of the others: about a second. A quarter of it with --quick."""

IDLE = 1000

LIMIT, QUICK_LIMIT = 480.0, 150.0
"""Seconds after which no further cell begins; the cells with an aim come first."""


def run(args: argparse.Namespace) -> dict:
    result: dict = {
        "date": datetime.date.today().isoformat(),
        "machine": {**machine(), "grpcio": importlib.metadata.version("grpcio")},
        "rounds": args.rounds,
        "seconds": args.seconds,
        "left_out": {},
        "cells": {},
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        generate(folder)
        found = choose(folder, args.contenders, result["left_out"])
        until = time.monotonic() + (QUICK_LIMIT if args.quick else LIMIT)
        try:
            for each in found:
                each.start(folder)
            count = IDLE // 4 if args.quick else IDLE
            result["idle"] = {each.name: idle(each, folder, count) for each in found}
            for name, measure in cells(folder, args.cells or (QUICK if args.quick else CELLS)):
                if time.monotonic() > until:
                    result["left_out"][name] = "the time was up"
                    continue
                rounds = alternate(
                    found, partial(measure, seconds=args.seconds), args.rounds, partial(measure, seconds=0.3)
                )
                result["cells"][name] = summaries(rounds)
            if not args.cells:
                result["stream"] = summaries(stream(found, folder, args))
        finally:
            for each in found:
                each.stop()
    return result


def cells(folder: Path, sizes: tuple[tuple[int, int], ...]) -> Iterator[tuple[str, Callable[..., dict]]]:
    """Each cell's name, and what measures a round of it."""
    for connections, streams in sizes:
        for client, measure in (("h2load", partial(by_h2load, folder=folder)), ("C-core", by_core)):
            yield (
                f"{connections}x{streams} {client}",
                partial(measure, connections=connections, streams=streams),
            )


def choose(folder: Path, only: list[str], left_out: dict) -> list[Contender]:
    """The contenders; Go RoadRunner and our compiled build where they can be built."""
    program = available(GO, roadrunner.build(folder), left_out) if not only or GO in only else None
    built = available("compiled", compiled.build(), left_out) if compiled.asked(only) else None
    return chosen(contenders(folder, program, built), only, left_out)


def idle(contender: Contender, folder: Path, count: int) -> dict:
    """PSS of the first process, in MiB, and what each of *count* idle connections adds, in KiB."""
    # The first calls load what is loaded once.
    by_h2load(contender, folder, 4, 8, 0.3)
    before = contender.pss()
    connections = Idle(contender.port, count)
    after = contender.pss()
    connections.close()
    each = (after["server"] - before["server"]) * 1024 / count
    return {"server": before["server"], "all": before["all"], "each_kib": round(each, 1), "count": count}


def stream(found: list[Contender], folder: Path, args: argparse.Namespace) -> dict:
    able = [each for each in found if each.name.removesuffix(compiled.SUFFIX) not in ONE_ANSWER]

    def measure(each: Contender) -> dict:
        count = FAST if each.name.startswith("rr") else SLOW
        return streamed(each, folder, count // 4 if args.quick else count)

    return alternate(able, measure, args.rounds, lambda each: streamed(each, folder, 1000))


def table(result: dict) -> str:
    lines = []
    for name, rows in result["cells"].items():
        size, client = name.split()
        connections, streams = size.split("x")
        lines += [
            "",
            f"### {connections} connections, {streams} streams each, {client}",
            "",
            f"| server | calls/s | x {PEER} (spread) | x {GO} (spread) | x pure (CPU) | p50 ms | p99 ms | CPU µs a call |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for server, row in rows.items():
            lines.append(
                f"| {server}{' FAILED' if row['failed'] else ''} | {row['rate']} | {ratio(row, PEER, server)} |"
                f" {ratio(row, GO, server)} | {against_pure(rows, server)} | {row['p50_ms']} | {row['p99_ms']} | {row.get('cpu_us', '-')} |"
            )
    if "stream" in result:
        lines += ["", "### server stream of 100-byte messages", ""]
        lines += [f"| server | messages/s | x {PEER} (spread) | x pure (CPU) | CPU µs a message |"]
        lines += ["|---|---|---|---|---|"]
    for server, row in result.get("stream", {}).items():
        failed = " FAILED" if row["failed"] else ""
        lines.append(
            f"| {server}{failed} | {row['rate']} | {ratio(row, PEER, server)} |"
            f" {against_pure(result['stream'], server)} | {row.get('cpu_us', '-')} |"
        )
    lines += [
        "",
        "### memory, PSS, and what an idle connection adds to it",
        "",
        "| server | first process, MiB | whole family, MiB | connections | each adds, KiB |",
        "|---|---|---|---|---|",
    ]
    for server, row in result["idle"].items():
        lines.append(f"| {server} | {row['server']} | {row['all']} | {row['count']} | {row['each_kib']} |")
    lines += [f"\n{name} is left out: {why}" for name, why in result["left_out"].items()]
    return "\n".join(lines)


def sizes(text: str) -> tuple[tuple[int, int], ...]:
    """``4x8,32x1`` as numbers."""
    return tuple((int(left), int(right)) for left, _, right in (word.partition("x") for word in words(text)))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.grpc", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="two sizes, shorter rounds: three to four minutes"
    )
    parser.add_argument("--rounds", type=int, help="3 unless given")
    parser.add_argument("--seconds", type=float, help="length of a round")
    parser.add_argument(
        "--cells",
        type=sizes,
        metavar="LIST",
        help="connections x streams, such as 4x8,32x1, and no server stream",
    )
    add_options(parser)
    args = parser.parse_args()
    args.rounds = args.rounds or 3
    args.seconds = args.seconds or (0.5 if args.quick else 1.0)
    if shutil.which("h2load") is None:
        raise SystemExit("h2load is not installed (Debian: apt-get install nghttp2-client)")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 4096), hard), hard))
    run_and_tell(run, table, args)


if __name__ == "__main__":
    main()
