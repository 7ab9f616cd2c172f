"""Worker processes that end with their test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from worker_rig import MuxRelay, Process


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    """Starts worker processes."""
    started: list[Process] = []

    def begin(*arguments: str, **more: Any) -> Process:
        started.append(Process(*arguments, **more))
        return started[-1]

    yield begin
    for process in started:
        process.close()


@pytest.fixture
def mux(start: Callable[..., Process]) -> Callable[..., MuxRelay]:
    """Starts worker processes and shakes hands with an offer of mux."""

    def begin(*arguments: str, **more: Any) -> MuxRelay:
        return MuxRelay(start(*arguments, **more))

    return begin
