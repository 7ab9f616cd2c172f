"""The state file: what a kill leaves open, what a clean stop closes, and that no trouble with it matters."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from twisted_rr.lifecycle.previous_exit import CLEAN, SIZE, StateFile


class Machine:
    """A boot and two clocks."""

    def __init__(self) -> None:
        self.boot = "first"
        self.uptime = 1000.0
        self.wall = 5000.0

    def file(self, path: Path) -> StateFile:
        return StateFile(
            str(path), boot=lambda: self.boot, uptime=lambda: self.uptime, wall=lambda: self.wall
        )

    def passes(self, seconds: float) -> None:
        self.uptime += seconds
        self.wall += seconds


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rr.sock.state"


def run(machine: Machine, path: Path, *states: str) -> StateFile:
    file = machine.file(path)
    assert file.open()
    file.begin({"folder": "/srv"}, "starting")
    for state in states:
        machine.passes(10)
        file.enter(state)
    return file


def test_the_first_run_knows_of_none_before(machine: Machine, path: Path) -> None:
    file = run(machine, path)
    assert (file.previous, file.trouble) == (None, "")
    assert path.stat().st_mode & 0o777 == 0o600
    told = json.loads(path.read_text())
    assert (told["folder"], told["state"], told["boot"]) == ("/srv", "starting", "first")


def test_a_run_that_ended_in_order_is_told_as_clean(machine: Machine, path: Path) -> None:
    file = run(machine, path, "running", "stopping")
    file.end(CLEAN, "cut")
    file.close()
    later = run(machine, path)
    assert later.previous is not None
    assert (later.previous.label, later.previous.unclean) == ("clean", False)
    assert str(later.previous) == "clean (work was cut at the deadline)"


def test_a_failure_is_told_once(machine: Machine, path: Path) -> None:
    file = run(machine, path, "stopping")
    file.end("failed", "failed")
    file.close()
    assert str(run(machine, path).previous) == "failed"


@pytest.mark.parametrize(
    ("states", "label"),
    [
        ((), "killed_starting"),
        (("running",), "killed_running"),
        (("running", "drained"), "killed_drained"),
        (("running", "draining:announce", "draining:finish"), "killed_draining"),
        (("running", "draining:finish", "stopping"), "killed_stopping"),
    ],
)
def test_a_killed_run_is_told_with_the_state_it_was_in(
    machine: Machine, path: Path, states: tuple[str, ...], label: str
) -> None:
    file = run(machine, path, *states)
    machine.passes(4)
    file.seen()
    file.close()  # the kernel does it for a killed process
    machine.passes(60)
    previous = run(machine, path).previous
    assert previous is not None
    assert (previous.label, previous.unclean) == (label, True)
    assert (previous.into, previous.ago) == (4.0, 60.0)


def test_what_it_says_in_words(machine: Machine, path: Path) -> None:
    file = run(machine, path, "running", "draining:finish")
    machine.passes(22)
    file.seen()
    file.close()
    machine.passes(12)
    assert str(run(machine, path).previous) == "killed while draining:finish, 22s into it, 12s ago"


def test_a_record_with_long_paths_is_read_whole_whatever_was_written_before_it(
    machine: Machine, path: Path
) -> None:
    file = machine.file(path)
    assert file.open()
    file.begin({"folder": "/" + "x" * 4000}, "draining:announce")
    file.enter("running")  # a shorter word
    file.close()
    later = run(machine, path, "running")
    assert later.previous is not None and later.previous.label == "killed_running"
    later.close()
    last = run(machine, path)
    assert last.previous is not None and last.previous.label == "killed_running"


def test_a_machine_that_went_down_is_not_taken_for_a_kill(machine: Machine, path: Path) -> None:
    run(machine, path, "running").close()
    machine.boot, machine.uptime, machine.wall = "second", 5.0, machine.wall + 100
    previous = run(machine, path).previous
    assert previous is not None
    assert (previous.label, previous.ago) == ("rebooted", 100.0)


def test_a_clock_that_was_set_back_gives_no_negative_ages(machine: Machine, path: Path) -> None:
    run(machine, path, "running").close()
    machine.boot, machine.wall = "second", 0.0
    previous = run(machine, path).previous
    assert previous is not None and previous.ago == 0.0


@pytest.mark.parametrize("text", [b"{", b"[]", b"null", b'{"boot": 3}', b"\xff" * 10, b"x" * 10000])
def test_a_file_that_holds_no_record_is_told_and_written_over(
    machine: Machine, path: Path, text: bytes
) -> None:
    path.write_bytes(text)
    file = run(machine, path, "running")
    assert file.previous is not None and file.previous.label == "unreadable"
    file.end(CLEAN, "drained")
    file.close()
    if len(text) < SIZE:
        later = run(machine, path).previous
        assert later is not None and later.label == "clean"


def test_the_file_of_a_living_server_is_taken(machine: Machine, path: Path) -> None:
    first = run(machine, path)
    assert not machine.file(path).open()
    first.close()
    assert machine.file(path).open()


def test_the_file_never_grows_so_that_a_full_disk_can_take_the_end(machine: Machine, path: Path) -> None:
    file = run(machine, path, "running", "draining:finish", "stopping")
    assert path.stat().st_size == SIZE
    file.end(CLEAN, "drained")
    assert path.stat().st_size == SIZE


def test_a_file_that_cannot_be_made_is_no_reason_to_stay_out(machine: Machine, tmp_path: Path) -> None:
    file = machine.file(tmp_path / "missing" / "state")
    assert file.open()
    file.begin({}, "starting")
    file.enter("running")
    file.end(CLEAN)
    file.close(remove=True)
    assert file.trouble == "No such file or directory"


def test_a_link_is_not_followed(machine: Machine, tmp_path: Path, path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("precious")
    path.symlink_to(target)
    file = machine.file(path)
    assert file.open() and file.trouble
    file.begin({}, "starting")
    assert target.read_text() == "precious"


def test_a_run_that_never_began_leaves_what_was_there(machine: Machine, path: Path) -> None:
    run(machine, path, "running").close()
    file = machine.file(path)
    assert file.open()
    file.end(CLEAN)
    file.close()
    previous = run(machine, path).previous
    assert previous is not None and previous.label == "killed_running"
