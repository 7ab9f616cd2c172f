"""Where the admin socket is: what server and command have to agree on, and folders that are not to be trusted."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from twisted_rr.lifecycle.admin import place

UID = os.geteuid()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A short folder: a socket's path has room for 107 bytes."""
    folder = tmp_path / "h"
    folder.mkdir(mode=0o700)
    return folder


def listening(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    sock.listen()
    return sock


def test_the_name_follows_links_and_tells_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "my shop"
    folder.mkdir()
    (folder / ".rr.yaml").touch()
    link = tmp_path / "current"
    link.symlink_to(folder)
    name = place.name_of_file(str(folder / ".rr.yaml"))
    assert name.startswith("my-shop-")
    assert place.name_of_file(str(link / ".rr.yaml")) == name
    assert place.name_of_file(str(folder / "other.yaml")) != name


def test_servers_without_a_configuration_are_told_apart_by_application(tmp_path: Path) -> None:
    names = {place.name_of_application(str(tmp_path), name) for name in ("a:app", "b:app", "a:app")}
    assert len(names) == 2


def test_the_units_folder_comes_first_then_the_sessions_then_the_temporary_one(home: Path) -> None:
    for name in ("unit", "session", "tmp"):
        (home / name).mkdir(mode=0o700)
    environ = {
        "RUNTIME_DIRECTORY": f"{home}/unit:{home}/more",
        "XDG_RUNTIME_DIR": f"{home}/session",
        "TMPDIR": f"{home}/tmp",
    }
    found = [one.socket for one in place.places("x", environ, UID)]
    assert found[:3] == [
        f"{home}/unit/x.sock",
        f"{home}/session/twisted_rr/x.sock",
        f"{home}/tmp/twisted_rr-{UID}/x.sock",
    ]
    assert found[3].startswith(f"@twisted_rr/{UID}/") and len(found) == 4
    assert os.stat(home / "tmp" / f"twisted_rr-{UID}").st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o755])
def test_a_temporary_folder_that_others_can_enter_is_not_used(home: Path, mode: int) -> None:
    folder = home / f"twisted_rr-{UID}"
    folder.mkdir()
    folder.chmod(mode)
    (one,) = place.places("x", {"TMPDIR": str(home)}, UID)
    assert one.socket.startswith("@") and one.state == ""


def test_a_temporary_folder_that_is_a_link_or_somebody_elses_is_not_used(home: Path) -> None:
    (home / "real").mkdir(mode=0o700)
    (home / f"twisted_rr-{UID}").symlink_to(home / "real")
    assert len(place.places("x", {"TMPDIR": str(home)}, UID)) == 1
    assert len(place.places("x", {"TMPDIR": str(home)}, UID + 1)) == 1


def test_a_units_folder_may_be_looked_into_but_not_written_to_by_others(home: Path) -> None:
    environ = {"RUNTIME_DIRECTORY": str(home), "TMPDIR": "/proc"}
    home.chmod(0o755)
    assert len(place.places("x", environ, UID)) == 2
    home.chmod(0o777)
    assert len(place.places("x", environ, UID)) == 1


def test_a_session_of_another_user_is_passed_over(home: Path) -> None:
    environ = {"XDG_RUNTIME_DIR": str(home), "TMPDIR": "/proc"}
    assert len(place.places("x", environ, UID)) == 2
    assert len(place.places("x", environ, UID + 1)) == 1


def test_what_a_server_chose_is_what_a_command_finds(home: Path) -> None:
    environ = {"TMPDIR": str(home)}
    first = place.places("x-1", environ, UID)[0]
    second = first.second(77)
    assert second.socket == f"{home}/twisted_rr-{UID}/x-1.77.sock"
    with listening(first.socket), listening(second.socket):
        assert place.find("x-1", environ, UID) == [first.socket, second.socket]
        assert place.find("x", environ, UID) == []


def test_only_sockets_of_the_user_are_found(home: Path) -> None:
    folder = home / f"twisted_rr-{UID}"
    folder.mkdir(mode=0o700)
    (folder / "x.sock").touch()
    assert place.find("x", {"TMPDIR": str(home)}, UID) == []


def test_an_abstract_name_is_found_by_the_kernels_list() -> None:
    name = f"test-{os.getpid()}"
    with listening("\0" + place.abstract(name, UID)[1:]):
        assert place.find(name, {"TMPDIR": "/proc"}, UID) == [place.abstract(name, UID)]
    assert place.find(name, {"TMPDIR": "/proc"}, UID) == []


def test_a_folder_whose_name_only_begins_alike_has_another_server(tmp_path: Path) -> None:
    word = f"t{os.getpid()}"
    mine, other = (place.name_of_application(str(tmp_path / name), "a:app") for name in (word, f"{word}-2"))
    environ = {"TMPDIR": "/proc"}
    with listening("\0" + place.abstract(other, UID)[1:]):
        assert place.find_in_folder(str(tmp_path / word), environ, UID) == []
        with listening("\0" + place.abstract(mine, UID)[1:]):
            assert place.find_in_folder(str(tmp_path / word), environ, UID) == [place.abstract(mine, UID)]


def test_a_server_without_configuration_is_found_by_the_folder_it_works_in(home: Path) -> None:
    environ = {"TMPDIR": str(home)}
    work = home / "work"
    work.mkdir()
    mine, other = place.places("a", environ, UID)[0], place.places("b", environ, UID)[0]
    with listening(mine.socket), listening(other.socket):
        Path(mine.state).write_text(json.dumps({"folder": str(work)}) + "   \n")
        Path(other.state).write_text("nonsense")
        assert place.find_in_folder(str(work), environ, UID) == [mine.socket]
        assert place.find_in_folder(str(home), environ, UID) == []
