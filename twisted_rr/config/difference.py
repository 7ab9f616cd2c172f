"""What differs between two configurations, as key paths; values are never shown.

Which of these may change while the server runs is the reload's subject.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import attrs

from .config import Config
from .keys import keys_of

#: Told name by name, out of what workers inherit: dotenv files count as well.
_ENVIRONMENT = "env"


def changed_keys(
    old: Config,
    new: Config,
    absent: Mapping[str, Any] | None = None,
    private: Collection[str] = (),
) -> tuple[str, ...]:
    """Dotted paths of the keys whose values differ, sorted; the name alone of a section that came or went.

    *absent*: the settings that stand for a section that is not there. Variables that workers inherit are
    ``env.NAME``, but for those in *private*.
    """
    absent = absent or {}
    found: list[str] = []
    for section in _sections(old, new):
        if section != _ENVIRONMENT:
            before, after = (
                absent.get(section) if settings is None else settings
                for settings in (old.settings(section), new.settings(section))
            )
            found += _differing(section, before, after)
    variables = {*old.environment, *new.environment} - set(private)
    for name in variables:
        if old.environment.get(name) != new.environment.get(name):
            found.append(f"{_ENVIRONMENT}.{name}")
    return tuple(sorted(found))


def covers(keys: Collection[str], path: str) -> bool:
    """Whether *path* or a part of its beginning is one of *keys*."""
    while path not in keys:
        path, dot, _ = path.rpartition(".")
        if not dot:
            return False
    return True


def _sections(old: Config, new: Config) -> list[str]:
    # An absent section of a plugin has no settings, a general one its defaults: both are compared as such.
    general = ("endure", "logs", "compat")
    return list(dict.fromkeys([*old.sections, *new.sections, *general]))


def _differing(path: str, old: Any, new: Any) -> Iterator[str]:
    if old == new:
        return
    if type(old) is type(new) and attrs.has(type(old)):
        for name, key in keys_of(type(old)).items():
            yield from _differing(f"{path}.{name}", getattr(old, key.attribute), getattr(new, key.attribute))
    elif isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in {*old, *new}:
            if name not in old or name not in new:
                yield f"{path}.{name}"
            else:
                yield from _differing(f"{path}.{name}", old[name], new[name])
    else:
        yield path
