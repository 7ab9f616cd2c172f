"""The stacks of a worker's tasks, which are asked for by a signal."""

from __future__ import annotations

import asyncio
import io
import sys
from typing import Any

import pytest

from twisted_rr.worker import stacks


def test_stacks_may_be_asked_for_while_the_application_writes_to_its_standard_error(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class Interrupted(io.RawIOBase):
        """Where the signal comes within a write."""

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            stacks._write_tasks(stacks.SIGNAL, None)
            return len(data)

    async def application() -> None:
        print("in the middle of a line", file=sys.stderr)

    stream = io.TextIOWrapper(io.BufferedWriter(Interrupted()), line_buffering=True)
    monkeypatch.setattr(sys, "stderr", stream)
    asyncio.run(application())
    assert ".application\n" in capfd.readouterr().err
