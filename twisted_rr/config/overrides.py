"""``-o key=value``: one setting from the command line, which wins over every file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from .expand import expand
from .kinds import Kind
from .nodes import Entry, MapNode, Mark, Node, Scalar
from .report import Place, Report
from .source import read_yaml

_QUOTES = "\"'`"


@attrs.frozen
class Override:
    """One setting: its path in segments and its value."""

    path: tuple[str, ...]
    node: Node
    mark: Mark


def parse_override(text: str, environ: Mapping[str, str], report: Report) -> Override | None:
    """*text*, such as ``http.pool.num_workers=4``, or None after *report* was told what is wrong.

    The value is one text whose type the key's kind decides, or a list or map in YAML's flow form
    (``[a, b]``). Quotes and backticks around it are dropped, as RoadRunner does; variables are expanded.
    """
    name, equals, value = text.partition("=")
    name = name.strip()
    mark = Mark(f"-o {name}")
    path = tuple(name.split("."))
    if not equals or not all(path):
        report.problem("", f"expected key=value with a dotted key, not {text!r}", Mark("-o"))
        return None
    node = _value(value.strip(), mark, report)
    if node is None:
        return None
    return Override(path, expand(node, environ, Place(name, report)), mark)


def _value(text: str, mark: Mark, report: Report) -> Node | None:
    if text.startswith(("[", "{")):
        return read_yaml(text, mark.source, report)
    if len(text) >= 2 and text[0] in _QUOTES and text[0] == text[-1]:
        text = text[1:-1]
    # "expanded": the shell has no types, so the kind decides, and an empty text counts as absent.
    return Scalar(text, mark, expanded=True)


def apply(root: MapNode, overrides: Sequence[Override], kind: Kind, report: Report) -> MapNode:
    """*root* with every override in place, the later one winning; *kind* says where dots separate."""
    for override in overrides:
        root = _put(root, override.path, override, kind, Place("", report))
    return root


def _put(node: MapNode, path: tuple[str, ...], override: Override, kind: Kind | None, at: Place) -> MapNode:
    if kind is not None and kind.flat:
        path = (".".join(path),)
    arranged = node if kind is None else kind.arrange(node, at)
    name, rest = path[0], path[1:]
    value = override.node
    if rest:
        present = arranged.entries.get(name)
        below = present.node if present is not None else None
        inner = below if isinstance(below, MapNode) else MapNode({}, override.mark)
        child = kind.child(name) if kind is not None else None
        value = _put(inner, rest, override, child, at.child(name))
    return MapNode({**arranged.entries, name: Entry(override.mark, value)}, node.mark)
