"""Declares what a key of a settings class is: `key` for the author, `keys_of` for the reader.

A settings class is ``attrs.frozen(kw_only=True)``; its field names equal the YAML keys. What a value
looks like is said by its kind (`kinds`).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from .kinds import Kind

_METADATA = "twisted_rr.config"
_known: weakref.WeakKeyDictionary[type[Any], Mapping[str, Key]] = weakref.WeakKeyDictionary()


@attrs.frozen
class Key:
    """One key of a section, as declared.

    :ivar attribute: the field's name in the settings class.
    :ivar ignored: why the key has no effect; such a key is accepted with a warning.
    :ivar secret: its value is masked wherever a configuration is shown.
    """

    kind: Kind
    attribute: str
    doc: str
    required: bool
    ignored: str
    secret: bool
    default: Any


def key(
    kind: Kind,
    *,
    default: Any = None,
    factory: Callable[[], Any] | None = None,
    required: bool = False,
    ignored: str = "",
    secret: bool = False,
    name: str = "",
    doc: str = "",
) -> Any:
    """Declare a field of a settings class.

    :param kind: how its value is read and checked.
    :param default: the value when the key is absent or empty, already in the kind's result type.
    :param factory: makes the default; for sections that exist even when they are not written.
    :param required: the key must be there.
    :param ignored: accepted for RoadRunner's sake, with a warning that ends in this reason.
    :param secret: masked in every display (names like ``password`` are masked anyway).
    :param name: the YAML key where it cannot be a Python name.
    :param doc: one sentence for people; it appears in the JSON Schema and in generated files.
    """
    metadata = {_METADATA: (kind, doc, required, ignored, secret, name)}
    if required:
        return attrs.field(metadata=metadata)
    if factory is not None:
        return attrs.field(factory=factory, metadata=metadata)
    return attrs.field(default=default, metadata=metadata)


def keys_of(cls: type[Any]) -> Mapping[str, Key]:
    """The keys of settings class *cls* by their YAML names, in the order of declaration."""
    found = _known.get(cls)
    if found is None:
        found = _known[cls] = _declared(cls)
    return found


def _declared(cls: type[Any]) -> dict[str, Key]:
    found = {}
    for field in attrs.fields(cls):
        if _METADATA not in field.metadata:
            continue
        kind, doc, required, ignored, secret, name = field.metadata[_METADATA]
        default = None if field.default is attrs.NOTHING else field.default
        found[name or field.name] = Key(kind, field.name, doc, required, ignored, secret, default)
    return found
