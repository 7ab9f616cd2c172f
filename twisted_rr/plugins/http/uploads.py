"""Uploaded files: the temporary file of each, its leaf in the tree, and which extensions are taken (protocol.md 4.5).

Left out: parsing of the body they come in (`multipart`).
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, BinaryIO

from . import forms

OK = 0
NO_DIRECTORY = 6
WRITE_FAILED = 7
FORBIDDEN = 8


class UploadFile:
    """One file of a form, written as it comes. A file that cannot be taken is a leaf with its error number."""

    __slots__ = ("_file", "error", "mime", "name", "path", "size")

    def __init__(self, name: str, mime: str) -> None:
        self.name = name
        self.mime = mime
        self.size = 0
        self.error = OK
        self.path = ""
        self._file: BinaryIO | None = None

    def open(self, directory: str | None, owner: tuple[int, int] | None) -> None:
        """Create the temporary file, mode 0600, given to *owner* when there is one."""
        try:
            descriptor, self.path = tempfile.mkstemp("", "upload", directory)
            self._file = os.fdopen(descriptor, "wb")
            if owner is not None:
                os.fchown(descriptor, *owner)
        except OSError:
            self._give_up(NO_DIRECTORY)

    def write(self, data: bytes) -> None:
        """Take a piece; nothing is raised, a full disk shows in the leaf."""
        if self._file is None:
            return
        try:
            self._file.write(data)
            self.size += len(data)
        except OSError:
            self._give_up(WRITE_FAILED)

    def close(self) -> None:
        """The file is complete."""
        if self._file is None:
            return
        try:
            self._file.close()
            self._file = None
        except OSError:
            self._give_up(WRITE_FAILED)

    def remove(self) -> None:
        """Remove what the worker did not move away. Idempotent."""
        with contextlib.suppress(OSError):
            if self._file is not None:
                self._file.close()
        self._file = None
        if self.path:
            with contextlib.suppress(OSError):
                os.unlink(self.path)
        self.path = ""

    def _give_up(self, error: int) -> None:
        self.remove()
        self.error = error
        self.size = 0

    def leaf(self) -> dict[str, Any]:
        """As it stands in the tree."""
        return {
            "name": self.name,
            "mime": self.mime,
            "size": self.size,
            "error": self.error,
            "tmpName": self.path,
        }


class UploadPolicy:
    """Where files go, whose they are, and which are refused."""

    __slots__ = ("_allow", "_directory", "_forbid", "_owner")

    def __init__(
        self,
        directory: str | None = None,
        allow: Iterable[str] = (),
        forbid: Iterable[str] = (),
        owner: tuple[int, int] | None = None,
    ) -> None:
        self._directory = directory or None
        self._allow = frozenset(map(_dotted, allow))
        self._forbid = frozenset(map(_dotted, forbid))
        self._owner = owner

    def accepts(self, name: str) -> bool:
        """Whether a file of this name is taken: ``forbid`` wins over ``allow``, no ``allow`` is all."""
        extension = _extension(name)
        if extension in self._forbid:
            return False
        return not self._allow or extension in self._allow

    def open(self, name: str, mime: str) -> UploadFile:
        """A file to write to; refused ones take nothing."""
        upload = UploadFile(name, mime)
        if self.accepts(name):
            upload.open(self._directory, self._owner)
        else:
            upload.error = FORBIDDEN
        return upload


def _dotted(extension: str) -> str:
    extension = extension.lower()
    return extension if extension.startswith(".") or not extension else "." + extension


def _extension(name: str) -> str:
    """From the last dot of the last path element on, the dot included; ``.bashrc`` is all extension."""
    base = name.rpartition("/")[2]
    dot = base.rfind(".")
    return base[dot:].lower() if dot >= 0 else ""


def tree_json(files: Mapping[str, Sequence[UploadFile]]) -> bytes:
    """The tree of uploads; ``{}`` for a multipart form without files (protocol.md 4.2, field 9).

    :raises forms.BadForm:
    """
    leaves = {name: [upload.leaf() for upload in uploads] for name, uploads in files.items()}
    return forms.to_json(forms.build(leaves, 0))
