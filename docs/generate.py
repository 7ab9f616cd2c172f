"""Writes the pages that are drawn from the code: configuration keys, HTTP conformance, the lifecycle table."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS.parent / "tests" / "http1")]


def write_all(folder: Path) -> None:
    """All generated pages, into *folder*."""
    folder.mkdir(exist_ok=True)
    pages = {"keys.md": keys(), "rfc.md": rfc(), "lifecycle.md": lifecycle(), "invariants.md": invariants()}
    for name, lines in pages.items():
        text = "\n".join(lines) + "\n"
        path = folder / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def keys() -> Iterator[str]:
    """Every key of every section, with its kind, default and meaning."""
    from twisted_rr.build import registry
    from twisted_rr.config.kinds.section import Section
    from twisted_rr.discovery import discover

    known = registry(discover())
    for name, section in sorted(known.sections.items()):
        yield f"\n### {name}\n\n{section.doc}\n"
        if isinstance(section.kind, Section):
            yield "| key | value | otherwise | |\n|---|---|---|---|"
            yield from _rows(name, section.kind)


def _rows(prefix: str, section: Any) -> Iterator[str]:
    from twisted_rr.config.kinds.section import Section

    for name, key in section.keys.items():
        path = f"{prefix}.{name}"
        if isinstance(key.kind, Section):
            yield from _rows(path, key.kind)
        elif type(key.kind).__name__ != "NotServed":
            otherwise = "required" if key.required else _shown(key.default)
            meaning = f"no effect: {key.ignored}" if key.ignored else key.doc
            yield f"| `{path}` | {_cell(key.kind.expected)} | {otherwise} | {_cell(meaning)} |"


def _shown(value: Any) -> str:
    if value is None or value in ("", (), {}) or type(value).__module__ != "builtins":
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text.replace("|", "\\|"))


def rfc() -> Iterator[str]:
    """The rules of RFC 9110 and 9112 that the tests hold the server to."""
    import rfc_musts

    yield "| section | rule | tested with |\n|---|---|---|"
    for rule in _rules(rfc_musts):
        yield f"| {rule.section} | {_cell(rule.rule)} | {len(rule.vectors)} vectors |"


def _rules(module: Any) -> Iterable[Any]:
    return next(
        value
        for value in vars(module).values()
        if isinstance(value, list | tuple) and value and hasattr(value[0], "rule")
    )


def lifecycle() -> Iterator[str]:
    """The table of the lifecycle machine."""
    from twisted_rr.lifecycle.drain import STATES, TABLE

    yield "| state | " + " | ".join(TABLE) + " |"
    yield "|---" * (len(TABLE) + 1) + "|"
    for state in STATES:
        cells = (row.get(state, "–") for row in TABLE.values())
        yield f"| **{state}** | " + " | ".join("stays" if cell == state else cell for cell in cells) + " |"


def invariants() -> Iterator[str]:
    """Every invariant and every fault by phase, with the tests that show it."""
    sys.path.insert(0, str(DOCS))
    from proofs import table

    return table()
