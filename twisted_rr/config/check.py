"""``twisted-rr config check``: every problem and warning at once, for people or as JSON.

Nothing is started, bound or written.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..errors import ConfigError, ConfigProblem
from .config import Config
from .load import attempt
from .registry import Registry

_WHERE = re.compile(r"(.*):([0-9]+):([0-9]+)", re.DOTALL)


def check(
    source: str | os.PathLike[str] | Mapping[str, Any],
    registry: Registry,
    overrides: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    *,
    directory: str | os.PathLike[str] = ".",
    workdir: str | os.PathLike[str] | None = None,
    dotenv: str | None = None,
    as_json: bool = False,
    whole: Callable[[Config], Iterable[str]] = lambda config: (),
) -> tuple[int, str]:
    """The exit code, 0 or 1, and the text to print; the arguments are those of `load`.

    :param whole: looks at a configuration whose keys are all right: gives warnings, raises `ConfigError`.
    """
    config, report = attempt(
        source, registry, overrides, environ, directory=directory, workdir=workdir, dotenv=dotenv
    )
    if config is not None:
        try:
            report.warnings += [ConfigProblem("", warning) for warning in whole(config)]
        except ConfigError as error:
            report.problems += error.problems
    name = "<memory>" if isinstance(source, Mapping) else os.fspath(source)
    name = "<text>" if "\n" in name else name
    told = _json if as_json else _text
    return (1 if report.problems else 0), told(name, report.problems, report.warnings)


def _text(name: str, errors: Sequence[ConfigProblem], warnings: Sequence[ConfigProblem]) -> str:
    lines = [f"error: {problem}" for problem in errors]
    lines += [f"warning: {problem}" for problem in warnings]
    if errors:
        lines.append(f"{name}: {_count(len(errors), 'error')}; nothing would start")
    elif warnings:
        lines.append(f"{name}: valid, with {_count(len(warnings), 'warning')}")
    else:
        lines.append(f"{name}: valid")
    return "\n".join(lines)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _json(name: str, errors: Sequence[ConfigProblem], warnings: Sequence[ConfigProblem]) -> str:
    found = {
        "file": name,
        "valid": not errors,
        "errors": [_as_dict(problem) for problem in errors],
        "warnings": [_as_dict(problem) for problem in warnings],
    }
    return json.dumps(found, indent=2)


def _as_dict(problem: ConfigProblem) -> dict[str, Any]:
    """A problem with its place in parts; line and column are null when it is in no file."""
    place = _WHERE.fullmatch(problem.where)
    source, line, column = place.groups() if place is not None else (problem.where, None, None)
    return {
        "file": source,
        "line": int(line) if line else None,
        "column": int(column) if column else None,
        "path": problem.path,
        "message": problem.reason,
    }
