"""Variables in values: ``${NAME}``, ``$NAME``, ``${NAME:-default}``; ``$$`` is a dollar sign.

As in RoadRunner an unset variable is the empty text, and a default also stands for an empty one.
Unlike there every form may be mixed in one value, a default may hold variables, unknown forms are
errors, and a ``$`` that no name follows stays (a regular expression, a hashed password).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import attrs

from .nodes import Entry, ListNode, MapNode, Node, Scalar
from .report import Place

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MAX_DEPTH = 16
_MAX_LENGTH = 1 << 20  # characters: variables made of variables, in a dotenv file, double with each line


class ExpansionError(ValueError):
    """A ``${`` that is not one of the known forms."""


@attrs.define
class Expansion:
    """The variables of one environment, applied to texts.

    :ivar unset: the names that had neither a value nor a default, since it was last cleared.
    """

    environ: Mapping[str, str]
    unset: list[str] = attrs.Factory(list)

    def text(self, text: str, depth: int = 0) -> str:
        """*text* with its variables replaced; raises `ExpansionError`."""
        if depth > _MAX_DEPTH:
            raise ExpansionError(f"defaults are nested more than {_MAX_DEPTH} deep")
        done, at, length = [], 0, 0
        while (dollar := text.find("$", at)) >= 0:
            done.append(text[at:dollar])
            piece, at = self._variable(text, dollar + 1, depth)
            done.append(piece)
            length += len(piece)
            if length > _MAX_LENGTH:
                raise ExpansionError(f"its variables are more than {_MAX_LENGTH} characters")
        done.append(text[at:])
        return "".join(done)

    def _variable(self, text: str, at: int, depth: int) -> tuple[str, int]:
        """What stands for the variable whose ``$`` is before *at*, and where the text goes on."""
        if text.startswith("$", at):
            return "$", at + 1
        if text.startswith("{", at):
            return self._braced(text, at + 1, depth)
        name = _NAME.match(text, at)
        return ("$", at) if name is None else (self._value(name.group()), name.end())

    def _braced(self, text: str, at: int, depth: int) -> tuple[str, int]:
        end = _closing(text, at)
        name = _NAME.match(text, at)
        after = at if name is None else name.end()
        if name is not None and after == end:
            return self._value(name.group()), end + 1
        if name is None or not text.startswith(":-", after):
            raise ExpansionError(f"${{{text[at:end]}}}: only ${{NAME}} and ${{NAME:-default}} are known")
        found = self.environ.get(name.group(), "")
        return found or self.text(text[after + 2 : end], depth + 1), end + 1

    def _value(self, name: str) -> str:
        if name not in self.environ:
            self.unset.append(name)
        return self.environ.get(name, "")


def _closing(text: str, at: int) -> int:
    """Where the brace that was opened before *at* is closed; inner ``${`` have their own."""
    depth = 0
    while at < len(text):
        if text.startswith("${", at):
            depth += 1
        elif text[at] == "}":
            if depth == 0:
                return at
            depth -= 1
        at += 1
    raise ExpansionError("${ without its closing }; write $$ for a dollar sign")


def expand(node: Node, environ: Mapping[str, str], at: Place) -> Node:
    """*node* with the variables in all its values replaced; keys and places stay as they are."""
    if isinstance(node, Scalar):
        return _expand_scalar(node, environ, at) if "$" in node.text else node
    if isinstance(node, ListNode):
        items = (expand(item, environ, at.item(index)) for index, item in enumerate(node.items))
        return attrs.evolve(node, items=tuple(items))
    entries = {
        key: Entry(entry.mark, expand(entry.node, environ, at.child(key)))
        for key, entry in node.entries.items()
    }
    return MapNode(entries, node.mark)


def _expand_scalar(node: Scalar, environ: Mapping[str, str], at: Place) -> Scalar:
    expansion = Expansion(environ)
    try:
        text = expansion.text(node.text)
    except ExpansionError as fault:
        at.reject(node, str(fault))
        return attrs.evolve(node, quoted=True)
    for name in dict.fromkeys(expansion.unset):
        at.warn(node, f"the variable {name} is not set, so it is empty; ${{{name}:-default}} gives a default")
    return attrs.evolve(node, text=text, expanded=True)
