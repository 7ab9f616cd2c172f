"""Writes a configuration as YAML, each key with a comment that says what it does.

What is written reads back the same, by YAML 1.1's rules as well as 1.2's, so that RoadRunner
understands it too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml
from yaml.resolver import Resolver

from .config import Config
from .kinds import Kind
from .kinds.section import Section
from .masking import masked
from .nodes import resolve
from .registry import Registry

_BARE = re.compile(r"[A-Za-z0-9_./$][A-Za-z0-9_./:+@=~$ -]*")
_YAML_1_1 = Resolver()


def render(
    source: Config | Mapping[str, Any],
    registry: Registry,
    *,
    comments: bool = True,
    variables: bool = False,
    secrets: bool = False,
) -> str:
    """*source* as YAML text.

    :param comments: put what each section and key is for above it.
    :param variables: texts hold ``${NAME}`` on purpose; otherwise a ``$`` is written ``$$``.
    :param secrets: show a `Config`'s secrets; a dict is the caller's own and shown as it is.
    """
    data = source
    if isinstance(source, Config):
        data = source.data if secrets else masked(source.data, registry)
    assert isinstance(data, Mapping)
    return "".join(_Writer(comments, variables).root(data, registry))


class _Writer:
    def __init__(self, comments: bool, variables: bool) -> None:
        self._comments = comments
        self._variables = variables

    def root(self, data: Mapping[str, Any], registry: Registry) -> Iterable[str]:
        for index, (name, value) in enumerate(data.items()):
            known = registry.sections.get(name)
            if index and self._comments:
                yield "\n"
            yield from self._comment(known.doc if known is not None else "", "")
            yield from self._entry(name, value, known.kind if known is not None else None, "")

    def _comment(self, doc: str, indent: str) -> Iterable[str]:
        if doc and self._comments:
            yield f"{indent}# {doc.replace('``', '')}\n"

    def _entry(self, name: str, value: Any, kind: Kind | None, indent: str) -> Iterable[str]:
        key = self._text(name, is_value=False)
        if isinstance(value, Mapping) and value:
            yield f"{indent}{key}:\n"
            yield from self._map(value, kind, indent + "  ")
        elif isinstance(value, Sequence) and not isinstance(value, str) and value:
            yield f"{indent}{key}:\n"
            for item in value:
                yield from self._item(item, indent + "  ")
        else:
            yield f"{indent}{key}: {self._single(value)}\n"

    def _map(self, data: Mapping[str, Any], kind: Kind | None, indent: str) -> Iterable[str]:
        for name, value in data.items():
            declared = kind.keys.get(name) if isinstance(kind, Section) else None
            yield from self._comment(declared.doc if declared is not None else "", indent)
            yield from self._entry(name, value, None if kind is None else kind.child(name), indent)

    def _item(self, value: Any, indent: str) -> Iterable[str]:
        if isinstance(value, Mapping) and value:
            lines = list(self._map(value, None, indent + "  "))
            yield f"{indent}- {lines[0].lstrip()}"
            yield from lines[1:]
        else:
            yield f"{indent}- {self._single(value)}\n"

    def _single(self, value: Any) -> str:
        """*value* in one line; lists and maps inside a list are written in flow form."""
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, Mapping):
            pairs = (
                f"{self._text(key, is_value=False)}: {self._single(inner)}" for key, inner in value.items()
            )
            return "{" + ", ".join(pairs) + "}"
        if isinstance(value, Sequence):
            return "[" + ", ".join(self._single(inner) for inner in value) + "]"
        return "null" if value is None else json.dumps(value)

    def _text(self, text: str, is_value: bool = True) -> str:
        if is_value and not self._variables:
            text = text.replace("$", "$$")
        return text if _is_plain(text) else _quoted(text)


def _is_plain(text: str) -> bool:
    """Whether *text* needs no quotes to be read as this text, in YAML 1.2 and in 1.1."""
    if not _BARE.fullmatch(text) or ": " in text or text.endswith((":", " ")):
        return False
    old = _YAML_1_1.resolve(yaml.ScalarNode, text, (True, False))
    return isinstance(resolve(text), str) and old == "tag:yaml.org,2002:str"


def _quoted(text: str) -> str:
    # JSON's strings are YAML's, but for DEL and what lies outside of UTF-16's first plane in escapes.
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(one if one.isprintable() else _escaped(one) for one in quoted)


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
