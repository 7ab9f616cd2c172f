"""Hides secrets wherever a configuration is shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .keys import Key
from .kinds import Kind
from .kinds.scalars import Path
from .kinds.section import Section
from .registry import Registry

MASK = "***"

_SECRET_NAME = re.compile(
    r"passw|passphrase|secret|token|credential|private|nonce|dsn|authorization|api_?key|access_?key|(?:^|[_.-])(?:keys?|auth|pwd|pass)$",
    re.IGNORECASE,
)
_USER_INFO = re.compile(r"(?<=://)([^\s/@:]*):([^\s/]*)@")


def masked(data: Mapping[str, Any], registry: Registry) -> dict[str, Any]:
    """*data* (as in `Config.data`) with the values of secret keys, and passwords in URLs, replaced."""
    return {name: _masked(name, value, registry.child(name), None) for name, value in data.items()}


def _masked(name: str, value: Any, kind: Kind | None, declared: Key | None) -> Any:
    if isinstance(value, Mapping):
        if kind is None and _is_secret(name, declared):
            return _all_masked(value)
        return {key: _masked(key, inner, *_below(kind, key)) for key, inner in value.items()}
    if value is not None and _is_secret(name, declared):
        return MASK
    if isinstance(value, list):
        return [_masked("", inner, None, None) for inner in value]
    return _USER_INFO.sub(rf"\1:{MASK}@", value) if isinstance(value, str) else value


def _all_masked(value: Any) -> Any:
    """A map of secrets, as its names."""
    if isinstance(value, Mapping):
        return {key: _all_masked(inner) for key, inner in value.items()}
    return None if value is None else MASK


def _below(kind: Kind | None, key: str) -> tuple[Kind | None, Key | None]:
    declared = kind.keys.get(key) if isinstance(kind, Section) else None
    return (None if kind is None else kind.child(key)), declared


def _is_secret(name: str, declared: Key | None) -> bool:
    """A declared secret, or a name that sounds like one; a key that holds a path only says where it is."""
    if declared is not None and (declared.secret or isinstance(declared.kind, Path)):
        return declared.secret
    return bool(_SECRET_NAME.search(name))
