"""Which sections exist: the ones served here, each with its kind, and the ones only RoadRunner has.

Each plugin adds its own; the general ones (`sections`) are in every registry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import attrs

from .arrange import arranged
from .kinds import Kind, section
from .nodes import Entry, MapNode, Node
from .report import INVALID, Place, suggestion
from .sections import GENERAL

#: Every top-level section of RoadRunner 2025.1 (features.md 2, config_keys.tsv).
ROADRUNNER_SECTIONS = frozenset(
    (
        *("amqp", "beanstalk", "boltdb", "centrifuge", "endure", "fileserver", "google_pub_sub", "grpc"),
        *("http", "jobs", "kafka", "kv", "lock", "logs", "memcached", "memory", "metrics", "nats", "nsq"),
        *("otel", "redis", "rpc", "server", "service", "sqs", "status", "tcp", "temporal"),
    )
)

#: What may take the place of one that is not served.
INSTEAD: Mapping[str, str] = {
    "fileserver": "a web server or proxy in front can serve the files",
    "metrics": "twisted-rr status --json has numbers of the fronts and pools",
    "rpc": "operators have the admin socket: twisted-rr status, reset, reload, stop",
    "service": "let systemd or the orchestrator run it",
}


@attrs.frozen
class Section:
    """One top-level section that is served.

    :ivar absent: what stands for it when the file does not have it.
    :ivar requires: sections that must be there too.
    """

    name: str
    kind: Kind
    doc: str
    absent: Any
    requires: tuple[str, ...]


#: Gets the settings by section, the sections' entries, and the place of the file.
Rule: TypeAlias = Callable[[Mapping[str, Any], Mapping[str, Entry], Place], None]


class Registry(Kind):
    """The sections a server understands; as a kind, it reads a whole file."""

    expected = "sections, each with its keys"

    def __init__(self) -> None:
        self.sections: dict[str, Section] = {}
        self._rules: list[Rule] = []
        for name, kind, absent, doc in GENERAL:
            self.sections[name] = Section(name, kind, doc, absent, ())

    def add(self, name: str, cls: type[Any] | Kind, doc: str = "", requires: Sequence[str] = ()) -> None:
        """Let section *name* be read as settings class *cls*, or as a kind.

        :param doc: one sentence; by default the first line of the class's docstring.
        :param requires: sections without which this one makes no sense.

        Raises ValueError when the name is taken or cannot be one.
        """
        if name in self.sections:
            raise ValueError(f"section {name!r} is registered already")
        if not name or "." in name or name != name.lower() or name.startswith("x-"):
            raise ValueError(f"{name!r} cannot be the name of a section")
        kind = cls if isinstance(cls, Kind) else section(cls)
        first_line = (cls.__doc__ or "").strip().partition("\n")[0]
        self.sections[name] = Section(name, kind, doc or first_line, None, tuple(requires))

    def rule(self, check: Rule) -> None:
        """Let *check* look at a file whose sections are all right, each alone: it rejects what does not go together."""
        self._rules.append(check)

    def arrange(self, node: MapNode, at: Place) -> MapNode:
        return arranged(node, {*self.sections, *ROADRUNNER_SECTIONS}, at)

    def child(self, name: str) -> Kind | None:
        known = self.sections.get(name)
        return None if known is None else known.kind

    def read(self, node: Node, at: Place) -> Any:
        """The settings of every section that is there, by name; unserved ones are left to the caller."""
        if not isinstance(node, MapNode):
            return self.refuse(node, at)
        found = {}
        entries = self.arrange(node, at).entries
        for name, entry in entries.items():
            kind = self.child(name)
            if kind is not None:
                found[name] = kind.read(entry.node, at.child(name))
            elif name not in ROADRUNNER_SECTIONS:
                hint = suggestion(name, {*self.sections, *ROADRUNNER_SECTIONS})
                found[name] = at.child(name).reject(entry.mark, f"unknown section{hint}")
        self._find_missing(entries, at)
        if any(value is INVALID for value in found.values()):
            return INVALID
        for check in self._rules:
            check(found, entries, at)
        return found

    def _find_missing(self, entries: Mapping[str, Entry], at: Place) -> None:
        for name in entries:
            for other in self.sections[name].requires if name in self.sections else ():
                if other not in entries:
                    at.child(other).reject(entries[name].mark, f"this section is required by {name!r}")

    def schema(self) -> dict[str, Any]:
        from .schema import export

        return export(self)
