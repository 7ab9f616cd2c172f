"""Finding server plugins: Twisted's drop-ins and the entry points of group ``twisted_rr.plugins``.

Finding loads nothing but names; a plugin's module is imported when its config section is used.
Entry points are read as well as drop-ins because Twisted looks for drop-ins in real directories
only (it misses some editable installs) and hides those that fail to import.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any

from attrs import frozen
from twisted.plugin import getPlugins
from zope.interface import implementer

from twisted_rr.errors import PluginLoadError
from twisted_rr.interfaces import IServerPlugin

GROUP = "twisted_rr.plugins"


@implementer(IServerPlugin)
@frozen
class ServerPlugin:
    """One server plugin: the config section it answers to and the module that builds it.

    The module has ``SETTINGS``, an attrs class declared with `twisted_rr.config.key`, and
    ``build(settings, host)``. To ship one, put a module with a ``ServerPlugin`` into
    ``twisted/plugins/`` (without an ``__init__.py``) or name it in an entry point of group
    ``twisted_rr.plugins``.
    """

    name: str
    description: str
    module: str

    def load(self) -> ModuleType:
        """Import the module; raises `PluginLoadError` with the reason."""
        try:
            module = import_module(self.module)
        except Exception as error:
            raise PluginLoadError(self.name, f"importing {self.module} failed: {error!r}") from error
        for needed in ("SETTINGS", "build"):
            if not hasattr(module, needed):
                raise PluginLoadError(self.name, f"{self.module} has no {needed}")
        return module


def discover(
    drop_ins: Iterable[Any] | None = None, entries: Iterable[EntryPoint] | None = None
) -> dict[str, ServerPlugin]:
    """Every plugin by its section's name; raises `PluginLoadError` when two claim the same one."""
    found: dict[str, ServerPlugin] = {}
    for plugin in _all(drop_ins, entries):
        other = found.setdefault(plugin.name, plugin)
        # The same plugin found both ways is one plugin.
        if other != plugin:
            raise PluginLoadError(plugin.name, f"both {other.module} and {plugin.module} claim this section")
    return found


def _all(drop_ins: Iterable[Any] | None, entries: Iterable[EntryPoint] | None) -> Iterator[ServerPlugin]:
    found: Iterable[Any] = getPlugins(IServerPlugin) if drop_ins is None else drop_ins
    yield from found
    for entry in entry_points(group=GROUP) if entries is None else entries:
        try:
            plugin = entry.load()
        except Exception as error:
            raise PluginLoadError(entry.name, f"entry point {entry.value} failed: {error!r}") from error
        if not isinstance(plugin, ServerPlugin):
            raise PluginLoadError(entry.name, f"entry point {entry.value} is no ServerPlugin")
        yield plugin
