"""``status.checks``: a map by name, or a list of items with names; each asks one thing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

import attrs

from twisted_rr.config import key, kinds
from twisted_rr.config.nodes import ListNode, MapNode, Node
from twisted_rr.config.report import INVALID, Place

MOST: Final = 32
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError("only http:// is asked")
    if parts.username is not None:
        raise ValueError("no user in it")
    if not text.isascii() or any(character <= " " for character in text):
        raise ValueError("a space or another character that no URL has")
    parts.port  # noqa: B018  raises ValueError for what is none
    return text


@attrs.frozen(kw_only=True)
class CheckSettings:
    """One check: exactly one of ``exec``, ``tcp`` and ``http``."""

    name: str = key(
        kinds.string("a name of letters, digits, _ . -", _NAME.pattern), default="", doc="Its name."
    )
    exec: tuple[str, ...] | None = key(
        kinds.command(), default=None, doc="A command that exits with 0, run as the workers' user."
    )
    tcp: str | None = key(kinds.address(), default=None, doc="An address that accepts a connection.")
    http: str | None = key(
        kinds.custom("a URL such as http://host/path", _url),
        default=None,
        doc="A URL that answers 2xx or 3xx.",
    )
    interval: float = key(kinds.duration(), default=10.0, doc="From the end of one run to the next.")
    timeout: float | None = key(kinds.duration(), default=None, doc="Of one run (status.check_timeout).")
    needed: str = key(
        kinds.choice("ready", "health"),
        default="ready",
        doc="ready: no traffic while it fails; health: no life, which has the server restarted.",
    )
    failures: int = key(
        kinds.integer(min=1, max=100),
        default=1,
        doc="So many in a row before it counts; one success ends it.",
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        """What makes no sense."""
        if sum(kind is not None for kind in (self.exec, self.tcp, self.http)) != 1:
            yield "", "expected exactly one of exec, tcp and http"
        if self.interval < 0.1:
            yield "interval", "expected 100ms or more"
        if self.timeout is not None and self.timeout <= 0:
            yield "timeout", "expected more than 0s"

    def warnings(self) -> Iterator[tuple[str, str]]:
        """What works and is rarely wanted."""
        if self.needed == "health":
            yield (
                "needed",
                "while this check fails /health says no and the server is restarted; ready only keeps traffic away",
            )


class Checks(kinds.Kind):
    """A map of names, or a list of items with a name, to a tuple of `CheckSettings`."""

    expected = "checks by name, or a list of them"

    def __init__(self) -> None:
        self._one = kinds.section(CheckSettings)

    def read(self, node: Node, at: Place) -> Any:
        """The checks, names unique."""
        if isinstance(node, MapNode):
            found = [self._named(name, entry.node, at.child(name)) for name, entry in node.entries.items()]
        elif isinstance(node, ListNode):
            found = [self._listed(item, at.item(index)) for index, item in enumerate(node.items)]
        else:
            return self.refuse(node, at)
        if any(each is INVALID for each in found):
            return INVALID
        names = [each.name for each in found]
        if len(set(names)) < len(names):
            return at.reject(node, "two checks have the same name")
        if len(found) > MOST:
            return at.reject(node, f"expected at most {MOST} checks")
        return tuple(found)

    def _named(self, name: str, node: Node, at: Place) -> Any:
        if not _NAME.fullmatch(name):
            return at.reject(node, "expected a name of letters, digits, _ . -")
        made = self._one.read(node, at)
        if made is not INVALID and made.name not in ("", name):
            return at.reject(node, f"it is named {name} and {made.name}")
        return made if made is INVALID else attrs.evolve(made, name=name)

    def _listed(self, node: Node, at: Place) -> Any:
        made = self._one.read(node, at)
        if made is not INVALID and not made.name:
            return at.child("name").reject(node, "is required: the check's name")
        return made

    def child(self, name: str) -> kinds.Kind | None:
        """The section of one check."""
        return self._one

    def schema(self) -> dict[str, Any]:
        """Either form."""
        one = self._one.schema()
        by_name = {
            "type": "object",
            "additionalProperties": one,
            "propertyNames": {"pattern": f"^{_NAME.pattern}$"},
        }
        return {"anyOf": [by_name, {"type": "array", "items": one, "maxItems": MOST}]}
