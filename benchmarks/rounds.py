"""Alternating rounds and what is made of them: medians, paired ratios, the machine they were measured on.

A round is what one contender's load generator says of a few seconds: ``rate``, ``p50`` and ``p99`` in milliseconds,
``failed`` where an answer was wrong or missing, and ``calls``, how many were answered. From those and the CPU time of
the contender's processes comes ``cpu``, microseconds a call: it wanders less than rates do where others use the machine.
"""

from __future__ import annotations

import os
import platform
import re
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.compiled import SUFFIX
from benchmarks.contender import Contender

Rounds = dict[str, list[dict]]


def alternate(
    chosen: list[Contender],
    measure: Callable[[Contender], dict],
    rounds: int,
    warm: Callable[[Contender], object],
) -> Rounds:
    """So many rounds of each contender in turn; *warm* runs before, so that nobody is measured cold."""
    found: Rounds = {each.name: [] for each in chosen}
    for each in chosen:
        warm(each)
    for _ in range(rounds):
        for each in chosen:
            found[each.name].append(_with_cpu(each, measure))
            print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return found


def _with_cpu(contender: Contender, measure: Callable[[Contender], dict]) -> dict:
    before = contender.cpu()
    found = measure(contender)
    if found.get("calls"):
        found["cpu"] = (contender.cpu() - before) * 1e6 / found["calls"]
    return found


def summaries(rounds: Rounds) -> dict[str, dict]:
    """Each contender's medians, and its ratios to all: median, least and most of the rounds' paired ratios."""
    return {name: _summary(name, rounds) for name in rounds}


def _summary(name: str, rounds: Rounds) -> dict:
    mine = [each["rate"] for each in rounds[name]]
    out: dict = {"rate": round(statistics.median(mine))}
    for key in ("p50", "p99"):
        if all(key in each for each in rounds[name]):
            out[f"{key}_ms"] = round(statistics.median(each[key] for each in rounds[name]), 2)
    if all("cpu" in each for each in rounds[name]):
        out["cpu_us"] = round(statistics.median(each["cpu"] for each in rounds[name]), 1)
    out["failed"] = any(each.get("failed") for each in rounds[name])
    out["ratios"] = {}
    for peer, theirs in rounds.items():
        pairs = [a / b["rate"] for a, b in zip(mine, theirs, strict=True) if b["rate"]]
        if pairs:
            out["ratios"][peer] = [round(part(pairs), 2) for part in (statistics.median, min, max)]
    return out


def ratio(row: dict, peer: str, server: str) -> str:
    """A row's ratio to *peer* with its spread, as the tables show it."""
    found = row["ratios"].get(peer)
    return f"{found[0]} ({found[1]}-{found[2]})" if found and peer != server else "-"


def against_pure(rows: dict[str, dict], server: str) -> str:
    """The rate of a compiled one as a multiple of the same in plain Python, and its CPU time as a part of it."""
    plain = server.removesuffix(SUFFIX)
    if plain == server or plain not in rows:
        return "-"
    shown = ratio(rows[server], plain, server)
    mine, theirs = rows[server].get("cpu_us"), rows[plain].get("cpu_us")
    return f"{shown}, {mine / theirs:.2f}" if mine and theirs else shown


def machine() -> dict:
    """What it was measured on."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "cpu": model.group(1) if model else platform.machine(),
        "python": platform.python_version(),
        "kernel": platform.release(),
    }
