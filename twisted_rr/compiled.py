"""Which modules of this installation are compiled (setup.cfg, section ``mypyc``), and which of them were loaded so.

Compiling is setup.py's subject. Python takes a compiled module where one lies beside the source, without a word.
"""

from __future__ import annotations

import importlib
import platform
import sys
from collections import Counter
from collections.abc import Iterable
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

ROOT = Path(__file__).resolve().parent
EXTENSION = ".so"
"""What every extension's file ends with, whatever Python it is for."""


def compiled_modules(root: Path = ROOT) -> list[str]:
    """The compiled modules of this package, as a Python of this kind loads them, in order of their names."""
    found = {
        ".".join((root.name, *path.relative_to(root).parent.parts, path.name.partition(".")[0]))
        for suffix in EXTENSION_SUFFIXES
        for path in root.rglob(f"*{suffix}")
        if "__mypyc" not in path.name and path.name.count(".") == suffix.count(".")
    }
    return sorted(found)


def loaded(names: Iterable[str]) -> list[str]:
    """Those of *names* that are compiled when they are imported."""
    files = {name: getattr(importlib.import_module(name), "__file__", None) or "" for name in names}
    return [name for name, file in files.items() if file.endswith(tuple(EXTENSION_SUFFIXES))]


def left_to_source(root: Path = ROOT) -> list[str]:
    """The modules that are compiled here, but not for a Python of this kind, which takes their sources."""
    found = {
        ".".join((root.name, *path.relative_to(root).parent.parts, path.name.partition(".")[0]))
        for path in root.rglob(f"*{EXTENSION}")
        if "__mypyc" not in path.name
    }
    return sorted(found - set(compiled_modules(root)))


def in_short() -> str:
    """``compiled`` or ``pure Python`` of what this process has loaded so far, and the interpreter."""
    files = [
        getattr(module, "__file__", None) or ""
        for name, module in list(sys.modules.items())
        if name.startswith("twisted_rr.")
    ]
    kind = "compiled" if any(file.endswith(tuple(EXTENSION_SUFFIXES)) for file in files) else "pure Python"
    return f"{kind}, {platform.python_implementation()} {platform.python_version()}"


def describe(names: Iterable[str] | None = None) -> str:
    """One line: ``compiled`` with the packages and how many modules of each, or ``pure``; and the interpreter.

    A second line where modules are compiled for another Python only.
    """
    other = left_to_source()
    note = (
        f"\n{len(other)} modules are compiled for another Python only, here their sources run"
        if other
        else ""
    )
    found = loaded(compiled_modules() if names is None else names)
    python = f"{platform.python_implementation()} {platform.python_version()}"
    if not found:
        return f"pure Python, {python}{note}"
    packages = Counter(name.rpartition(".")[0] for name in found)
    shown = ", ".join(f"{package} ({count})" for package, count in sorted(packages.items()))
    return f"compiled, {python}: {shown}{note}"
