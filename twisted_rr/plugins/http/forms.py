"""HTML forms as the trees that one-call workers read (protocol.md 4.3, 4.4), urlencoded bodies included.

Left out: multipart bodies (`multipart`) and the files in them (`uploads`), which use the same trees.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final
from urllib.parse import unquote_to_bytes

from twisted_rr.errors import PoolError

MAX_FORM = 10 << 20
"""Bytes of form fields kept in memory; a form with more is refused (files in it do not count)."""

MAX_FIELDS = 20_000
"""Fields in one form: a tree of millions would hold up every other request."""

MAX_LEVEL = 127
"""Levels of a name; a deeper one is dropped (protocol.md 4.4)."""

MAX_LEVELS = 100_000
"""Levels of all names of one form together: some megabytes of deep ones would make a tree of a gigabyte, and hold up every
other request for as long as that takes."""

_RUNS = re.compile(r"\[+|\]+|[^\[\]]+")
BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_NO_UTF8 = re.compile("[\udc80-\udcff]")
_HTML = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)


class BadForm(PoolError):
    """A form that cannot be read: the client's fault."""

    status: ClassVar[int] = 400
    kind: ClassVar[str] = "BadForm"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class FormTooLarge(BadForm):
    """A form above `MAX_FORM`."""

    status: ClassVar[int] = 413


def text(data: bytes) -> str:
    """*data* as UTF-8, U+FFFD for each byte that is none: what Go makes of it."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return _NO_UTF8.sub("\ufffd", data.decode("utf-8", "surrogateescape"))


EMPTY: Final = b"{}"

# ------------------------------------------------------------------------------- urlencoded


def pairs(data: bytes) -> list[tuple[str, str]]:
    """The fields of an urlencoded form, in order.

    :raises BadForm: for a bad percent escape, a semicolon, or too many fields.
    """
    found: list[tuple[str, str]] = []
    if BAD_ESCAPE.search(data):
        raise BadForm("invalid URL escape in the form")
    if b";" in data:
        raise BadForm("invalid semicolon separator in the form")
    if data.count(b"&") >= MAX_FIELDS:
        raise BadForm(f"more than {MAX_FIELDS} fields in the form")
    for field in data.split(b"&"):
        if field:
            name, _, value = field.partition(b"=")
            found.append((_unquote(name), _unquote(value)))
    return found


def _unquote(data: bytes) -> str:
    if b"+" in data:
        data = data.replace(b"+", b" ")
    return text(unquote_to_bytes(data) if b"%" in data else data)


def check_query(query: bytes) -> None:
    """A form with a query that does not parse is refused as a whole (protocol.md 4.3)."""
    if query and (b";" in query or BAD_ESCAPE.search(query)):
        raise BadForm("the query does not parse")


# ------------------------------------------------------------------------------------ trees


class Branch(dict[str, Any]):
    """A level of a tree; anything else in it is a leaf."""


def group(fields: Iterable[tuple[str, Any]]) -> dict[str, list[Any]]:
    """The values of each name, names in order of their first appearance."""
    grouped: dict[str, list[Any]] = {}
    for name, value in fields:
        values = grouped.get(name)
        if values is None:
            grouped[name] = [value]
        else:
            values.append(value)
    return grouped


def split_name(name: str) -> list[str]:
    """The levels of a field's name: ``a[b][]`` is ``a``, ``b`` and an empty one. Spaces do not count."""
    keys = [""]
    opened = closed = False
    # By runs, never letter by letter: a client may send a name of megabytes.
    for found in _RUNS.finditer(name.replace(" ", "")):
        run = found[0]
        if run[0] == "[":
            opened, closed = True, False
        elif run[0] == "]":
            if opened:
                keys.append("")
            opened, closed = False, True
        elif opened or closed:
            keys.append(run)
            opened = closed = False
        else:
            keys[0] = run  # nothing else follows a run of letters but a bracket
        if len(keys) > MAX_LEVEL:
            break
    return keys


def build(grouped: Mapping[str, Sequence[Any]], pick: int) -> Branch:
    """The tree of *grouped* fields; where one value has room, it is ``values[pick]``.

    Fields take the last (-1), files the first (0). Where RoadRunner's answer depends on the order of a
    Go map, names count here in order of their first appearance.

    :raises BadForm: when a name is a value and a level at once, or the names have too many levels together.
    """
    tree = Branch()
    levels = 0
    for name, values in grouped.items():
        keys = split_name(name)
        levels += len(keys)
        if levels > MAX_LEVELS:
            raise BadForm(f"the names of the form have more than {MAX_LEVELS} levels together")
        if len(keys) <= MAX_LEVEL:
            _mount(tree, keys, values, pick)
    return tree


def _mount(tree: Branch, keys: list[str], values: Sequence[Any], pick: int) -> None:
    last = len(keys) - 1
    for depth, key in enumerate(keys):
        rest = last - depth
        many = rest == 1 and not keys[-1]
        found = tree.get(key)
        if rest == 0 or many:
            if _replaces(found, values, key):
                tree[key] = list(values) if many else values[pick]
            return
        if not isinstance(found, Branch):
            if not _empty(found):
                raise _twice(key)
            found = tree[key] = Branch()
        tree = found


def _replaces(found: Any, values: Sequence[Any], key: str) -> bool:
    """Whether the leaf that comes goes in; an empty one never displaces what is there."""
    if isinstance(found, Branch):
        if not _empty(values):
            raise _twice(key)
        return False
    return _empty(found) or not _empty(values)


def _empty(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, list) and value in ([], [""]))


def _twice(key: str) -> BadForm:
    return BadForm(f"invalid multiple values to key '{key}' in tree")


def to_json(tree: Branch) -> bytes:
    """The tree as Go writes it: names sorted, ``<``, ``>``, ``&`` escaped."""
    encoded = json.dumps(_sorted(tree), ensure_ascii=False, separators=(",", ":"))
    return encoded.translate(_HTML).encode()


def _sorted(value: Any) -> Any:
    if isinstance(value, Branch):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return value


def form_json(fields: Iterable[tuple[str, str]]) -> bytes:
    """A form's body for the worker: its tree.

    Without fields (a form of files alone) that is `EMPTY`. RoadRunner's newer releases send nothing then, and the PHP
    library completes it for protobuf contexts only: with a JSON context it fails on an empty text.

    :raises BadForm:
    """
    return to_json(build(group(fields), -1))
