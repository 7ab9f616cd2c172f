"""Uploaded files: leaves, temporary files and extensions (protocol.md 4.5)."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from twisted_rr.plugins.http import uploads
from twisted_rr.plugins.http.forms import BadForm
from twisted_rr.plugins.http.uploads import UploadFile, UploadPolicy, tree_json


def test_a_file_is_private_and_named_as_roadrunner_does(tmp_path: Path) -> None:
    upload = UploadPolicy(str(tmp_path)).open("Photo.PNG", "image/png")
    upload.write(b"ab")
    upload.write(b"c")
    upload.close()
    path = Path(upload.path)
    assert path.parent == tmp_path
    assert path.name.startswith("upload")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes() == b"abc"
    assert upload.leaf() == {
        "name": "Photo.PNG",
        "mime": "image/png",
        "size": 3,
        "error": uploads.OK,
        "tmpName": str(path),
    }
    assert list(upload.leaf()) == ["name", "mime", "size", "error", "tmpName"]


def test_removing_is_idempotent_and_spares_what_the_worker_moved(tmp_path: Path) -> None:
    upload = UploadPolicy(str(tmp_path)).open("x", "")
    upload.write(b"kept")
    upload.close()
    moved = tmp_path / "moved"
    os.rename(upload.path, moved)
    upload.remove()
    upload.remove()
    assert moved.read_bytes() == b"kept"


def test_a_missing_directory_is_error_6(tmp_path: Path) -> None:
    upload = UploadPolicy(str(tmp_path / "none")).open("x", "")
    upload.write(b"x")
    upload.close()
    assert (upload.error, upload.size, upload.path) == (uploads.NO_DIRECTORY, 0, "")


def test_a_full_disk_is_error_7_and_leaves_nothing(tmp_path: Path) -> None:
    class Full:
        def write(self, data: bytes) -> int:
            raise OSError(28, "No space left on device")

        def close(self) -> None: ...

    upload = UploadPolicy(str(tmp_path)).open("x", "")
    assert upload._file is not None
    upload._file.close()
    upload._file = Full()  # type: ignore[assignment]
    upload.write(b"x")
    assert (upload.error, upload.size, upload.path) == (uploads.WRITE_FAILED, 0, "")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "allow", "forbid", "taken"),
    [
        ("a.php", (), (), True),
        ("a.php", (), (".php",), False),
        ("a.PHP", (), (".php",), False),
        ("a.txt.php", (), ("php",), False),
        ("a.png", (".png",), (), True),
        ("a.gif", (".png",), (), False),
        ("a.png", (".png",), (".png",), False),
        ("noext", (".png",), (), False),
        ("noext", (), (".php",), True),
        (".htaccess", (), (".htaccess",), False),
    ],
)
def test_forbid_wins_over_allow_and_no_allow_is_all(
    tmp_path: Path, name: str, allow: tuple[str, ...], forbid: tuple[str, ...], taken: bool
) -> None:
    upload = UploadPolicy(str(tmp_path), allow, forbid).open(name, "")
    upload.write(b"x")
    upload.close()
    assert (upload.error == uploads.OK) is taken
    if not taken:
        assert (upload.error, upload.size, upload.path) == (uploads.FORBIDDEN, 0, "")
        assert not list(tmp_path.iterdir())


def test_files_stand_in_the_tree_by_the_rules_of_fields() -> None:
    files = {
        "f": [UploadFile("1", ""), UploadFile("2", "")],
        "g[]": [UploadFile("3", ""), UploadFile("4", "")],
        "h[k]": [UploadFile("5", "")],
    }
    tree = json.loads(tree_json(files))
    assert tree["f"]["name"] == "1"
    assert [leaf["name"] for leaf in tree["g"]] == ["3", "4"]
    assert tree["h"]["k"]["name"] == "5"


def test_the_tree_is_byte_for_byte_this() -> None:
    assert tree_json({"f": [UploadFile("<a>", "t/p")]}) == (
        b'{"f":{"name":"\\u003ca\\u003e","mime":"t/p","size":0,"error":0,"tmpName":""}}'
    )


def test_no_files_are_an_empty_object() -> None:
    assert tree_json({}) == b"{}"


def test_a_file_and_a_level_of_one_name_are_refused() -> None:
    with pytest.raises(BadForm):
        tree_json({"f": [UploadFile("1", "")], "f[x]": [UploadFile("2", "")]})
