"""The tree of a configuration text: scalars, lists and maps that remember where they were written.

YAML 1.2's core rules for plain scalars are here, because PyYAML knows those of YAML 1.1 only
(there ``on`` is true, ``010`` is eight and ``22:30`` is 1350). Reading text is `source`'s subject.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

import attrs

_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_TRUE = frozenset(("true", "True", "TRUE"))
_FALSE = frozenset(("false", "False", "FALSE"))
_INTEGER = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"[-+]?\.(inf|Inf|INF)")
_NAN = frozenset((".nan", ".NaN", ".NAN"))
_MAX_DIGITS = 40  # more digits than any setting has; keeps int() away from its quadratic cost

Value: TypeAlias = "None | bool | int | float | str"


@attrs.frozen
class Mark:
    """A place: a file with line and column (both from 1), or only the name of what it came from."""

    source: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


@attrs.frozen
class Scalar:
    """One value as it was written.

    :ivar quoted: it was in quotes, a block scalar or tagged as text, so it is a string.
    :ivar expanded: part of it came from a variable, so its type is open even in quotes.
    """

    text: str
    mark: Mark
    quoted: bool = False
    expanded: bool = False

    @property
    def value(self) -> Value:
        """What YAML 1.2's core schema makes of it."""
        return self.text if self.quoted else resolve(self.text)

    @property
    def empty(self) -> bool:
        """Nothing was written: null, or a variable that turned out empty."""
        return self.value is None or (self.expanded and self.text == "")


@attrs.frozen
class ListNode:
    """A sequence."""

    items: tuple[Node, ...]
    mark: Mark


@attrs.frozen
class Entry:
    """One key of a map with its value; *mark* is the key's place."""

    mark: Mark
    node: Node


@attrs.frozen
class MapNode:
    """A mapping; keys are text as written, each once."""

    entries: Mapping[str, Entry]
    mark: Mark


Node: TypeAlias = "Scalar | ListNode | MapNode"


def resolve(text: str) -> Value:
    """The value of a plain scalar by YAML 1.2, core schema (section 10.3.2)."""
    if text in _NULL:
        return None
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    return _number(text)


def _number(text: str) -> int | float | str:
    if len(text) > _MAX_DIGITS:
        return text
    if _INTEGER.fullmatch(text):
        return int(text)
    if _OCTAL.fullmatch(text):
        return int(text[2:], 8)
    if _HEX.fullmatch(text):
        return int(text, 16)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _INFINITE.fullmatch(text):
        return float(text.replace(".", ""))
    return float("nan") if text in _NAN else text


def is_empty(node: Node) -> bool:
    """Whether *node* stands for nothing, so that the key counts as absent (as in RoadRunner)."""
    return isinstance(node, Scalar) and node.empty


def describe(node: Node) -> str:
    """A few words that tell a reader what was found, for error texts."""
    if isinstance(node, MapNode):
        return "a map"
    if isinstance(node, ListNode):
        return "a list"
    value = node.value
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return f"the boolean {node.text}"
    if isinstance(value, int | float):
        return f"the number {node.text}"
    return f"the text {_shortened(value)!r}"


def _shortened(text: str, limit: int = 60) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."


def to_plain(node: Node) -> Any:
    """*node* as dicts, lists and scalars, without places."""
    if isinstance(node, MapNode):
        return {key: to_plain(entry.node) for key, entry in node.entries.items()}
    if isinstance(node, ListNode):
        return [to_plain(item) for item in node.items]
    return node.value
