"""The kind of a settings class: known keys, each read by its own kind, all problems at once.

Keys that RoadRunner reads without effect are accepted with a warning; any other key is an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..arrange import arranged
from ..keys import Key, keys_of
from ..nodes import Entry, MapNode, Node, is_empty
from ..report import INVALID, Place, suggestion
from .base import Kind


class Section(Kind):
    """A map with the keys of *cls*, read to an instance of it.

    *cls* may have a method ``problems()`` that yields ``(key, reason)`` for combinations which make
    no sense; it is called with the complete instance. ``warnings()`` likewise yields what works but deserves a
    look.
    """

    expected = "a section of keys and values"

    def __init__(self, cls: type[Any]) -> None:
        self.cls = cls

    @property
    def keys(self) -> Mapping[str, Key]:
        """The declared keys, by their YAML names."""
        return keys_of(self.cls)

    def read(self, node: Node, at: Place) -> Any:
        if not isinstance(node, MapNode):
            return self.refuse(node, at)
        before = len(at.report.problems)
        entries = self.arrange(node, at).entries
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
        if not found and hasattr(made, "warnings"):
            for name, reason in made.warnings():
                entry = entries.get(name.split(".")[0])
                (at.child(name) if name else at).warn(node if entry is None else entry.mark, reason)
        return INVALID if found else made

    def _hint(self, name: str, at: Place) -> str:
        deeper = [path for path in _paths(self, 3) if path.rpartition(".")[2] == name]
        if deeper:
            return f"; did you mean {at.child(deeper[0]).path!r}?"
        return suggestion(name, self.keys)

    def arrange(self, node: MapNode, at: Place) -> MapNode:
        return arranged(node, self.keys, at)

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
    yield from section.keys
    if depth > 1:
        for name, known in section.keys.items():
            if isinstance(known.kind, Section):
                yield from (f"{name}.{path}" for path in _paths(known.kind, depth - 1))


def section(cls: type[Any]) -> Kind:
    """A nested settings class -> an instance of it."""
    return Section(cls)
