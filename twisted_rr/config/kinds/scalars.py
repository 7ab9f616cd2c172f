"""Kinds of single values without a unit: booleans, numbers, texts, choices, addresses."""

from __future__ import annotations

import math
import os
import re
from typing import Any

from ..nodes import Node, Scalar, resolve, to_plain
from ..report import Place, nearest
from .base import Kind, ScalarKind, or_variable

# What Go's strconv.ParseBool takes: a variable has no YAML type, so RoadRunner's rule counts there.
_TRUE = frozenset(("1", "t", "true"))
_FALSE = frozenset(("0", "f", "false"))
_IN_QUOTES = "it is in quotes, which makes it a text; it is used all the same, as RoadRunner does"


class Boolean(ScalarKind):
    """``true`` or ``false``."""

    expected = "true or false"

    def parse(self, node: Scalar, at: Place) -> bool:
        value = resolve(node.text)
        if isinstance(value, bool):
            if node.quoted and not node.expanded:
                at.warn(node, _IN_QUOTES)
            return value
        if node.expanded and node.text.lower() in _TRUE | _FALSE:
            return node.text.lower() in _TRUE
        raise ValueError("YAML 1.2 has no yes, no, on, off" if node.text.lower() in _YAML_1_1 else "")

    def schema(self) -> dict[str, Any]:
        return or_variable({"type": "boolean"})


_YAML_1_1 = frozenset(("yes", "no", "on", "off", "y", "n"))


class Number(ScalarKind):
    """An integer or, when *whole* is False, any finite number, from *low* to *high*."""

    def __init__(self, low: float | None, high: float | None, whole: bool) -> None:
        self._low = low
        self._high = high
        self._whole = whole
        self.expected = ("an integer" if whole else "a number") + _range(low, high)

    def parse(self, node: Scalar, at: Place) -> int | float:
        value = resolve(node.text)
        if isinstance(value, bool) or not isinstance(value, int if self._whole else int | float):
            raise ValueError
        assert isinstance(value, int | float)
        if not math.isfinite(value) or not self._within(value):
            raise ValueError
        if node.quoted and not node.expanded:
            at.warn(node, _IN_QUOTES)
        return value if self._whole else float(value)

    def _within(self, value: float) -> bool:
        return (self._low is None or value >= self._low) and (self._high is None or value <= self._high)

    def schema(self) -> dict[str, Any]:
        found: dict[str, Any] = {"type": "integer" if self._whole else "number"}
        if self._low is not None:
            found["minimum"] = self._low
        if self._high is not None:
            found["maximum"] = self._high
        return or_variable(found)


def _range(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f" from {low} to {high}"
    if low is not None:
        return f" of at least {low}"
    return "" if high is None else f" of at most {high}"


class Text(ScalarKind):
    """A string; numbers and booleans are taken as they were written."""

    def __init__(self, expected: str, pattern: str | None) -> None:
        self.expected = expected
        self._pattern = re.compile(pattern) if pattern is not None else None

    def parse(self, node: Scalar, at: Place) -> str:
        if "\0" in node.text:
            raise ValueError("it holds a NUL byte")
        if self._pattern is not None and not self._pattern.fullmatch(node.text):
            raise ValueError
        return "" if node.empty else node.text

    def schema(self) -> dict[str, Any]:
        if self._pattern is None:
            return {"type": ["string", "number", "boolean"]}
        return or_variable({"type": "string", "pattern": f"^(?:{self._pattern.pattern})$"})


class Path(Text):
    """A file's name, not empty."""

    def __init__(self) -> None:
        super().__init__("a path", r"(?s:.+)")

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "minLength": 1}


class File(Path):
    """A file's path, from the folder that relative ones are resolved from; or one of a few words."""

    def __init__(self, words: tuple[str, ...]) -> None:
        super().__init__()
        self._words = words

    def parse(self, node: Scalar, at: Place) -> str:
        text = super().parse(node, at)
        # Joined, not tidied: a folder that is a link is looked through when the file is opened.
        return text if text in self._words else os.path.join(at.report.folder, text)


