"""Where the body of a call stays until a one-call worker takes it whole: in memory, then in a temporary file.

What a front makes of a body (forms, uploads) is the front's subject; it may use this for the bytes.
"""

from __future__ import annotations

import tempfile
from typing import Any, BinaryIO

from zope.interface import implementer

from twisted_rr.interfaces import IBodySpool

MEMORY = 262144  # bytes kept in memory; above it a file takes everything


@implementer(IBodySpool)
class BodySpool:
    """See `IBodySpool`: the body goes as it came, behind a context that is known beforehand.

    *flags* are the codec bits of the context; *directory* is for the file, None for the system's own.
    """

    __slots__ = ("_closed", "_context", "_directory", "_file", "_flags", "_memory", "_pieces", "length")

    def __init__(
        self, flags: int, context: bytes, memory: int = MEMORY, directory: str | None = None
    ) -> None:
        self._flags = flags
        self._context = context
        self._memory = memory
        self._directory = directory
        self._pieces: list[bytes] = []
        self._file: BinaryIO | None = None
        self._closed = False
        self.length = 0

    @property
    def in_file(self) -> bool:
        return self._file is not None

    def write(self, data: bytes) -> None:
        """Take a piece. Raises OSError when the disk is full."""
        if self._closed:
            return
        self.length += len(data)
        if self._file is not None:
            self._file.write(data)
            return
        self._pieces.append(data)
        if self.length > self._memory:
            self._to_file()

    def _to_file(self) -> None:
        # Nameless and close-on-exec: no worker inherits it, and a killed server leaves none behind.
        file: Any = tempfile.TemporaryFile(dir=self._directory)  # noqa: SIM115
        self._file = file
        file.writelines(self._pieces)
        self._pieces = []

    def finish(self) -> tuple[int, bytes, bytes | BinaryIO, int]:
        if self._file is not None:
            self._file.flush()
            self._file.seek(0)
            return self._flags, self._context, self._file, self.length
        body = b"".join(self._pieces)
        self._pieces = [body]
        return self._flags, self._context, body, self.length

    def close(self) -> None:
        self._closed = True
        self._pieces = []
        if self._file is not None:
            self._file.close()
            self._file = None
