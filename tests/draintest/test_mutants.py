"""The rig against servers broken on purpose: each is found, by the right invariant, and the unbroken one is not."""

import asyncio
import os
import sys
from pathlib import Path

import attrs
import pytest
import yaml

from twisted_rr.draintest.campaign import judge
from twisted_rr.draintest.clients import Paths
from twisted_rr.draintest.faults import FAULTS
from twisted_rr.draintest.grpc_clients import Methods
from twisted_rr.draintest.run import Run
from twisted_rr.draintest.target import from_config

HERE = Path(__file__).resolve().parent
APPS = HERE.parent / "integration" / "apps"
EXAMPLE = HERE.parents[1] / "examples" / "grpc" / "worker.py"
METHODS = Methods(unary="/echo.Echo/Say", stream="/echo.Echo/Chat")
HTTP = {
    "server": {"command": [sys.executable, "-m", "twisted_rr.worker", "asgi_app:app"]},
    "http": {"address": "127.0.0.1:8080", "pool": {"num_workers": 2}},
}
GRPC = {
    "server": {"command": [sys.executable, str(EXAMPLE)]},
    "grpc": {"listen": "tcp://127.0.0.1:9001", "pool": {"num_workers": 1}},
}
PATHS = Paths(plain="/hello", long="/wait?seconds={seconds}")

pytestmark = pytest.mark.integration


def broken(tmp_path: Path, mutant: str | None, *cells: str, config: dict = HTTP) -> set[str]:
    """The invariants that the rig finds broken in *mutant*, a file's name, under faults such as ``F26:announce``."""
    file = tmp_path / ".rr.yaml"
    file.write_text(yaml.safe_dump({"version": "3", **config, "status": {"address": "127.0.0.1:2114"}}))
    entry = (sys.executable, "-m", "twisted_rr.cli.entry")
    if mutant is not None:
        entry = (sys.executable, str(HERE / "mutants" / f"{mutant}.py"))
    launch = from_config(str(file), 0.1, str(tmp_path), entry=entry)
    launch = attrs.evolve(
        launch, environ={"PYTHONPATH": f"{APPS}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    )
    faults = [(FAULTS[cell.split(":")[0]], cell.split(":")[1]) for cell in cells]
    run = Run("mutant", launch, tmp_path, faults=faults, paths=PATHS, methods=METHODS)
    outcome = judge(asyncio.run(run.go()))
    assert not outcome.evidence.missed
    for name in outcome.broken:
        print(name, outcome.verdicts[name].why)
    return set(outcome.broken)


def test_plain_close_is_found_by_the_resets(tmp_path):
    assert "I5" in broken(tmp_path, "plain_close", "F26:announce")


def test_a_status_listener_that_stops_first_is_found(tmp_path):
    assert {"I7", "I10"} <= broken(tmp_path, "status_first")


def test_a_constant_health_is_found_by_stopped_workers(tmp_path):
    assert "I8" in broken(tmp_path, "constant_health", "F5:running")


def test_a_single_goaway_is_found(tmp_path):
    assert "I18" in broken(tmp_path, "goaway_once", config=GRPC)


def test_health_that_is_told_after_the_goaway_is_found(tmp_path):
    assert "I19" in broken(tmp_path, "goaway_first", config=GRPC)


@pytest.mark.parametrize("cells", [("F26:announce",), ("F5:running",)])
def test_nothing_is_found_in_the_server_as_it_is(tmp_path, cells):
    assert broken(tmp_path, None, *cells) == set()
