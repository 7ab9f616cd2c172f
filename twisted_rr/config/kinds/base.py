"""The contract of a kind, and the frame that all kinds of single values share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from ..arrange import arranged
from ..nodes import MapNode, Node, Scalar, describe
from ..report import Place

_FROM_VARIABLE = {"type": "string", "pattern": r"\$"}


class Kind(ABC):
    """How one value is read.

    :ivar expected: what a value of this kind is, to complete the sentence "expected ...".
    """

    expected: str

    @abstractmethod
    def read(self, node: Node, at: Place) -> Any:
        """The value of *node*, or ``INVALID`` after ``at.reject`` was told why."""

    @abstractmethod
    def schema(self) -> dict[str, Any]:
        """This kind in JSON Schema, draft 2020-12."""

    #: In a map of this kind a dot belongs to the name.
    flat: bool = False

    def arrange(self, node: MapNode, at: Place) -> MapNode:
        """*node* with dotted keys turned into nested maps where this kind has keys."""
        return arranged(node, (), at)

    def child(self, name: str) -> Kind | None:
        """The kind of what stands under key *name* in a value of this kind, if it has keys."""
        return None

    def refuse(self, node: Node, at: Place, why: str = "") -> Any:
        """Reject *node* because it is not what this kind expects."""
        reason = f"expected {self.expected}, not {describe(node)}"
        return at.reject(node, f"{reason} ({why})" if why else reason)


class ScalarKind(Kind):
    """A kind of single values: a subclass says in `parse` what the text means."""

    def read(self, node: Node, at: Place) -> Any:
        if not isinstance(node, Scalar):
            return self.refuse(node, at)
        try:
            return self.parse(node, at)
        except ValueError as error:
            return self.refuse(node, at, str(error))

    @abstractmethod
    def parse(self, node: Scalar, at: Place) -> Any:
        """The value of *node*; raises ValueError, with the reason or without one, to refuse it."""


class Custom(ScalarKind):
    """A kind made of one function from text to value."""

    def __init__(self, expected: str, parse: Callable[[str], Any], schema: dict[str, Any] | None) -> None:
        self.expected = expected
        self._parse = parse
        self._schema = schema or {"type": ["string", "number", "boolean"]}

    def parse(self, node: Scalar, at: Place) -> Any:
        return self._parse(node.text)

    def schema(self) -> dict[str, Any]:
        return dict(self._schema)


def custom(expected: str, parse: Callable[[str], Any], schema: dict[str, Any] | None = None) -> Kind:
    """A kind of your own: *parse* takes the text and returns the value or raises ValueError(why)."""
    return Custom(expected, parse, schema)


def or_variable(schema: dict[str, Any]) -> dict[str, Any]:
    """*schema*, or a text with a variable in it, whose value only the start knows."""
    return {"anyOf": [schema, dict(_FROM_VARIABLE)]}
