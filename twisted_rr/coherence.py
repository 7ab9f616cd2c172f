"""Rules between the sections of a configuration: what asks for workers has a command, and something is served.

What a section means alone is its plugin's; which named pools there are is `named_pools`'.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from twisted_rr.config.nodes import Entry
from twisted_rr.config.registry import Rule
from twisted_rr.config.report import Place
from twisted_rr.named_pools import SECTION
from twisted_rr.pool.settings import PoolSettings

_SERVES_NO_CLIENTS: Final = frozenset({"status"})


def check_commands(found: Mapping[str, Any], entries: Mapping[str, Entry], at: Place) -> None:
    """Whoever asks for workers says what they run, itself or in ``server``."""
    server = found.get("server")
    if server is not None and server.command:
        return
    for section, pool in _pools(found):
        if not pool.command:
            reason = f"is required: the command that runs {section}'s workers"
            at.child("server").child("command").reject(entries[section].mark, reason)
            return


def _pools(found: Mapping[str, Any]) -> Iterator[tuple[str, PoolSettings]]:
    named: Mapping[str, PoolSettings] = found.get(SECTION) or {}
    for section, settings in found.items():
        pool = getattr(settings, "pool", None)
        if isinstance(pool, PoolSettings):
            yield section, pool
        for _, name in settings.pool_names() if hasattr(settings, "pool_names") else ():
            if name in named:
                yield section, named[name]


def something_is_served(plugins: Collection[str]) -> Rule:
    """A rule: at least one section is that of a plugin with clients; else a warning, since it may be a beginning."""
    fronts = sorted(set(plugins) - _SERVES_NO_CLIENTS)

    def check(found: Mapping[str, Any], entries: Mapping[str, Entry], at: Place) -> None:
        if not any(name in found for name in fronts):
            first = next(iter(entries.values()), None)
            reason = f"nothing is served: there is no section {' or '.join(fronts)}"
            at.report.warning(at.path, reason, first.mark if first else None)

    return check
