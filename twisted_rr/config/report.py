"""Collects every problem and warning of one reading, each with its place and key path.

How they are shown to people and machines is `check`'s subject.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, Final

import attrs

from .. import __version__
from ..errors import ConfigProblem
from .nodes import Mark, Node


class _Invalid:
    """What a kind returns in place of a value after it has reported the problem."""

    def __repr__(self) -> str:
        return "INVALID"


INVALID: Final = _Invalid()


class Report:
    """The problems and warnings found so far.

    :ivar unserved_is_fine: ``compat: {unserved: warn}``, which is known before anything else is read.
    :ivar folder: where relative files are looked for, absolute; empty: wherever the process works by then.
    """

    def __init__(self) -> None:
        self.unserved_is_fine = False
        self.folder = ""
        self.problems: list[ConfigProblem] = []
        self.warnings: list[ConfigProblem] = []
        self._warned: set[tuple[str, str, str]] = set()

    def problem(self, path: str, reason: str, mark: Mark | None) -> None:
        """Record a mistake that keeps the server from starting."""
        self.problems.append(ConfigProblem(path, reason, str(mark or "")))

    def warning(self, path: str, reason: str, mark: Mark | None) -> None:
        """Record something that works but deserves a look; the same one is kept once."""
        found = (path, reason, str(mark or ""))
        if found not in self._warned:
            self._warned.add(found)
            self.warnings.append(ConfigProblem(*found))


@attrs.frozen
class Place:
    """Where a kind is reading: its key path, and the report that takes what it finds."""

    path: str
    report: Report

    def child(self, name: str) -> Place:
        """The place of key *name* below this one."""
        return Place(f"{self.path}.{name}" if self.path else name, self.report)

    def item(self, index: int) -> Place:
        """The place of a list's item."""
        return Place(f"{self.path}[{index}]", self.report)

    def reject(self, at: Node | Mark, reason: str) -> Any:
        """Record a problem; returns `INVALID`, so that a kind can return it at once."""
        self.report.problem(self.path, reason, at if isinstance(at, Mark) else at.mark)
        return INVALID

    def unserved(self, at: Node | Mark, what: str = "", instead: str = "") -> Any:
        """What RoadRunner serves and this server does not: None after a warning where ``compat`` says so, else INVALID.

        *what* is told where the key says too little, *instead* what may take its place.
        """
        subject = f"{what} is" if what else "is"
        reason = f"{subject} not served by twisted_rr {__version__}"
        hint = f" ({instead})" if instead else ""
        if self.report.unserved_is_fine:
            self.warn(at, f"{reason} and has no effect{hint}")
            return None
        return self.reject(at, f"{reason}{hint}; compat: {{unserved: warn}} starts without it")

    def warn(self, at: Node | Mark, reason: str) -> None:
        """Record a warning."""
        self.report.warning(self.path, reason, at if isinstance(at, Mark) else at.mark)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that *name* was most likely meant to be."""
    names = {candidate.lower(): candidate for candidate in known}
    found = difflib.get_close_matches(name.lower(), list(names), n=1, cutoff=0.6)
    return names[found[0]] if found else None


def suggestion(name: str, known: Iterable[str]) -> str:
    """The second half of a sentence about an unknown name: what it could have been."""
    names = sorted(known)
    close = nearest(name, names)
    if close is not None:
        return f"; did you mean {close!r}?"
    return f"; known here: {', '.join(names)}" if 0 < len(names) <= 16 else ""
