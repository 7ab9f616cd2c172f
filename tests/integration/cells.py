"""Runs of the rig that tests judge: all that the selected tests need, a few side by side, each once.

A cell is a fault and its phase, such as ``F26:announce``, several joined by ``+``, or ``plain``; ``grpc`` is plain for a
gRPC server, which cells with faults of gRPC's clients have too. ``tls`` before it, as in ``tls+F22:announce``, makes that
server speak TLS.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from pathlib import Path

import attrs
import pytest
import yaml
from grpc_rig import GRPC_APPS, PROTO, generated
from rig import APPS
from test_grpc_tls import Authority

from twisted_rr.draintest.campaign import TIMED, Outcome, judge, loud
from twisted_rr.draintest.clients import Paths
from twisted_rr.draintest.faults import FAULTS, Fault
from twisted_rr.draintest.grpc_clients import Methods
from twisted_rr.draintest.run import Load, Run
from twisted_rr.draintest.target import Launch, from_config

PLAIN, GRPC, TLS = "plain", "grpc", "tls"
PATHS = Paths(plain="/hello", long="/wait?seconds={seconds}", big="/big?size={size}", stream="/stream")

METHODS = Methods(unary="/rr.interop.Interop/EmptyCall", stream="/rr.interop.Interop/FullDuplexCall")

# How many runs side by side: each needs a third of a core for a second, then nearly nothing. A moment that is missed
# because of that is tried again, alone.
SIDE_BY_SIDE = int(os.environ.get("RR_CELLS_SIDE_BY_SIDE") or max(3, 2 * (os.cpu_count() or 1)))

_outcomes: dict[tuple[str, float], Outcome | Exception] = {}


def launch_of(folder: Path, scale: float = 0.1, app: str = "fault_app:app", **sections) -> Launch:
    """A server for *app* of the test applications."""
    config = {
        "version": "3",
        "server": {"command": [sys.executable, "-m", "twisted_rr.worker", app]},
        "http": {"address": "127.0.0.1:8080", "pool": {"num_workers": 2}},
        "status": {"address": "127.0.0.1:2114"},
        **sections,
    }
    file = folder / ".rr.yaml"
    file.write_text(yaml.safe_dump(config))
    launch = from_config(str(file), scale, str(folder))
    path = os.pathsep.join(filter(None, [str(APPS), os.environ.get("PYTHONPATH", "")]))
    return attrs.evolve(launch, environ={"PYTHONPATH": path, "SLOW_SHUTDOWN": "0.25"})


def grpc_launch(folder: Path, scale: float = 0.1, tls: bool = False) -> Launch:
    """A gRPC server."""
    secret = (
        {"tls": dict(zip(("key", "cert"), Authority(folder).issue("server"), strict=True))} if tls else {}
    )
    config = {
        "version": "3",
        "server": {"command": [sys.executable, str(GRPC_APPS / "servicer.py")]},
        "grpc": {"listen": "tcp://127.0.0.1:9001", "proto": [PROTO], "pool": {"num_workers": 2}, **secret},
        "status": {"address": "127.0.0.1:2114"},
    }
    file = folder / ".rr.yaml"
    file.write_text(yaml.safe_dump(config))
    launch = from_config(str(file), scale, str(folder))
    return attrs.evolve(launch, environ={"PYTHONPATH": os.pathsep.join((generated(), str(GRPC_APPS)))})


def faults_of(cell: str) -> list[tuple[Fault, str]]:
    """The faults of a cell, with their phases."""
    parts = (part.rpartition(":") for part in cell.split("+") if part not in (PLAIN, GRPC, TLS))
    return [(FAULTS[fault], phase) for fault, _, phase in parts]


def outcome(request: pytest.FixtureRequest, cell: str, scale: float = 0.1) -> Outcome:
    """The outcome of *cell*; the first who asks has all of them run that the selected tests name."""
    if (cell, scale) not in _outcomes:
        asyncio.run(_run_all(_wanted(request) | {(cell, scale)}))
    found = _outcomes[cell, scale]
    if isinstance(found, Exception):
        raise found
    return found


def _wanted(request: pytest.FixtureRequest) -> set[tuple[str, float]]:
    found = set()
    for item in request.session.items:
        marker = item.get_closest_marker("cell")
        params = getattr(item, "callspec", None)
        names = [params.params["cell"]] if params is not None and "cell" in params.params else []
        scale = params.params.get("scale", 0.1) if params is not None else 0.1
        names += list(marker.args) if marker is not None else []
        found |= {(name, scale) for name in names}
    return found - set(_outcomes)


async def _run_all(wanted: set[tuple[str, float]]) -> None:
    quiet = sorted(cell for cell in wanted if not _loud(cell[0]))
    room = asyncio.Semaphore(SIDE_BY_SIDE)

    async def run(cell: tuple[str, float]) -> None:
        async with room:
            await _run(*cell)

    # The slowest first, or one of them is left over at the end.
    await asyncio.gather(*(run(cell) for cell in sorted(quiet, key=lambda cell: -cell[1])))
    for cell in sorted(wanted - set(quiet)):
        await _run(*cell)
    for cell in wanted:
        found = _outcomes[cell]
        if isinstance(found, Outcome) and found.broken and set(found.broken) <= TIMED:
            # Side by side the machine may have been too busy to tell; alone, it counts.
            await _run(*cell)


def _loud(cell: str) -> bool:
    """Whether it takes the whole machine."""
    return loud((cell, tuple(faults_of(cell))))


async def _run(cell: str, scale: float) -> None:
    with tempfile.TemporaryDirectory(prefix="cell-") as folder:
        path = Path(folder)
        try:
            faults = faults_of(cell)
            tls = TLS in cell.split("+")
            grpc = tls or cell == GRPC or any(fault.protocol == "grpc" for fault, _ in faults)
            launch = grpc_launch(path, scale, tls) if grpc else launch_of(path, scale)
            run = Run(cell, launch, path, faults=faults, paths=PATHS, methods=METHODS, load=Load(rate=50))
            _outcomes[cell, scale] = judge(await run.go())
        except Exception as error:
            _outcomes[cell, scale] = error


def check(found: Outcome) -> None:
    """Fail when an invariant is broken; skip when a fault could not be injected here."""
    missed = found.evidence.missed
    for fault, why in missed.items():
        if why.startswith("needs"):
            pytest.skip(f"{fault} {why}")
    assert not missed, str(missed)
    told = {name: found.verdicts[name].why for name in found.broken}
    if told:
        print(found.evidence.log[-6000:])
    assert not told, str(told)