class Choice(ScalarKind):
    """One of a few words, in any case."""

    def __init__(self, words: tuple[str, ...]) -> None:
        self._words = words
        self.expected = "one of " + ", ".join(words)

    def parse(self, node: Scalar, at: Place) -> str:
        for word in self._words:
            if word.lower() == node.text.lower():
                return word
        close = nearest(node.text, self._words)
        raise ValueError(f"did you mean {close!r}?" if close else "")

    def schema(self) -> dict[str, Any]:
        return or_variable({"enum": list(self._words)})


class Address(ScalarKind):
    """Where to listen or connect: host and port, or a unix socket."""

    def __init__(self, words: tuple[str, ...]) -> None:
        self._words = words
        self.expected = ", ".join((*words, "host:port, :port, [ipv6]:port, tcp://host:port or unix://path"))

    def parse(self, node: Scalar, at: Place) -> str:
        text = node.text
        if text in self._words:
            return text
        if text.startswith("unix://"):
            _check_socket_path(text.removeprefix("unix://"))
        else:
            _check_host_and_port(text.removeprefix("tcp://"))
        return text

    def schema(self) -> dict[str, Any]:
        return {"type": "string"}


_SUN_PATH = 107  # bytes of a unix socket's path on Linux, without the closing NUL


def _check_socket_path(path: str) -> None:
    if not path or "\0" in path:
        raise ValueError("the socket's path is missing")
    if len(path.encode()) > _SUN_PATH:
        raise ValueError(f"the socket's path is longer than {_SUN_PATH} bytes")


def _check_host_and_port(text: str) -> None:
    host, colon, port = text.rpartition(":")
    if "://" in text:
        raise ValueError("only tcp:// and unix:// are known")
    if not colon:
        raise ValueError("the port is missing")
    if not (port.isascii() and port.isdigit()) or int(port[:6]) > 65535:
        raise ValueError("a port is a number from 0 to 65535")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ValueError("an IPv6 address stands in brackets")
    if any(character.isspace() for character in host):
        raise ValueError("the host holds a space")


class FileMode(ScalarKind):
    """Permission bits, always octal, with or without a leading ``0`` or ``0o``."""

    expected = "permission bits in octal, such as 0644"
    _pattern = re.compile(r"(?:0o)?0*[0-7]{1,4}")

    def parse(self, node: Scalar, at: Place) -> int:
        if not self._pattern.fullmatch(node.text):
            raise ValueError
        return int(node.text.removeprefix("0o"), 8)

    def schema(self) -> dict[str, Any]:
        return {"type": ["string", "integer"]}


class AnyValue(Kind):
    """Anything, as dicts, lists and scalars; for sections that something else will check."""

    expected = "any value"

    def read(self, node: Node, at: Place) -> Any:
        return to_plain(node)

    def schema(self) -> dict[str, Any]:
        return {}


def boolean() -> Kind:
    """``true`` or ``false`` -> bool."""
    return Boolean()


def integer(min: int | None = None, max: int | None = None) -> Kind:
    """A whole number within the bounds, both inclusive -> int."""
    return Number(min, max, whole=True)


def number(min: float | None = None, max: float | None = None) -> Kind:
    """A finite number within the bounds, both inclusive -> float."""
    return Number(min, max, whole=False)


def string(expected: str = "a text", pattern: str | None = None) -> Kind:
    """Text -> str. With *pattern* the whole text must match; *expected* then says it in words."""
    return Text(expected, pattern)


def path() -> Kind:
    """A file's name -> str, as written: what relative ones are relative to is its reader's subject."""
    return Path()


def file(*words: str) -> Kind:
    """A file's path -> str. Relative ones are the configuration's: from its folder, or the one of ``serve -w``.

    *words* stay as they are.
    """
    return File(words)


def choice(*words: str) -> Kind:
    """One of *words* -> the word as given here; the case of the text does not matter."""
    return Choice(words)


def address(*words: str) -> Kind:
    """An address -> str, as written; *words* are further texts allowed, such as ``pipes``."""
    return Address(words)


def file_mode() -> Kind:
    """Permission bits -> int; ``0755``, ``755`` and ``0o755`` are the same."""
    return FileMode()


def any_value() -> Kind:
    """Whatever is written -> dict, list, str, int, float, bool or None."""
    return AnyValue()
