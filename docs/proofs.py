"""The table of what is proved: invariants and faults, with the tests that carry their marker.

The markers are collected by pytest itself, so a test that is gone, or was renamed, is gone from the table too.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

PHASES = ("start-up", "running", "announce", "finish", "stop")

LATER, OPEN = "later front", "**open**"

#: Invariants of protocols that are not served yet.
LATER_INVARIANTS = ("I20", "I21")

#: Faults of protocols, and of services, that are not served yet.
LATER_FAULTS: Mapping[str, str] = {
    "F21": "WebSocket, echoing and not echoing the Close",
    "F25": "raw TCP connections in mid-message",
    "F37": "broker or collector unreachable at the flush",
    "F38": "broker connection lost in the drain",
    "F39": "broker slow to acknowledge",
}

#: What the rig does not know from outside: text, and the phases in which it says something.
OTHER_FAULTS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "F7": ("a worker's grandchild keeps the pipes open", ("running", "finish")),
    "F8": ("a worker writes garbage to its relay, or closes it", ("running", "announce", "finish")),
    "F9": ("a worker's input ends", ("running", "stop")),
    "F11": ("no process can be started (pids cgroup)", ("announce", "finish")),
    "F28": ("SIGTERM at any moment of the start, also as PID 1", ("start-up",)),
    "F48": ("a TLS handshake in progress at the close", ("running", "announce", "finish", "stop")),
    "F43": ("a worker takes all memory (memory cgroup)", ("announce", "finish")),
}

#: Phases in which single tests show what the rig does not inject.
MORE_PHASES: Mapping[str, tuple[str, ...]] = {"F15": ("finish",)}

#: Cells of the start-up, which the rig does not inject.
AT_START = ("F3", "F10", "F28", "F32", "F40")

Proofs = Mapping[str, list[str]]


class Collector:
    """A pytest plugin that notes which test proves what."""

    def __init__(self) -> None:
        self.proofs: dict[str, list[str]] = {}

    def pytest_collection_finish(self, session) -> None:  # type: ignore[no-untyped-def]
        for item in session.items:
            for marker in item.iter_markers("proves"):
                for cell in marker.args:
                    tests = self.proofs.setdefault(cell, [])
                    name = item.nodeid.split("[")[0]
                    if name not in tests:
                        tests.append(name)


def main() -> None:
    """Print cell and test, one pair a line: runs in a process of its own, for pytest leaves much behind."""
    import pytest

    collector = Collector()
    files = [
        str(path) for path in sorted((ROOT / "tests").rglob("test_*.py")) if "proves" in path.read_text()
    ]
    code = pytest.main(["--collect-only", "-q", "-q", "-p", "no:cacheprovider", *files], plugins=[collector])
    if code:
        sys.exit(f"the tests could not be collected: pytest ended with {code}")
    for cell, tests in collector.proofs.items():
        for test in tests:
            print(f"\t{cell}\t{test}")


def collect() -> Proofs:
    """Cell -> the tests that prove it; raises RuntimeError when the tests cannot be collected."""
    ended = subprocess.run(
        [sys.executable, str(Path(__file__).resolve())], capture_output=True, text=True, cwd=ROOT, check=False
    )
    if ended.returncode:
        raise RuntimeError(ended.stderr[-2000:] + ended.stdout[-2000:])
    found: dict[str, list[str]] = {}
    for line in ended.stdout.splitlines():
        if line.startswith("\t"):
            _, cell, test = line.split("\t")
            found.setdefault(cell, []).append(test)
    return found


def faults() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Every fault F1 to F48: its text and the phases in which it says something."""
    from twisted_rr.draintest.faults import FAULTS

    found: dict[str, tuple[str, tuple[str, ...]]] = {
        fault.id: (fault.text, fault.phases) for fault in FAULTS.values() if ":" not in fault.id
    }
    found.update(OTHER_FAULTS)
    found.update({name: (text, PHASES[1:]) for name, text in LATER_FAULTS.items()})
    for name, more in MORE_PHASES.items():
        text, phases = found[name]
        found[name] = (text, (*phases, *more))
    for name in AT_START:
        text, phases = found[name]
        found[name] = (text, tuple(dict.fromkeys(("start-up", *phases))))
    return dict(sorted(found.items(), key=lambda pair: int(pair[0][1:])))


def known() -> set[str]:
    """Every cell that a marker may name."""
    from twisted_rr.draintest.invariants import INVARIANTS

    cells = {f"{name}:{phase}" for name, (_, phases) in faults().items() for phase in phases}
    return cells | set(INVARIANTS)


def table() -> Iterator[str]:
    """The page's two tables, and the list of tests that their numbers mean."""
    from twisted_rr.draintest.invariants import INVARIANTS

    page = _Page(collect())
    unknown = set(page.proofs) - known()
    if unknown:
        raise RuntimeError(f"markers name cells that do not exist: {', '.join(sorted(unknown))}")
    yield "## Invariants\n"
    yield "| | invariant | shown by |\n|---|---|---|"
    for name, invariant in INVARIANTS.items():
        missing = LATER if name in LATER_INVARIANTS else OPEN
        yield f"| **{name}** | {invariant.text} | {page.tests(name) or missing} |"
    yield "\n## Faults\n"
    yield "| | fault | " + " | ".join(PHASES) + " |"
    yield "|---" * (len(PHASES) + 2) + "|"
    for name, (text, phases) in faults().items():
        missing = LATER if name in LATER_FAULTS else OPEN
        cells = (page.tests(f"{name}:{phase}") or missing if phase in phases else "–" for phase in PHASES)
        yield f"| **{name}** | {text} | " + " | ".join(cells) + " |"
    yield "\n## Tests\n"
    for test, number in page.numbers.items():
        yield f'- <a id="test-{number}"></a>{number}: `{test}`'


class _Page:
    """Numbers the tests in the order in which the page names them."""

    def __init__(self, proofs: Proofs) -> None:
        self.proofs = proofs
        self.numbers: dict[str, int] = {}

    def tests(self, cell: str) -> str:
        """Links to the tests of a cell, empty when there are none."""
        return ", ".join(self._link(test) for test in self.proofs.get(cell, []))

    def _link(self, test: str) -> str:
        number = self.numbers.setdefault(test, len(self.numbers) + 1)
        return f'<a href="#test-{number}">{number}</a>'


if __name__ == "__main__":
    main()
