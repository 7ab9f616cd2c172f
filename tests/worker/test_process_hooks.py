"""Hooks in real worker processes, by the command and by `Worker`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from worker_rig import Process

Start = Callable[..., Process]

HOOKS = """
import sys
from twisted_rr.worker import Payload, Worker, after_fork, on_start, on_stop

@after_fork
def forked():
    print("forked")

@on_start
def started():
    print("started")

@on_stop
def stopped():
    print("stopped")
"""
WSGI = (
    HOOKS
    + """
def application(environ, start_response):
    start_response("200 OK", [])
    return [b"fine"]
"""
)
FAILING = (
    HOOKS
    + """
@on_start
def fails():
    raise ConnectionError("the database is away")

def application(environ, start_response):
    raise AssertionError("it is called")
"""
)
LOOP = (
    HOOKS
    + """
async def handle(payload):
    return payload.body

def plain(payload):
    return payload.body

Worker().run({handler})
"""
)


def test_a_wsgi_worker_calls_them_around_its_service(start: Start, tmp_path: Path) -> None:
    (tmp_path / "hooked.py").write_text(WSGI)
    process = start("hooked", cwd=tmp_path)
    process.hello()
    assert process.stderr.splitlines() == ["started"]
    assert process.stop() == 0
    assert process.stderr.splitlines() == ["started", "stopped"]


def test_a_failing_on_start_fails_the_start_before_the_server_hears_of_it(
    start: Start, tmp_path: Path
) -> None:
    (tmp_path / "hooked.py").write_text(FAILING)
    process = start("hooked", cwd=tmp_path)
    with pytest.raises(AssertionError, match="the relay ended"):
        process.hello()
    assert process.wait() == 4
    assert "ConnectionError: the database is away" in process.stderr
    assert process.stderr.splitlines()[-1].endswith("on_start function hooked.fails failed")
    assert "stopped" not in process.stderr


@pytest.mark.parametrize("handler", ["plain", "handle"])
def test_a_worker_of_ones_own_calls_them_too(start: Start, tmp_path: Path, handler: str) -> None:
    (tmp_path / "own.py").write_text(LOOP.replace("{handler}", handler))
    process = start(module=(str(tmp_path / "own.py"),), cwd=tmp_path)
    process.hello()
    assert process.stop() == 0
    assert process.stderr.splitlines() == ["started", "stopped"]


def test_without_a_server_that_forks_preload_changes_nothing(start: Start, tmp_path: Path) -> None:
    (tmp_path / "hooked.py").write_text(WSGI)
    process = start("--preload", "hooked", cwd=tmp_path)
    process.hello()
    assert process.stop() == 0
    assert process.stderr.splitlines() == ["started", "stopped"]
