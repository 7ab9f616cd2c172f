"""The registry as JSON Schema, draft 2020-12, for editors and for checks without this program.

A schema cannot know what needs the whole text: the dotted short form, variables, included files. It
is never stricter than the reader, and the reader has the last word.
"""

from __future__ import annotations

from typing import Any

from .registry import ROADRUNNER_SECTIONS, Registry

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def export(registry: Registry) -> dict[str, Any]:
    """The schema of a whole file."""
    properties: dict[str, Any] = {}
    for name, section in registry.sections.items():
        properties[name] = {**section.kind.schema(), "description": section.doc}
    for name in sorted(ROADRUNNER_SECTIONS - set(properties)):
        properties[name] = {
            "description": 'Of RoadRunner, not served here; needs compat: {unserved: "warn"}.'
        }
    return {
        "$schema": DIALECT,
        "title": "twisted_rr and RoadRunner configuration",
        "type": "object",
        "properties": properties,
        "patternProperties": {"^x-": True, r"\.": True},
        "additionalProperties": False,
        "required": ["version"],
    }
