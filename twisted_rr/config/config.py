"""A configuration that was read: frozen settings by section, warnings, and what workers inherit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from ..errors import ConfigProblem
from .nodes import MapNode, Node


def _leaves(data: Mapping[str, Any], at: str) -> Iterator[tuple[str, object]]:
    for name, value in data.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{at}{name}.")
        elif isinstance(value, str):
            yield f"{at}{name}", value


@attrs.frozen(kw_only=True)
class Config:
    """The outcome of `load`.

    :ivar source: the main file's path, or a name for what was given in memory.
    :ivar files: every file that was read, to be watched for changes.
    :ivar folder: where its relative files are looked for, its links not followed; empty for what was given in memory.
    :ivar sections: names of the sections that are there and served, without the general ones' defaults.
    :ivar unserved: sections of RoadRunner that are there and not served (``compat.unserved: warn``).
    :ivar warnings: each with place, key path and reason.
    :ivar environment: what worker processes inherit: the process's own environment, the dotenv files
        and section ``env`` (the last wins).
    :ivar data: the merged and expanded configuration as dicts, lists and scalars; holds secrets.
    """

    source: str
    files: tuple[str, ...] = ()
    folder: str = ""
    sections: tuple[str, ...] = ()
    unserved: tuple[str, ...] = ()
    warnings: tuple[ConfigProblem, ...] = ()
    environment: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    data: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    _settings: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    _root: MapNode | None = attrs.field(default=None, repr=False)

    def settings(self, section: str) -> Any:
        """The frozen settings of *section*; None when it is absent. General sections are always there."""
        return self._settings.get(section)

    def key_of(self, address: str) -> str:
        """The key whose value is *address*, for messages; empty when there is none."""
        same = {
            address,
            f"tcp://{address}",
            address.removeprefix("0.0.0.0"),
            "tcp://" + address.removeprefix("0.0.0.0"),
        }
        return next((path for path, value in _leaves(self.data, "") if value in same), "")

    def place(self, path: str) -> str:
        """Where the key at *path* was written, else its section: ``file:line:column``; empty when neither was."""
        place: str = ""
        node: Node | None = self._root
        for name in path.split("."):
            entry = node.entries.get(name) if isinstance(node, MapNode) else None
            if entry is None:
                break
            place, node = str(entry.mark), entry.node
        return place
