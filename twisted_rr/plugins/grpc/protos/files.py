"""Finds .proto files and what they import, and says which services they declare (protocol.md 5.3).

What reflection tells of them is in `descriptors`.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import attrs

from .parser import parse
from .syntax import File, Method
from .tokens import ProtoError
from .well_known import SOURCES

__all__ = ["MethodInfo", "ProtoError", "ProtoFile", "ProtoSet", "ServiceInfo", "load"]

_BRACES: Final = re.compile(r"\{([^{}]*)\}")
_MOST_PATTERNS: Final = 1000


@attrs.frozen
class MethodInfo:
    """A method as the front needs it. *service* has its package in front."""

    service: str
    name: str
    client_streaming: bool
    server_streaming: bool


@attrs.frozen
class ServiceInfo:
    """A service: its full name, the file that declares it, and its methods."""

    name: str
    path: str
    methods: tuple[MethodInfo, ...]


@attrs.frozen
class ProtoFile:
    """A file that was read.

    :ivar name: what others import it by.
    :ivar imports: names of those of its imports that were found.
    """

    name: str
    file: File
    imports: tuple[str, ...]


@attrs.frozen(kw_only=True)
class ProtoSet:
    """All files, listed and imported.

    :ivar services: by full name, in the order of their files.
    :ivar methods: by the path of a request, such as ``b"/pkg.Service/Method"``.
    :ivar missing: what was imported and cannot be used, one line each; as RoadRunner, this is no mistake.
    :ivar digest: of everything that was read.
    """

    files: tuple[ProtoFile, ...] = ()
    services: dict[str, ServiceInfo] = attrs.field(factory=dict)
    methods: dict[bytes, MethodInfo] = attrs.field(factory=dict)
    missing: tuple[str, ...] = ()
    digest: str = ""


def load(patterns: Sequence[str], folder: str = "") -> ProtoSet:
    """Read all files that *patterns* find, relative ones in *folder*, and what they import.

    :raises ProtoError: a pattern finds nothing, or a file that it finds cannot be read or does not parse; an import
        that cannot be used is skipped.
    """
    reading = _Reading()
    for path in _found(patterns, folder):
        reading.listed(path)
    return reading.done()


def _found(patterns: Sequence[str], folder: str) -> Iterator[str]:
    seen = set()
    for pattern in patterns:
        # Not joined before: a folder may have brackets in its name.
        named = {
            path
            for one in expand(pattern)
            for path in glob.glob(one, root_dir=folder or None, recursive=True)
        }
        paths = [
            path for path in (os.path.join(folder, name) for name in sorted(named)) if os.path.isfile(path)
        ]
        if not paths:
            reason = "no file matches" if glob.has_magic(pattern) else "no such file"
            raise ProtoError(os.path.join(folder, pattern), reason)
        for path in paths:
            full = os.path.realpath(path)
            if full not in seen:
                seen.add(full)
                yield path


def expand(pattern: str) -> list[str]:
    """``{a,b}`` written out; braces may nest.

    :raises ProtoError: more than 1000 patterns come of it.
    """
    done, todo = [], [pattern]
    while todo:
        text = todo.pop()
        braces = _BRACES.search(text)
        if braces is None:
            done.append(text)
        else:
            start, end = braces.span()
            todo += [text[:start] + choice + text[end:] for choice in braces.group(1).split(",")]
        if len(todo) + len(done) > _MOST_PATTERNS:
            raise ProtoError(pattern, f"this stands for more than {_MOST_PATTERNS} patterns")
    return list(dict.fromkeys(done))


class _Reading:
    """Collects files by their real path."""

    def __init__(self) -> None:
        self._files: dict[str, File] = {}
        self._names: dict[str, str] = {}
        self._imports: dict[str, list[str]] = {}
        self._bases: dict[str, str] = {}
        self._missing: list[str] = []
        self._hash = hashlib.sha256()

    def listed(self, path: str) -> None:
        """A file that the configuration names."""
        full = os.path.realpath(path)
        if full not in self._files:
            self._read(full, path, path)
        self._follow(full, os.path.dirname(full))

    def _read(self, full: str, shown: str, name: str) -> None:
        """*name* is the same wherever a link such as ``current`` leads, so that moving it changes no digest."""
        try:
            source = SOURCES[full] if full in SOURCES else Path(full).read_text("utf-8")
        except OSError as error:
            raise ProtoError(shown, f"cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ProtoError(shown, f"is not UTF-8 at byte {error.start}") from error
        self._files[full] = parse(shown, source)
        self._hash.update(f"{name}\0{len(source)}\0{source}".encode())

    def _follow(self, full: str, base: str) -> None:
        """Read what *full* imports, and what that imports, all found from *base*."""
        todo = [full]
        while todo:
            at = todo.pop()
            if at in self._imports:
                continue
            self._imports[at] = []
            for wanted in self._files[at].imports:
                if wanted.kind == "option":
                    continue
                found = self._import(at, base, wanted.path)
                if found:
                    self._imports[at].append(found)
                    todo.append(found)

    def _import(self, importer: str, base: str, name: str) -> str:
        """The real path of an import, ``""`` when it cannot be used."""
        found, root = _locate(base, name)
        if not found:
            self._missing.append(f"{self._files[importer].path} imports {name}, which is not there")
            return ""
        if found not in self._files:
            try:
                self._read(found, os.path.join(root, name) if root else name, name)
            except ProtoError as error:
                self._missing.append(f"{self._files[importer].path} imports {name}: {error}")
                return ""
        self._names.setdefault(found, name)
        if root:
            self._bases.setdefault(importer, root)
        return found

    def done(self) -> ProtoSet:
        """Everything, once all listed files were read."""
        names = self._all_names()
        services: dict[str, ServiceInfo] = {}
        for full in self._files:
            self._add_services(full, services)
        methods = {
            f"/{service.name}/{method.name}".encode(): method
            for service in services.values()
            for method in service.methods
        }
        files = tuple(
            ProtoFile(names[full], file, tuple(names[one] for one in self._imports.get(full, ())))
            for full, file in self._files.items()
        )
        missing = tuple(dict.fromkeys(self._missing))
        return ProtoSet(
            files=files, services=services, methods=methods, missing=missing, digest=self._hash.hexdigest()
        )

    def _all_names(self) -> dict[str, str]:
        """A name for each file: as it is imported, else as its own imports show, else its own, made unique."""
        names = dict(self._names)
        taken = set(names.values())
        for full in self._files:
            if full in names:
                continue
            choices = [os.path.basename(full), full.lstrip("/")]
            if full in self._bases:
                choices.insert(0, os.path.relpath(full, self._bases[full]))
            names[full] = next(choice for choice in choices if choice not in taken)
            taken.add(names[full])
        return names

    def _add_services(self, full: str, services: dict[str, ServiceInfo]) -> None:
        file = self._files[full]
        for service in file.services:
            name = f"{file.package}.{service.name}" if file.package else service.name
            other = services.get(name)
            if other is not None:
                raise ProtoError(file.path, f"service {name} is declared in {other.path} too")
            methods = tuple(_method_info(name, method) for method in service.methods)
            services[name] = ServiceInfo(name, file.path, methods)


def _method_info(service: str, method: Method) -> MethodInfo:
    return MethodInfo(service, method.name, method.client_streaming, method.server_streaming)


def _locate(base: str, name: str) -> tuple[str, str]:
    """Where an import is, and from which folder: beside the listed file as RoadRunner looks, else above it.

    Google's own files, which compilers bring along, are ours where they are not on disk.
    """
    root = base
    while True:
        path = os.path.join(root, name)
        if os.path.isfile(path):
            return os.path.realpath(path), root
        above = os.path.dirname(root)
        if above == root:
            return (name, "") if name in SOURCES else ("", "")
        root = above
