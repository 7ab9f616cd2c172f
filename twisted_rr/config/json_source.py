"""Reads JSON text to nodes with lines and columns, by RFC 8259.

YAML's scanners do for most JSON, but not for surrogate pairs in escapes or, in pure Python, tabs.
"""

from __future__ import annotations

import json
import re
from json import decoder
from typing import Any

from .nodes import Entry, ListNode, MapNode, Mark, Node, Scalar
from .report import Report
from .source import MAX_DEPTH, MAX_NODES, DocumentError

_SPACE = re.compile(r"[ \t\r\n]*")
_LITERAL = re.compile(r"true|false|null|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")


def read_json(text: str, name: str, report: Report) -> Node | None:
    """The value in *text*; None when it is no JSON, which *report* then says."""
    reader = _Reader(text, name, report)
    try:
        return reader.document()
    except DocumentError as fault:
        report.problem(fault.path, fault.reason, fault.mark)
    except json.JSONDecodeError as error:
        report.problem("", f"not JSON: {error.msg}", Mark(name, error.lineno, error.colno))
    return None


class _Reader:
    def __init__(self, text: str, name: str, report: Report) -> None:
        self._text = text
        self._name = name
        self._report = report
        self._at = 0
        self._nodes = 0
        # Where the line of the last mark began: counted from there, a long file takes no time by its square.
        self._line = 1
        self._begins = 0

    def document(self) -> Node:
        node = self._value("", 0)
        if self._peek():
            raise self._fault("more text after the value")
        return node

    def _peek(self) -> str:
        """The next character that is no white space, not consumed; empty at the end."""
        found = _SPACE.match(self._text, self._at)
        assert found is not None
        self._at = found.end()
        return self._text[self._at : self._at + 1]

    def _mark(self) -> Mark:
        self._line += self._text.count("\n", self._begins, self._at)
        self._begins = max(self._begins, self._text.rfind("\n", self._begins, self._at) + 1)
        return Mark(self._name, self._line, self._at - self._begins + 1)

    def _fault(self, reason: str) -> DocumentError:
        return DocumentError(f"not JSON: {reason}", self._mark())

    def _value(self, path: str, depth: int) -> Node:
        first = self._peek()
        if depth > MAX_DEPTH:
            raise self._fault(f"nested more than {MAX_DEPTH} deep")
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise self._fault(f"more than {MAX_NODES} values")
        if first == "{":
            return self._object(path, depth)
        if first == "[":
            return self._array(path, depth)
        if first == '"':
            mark = self._mark()
            return Scalar(self._string(mark), mark, quoted=True)
        found = _LITERAL.match(self._text, self._at)
        if found is None:
            raise self._fault("expected a value")
        mark, self._at = self._mark(), found.end()
        return Scalar(found.group(), mark)

    def _string(self, mark: Mark) -> str:
        scan: Any = vars(decoder)["scanstring"]  # public by use, unknown to the type stubs
        text, self._at = scan(self._text, self._at + 1, True)
        try:
            text.encode()
        except UnicodeEncodeError:
            raise DocumentError("not JSON: half of a surrogate pair is no character", mark) from None
        return str(text)

    def _array(self, path: str, depth: int) -> Node:
        mark, items = self._mark(), []
        self._at += 1
        if self._peek() != "]":
            items.append(self._value(f"{path}[0]", depth + 1))
            while self._more("]"):
                items.append(self._value(f"{path}[{len(items)}]", depth + 1))
        self._at += 1
        return ListNode(tuple(items), mark)

    def _object(self, path: str, depth: int) -> Node:
        mark = self._mark()
        entries: dict[str, Entry] = {}
        self._at += 1
        if self._peek() != "}":
            self._member(entries, path, depth)
            while self._more("}"):
                self._member(entries, path, depth)
        self._at += 1
        return MapNode(entries, mark)

    def _member(self, entries: dict[str, Entry], path: str, depth: int) -> None:
        if self._peek() != '"':
            raise self._fault("expected a key in double quotes")
        mark = self._mark()
        key = self._string(mark)
        if self._peek() != ":":
            raise self._fault("expected ':'")
        self._at += 1
        below = f"{path}.{key}".lstrip(".")
        node = self._value(below, depth + 1)
        if key in entries:
            self._report.problem(below, f"is set twice, first in line {entries[key].mark.line}", mark)
        else:
            entries[key] = Entry(mark, node)

    def _more(self, end: str) -> bool:
        """Whether another item follows; at the end the closing bracket is left to the caller."""
        found = self._peek()
        if found == end:
            return False
        if found != ",":
            raise self._fault(f"expected ',' or '{end}'")
        self._at += 1
        return True
