"""The section ``pools``: pools that have a name instead of a plugin, made for whoever asks for them.

Who asks, and which calls go there, is the plugins' subject (``http.routes``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Protocol

from twisted_rr.config import Config, kinds
from twisted_rr.config.nodes import Entry, ListNode, MapNode, Mark, Node
from twisted_rr.config.report import Place, suggestion
from twisted_rr.errors import ConfigError, ConfigProblem
from twisted_rr.pool.pool import WorkerPool
from twisted_rr.pool.settings import PoolSettings
from twisted_rr.reload import PlacedPool

SECTION: Final = "pools"

#: The kind of the section: names of the user's choice, each with the keys of a pool.
POOLS: Final = kinds.map_of(kinds.section(PoolSettings), names="[a-z][a-z0-9_-]*")


def check_pools(found: Mapping[str, Any], entries: Mapping[str, Entry], at: Place) -> None:
    """A rule of the registry: every pool that is asked for by name is there, and has one plugin that asks."""
    pools: Mapping[str, PoolSettings] = found.get(SECTION) or {}
    users: dict[str, str] = {}
    for section, settings in found.items():
        for path, name in settings.pool_names() if hasattr(settings, "pool_names") else ():
            place = Place(f"{section}.{path}", at.report)
            mark = _mark_of(entries[section].node, path)
            if name not in pools:
                there = suggestion(name, [*pools, section]) if pools else ""
                place.reject(mark, f"there is no pool {name!r} under pools{there}")
            elif users.setdefault(name, section) != section:
                reason = f"pool {name!r} serves {users[name]} already, and workers speak for one plugin only"
                place.reject(mark, reason)
    for name in pools:
        place = at.child(SECTION).child(name)
        mark = _mark_of(entries[SECTION].node, name)
        if name in found:
            place.reject(mark, f"is what the pool of section {name} is called; choose another name")
        elif name not in users:
            place.warn(mark, "no route leads to this pool, so no workers are started for it")


def _mark_of(node: Node, path: str) -> Mark:
    """Where the value at *path*, such as ``routes[0].pool``, was written."""
    mark = node.mark
    for name, number in re.findall(r"([^.\[\]]+)|\[(\d+)\]", path):
        if name and isinstance(node, MapNode) and name in node.entries:
            mark, node = node.entries[name].mark, node.entries[name].node
        elif number and isinstance(node, ListNode) and int(number) < len(node.items):
            node = node.items[int(number)]
            mark = node.mark
    return mark


class Maker(Protocol):
    """The server being put together."""

    config: Config
    pools: list[PlacedPool]

    def pool(
        self, name: str, settings: PoolSettings, mode: str, env: Mapping[str, str] | None = None
    ) -> WorkerPool:
        """A pool in phase WORKERS."""


class NamedPools:
    """The named pools of one server: each is made when somebody asks for it first."""

    def __init__(self, maker: Maker) -> None:
        self._maker = maker
        self._made: dict[str, tuple[str, WorkerPool]] = {}

    def get(self, name: str, mode: str, key: str, env: Mapping[str, str] | None = None) -> WorkerPool:
        """The pool *name*, for workers of *mode*; raises ConfigError for *key*."""
        made = self._made.get(name)
        if made is not None:
            if made[0] != mode:
                raise ConfigError([ConfigProblem(key, f"pool {name!r} serves {made[0]} already")])
            return made[1]
        settings = self._settings().get(name)
        if settings is None:
            raise ConfigError([ConfigProblem(key, f"there is no pool {name!r} under pools")])
        pool = self._maker.pool(name, settings, mode, env)
        self._maker.pools.append(PlacedPool(SECTION, name, pool))
        self._made[name] = (mode, pool)
        return pool

    def _settings(self) -> Mapping[str, PoolSettings]:
        found: Mapping[str, PoolSettings] = self._maker.config.settings(SECTION) or {}
        return found
