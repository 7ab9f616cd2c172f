"""A log file that is rotated by size, with RoadRunner's ``file_logger_options``.

The old file is renamed to ``name-2026-01-31T23-59-59.999.log``; old ones go by number and by age.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import shutil
import stat
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from .sinks import FileSink

_STAMP = r"\d{4}-\d{2}-\d{2}T\d{2}-\d{2}-\d{2}\.\d{3}"
_DAY = 86400.0
_PATIENCE = 5.0  # seconds for what is being compressed at the end of the process


class RotatingSink(FileSink):
    """Lines to a file of at most *max_bytes*.

    :param max_backups: how many old files are kept; 0 keeps all.
    :param max_age: days an old file is kept; 0 keeps it for ever.
    :param compress: gzip old files, each in a thread of its own because that takes seconds; `drain` waits for them.
    """

    def __init__(
        self,
        path: str,
        max_bytes: int,
        max_backups: int,
        max_age: int,
        compress: bool,
        now: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(path)
        self._max_bytes = max_bytes
        self._max_backups = max_backups
        self._max_age = max_age
        self._compress = compress
        self._now = now
        self._size = os.fstat(self._fd).st_size
        self._compressing: list[threading.Thread] = []

    def write(self, line: bytes) -> None:
        if self._gathered:
            self._hand_over()
        if self._size and self._size + len(line) > self._max_bytes:
            self._rotate()
        self._size += len(line)
        super().write(line)

    def reopen(self) -> None:
        super().reopen()
        self._size = os.fstat(self._fd).st_size

    def drain(self, seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        super().drain(seconds, now)
        end = now() + _PATIENCE
        for thread in self._compressing:
            thread.join(max(0.0, end - now()))

    def _rotate(self) -> None:
        self._size = 0  # whatever happens: a failed rotation is tried again after as many bytes
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            return  # such as /dev/stderr, whose name is not ours to take away
        path = Path(self._path)
        stamp = datetime.fromtimestamp(self._now(), UTC).strftime("%Y-%m-%dT%H-%M-%S.%f")[:-3]
        old = path.with_name(f"{path.stem}-{stamp}{path.suffix}")
        try:
            os.rename(path, old)
        except FileNotFoundError:
            FileSink.reopen(self)  # somebody removed it, and it would grow unseen
            return
        except OSError:
            self.lose(1)
            return
        FileSink.reopen(self)
        if self._compress:
            self._compress_later(old)
        self._prune()

    def _compress_later(self, old: Path) -> None:
        self._compressing = [thread for thread in self._compressing if thread.is_alive()]
        thread = threading.Thread(target=_compress, args=(old,), name="log-compress", daemon=True)
        self._compressing.append(thread)
        thread.start()

    def _prune(self) -> None:
        for index, old in enumerate(self.backups()):
            too_many = self._max_backups and index >= self._max_backups
            if too_many or (self._max_age and self._age(old) > self._max_age * _DAY):
                with contextlib.suppress(OSError):
                    old.unlink()

    def _age(self, old: Path) -> float:
        with contextlib.suppress(OSError):
            return self._now() - old.stat().st_mtime
        return 0.0

    def backups(self) -> list[Path]:
        """The rotated files, newest first."""
        path = Path(self._path)
        name = re.compile(rf"{re.escape(path.stem)}-{_STAMP}{re.escape(path.suffix)}(\.gz)?")
        with contextlib.suppress(OSError):
            return sorted((one for one in path.parent.iterdir() if name.fullmatch(one.name)), reverse=True)
        return []


def _compress(old: Path) -> None:
    packed = old.with_name(old.name + ".gz")
    with contextlib.suppress(OSError):
        try:
            _copy(old, packed)
        except OSError:
            packed.unlink(missing_ok=True)  # a full disk, most likely: the old file stays as it is
        else:
            old.unlink()


def _copy(old: Path, packed: Path) -> None:
    with (
        open(old, "rb") as source,
        open(packed, "wb", opener=_as_private_as(source.fileno())) as raw,
        gzip.GzipFile(old.name, "wb", fileobj=raw) as target,
    ):
        shutil.copyfileobj(source, target)


def _as_private_as(fd: int) -> Callable[[str, int], int]:
    """Opens a new file with the permissions of *fd*."""
    mode = stat.S_IMODE(os.fstat(fd).st_mode)
    return lambda path, flags: os.open(path, flags, mode)
