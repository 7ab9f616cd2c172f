"""From a file to settings: read, dotenv, variables, includes, overrides, validation; in this order.

Differs from RoadRunner where its order is a trap: there ``-o`` cannot change what an included file
sets, and ``endure`` sees neither variables nor includes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from ..errors import ConfigError
from . import overrides as overriding
from .config import Config
from .dotenv import read_dotenv
from .expand import expand
from .json_source import read_json
from .nodes import Entry, MapNode, Mark, Node, is_empty, to_plain
from .overrides import Override
from .registry import INSTEAD, ROADRUNNER_SECTIONS, Registry
from .report import INVALID, Place, Report
from .source import from_data, read_yaml

_EARLY = frozenset(("version", "envfile", "include"))  # what decides which files are read
_MEMORY = "<memory>"
_TEXT = "<text>"
_LARGEST = 16 << 20  # bytes of a file, which may be a device that never ends


def load(
    source: str | os.PathLike[str] | Mapping[str, Any],
    registry: Registry,
    overrides: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    *,
    directory: str | os.PathLike[str] = ".",
    workdir: str | os.PathLike[str] | None = None,
    dotenv: str | None = None,
) -> Config:
    """Read and check a configuration; raises `ConfigError` with every problem that was found.

    :param source: a file's path; or its text, if it holds a line break; or a dict, whose strings are
        taken as they are (no variables).
    :param overrides: ``key=value`` texts; the last one wins, and all win over every file.
    :param environ: the variables for ``${NAME}``; None means none. It is not changed.
    :param directory: the working directory, from which *source* and *workdir* are resolved.
    :param workdir: the folder that the files in the configuration are relative to; by default the one it lies in.
    :param dotenv: a dotenv file, from that folder; the variable ``DOTENV_PATH`` wins over it.
    """
    config, report = attempt(
        source, registry, overrides, environ, directory=directory, workdir=workdir, dotenv=dotenv
    )
    if config is None:
        raise ConfigError(report.problems)
    return config


def attempt(
    source: str | os.PathLike[str] | Mapping[str, Any],
    registry: Registry,
    overrides: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    *,
    directory: str | os.PathLike[str] = ".",
    workdir: str | os.PathLike[str] | None = None,
    dotenv: str | None = None,
) -> tuple[Config | None, Report]:
    """The same, for who wants the warnings too when there are problems: None, and the report."""
    loading = _Loading(registry, dict(environ or {}), _absolute(directory), workdir)
    try:
        config = loading.load(source, overrides, dotenv)
    except _Stopped:
        config = None
    loading.report.problems.sort(key=lambda problem: _place(problem.where))
    return config, loading.report


def _absolute(directory: str | os.PathLike[str]) -> Path:
    # The process's own folder is asked for only where it counts: a deployment may have removed it.
    return Path(directory) if os.path.isabs(directory) else Path(os.getcwd(), directory)


class _Stopped(Exception):
    """There is nothing to go on with; the report has the reason."""


class _Loading:
    """One run of `load`: the report and the environment as it grows."""

    def __init__(
        self,
        registry: Registry,
        environ: dict[str, str],
        directory: Path,
        workdir: str | os.PathLike[str] | None,
    ) -> None:
        self._registry = registry
        self._environ = environ
        self._directory = directory
        self._workdir = workdir
        self.report = Report()
        self._top = Place("", self.report)
        self._files: list[str] = []

    def load(
        self, source: str | os.PathLike[str] | Mapping[str, Any], overrides: Sequence[str], dotenv: str | None
    ) -> Config:
        folder = self._folder_of(source)
        self.report.folder = str(folder)
        dotenv = self._environ.get("DOTENV_PATH") or dotenv
        if dotenv:
            self._read_dotenv(folder / dotenv, Mark("--dotenv"), "")
        name, root = self._main(source)
        early = [one for one in self._parsed(overrides, Report()) if one.path[0] in _EARLY]
        root = overriding.apply(root, early, self._registry, self.report)
        root = self._with_envfile(root, Path(name).parent)
        if not isinstance(source, Mapping):
            root = self._expanded(root)
        given = self._parsed(overrides, self.report)  # again, now with the variables of the envfile
        self._check_version(root, name)
        root = self._with_includes(root, Path(name).parent)
        root = overriding.apply(root, given, self._registry, self.report)
        return self._validated(name, root)

    # ---------------------------------------------------------------- files

    def _folder_of(self, source: str | os.PathLike[str] | Mapping[str, Any]) -> Path:
        """Where relative files are: RoadRunner changes into that folder, which a library must not."""
        if self._workdir is not None:
            return self._directory / self._workdir
        if isinstance(source, Mapping) or "\n" in os.fspath(source):
            return self._directory
        return (self._directory / source).parent

    def _main(self, source: str | os.PathLike[str] | Mapping[str, Any]) -> tuple[str, MapNode]:
        if isinstance(source, Mapping):
            return _MEMORY, self._map(from_data(source, Mark(_MEMORY)), _MEMORY)
        if isinstance(source, str) and "\n" in source:
            return _TEXT, self._map(read_yaml(source, _TEXT, self.report), _TEXT)
        name = os.fspath(source)
        text = self._text(self._directory / name, name)
        if text is None:
            raise _Stopped
        return name, self._parse(text, name)

    def _parse(self, text: str, name: str) -> MapNode:
        read = read_json if name.endswith(".json") else read_yaml
        return self._map(read(text, name, self.report), name)

    def _map(self, node: Node | None, name: str) -> MapNode:
        """*node* without its ``x-`` keys; raises when it is no map, because nothing can be checked then."""
        if node is None or is_empty(node):
            if not self.report.problems:
                self.report.problem("", "the file is empty", Mark(name))
            raise _Stopped
        if not isinstance(node, MapNode):
            self._registry.refuse(node, self._top)
            raise _Stopped
        entries = {key: entry for key, entry in node.entries.items() if not key.startswith("x-")}
        return self._registry.arrange(MapNode(entries, node.mark), self._top)

    def _text(self, path: Path, name: str, mark: Mark | None = None, key: str = "") -> str | None:
        """The text of a file; None after the report was told why there is none."""
        try:
            with path.open("rb") as file:
                data = file.read(_LARGEST + 1)
            text = data.decode("utf-8-sig")
        except OSError as error:
            what = "cannot be read" if name == str(path) and mark is None else f"cannot read {path}"
            self.report.problem(key, f"{what}: {error.strerror}", mark or Mark(name))
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            self.report.problem(key, f"not UTF-8: {error.reason}", Mark(name, line, 1))
        else:
            self._files.append(str(path))
            if len(data) <= _LARGEST:
                return text
            self.report.problem(key, f"larger than {_LARGEST >> 20} MiB", Mark(name))
        return None

    # ---------------------------------------------------- environment, overrides

    def _read_dotenv(self, path: Path, mark: Mark, key: str) -> None:
        text = self._text(path, str(path), mark, key)
        if text is not None:
            self._environ.update(read_dotenv(text, str(path), self._environ, self.report))

    def _with_envfile(self, root: MapNode, folder: Path) -> MapNode:
        entry = root.entries.get("envfile")
        if entry is not None and not is_empty(entry.node):
            at = self._top.child("envfile")
            kind = self._registry.sections["envfile"].kind
            path = kind.read(expand(entry.node, self._environ, at), at)
            if path is not INVALID:
                self._read_dotenv(self._directory / folder / path, entry.mark, "envfile")
        return root

    def _expanded(self, root: MapNode) -> MapNode:
        expanded = expand(root, self._environ, self._top)
        assert isinstance(expanded, MapNode)
        return expanded

    def _parsed(self, overrides: Sequence[str], report: Report) -> list[Override]:
        found = [overriding.parse_override(text, self._environ, report) for text in overrides]
        return [one for one in found if one is not None]

    # ----------------------------------------------------------------- includes

    def _check_version(self, root: MapNode, name: str) -> None:
        kind = self._registry.sections["version"].kind
        entry = root.entries.get("version")
        if entry is None or is_empty(entry.node):
            mark = Mark(name, 1, 1) if entry is None else entry.mark
            self._top.child("version").reject(mark, 'is required: write version: "3"')
        else:
            kind.read(entry.node, self._top.child("version"))

    def _with_includes(self, root: MapNode, folder: Path) -> MapNode:
        entry = root.entries.get("include")
        if entry is None or is_empty(entry.node):
            return root
        names = self._registry.sections["include"].kind.read(entry.node, self._top.child("include"))
        entries = dict(root.entries)
        for name in names if names is not INVALID else ():
            entries.update(self._included(name, folder, entry.mark))
        return attrs.evolve(root, entries=entries)

    def _included(self, name: str, folder: Path, mark: Mark) -> Mapping[str, Entry]:
        """The sections of one included file; each replaces the one of the main file, as in RoadRunner."""
        beside = self._directory / folder / name
        path = Path(self.report.folder, name)
        # Not Path.exists, which raises for a name that is too long and for a folder that may not be entered.
        if not os.path.exists(path) and os.path.exists(beside):
            path = beside
        text = self._text(path, name, mark, "include")
        if text is None:
            return {}
        try:
            root = self._expanded(self._parse(text, name))
        except _Stopped:
            return {}  # the report has it, and the other files may have more
        self._check_version(root, name)
        for key in ("include", "envfile"):
            if key in root.entries:
                reason = "works in the main file only; name every file there"
                self._top.child(key).reject(root.entries[key].mark, reason)
        return {key: entry for key, entry in root.entries.items() if key not in _EARLY}

    # --------------------------------------------------------------- validation

    def _validated(self, name: str, root: MapNode) -> Config:
        checked = {key: entry for key, entry in root.entries.items() if key not in _EARLY}
        present = self._present(checked)
        self.report.unserved_is_fine = self._unserved_is_fine(present.get("compat"))
        found = self._registry.read(attrs.evolve(root, entries=present), self._top)
        unserved = self._unserved(present)
        if self.report.problems:
            raise _Stopped
        settings = {known.name: known.absent for known in self._registry.sections.values()}
        settings.update(found, version="3")
        environment = {**self._environ, **settings["env"]}
        return Config(
            source=name,
            files=tuple(dict.fromkeys(self._files)),
            folder="" if name in (_MEMORY, _TEXT) else self.report.folder,
            sections=tuple(found),
            unserved=unserved,
            warnings=tuple(self.report.warnings),
            environment=environment,
            data=to_plain(root),
            settings=settings,
            root=root,
        )

    def _present(self, entries: Mapping[str, Entry]) -> dict[str, Entry]:
        """The sections that hold something; RoadRunner too takes an empty one for absent."""
        for key, entry in entries.items():
            if is_empty(entry.node) and key in self._registry.sections:
                self._top.child(key).warn(entry.mark, "is empty, so it counts as absent; {} has the defaults")
        return {key: entry for key, entry in entries.items() if not is_empty(entry.node)}

    def _unserved(self, present: Mapping[str, Entry]) -> tuple[str, ...]:
        names = [
            name for name in present if name in ROADRUNNER_SECTIONS and name not in self._registry.sections
        ]
        for name in names:
            self._top.child(name).unserved(present[name].mark, instead=INSTEAD.get(name, ""))
        return tuple(names)

    def _unserved_is_fine(self, entry: Entry | None) -> bool:
        if entry is None:
            return False
        # Into a report of its own: what is wrong in there is told by the validation.
        compat = self._registry.sections["compat"].kind.read(entry.node, Place("compat", Report()))
        return compat is not INVALID and compat.unserved == "warn"


def _place(where: str) -> tuple[str, int, int]:
    """Sorts problems so that a reader goes through each file once."""
    head, _, column = where.rpartition(":")
    source, _, line = head.rpartition(":")
    return (source, int(line), int(column)) if line.isdigit() and column.isdigit() else (where, 0, 0)
