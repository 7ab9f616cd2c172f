"""Reads YAML text to nodes, each with its line and column.

It composes from PyYAML's events, not with ``yaml.compose``: that recurses (a file of 100,000 brackets
ends the process inside libyaml's binding) and follows YAML 1.1. Anchors, aliases and merge keys are
resolved here, duplicate keys refused, depth and size bounded. JSON files are `json_source`'s subject,
and dotted keys `arrange`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from .nodes import Entry, ListNode, MapNode, Mark, Node, Scalar
from .report import Report

MAX_DEPTH = 64
MAX_NODES = 100_000  # with every alias counted in full, so that aliases of aliases cannot explode
_TEXT = 256  # characters that count as one more value: each alias of a text may have its variables replaced

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CORE = "tag:yaml.org,2002:"
_TEXT_TAGS = frozenset(("!", _CORE + "str"))
_PLAIN_TAGS = frozenset(_CORE + name for name in ("null", "bool", "int", "float"))
_COLLECTION_TAGS = frozenset((_CORE + "map", _CORE + "seq", "!"))


class DocumentError(Exception):
    """The text is no YAML or JSON; nothing of it can be used."""

    def __init__(self, reason: str, mark: Mark, path: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.mark = mark
        self.path = path


def read_yaml(text: str, name: str, report: Report, loader: Any = None) -> Node | None:
    """The one document in *text*; None when there is none or it is no YAML, which *report* then says.

    :param name: the file's name, for places.
    :param loader: a PyYAML loader class, to choose between its two scanners.
    """
    composer = _Composer(name, report)
    try:
        for event in yaml.parse(text, Loader=loader or _LOADER):
            composer.feed(event)
    except DocumentError as fault:
        report.problem(fault.path, fault.reason, fault.mark)
        return None
    except yaml.YAMLError as error:
        report.problem("", *_explained(error, name, text))
        return None
    return composer.document


def _explained(error: yaml.YAMLError, name: str, text: str) -> tuple[str, Mark]:
    """What PyYAML says about broken text, and the place where a reader should look."""
    if isinstance(error, yaml.reader.ReaderError):
        before = text[: error.position]
        line = before.count("\n") + 1
        return f"not YAML: {error.reason}", Mark(name, line, len(before) - before.rfind("\n"))
    assert isinstance(error, yaml.MarkedYAMLError)
    place, reason = error.problem_mark or error.context_mark, str(error.problem or error)
    if error.context_mark is not None and _begins_earlier(reason):
        place = error.context_mark  # the end of the file says nothing; where it began does
    mark = Mark(name) if place is None else Mark(name, place.line + 1, place.column + 1)
    if "cannot start any token" in reason and place is not None:
        return f"not YAML: {_bad_start(text.splitlines()[place.line][place.column])}", mark
    hint = "; inside {} and [] a ${NAME} must be in quotes" if "${" in _line(text, mark.line) else ""
    return f"not YAML: {reason}" + (f" {error.context}" if error.context else "") + hint, mark


def _line(text: str, number: int) -> str:
    return (["", *text.splitlines(), ""])[number] if number else ""


def _bad_start(character: str) -> str:
    if character == "\t":
        return "indentation is made of spaces, not tabs"
    return f"a value that begins with {character!r} must be in quotes"


def _begins_earlier(reason: str) -> bool:
    return "unexpected end of stream" in reason or "could not find expected ':'" in reason


class _Open:
    """A list or map that is being read."""

    def __init__(self, mark: Mark, anchor: str | None) -> None:
        self.mark = mark
        self.anchor = anchor
        self.size = 1


class _OpenList(_Open):
    def __init__(self, mark: Mark, anchor: str | None) -> None:
        super().__init__(mark, anchor)
        self.items: list[Node] = []

    def where(self) -> str:
        return f"[{len(self.items)}]"

    def add(self, node: Node, size: int) -> None:
        self.items.append(node)
        self.size += size

    def close(self) -> Node:
        return ListNode(tuple(self.items), self.mark)


class _OpenMap(_Open):
    def __init__(self, mark: Mark, anchor: str | None, path: str, report: Report) -> None:
        super().__init__(mark, anchor)
        self._path = path
        self._report = report
        self._key: Scalar | None = None
        self._entries: dict[str, Entry] = {}
        self._merged: dict[str, Entry] = {}

    def where(self) -> str:
        return "." + (self._key.text if self._key is not None else "?")

    def add(self, node: Node, size: int) -> None:
        self.size += size
        if self._key is None:
            self._begin(node)
            return
        key, self._key = self._key, None
        if key.text == "<<" and not key.quoted:
            self._merge(node)
        else:
            self._set(key, node)

    def _begin(self, node: Node) -> None:
        if not isinstance(node, Scalar) or not node.text:
            raise DocumentError("a key must be a text, and not empty", node.mark, self._path.lstrip("."))
        self._key = node

    def _set(self, key: Scalar, node: Node) -> None:
        first = self._entries.get(key.text)
        if first is not None:
            path = f"{self._path}.{key.text}".lstrip(".")
            self._report.problem(path, f"is set twice, first in line {first.mark.line}", key.mark)
            return
        self._entries[key.text] = Entry(key.mark, node)

    def _merge(self, node: Node) -> None:
        """A merge key (yaml.org/type/merge): what is written out wins, then the earlier map."""
        for one in node.items if isinstance(node, ListNode) else (node,):
            if not isinstance(one, MapNode):
                raise DocumentError("<< needs a map or a list of maps", one.mark, self._path.lstrip("."))
            self._merged = {**one.entries, **self._merged}

    def close(self) -> Node:
        return MapNode({**self._merged, **self._entries}, self.mark)


class _Composer:
    """Builds the document from events, without recursion."""

    def __init__(self, name: str, report: Report) -> None:
        self._name = name
        self._report = report
        self._stack: list[_OpenList | _OpenMap] = []
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._documents = 0
        self._nodes = 0
        self.document: Node | None = None

    def feed(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.ScalarEvent):
            size = 1 + len(event.value) // _TEXT
            node = self._scalar(event)
            self._count(size, node.mark)
            self._add(node, size, event.anchor)
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._open(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            closed = self._stack.pop()
            self._count(1, closed.mark)
            self._add(closed.close(), closed.size, closed.anchor)
        elif isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise DocumentError("a second document begins; one file is one document", self._mark(event))

    def _mark(self, event: yaml.Event) -> Mark:
        start: Any = event.start_mark
        return Mark(self._name, start.line + 1, start.column + 1)

    @property
    def _path(self) -> str:
        return "".join(frame.where() for frame in self._stack)

    def _scalar(self, event: yaml.ScalarEvent) -> Scalar:
        mark = self._mark(event)
        if event.tag is None:
            return Scalar(event.value, mark, quoted=not event.implicit[0])
        if event.tag not in _TEXT_TAGS | _PLAIN_TAGS:
            raise DocumentError(f"the tag {_short(event.tag)} is not known", mark, self._path.lstrip("."))
        return Scalar(event.value, mark, quoted=event.tag in _TEXT_TAGS)

    def _alias(self, event: yaml.AliasEvent) -> None:
        known = self._anchors.get(str(event.anchor))
        if known is None:
            inside = any(frame.anchor == event.anchor for frame in self._stack)
            why = "stands inside its own anchor" if inside else "has no anchor before it"
            raise DocumentError(f"the alias *{event.anchor} {why}", self._mark(event), self._path.lstrip("."))
        node, size = known
        self._count(size, node.mark)
        self._add(node, size, None)

    def _open(self, event: yaml.CollectionStartEvent) -> None:
        mark, path = self._mark(event), self._path
        if event.tag is not None and event.tag not in _COLLECTION_TAGS:
            raise DocumentError(f"the tag {_short(event.tag)} is not known", mark, path.lstrip("."))
        if len(self._stack) >= MAX_DEPTH:
            raise DocumentError(f"nested more than {MAX_DEPTH} deep", mark)
        is_list = isinstance(event, yaml.SequenceStartEvent)
        self._stack.append(
            _OpenList(mark, event.anchor) if is_list else _OpenMap(mark, event.anchor, path, self._report)
        )

    def _add(self, node: Node, size: int, anchor: str | None) -> None:
        if anchor is not None:
            self._anchors[anchor] = (node, size)
        if self._stack:
            self._stack[-1].add(node, size)
        else:
            self.document = node

    def _count(self, nodes: int, mark: Mark) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise DocumentError(f"more than {MAX_NODES} values, aliases counted in full", mark)


def _short(tag: str) -> str:
    return "!!" + tag.removeprefix(_CORE) if tag.startswith(_CORE) else tag


def from_data(data: object, mark: Mark) -> Node:
    """*data*, as a program made it, as nodes; strings are strings whatever they look like.

    Raises TypeError for what a configuration cannot hold.
    """
    if isinstance(data, Mapping):
        return MapNode({str(key): Entry(mark, from_data(value, mark)) for key, value in data.items()}, mark)
    if isinstance(data, str):
        return Scalar(data, mark, quoted=True)
    if data is None:
        return Scalar("", mark)
    if isinstance(data, bool):
        return Scalar("true" if data else "false", mark)
    if isinstance(data, int | float):
        return Scalar(repr(data), mark)
    if isinstance(data, Sequence) and not isinstance(data, bytes | bytearray):
        return ListNode(tuple(from_data(item, mark) for item in data), mark)
    raise TypeError(f"a configuration cannot hold {type(data).__name__}")
