"""The container's last words: at most 4096 bytes, valid JSON, and never in the way of the exit."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from lifecycle_world import World

from twisted_rr.lifecycle.blockers import Blocker
from twisted_rr.lifecycle.report import Report
from twisted_rr.lifecycle.termination import LIMIT, fitted, write
from twisted_rr.tap import last_words


def record(blockers: int = 0, path: str = "/slow") -> dict[str, Any]:
    found = [Blocker(protocol="http", call=f"GET {path}", age=31.0, pid=7) for _ in range(blockers)]
    return Report(cause="SIGTERM", outcome="cut", duration=30.0, cut=1, blockers=tuple(found)).record()


def test_a_report_is_written_over_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_text("x" * 9000)
    assert write(record(1), str(file)) == ""
    told = json.loads(file.read_text())
    assert (told["outcome"], told["code"], told["cut"]) == ("cut", 3, 1)
    assert told["blockers"] == [{"protocol": "http", "method": "GET", "path": "/slow", "age": 31.0, "pid": 7}]
    assert "truncated" not in told


@pytest.mark.parametrize("path", ["/" + "a" * 500, "/" + "\N{SNOWMAN}" * 2000, '/"\\' * 900])
def test_what_is_too_long_loses_blockers_and_stays_json(path: str) -> None:
    text = fitted(record(10, path))
    assert len(text) <= LIMIT
    told = json.loads(text)
    assert told["truncated"] is True
    assert told["outcome"] == "cut"


def test_a_reason_that_is_too_long_is_shortened_and_it_stays_json() -> None:
    text = fitted({**record(), "reason": "\N{COLLISION SYMBOL}" * 500 + "\x1b" * 500})
    assert len(text) <= LIMIT
    told = json.loads(text)
    assert told["truncated"] is True
    assert told["reason"].startswith("\N{COLLISION SYMBOL}")


def test_without_the_file_nothing_is_made_and_only_who_insisted_is_told(tmp_path: Path) -> None:
    file = tmp_path / "log"
    assert write(record(), str(file)) == ""
    assert write(record(), str(file), must=True) == "it does not exist"
    assert not file.exists()


def test_what_cannot_be_written_is_told_and_not_raised(tmp_path: Path) -> None:
    assert write(record(), str(tmp_path)) != ""
    assert write(record(), "/dev/full") == "No space left on device"


def test_a_pipe_without_a_reader_is_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    before = time.monotonic()
    assert write(record(), str(pipe)) != ""
    assert time.monotonic() - before < 1


@pytest.mark.parametrize(("mode", "written"), [("auto", True), ("true", True), ("false", False)])
def test_the_stop_of_a_process_leaves_its_report_as_configured(
    tmp_path: Path, mode: str, written: bool
) -> None:
    file = tmp_path / "log"
    file.touch()
    world = World().start()
    last_words(world.server, mode, str(file))
    world.stop()
    world.reactor.spend(1.0)
    assert bool(file.read_text()) is written
    if written:
        assert json.loads(file.read_text())["outcome"] == "drained"
