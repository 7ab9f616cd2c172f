"""What the benchmarks with many contenders are asked and how they answer: which of them run, with one line for each that
cannot, and the table with the JSON object below it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from benchmarks.contender import Contender


def words(text: str) -> list[str]:
    """The words of a list with commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that all of them have."""
    parser.add_argument(
        "--contenders",
        "--only",
        type=words,
        default=[],
        metavar="LIST",
        help="these only, with commas between",
    )
    parser.add_argument("--json", help="write the JSON object to this file as well")


def run_and_tell(
    run: Callable[[argparse.Namespace], dict[str, Any]],
    table: Callable[[dict[str, Any]], str],
    args: argparse.Namespace,
) -> None:
    """Run it, and print the table and the JSON object, which has how many seconds all took."""
    begun = time.monotonic()
    result = run(args)
    result["took"] = round(time.monotonic() - begun)
    print(table(result))
    print()
    print(json.dumps(result))
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=1) + "\n")


def unknown(parser: argparse.ArgumentParser, asked: list[str], known: Collection[str]) -> None:
    """End the program where something is asked for that there is not."""
    for name in asked:
        if name not in known:
            parser.error(f"there is no {name}; there are {', '.join(known)}")


def available(name: str, built: Path | str, left_out: dict[str, str]) -> Path | None:
    """What was built; otherwise its reason is said, and written down for the table."""
    if isinstance(built, Path):
        return built
    left_out[name] = built
    print(f"{name} is left out: {built}", file=sys.stderr)
    return None


def chosen(found: list[Contender], only: list[str], left_out: dict[str, str]) -> list[Contender]:
    """Those of *found* that *only* names, all without it."""
    names = [each.name for each in found]
    for name in only:
        if name not in names:
            left_out.setdefault(name, "there is no such contender here")
    here = [each for each in found if not only or each.name in only]
    if not here:
        raise SystemExit(f"no contender is left; there are {', '.join(names)}")
    return here
