"""The kind of a settings class: known keys, each read by its own kind, all problems at once.

The dotted short form (``pool.debug: true``) is undone here, because only a section knows which dots
are separators; in free-form maps of values a dot belongs to the name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..keys import Key, keys_of
from ..nodes import Entry, MapNode, Node, is_empty
from ..report import INVALID, Place, suggestion
from .base import Kind


class Section(Kind):
    """A map with the keys of *cls*, read to an instance of it.

    *cls* may have a method ``problems()`` that yields ``(key, reason)`` for combinations which make
    no sense; it is called with the complete instance.
    """

    expected = "a section of keys and values"

    def __init__(self, cls: type[Any]) -> None:
        self.cls = cls

    @property
    def keys(self) -> Mapping[str, Key]:
        """The declared keys."""
        return keys_of(self.cls)

    def read(self, node: Node, at: Place) -> Any:
        if not isinstance(node, MapNode):
            return self.refuse(node, at)
        entries = arranged(node, self.keys, at).entries
        before = len(at.report.problems)
        values = self._values(entries, at)
        self._find_missing(entries, node, at)
        if len(at.report.problems) > before or any(value is INVALID for value in values.values()):
            return INVALID
        return self._made(values, entries, node, at)

    def _values(self, entries: Mapping[str, Entry], at: Place) -> dict[str, Any]:
        values = {}
        for name, entry in entries.items():
            known = self.keys.get(name)
            if known is None:
                at.child(name).reject(entry.mark, "unknown key" + self._hint(name, at))
            elif known.ignored:
                at.child(name).warn(entry.mark, f"has no effect: {known.ignored}")
            elif not is_empty(entry.node):
                values[known.attribute] = known.kind.read(entry.node, at.child(name))
        return values

    def _find_missing(self, entries: Mapping[str, Entry], node: MapNode, at: Place) -> None:
        for name, known in self.keys.items():
            if known.required and name not in entries:
                at.child(name).reject(node, f"is required: {known.kind.expected}")
            elif known.required and is_empty(entries[name].node):
                at.child(name).reject(entries[name].mark, f"is empty, expected {known.kind.expected}")

    def _made(self, values: dict[str, Any], entries: Mapping[str, Entry], node: MapNode, at: Place) -> Any:
        try:
            made = self.cls(**values)
        except ValueError as error:
            return at.reject(node, str(error))
        found = list(made.problems()) if hasattr(made, "problems") else []
        for name, reason in found:
            entry = entries.get(name.split(".")[0])
            (at.child(name) if name else at).reject(node if entry is None else entry.mark, reason)
        return INVALID if found else made

    def _hint(self, name: str, at: Place) -> str:
        deeper = [path for path in _paths(self, 3) if path.rpartition(".")[2] == name]
        if deeper:
            return f"; did you mean {at.child(deeper[0]).path!r}?"
        return suggestion(name, self.keys)

    def child(self, name: str) -> Kind | None:
        known = self.keys.get(name)
        return None if known is None else known.kind

    def schema(self) -> dict[str, Any]:
        properties = {}
        for name, known in self.keys.items():
            one = dict(known.kind.schema())
            if known.doc or known.ignored:
                one["description"] = known.doc or f"Accepted, has no effect: {known.ignored}"
            properties[name] = one
        found = {
            "type": "object",
            "properties": properties,
            "patternProperties": {r"\.": True},  # the dotted short form, which a schema cannot follow
            "additionalProperties": False,
        }
        required = [name for name, known in self.keys.items() if known.required]
        return {**found, "required": required} if required else found


def _paths(section: Section, depth: int) -> Iterable[str]:
    """The dotted paths of all keys below *section*, nearest first."""
    for name, known in section.keys.items():
        yield name
    if depth > 1:
        for name, known in section.keys.items():
            if isinstance(known.kind, Section):
                yield from (f"{name}.{path}" for path in _paths(known.kind, depth - 1))


def arranged(node: MapNode, known: Iterable[str], at: Place) -> MapNode:
    """*node* with dotted keys turned into nested maps, and known keys in lower case.

    RoadRunner's loader reads keys in any case; so do we, where the lower-case name is known.
    """
    names = frozenset(known)
    entries: dict[str, Entry] = {}
    for written, entry in node.entries.items():
        name, dot, rest = written.partition(".")
        if dot and (not name or not rest):
            at.child(written).reject(entry.mark, "a key must not begin or end with a dot")
            continue
        if name not in names and name.lower() in names:
            at.child(name).warn(entry.mark, f"keys are written in lower case: {name.lower()}")
            name = name.lower()
        if dot:
            entry = Entry(entry.mark, MapNode({rest: entry}, entry.mark))
        _join(entries, name, entry, at.child(name))
    return MapNode(entries, node.mark)


def _join(entries: dict[str, Entry], name: str, entry: Entry, at: Place) -> None:
    """Add *entry*; two maps under one name, which dotted keys make, become one."""
    first = entries.get(name)
    if first is None:
        entries[name] = entry
        return
    if not (isinstance(first.node, MapNode) and isinstance(entry.node, MapNode)):
        at.reject(entry.mark, f"is set twice, first at {first.mark}")
        return
    joined = dict(first.node.entries)
    for inner, value in entry.node.entries.items():
        if inner in joined:
            _join(joined, inner, value, at.child(inner))
        else:
            joined[inner] = value
    entries[name] = Entry(first.mark, MapNode(joined, first.node.mark))


def section(cls: type[Any]) -> Kind:
    """A nested settings class -> an instance of it."""
    return Section(cls)
