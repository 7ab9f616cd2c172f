"""Kinds of numbers with a unit: durations in Go's syntax, sizes in bytes."""

from __future__ import annotations

import math
import re
from typing import Any

from ..nodes import Scalar, resolve
from ..report import Place
from .base import Kind, ScalarKind, or_variable

_UNITS = {
    "ns": 1e-9,
    "us": 1e-6,
    "\u00b5s": 1e-6,  # both signs for "micro", as in Go's time.ParseDuration
    "\u03bcs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
_PART = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|\u00b5s|\u03bcs|ms|s|m|h)")
_DURATION = re.compile(rf"(?:{_PART.pattern})+")
_BARE = "a bare number is seconds here, but RoadRunner reads it as nanoseconds; write {text}s"

_MEGABYTE = 1 << 20
# RoadRunner multiplies by 1024, whatever the letters say; so do we.
_SIZES = {"": _MEGABYTE, "b": 1, "k": 1 << 10, "m": _MEGABYTE, "g": 1 << 30, "t": 1 << 40}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(?:([kmgt])(?:i?b)?|(b))?", re.IGNORECASE)


def parse_duration(text: str) -> float:
    """Seconds of a duration in Go's syntax such as ``1h2m3s4ms``; raises ValueError.

    Negative ones are refused: no setting has a use for them.
    """
    if not _DURATION.fullmatch(text):
        raise ValueError("days are written in hours, 24h" if re.fullmatch(r"[0-9.]+d", text) else "")
    return math.fsum(float(amount) * _UNITS[unit] for amount, unit in _PART.findall(text))


class Duration(ScalarKind):
    """A span of time, never negative; *bare* says whether a number alone is fine."""

    def __init__(self, bare: bool) -> None:
        self._bare = bare
        self.expected = 'a duration such as "30s", "1m30s" or "100ms"'

    def parse(self, node: Scalar, at: Place) -> float:
        value = resolve(node.text)
        if isinstance(value, bool) or not isinstance(value, int | float):
            value = parse_duration(node.text)
            if not math.isfinite(value):
                raise ValueError
            return value
        if not math.isfinite(value) or value < 0:
            raise ValueError
        if value and not self._bare:
            at.warn(node, _BARE.format(text=node.text))
        return float(value)

    def schema(self) -> dict[str, Any]:
        pattern = r"^([0-9]*\.?[0-9]+(ns|us|µs|ms|s|m|h))+$"
        return {
            "anyOf": [{"type": "number", "minimum": 0}, or_variable({"type": "string", "pattern": pattern})]
        }


class Size(ScalarKind):
    """A number of bytes, whose bare number counts megabytes."""

    expected = 'a size in megabytes, or with a unit such as "64MB" or "1GB"'

    def parse(self, node: Scalar, at: Place) -> int:
        found = _SIZE.fullmatch(node.text)
        if found is None:
            raise ValueError
        amount, letter, plain = found.groups()
        size = float(amount) * _SIZES[(letter or plain or "").lower()]
        if not math.isfinite(size):
            raise ValueError
        return int(size)

    def schema(self) -> dict[str, Any]:
        pattern = r"^[0-9.]+\s*([kKmMgGtT]?[iI]?[bB]?)$"
        return {
            "anyOf": [{"type": "number", "minimum": 0}, or_variable({"type": "string", "pattern": pattern})]
        }


def duration() -> Kind:
    """Go's syntax -> float seconds; a bare number is seconds, with a warning unless it is 0."""
    return Duration(bare=False)


def seconds() -> Kind:
    """A duration whose bare number is seconds in RoadRunner too -> float seconds, no warning."""
    return Duration(bare=True)


def size_mb() -> Kind:
    """A size -> int **bytes**; a bare number counts megabytes of 1024 * 1024, as in RoadRunner."""
    return Size()
