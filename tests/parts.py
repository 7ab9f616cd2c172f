"""Which part of the tests with real servers a file belongs to, so that some run side by side: see ``--part`` in conftest.py.

Files that judge how long something takes run in a part that is alone on the machine. Those that judge the same runs of
the rig (cells.py) are together, so that each run is made once. The others are dealt out by the seconds they take.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

CELLS = ("tests/integration/test_faults.py", "tests/integration/test_invariants.py")

ALONE = (
    "tests/integration/test_deaf_client.py",
    "tests/integration/test_overload.py",
    "tests/integration/test_owner.py",
    "tests/integration/test_recycling.py",
    "tests/integration/test_status.py",
)

SECONDS = {
    "tests/integration/test_pool_exec_ttl.py": 140.0,
    "tests/integration/test_admin.py": 136.0,
    "tests/integration/test_pool_processes.py": 123.0,
    "tests/integration/test_load.py": 80.0,
    "tests/integration/test_drain_requests.py": 94.0,
    "tests/integration/test_pool_preload.py": 81.0,
    "tests/integration/test_bad_input.py": 63.0,
    "tests/integration/test_dev_mode.py": 60.0,
    "tests/test_packaging.py": 50.0,
    "tests/integration/test_stop.py": 45.0,
    "tests/draintest/test_mutants.py": 41.0,
    "tests/integration/test_pool_limits.py": 39.0,
    "tests/integration/test_examples.py": 37.0,
    "tests/integration/test_grpc_stop.py": 36.0,
    "tests/integration/test_socket_activation.py": 35.0,
    "tests/integration/test_haproxy_grpc.py": 34.0,
    "tests/integration/test_reload.py": 32.0,
    "tests/draintest/test_command.py": 26.0,
    "tests/integration/test_pool_crash_loop.py": 26.0,
    "tests/integration/test_pool_on_init.py": 25.0,
    "tests/integration/test_pool_chaos.py": 22.0,
    "tests/integration/test_grpc_interop.py": 19.0,
    "tests/integration/test_haproxy.py": 18.0,
    "tests/integration/test_grpc_single.py": 17.0,
    "tests/integration/test_grpc_tls.py": 16.0,
    "tests/integration/test_twistd.py": 15.0,
    "tests/integration/test_h2spec.py": 3.0,
    "tests/integration/test_plain_worker.py": 2.0,
}
"""How long files take by themselves; measured on two cores that others used too."""

USUAL = 8.0
"""Of a file that is not in the list."""


def real_files(root: Path) -> list[str]:
    """The files that start real servers: those of tests/integration and those that mark a test so."""
    here = root / "tests"
    return [
        str(path.relative_to(root))
        for path in sorted(here.rglob("test_*.py"))
        if here / "integration" in path.parents or "mark.integration" in path.read_text()
    ]


def part_of(file: str, others: Collection[str], count: int) -> str:
    """``cells``, ``alone``, or which of *count* shares the *file* is in, as ``1/2``; *others* are all there are."""
    if file in CELLS:
        return "cells"
    if file in ALONE:
        return "alone"
    return f"{shares(others, count)[file]}/{count}"


def shares(files: Iterable[str], count: int) -> dict[str, int]:
    """Deal the files that are in no other part out, the longest first, each to who has least."""
    dealt = {}
    full = [0.0] * count
    left = sorted(set(files) - {*CELLS, *ALONE}, key=lambda file: (-SECONDS.get(file, USUAL), file))
    for file in left:
        least = full.index(min(full))
        full[least] += SECONDS.get(file, USUAL)
        dealt[file] = least + 1
    return dealt
