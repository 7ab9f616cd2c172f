"""Parsed forms written back as bodies, checked with the parsers of the frameworks."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.formparser import parse_form_data

from twisted_rr.worker.forms import MULTIPART, URLENCODED, FormBody, rebuild


def dump(tree: Any) -> bytes:
    return json.dumps(tree).encode()


def whole(body: FormBody) -> bytes:
    data = b"".join(body.pieces())
    assert len(data) == body.length
    return data


# The trees of protocol.md 4.4, and the fields that give them.
TREES = [
    ({"a": "2"}, [("a", "2")]),
    ({"a": ["1", "2"]}, [("a[]", "1"), ("a[]", "2")]),
    ({"a": {"0": "x", "1": "y"}}, [("a[0]", "x"), ("a[1]", "y")]),
    ({"a": {"k": ["x", "y"]}}, [("a[k][]", "x"), ("a[k][]", "y")]),
    ({"a": {"": {"k": "w"}}}, [("a[][k]", "w")]),
    ({"a": ""}, [("a", "")]),
    ({"": "v"}, [("", "v")]),
    ({"a.b": "1"}, [("a.b", "1")]),
    ({"name": "Zoë & Söhne=100%"}, [("name", "Zoë & Söhne=100%")]),
    ({}, []),
]


@pytest.mark.parametrize(("tree", "fields"), TREES)
def test_a_tree_becomes_an_urlencoded_body(tree: Any, fields: list[tuple[str, str]]) -> None:
    body = rebuild(URLENCODED + "; charset=x", dump(tree), None)
    assert body.content_type == URLENCODED
    assert parse_qsl(whole(body).decode("ascii"), keep_blank_values=True) == fields


@pytest.mark.parametrize(("tree", "fields"), TREES)
def test_a_tree_becomes_a_multipart_body(tree: Any, fields: list[tuple[str, str]]) -> None:
    body = rebuild(f"{MULTIPART}; boundary=old", dump(tree), b"{}")
    assert parsed(body)[0] == fields


def parsed(body: FormBody) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    data = whole(body)
    environ = {
        "REQUEST_METHOD": "POST",
        "CONTENT_TYPE": body.content_type,
        "CONTENT_LENGTH": str(body.length),
        "wsgi.input": io.BytesIO(data),
    }
    _, form, files = parse_form_data(environ)
    return list(form.items(multi=True)), files


def leaf(path: Path | None, name: str = "f.txt", error: int = 0) -> dict[str, Any]:
    size = path.stat().st_size if path else 0
    return {"name": name, "mime": "text/x-test", "size": size, "error": error, "tmpName": str(path or "")}


def test_uploads_become_the_files_that_they_were(tmp_path: Path) -> None:
    one = tmp_path / "one"
    one.write_bytes(b"first" * 50000)
    two = tmp_path / "two"
    two.write_bytes(b"\r\n--second\r\n")
    uploads = {
        "file": leaf(one, 'a "quoted".txt'),
        "list": [leaf(two), leaf(two)],
        "deep": {"key": leaf(two)},
    }
    fields, files = parsed(rebuild(MULTIPART, dump({"title": "t"}), dump(uploads)))
    assert fields == [("title", "t")]
    assert files["file"].read() == b"first" * 50000
    assert files["file"].content_type == "text/x-test"
    assert files["file"].filename == 'a "quoted".txt'
    assert [file.read() for file in files.getlist("list[]")] == [b"\r\n--second\r\n"] * 2
    assert files["deep[key]"].read() == b"\r\n--second\r\n"


def test_a_large_upload_is_read_in_pieces(tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(b"x" * 200000)
    body = rebuild(MULTIPART, b"", {"file": leaf(large)})
    assert max(len(piece) for piece in body.pieces()) <= 65536


@pytest.mark.parametrize("upload", [leaf(None, error=4), leaf(None, error=8), leaf(None)])
def test_a_file_that_was_not_kept_is_an_empty_one(upload: Any) -> None:
    _, files = parsed(rebuild(MULTIPART, b"", {"file": upload}))
    assert files["file"].read() == b""


def test_the_boundary_is_new_each_time() -> None:
    assert rebuild(MULTIPART, b"", None).content_type != rebuild(MULTIPART, b"", None).content_type


@pytest.mark.parametrize("tree", [b"[1]", b"7", b"{"])
def test_what_is_no_tree_is_refused(tree: bytes) -> None:
    with pytest.raises(ValueError):
        rebuild(URLENCODED, tree, None)


leaves = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="[]"), min_size=1, max_size=10)
trees = st.dictionaries(names, st.one_of(leaves, st.lists(leaves, min_size=1, max_size=3)), max_size=5)


@given(trees)
def test_any_tree_survives_the_urlencoded_round_trip(tree: dict[str, Any]) -> None:
    body = whole(rebuild(URLENCODED, dump(tree), None)).decode("ascii")
    back: dict[str, Any] = {}
    for name, value in parse_qsl(body, keep_blank_values=True):
        if name.endswith("[]"):
            back.setdefault(name[:-2], []).append(value)
        else:
            back[name] = value
    assert back == tree
