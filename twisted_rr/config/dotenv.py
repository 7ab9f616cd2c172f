"""Reads dotenv files: ``NAME=value`` lines, as godotenv (which RoadRunner uses) understands them.

Nothing here touches the process's environment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from .expand import Expansion, ExpansionError
from .nodes import Mark
from .report import Report

_ASSIGNMENT = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.]*)[ \t]*[=:][ \t]*")
_SINGLE = re.compile(r"'([^']*)'")
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_BARE = re.compile(r"[^\r\n]*")
_REST = re.compile(r"[ \t]*(?:#[^\n]*)?\r?(?:\n|\Z)")
_BLANK = re.compile(r"\s*(?:#[^\n]*(?:\n|\Z))?")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "$": "$$"}  # the dollar is taken out by the expansion


def read_dotenv(text: str, name: str, environ: Mapping[str, str], report: Report) -> dict[str, str]:
    """The variables that *text* adds to *environ*; those already set there are left out.

    Values in single quotes are literal; others may use variables of *environ* and of earlier lines.
    """
    added: dict[str, str] = {}
    at = _skip_blank(text, 0)
    while at < len(text):
        line = text.count("\n", 0, at) + 1
        try:
            variable, value, at = _assignment(text, at, {**added, **environ})
        except ValueError as error:
            report.problem("", str(error), Mark(name, line, 1))
            at = (text.find("\n", at) + 1) or len(text)
        else:
            added[variable] = value
        at = _skip_blank(text, at)
    return {variable: value for variable, value in added.items() if variable not in environ}


def _skip_blank(text: str, at: int) -> int:
    """Past white space and lines of comment."""
    while True:
        found = _BLANK.match(text, at)
        assert found is not None
        if found.end() == at:
            return at
        at = found.end()


def _assignment(text: str, at: int, environ: Mapping[str, str]) -> tuple[str, str, int]:
    found = _ASSIGNMENT.match(text, at)
    if found is None:
        raise ValueError("expected NAME=value")
    value, at = _value(text, found.end(), environ)
    rest = _REST.match(text, at)
    if rest is None:
        raise ValueError("only a comment may follow the closing quote")
    return found.group(1), value, rest.end()


def _value(text: str, at: int, environ: Mapping[str, str]) -> tuple[str, int]:
    quote = text[at : at + 1]
    if quote in ("'", '"') and quote:
        found = (_SINGLE if quote == "'" else _DOUBLE).match(text, at)
        if found is None:
            raise ValueError("the closing quote is missing")
        if quote == "'":
            return found.group(1), found.end()
        unescaped = _ESCAPE.sub(lambda one: _ESCAPED.get(one[1], one[1]), found.group(1))
        return _expanded(unescaped, environ), found.end()
    found = _BARE.match(text, at)
    assert found is not None
    return _expanded(re.split(r"(?:^|\s)#", found.group())[0].strip(), environ), found.end()


def _expanded(text: str, environ: Mapping[str, str]) -> str:
    try:
        return Expansion(environ).text(text)
    except ExpansionError as fault:
        raise ValueError(str(fault)) from None
