"""Undoes the dotted short form: ``pool.debug: true`` is ``pool: {debug: true}``.

Which dots are separators only a kind can tell; in a free-form map a dot belongs to the name. So this
works on one level, and each kind with keys calls it for its own.
"""

from __future__ import annotations

from collections.abc import Iterable

from .nodes import Entry, MapNode
from .report import Place


def arranged(node: MapNode, known: Iterable[str], at: Place) -> MapNode:
    """*node* with dotted keys turned into nested maps, and *known* keys in lower case.

    RoadRunner's loader reads keys in any case; so do we, where the lower-case name is known.
    Doing it again changes nothing and reports nothing.
    """
    names = frozenset(known)
    entries: dict[str, Entry] = {}
    for written, entry in node.entries.items():
        name, dot, rest = written.partition(".")
        if dot and not (name and rest):
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
        _join(joined, inner, value, at.child(inner))
    entries[name] = Entry(first.mark, MapNode(joined, first.node.mark))
