"""Which sections exist: the ones served here, each with its kind, and the ones only RoadRunner has.

Each plugin adds its own; the general sections (`sections`) are in every registry.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .kinds import Kind, section

#: Every top-level section of RoadRunner 2025.1 (features.md 2, config_keys.tsv).
ROADRUNNER_SECTIONS = frozenset(
    "amqp beanstalk boltdb centrifuge endure fileserver google_pub_sub grpc http jobs kafka kv lock logs "
    "memcached memory metrics nats nsq otel redis rpc server service sqs status tcp temporal".split()
)


class Registry:
    """The sections a server understands."""

    def __init__(self) -> None:
        self._kinds: dict[str, Kind] = {}
        self._docs: dict[str, str] = {}

    def add(self, name: str, cls: type[Any] | Kind, doc: str = "") -> None:
        """Let section *name* be read as settings class *cls*, or as a kind; raises ValueError if taken."""
        if name in self._kinds:
            raise ValueError(f"section {name!r} is registered already")
        if not name or "." in name or name != name.lower() or name.startswith("x-"):
            raise ValueError(f"{name!r} cannot be the name of a section")
        self._kinds[name] = cls if isinstance(cls, Kind) else section(cls)
        self._docs[name] = (
            doc or (cls.__doc__ or "").strip().partition("\n")[0] if isinstance(cls, type) else doc
        )

    @property
    def kinds(self) -> Mapping[str, Kind]:
        """Every section with its kind."""
        return self._kinds

    def doc(self, name: str) -> str:
        """One sentence about a section."""
        return self._docs[name]
