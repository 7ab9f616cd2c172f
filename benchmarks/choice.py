"""Which contenders run: those that were asked for and can be, with one line for each that cannot."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection
from pathlib import Path

from benchmarks.contender import Contender


def words(text: str) -> list[str]:
    """The words of a list with commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


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
