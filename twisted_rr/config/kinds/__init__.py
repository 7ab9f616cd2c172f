"""What a setting's value can be: each kind reads a node, checks it and gives a Python value.

``kinds.integer(min=0)``, ``kinds.duration()``, ``kinds.list_of(kinds.address())``,
``kinds.section(PoolSettings)``. A plugin makes its own with `custom`.
"""

from .base import Kind, custom
from .containers import command, distinct, environment, list_of, map_of
from .scalars import address, any_value, boolean, choice, file, file_mode, integer, number, path, string
from .section import section
from .units import duration, seconds, size_mb

__all__ = [
    "Kind",
    "address",
    "any_value",
    "boolean",
    "choice",
    "command",
    "custom",
    "distinct",
    "duration",
    "environment",
    "file",
    "file_mode",
    "integer",
    "list_of",
    "map_of",
    "number",
    "path",
    "seconds",
    "section",
    "size_mb",
    "string",
]
