"""What runs the suites side by side: that nothing that failed, crashed or was not built can pass for well."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
from parts import ALONE, CELLS, SECONDS, USUAL, part_of, real_files, shares

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def suites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """scripts/suites.py, that keeps its logs in a folder of the test's."""
    spec = importlib.util.spec_from_file_location("suites", ROOT / "scripts" / "suites.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "suites", module)
    spec.loader.exec_module(module)
    module.LOGS = tmp_path / "logs"
    module.LOGS.mkdir()
    module.coverage = module.erase = lambda suites: None
    return module


class World:
    """One suite, whose parts are Python programs that speak as pytest does."""

    def __init__(self, suites: ModuleType, folder: Path) -> None:
        self.suites, self.folder = suites, folder
        self.suite = suites.Suite("pure", "pure 3", Path(sys.executable), folder)
        self.suite.ready.set()
        self.parts: list = []

    def part(self, name: str, code: str, lane: str | None = None) -> None:
        file = self.folder / f"{name}.py"
        file.write_text(code)
        part = self.suites.Part(self.suite, name, lane or self.suites.WAIT, [])
        part.command = lambda again: [sys.executable, str(file), *(["again"] if again else [])]
        self.parts.append(part)

    def run(self) -> tuple[bool, str]:
        runs = self.suites.Runs()
        self.suites.all_lanes(self.parts, runs)
        return self.suites.report([self.suite], self.parts, runs)


@pytest.fixture
def world(suites: ModuleType, tmp_path: Path) -> World:
    return World(suites, tmp_path)


PASSED = "print('2 passed, 1 skipped in 0.1s')\n"
FAILED = "import sys\nprint('1 failed, 4 passed in 0.1s')\nsys.exit(1)\n"


def test_all_parts_passed(world, capsys):
    world.part("units", PASSED, "compute")
    world.part("cells", PASSED)
    world.part("alone", PASSED, "alone")
    assert world.run()
    assert "pure 3: 6 passed, 3 skipped\n" in capsys.readouterr().out


def test_what_fails_twice_fails_the_whole(world, capsys):
    world.part("units", PASSED)
    world.part("cells", FAILED)
    assert not world.run()
    out = capsys.readouterr().out
    assert "pure cells, again, alone: 1 failed" in out
    assert "pure 3: 10 passed, 1 failed, 1 skipped  FAILED\n" in out


def test_what_failed_once_is_counted_as_it_went_alone(world, capsys):
    world.part(
        "cells",
        "import sys\nif sys.argv[1:]: print('1 passed, 4 deselected in 1s')\nelse:\n    print('1 failed, 4 passed in 1s'); sys.exit(1)\n",
    )
    assert world.run()
    assert "pure 3: 5 passed\n" in capsys.readouterr().out


@pytest.mark.parametrize("code", [2, 3, 4, 5, -9])
def test_a_part_that_did_not_run_its_tests_fails_and_is_not_tried_again(world, capsys, code):
    end = f"os.kill(os.getpid(), {-code})" if code < 0 else f"os._exit({code})"
    world.part("cells", f"import os\n{end}\n")
    assert not world.run()
    out = capsys.readouterr().out
    assert "again" not in out and f"pytest exited with {code}" in out


def test_what_is_alone_begins_when_all_else_is_over(world, tmp_path):
    note = f"import time, sys\nwith open({str(tmp_path / 'order')!r}, 'a') as file: file.write(%r)\n"
    world.part("alone", note % "alone ", "alone")
    world.part("units", "import time\ntime.sleep(0.3)\n" + note % "units ", "compute")
    world.run()
    assert (tmp_path / "order").read_text() == "units alone "


def test_a_suite_that_could_not_be_made_fails_the_whole(world, suites, capsys):
    world.part("units", PASSED)
    other = suites.Suite("compiled", "compiled 3", Path(sys.executable))
    part = suites.Part(other, "units", suites.COMPUTE, [])
    runs = suites.Runs()

    def prepare() -> None:
        other.broken = "the wheel could not be built"

    suites.prepared(other, prepare, runs)
    suites.all_lanes([*world.parts, part], runs)
    assert not suites.report([world.suite, other], [*world.parts, part], runs)
    assert "compiled 3: nothing ran  FAILED" in capsys.readouterr().out


def test_a_suite_that_cannot_be_here_is_skipped_with_a_line(world, suites, capsys):
    world.part("units", PASSED)
    other = suites.Suite("compiled", "compiled 3", Path(sys.executable))
    other.left_out = "there is no C compiler"
    other.ready.set()
    part = suites.Part(other, "units", suites.COMPUTE, [])
    runs = suites.Runs()
    suites.all_lanes([*world.parts, part], runs)
    assert suites.report([world.suite, other], [*world.parts, part], runs)
    assert "compiled 3: skipped, there is no C compiler\n" in capsys.readouterr().out


def test_what_hangs_is_ended_and_has_failed(world, suites, capsys):
    suites.LIMIT = 0.5
    world.part("cells", "import time\ntime.sleep(60)\n")
    begun = time.monotonic()
    assert not world.run()
    assert time.monotonic() - begun < 30


def test_a_signal_ends_what_runs_and_fails(tmp_path: Path):
    code = f"""
import sys, threading, pathlib
sys.path.insert(0, {str(ROOT / "scripts")!r})
import suites
suites.LOGS = pathlib.Path({str(tmp_path)!r}) / "logs"
suites.coverage = suites.erase = lambda suites: None
def parts(suite):
    part = suites.Part(suite, "units", suites.COMPUTE, [])
    part.command = lambda again: [sys.executable, "-c", "import os, pathlib, time; pathlib.Path({str(tmp_path / "pid")!r}).write_text(str(os.getpid())); time.sleep(60)"]
    return [part]
suites.parts = parts
raise SystemExit(suites.main(["pure"], None))
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    try:
        deadline = time.monotonic() + 20
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 1 and "interrupted" in out
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text()}").exists()


def test_each_file_with_real_servers_is_in_one_part_whatever_their_number():
    files = real_files(ROOT)
    assert "tests/test_packaging.py" in files and "tests/test_log.py" not in files
    assert not {*CELLS, *ALONE, *SECONDS} - set(files)
    for count in (1, 2, 3):
        found = {file: part_of(file, files, count) for file in files}
        assert set(found.values()) == {
            "cells",
            "alone",
            *(f"{number + 1}/{count}" for number in range(count)),
        }


def test_shares_take_equally_long():
    dealt = shares(real_files(ROOT), 2)
    sums = [
        sum(SECONDS.get(file, USUAL) for file, share in dealt.items() if share == number) for number in (1, 2)
    ]
    assert abs(sums[0] - sums[1]) <= USUAL


def test_what_a_compiled_suite_leaves_out_is_there(suites):
    assert {*suites.NOT_COMPILED, *suites.NOT_IN_THE_WHEEL} <= set(real_files(ROOT))
