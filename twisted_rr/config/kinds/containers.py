"""Kinds that hold others: lists, free-form maps, commands, environments."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from typing import Any

from ..arrange import arranged
from ..nodes import ListNode, MapNode, Node, Scalar, is_empty
from ..report import INVALID, Place
from .base import Kind, ScalarKind, or_variable
from .scalars import Text


class ListOf(Kind):
    """A list of *item*; a single value is split at its commas, as RoadRunner does."""

    def __init__(self, item: Kind, separator: str | None) -> None:
        self._item = item
        self._separator = separator
        self.expected = f"a list, each of it {item.expected}"

    def read(self, node: Node, at: Place) -> Any:
        items = self._items(node)
        if items is None:
            return self.refuse(node, at)
        values = [self._item.read(item, at.item(index)) for index, item in enumerate(items)]
        return INVALID if any(value is INVALID for value in values) else tuple(values)

    def _items(self, node: Node) -> list[Node] | None:
        if isinstance(node, ListNode):
            return list(node.items)
        if isinstance(node, MapNode) or not isinstance(self._item, ScalarKind):
            return None
        pieces = (piece.strip() for piece in node.text.split(self._separator))
        return [Scalar(piece, node.mark, node.quoted, node.expanded) for piece in pieces if piece]

    def schema(self) -> dict[str, Any]:
        array = {"type": "array", "items": self._item.schema()}
        return {"anyOf": [array, {"type": "string"}]} if isinstance(self._item, ScalarKind) else array


class Distinct(Kind):
    """A list of sections of which no two may be the same by *what*; the second is refused where it stands."""

    def __init__(self, item: Kind, what: Callable[[Any], Hashable], text: str) -> None:
        self._list = ListOf(item, None)
        self._what = what
        self._text = text
        self.expected = self._list.expected

    def read(self, node: Node, at: Place) -> Any:
        values = self._list.read(node, at)
        if values is INVALID or not isinstance(node, ListNode):
            return values
        seen: dict[Hashable, Node] = {}
        good = True
        for index, (value, item) in enumerate(zip(values, node.items, strict=True)):
            first = seen.setdefault(self._what(value), item)
            if first is not item:
                at.item(index).reject(item, self._text.format(first=_place_of(first)))
                good = False
        return values if good else INVALID

    def schema(self) -> dict[str, Any]:
        return self._list.schema()


def _place_of(node: Node) -> str:
    if isinstance(node, MapNode) and node.entries:
        mark = next(iter(node.entries.values())).mark
        return f"line {mark.line}" if mark.line else str(mark)
    return str(node.mark)


class MapOf(Kind):
    """Names of the user's choice, each with a value of one kind."""

    def __init__(self, value: Kind, names: str | None) -> None:
        self._value = value
        self._names = re.compile(names) if names is not None else None
        self.flat = isinstance(value, ScalarKind)
        self.expected = f"a map of names, each with {value.expected}"

    def read(self, node: Node, at: Place) -> Any:
        if not isinstance(node, MapNode):
            return self.refuse(node, at)
        values = {}
        for name, entry in self.arrange(node, at).entries.items():
            if self._names is not None and not self._names.fullmatch(name):
                values[name] = at.child(name).reject(entry.mark, "this name is not allowed here")
            else:
                values[name] = self._value.read(entry.node, at.child(name))
        return INVALID if any(value is INVALID for value in values.values()) else values

    def arrange(self, node: MapNode, at: Place) -> MapNode:
        return node if self.flat else arranged(node, (), at)

    def child(self, name: str) -> Kind:
        return self._value

    def schema(self) -> dict[str, Any]:
        found = {"type": "object", "additionalProperties": self._value.schema()}
        if self._names is not None:
            found["propertyNames"] = {"pattern": f"^(?:{self._names.pattern})$"}
        return found


class Command(Kind):
    """A program with its arguments: a list, or a string split at white space without quoting rules."""

    expected = "a command line, or a list of its words"

    def read(self, node: Node, at: Place) -> Any:
        if isinstance(node, MapNode):
            return self.refuse(node, at)
        words: Any
        if isinstance(node, Scalar):
            words = () if node.empty else tuple(node.text.split())
        else:
            words = ListOf(Text("a word of the command", None), None).read(node, at)
        if words is INVALID:
            return INVALID
        if not words or not words[0]:
            return at.reject(node, "the command is empty")
        return at.reject(node, "the command holds a NUL byte") if "\0" in "".join(words) else words

    def schema(self) -> dict[str, Any]:
        words = {"type": ["string", "number", "boolean"]}
        return {"anyOf": [{"type": "string"}, {"type": "array", "items": words, "minItems": 1}]}


class Environment(MapOf):
    """Environment variables: a map, or RoadRunner's list of maps; names become upper case."""

    def __init__(self) -> None:
        super().__init__(_Variable(), r"[^=\0]+")
        self.expected = "a map of variable names and values"

    def read(self, node: Node, at: Place) -> Any:
        if isinstance(node, ListNode):
            values: Any = {}
            for index, item in enumerate(node.items):
                found = self.read(item, at.item(index))
                values = INVALID if INVALID in (found, values) else {**values, **found}
            return values
        found = super().read(node, at)
        return found if found is INVALID else {name.upper(): value for name, value in found.items()}

    def schema(self) -> dict[str, Any]:
        one = super().schema()
        return {"anyOf": [one, {"type": "array", "items": one}]}


class _Variable(ScalarKind):
    """A variable's value. RoadRunner turns booleans into 1 and 0 and applications test for that."""

    expected = "a text, a number or a boolean"

    def parse(self, node: Scalar, at: Place) -> str:
        if "\0" in node.text:
            raise ValueError("it holds a NUL byte")
        if is_empty(node):
            return ""
        value = node.value
        if isinstance(value, bool) and not node.expanded:
            return str(int(value))
        return node.text

    def schema(self) -> dict[str, Any]:
        return or_variable({"type": ["string", "number", "boolean", "null"]})


def list_of(kind: Kind, separator: str | None = ",") -> Kind:
    """A list -> tuple; one plain value is split at *separator* (None: at white space)."""
    return ListOf(kind, separator)


def distinct(section: Kind, what: Callable[[Any], Hashable], text: str) -> Kind:
    """A list of sections -> tuple; one that is the same as another before it, by *what*, is an error with this *text*.

    ``{first}`` in it is where the other stands.
    """
    return Distinct(section, what, text)


def map_of(kind: Kind, names: str | None = None) -> Kind:
    """A free-form map -> dict (do not change it); *names* is a pattern every name must match."""
    return MapOf(kind, names)


def command() -> Kind:
    """A command -> tuple of words, not empty."""
    return Command()


def environment() -> Kind:
    """Environment variables -> dict of str: names in upper case, true and false as 1 and 0 (as RoadRunner)."""
    return Environment()
