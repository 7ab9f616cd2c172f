"""Multipart bodies: parts, limits, and any chunking."""

from __future__ import annotations

from email import message_from_bytes, policy
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_rr.plugins.http import forms, multipart
from twisted_rr.plugins.http.forms import BadForm, FormTooLarge
from twisted_rr.plugins.http.multipart import FormCollector, MultipartParser, boundary_of, parameters
from twisted_rr.plugins.http.uploads import UploadPolicy


class Parts:
    """Keeps each part whole."""

    def __init__(self) -> None:
        self.parts: list[tuple[list[tuple[bytes, bytes]], bytes]] = []
        self.open = False

    def begin(self, headers: list[tuple[bytes, bytes]]) -> None:
        assert not self.open
        self.open = True
        self.parts.append((headers, b""))

    def data(self, data: bytes) -> None:
        assert self.open and data
        headers, before = self.parts[-1]
        self.parts[-1] = (headers, before + data)

    def end(self) -> None:
        assert self.open
        self.open = False


def parse(boundary: bytes, *pieces: bytes) -> list[tuple[list[tuple[bytes, bytes]], bytes]]:
    sink = Parts()
    parser = MultipartParser(boundary, sink)
    for piece in pieces:
        parser.feed(piece)
    parser.finish()
    assert not sink.open
    return sink.parts


def field(name: str, value: bytes, extra: str = "") -> bytes:
    return f'--B\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'.encode() + value + b"\r\n"


# -------------------------------------------------------------------------------- grammar


def test_preamble_and_epilogue_are_dropped() -> None:
    body = b"hello\r\n--B\r\nA: 1\r\n\r\nx\r\n--B--\r\nbye\r\n--B\r\n"
    assert parse(b"B", body) == [([(b"a", b"1")], b"x")]


def test_a_part_may_have_no_header_and_no_content() -> None:
    assert parse(b"B", b"--B\r\n\r\n\r\n--B--") == [([], b"")]
    assert parse(b"B", b"--B\r\nA: 1\r\n\r\n--B--") == [([(b"a", b"1")], b"")]


def test_blanks_may_follow_a_boundary() -> None:
    assert parse(b"B", b"--B \t\r\n\r\nx\r\n--B--") == [([], b"x")]


def test_a_folded_header_is_one() -> None:
    assert parse(b"B", b"--B\r\nA: 1\r\n 2\r\n\r\nx\r\n--B--") == [([(b"a", b"1 2")], b"x")]


def test_what_looks_like_the_beginning_of_a_boundary_is_content() -> None:
    content = b"\r\n--\r\r\n-\r\n\r\n--A--B"
    assert parse(b"B", b"--B\r\n\r\n" + content + b"\r\n--B--")[0][1] == content


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no boundary at all",
        b"--B\r\n\r\nx",
        b"--B\r\n\r\nx\r\n--B\r\n",
        b"--B\r\nno colon\r\n\r\nx\r\n--B--",
        b"--B\r\n: empty\r\n\r\nx\r\n--B--",
        b"--Bx\r\n\r\nx\r\n--B--",
        b"--B\n\nx\n--B--",
    ],
)
def test_what_is_not_multipart_is_refused(body: bytes) -> None:
    with pytest.raises(BadForm):
        parse(b"B", body)


def test_too_many_parts_are_refused() -> None:
    with pytest.raises(BadForm, match="parts"):
        parse(b"B", b"--B\r\n\r\n\r\n" * (multipart.MAX_PARTS + 1) + b"--B--")


def test_a_head_without_end_is_refused_before_it_is_kept() -> None:
    parser = MultipartParser(b"B", Parts())
    with pytest.raises(BadForm, match="header"):
        for _ in range(100):
            parser.feed(b"--B\r\nA: " if _ == 0 else b"x" * 1000)
    assert parser._buffer.__len__() < 2 * multipart.MAX_PART_HEAD


@given(
    contents=st.lists(
        st.lists(
            st.sampled_from([b"\r", b"\n", b"-", b"--", b"\r\n--", b"B", b"\r\n--B"[:4], b"x", b"\0\xff"])
        ).map(b"".join),
        min_size=1,
        max_size=4,
    ),
    cuts=st.lists(st.integers(0, 400), max_size=12),
)
@settings(max_examples=300, deadline=None)
def test_any_chunking_gives_the_parts_that_email_finds(contents: list[bytes], cuts: list[int]) -> None:
    boundary = b"Boundary7"
    body = b"".join(
        b"--Boundary7\r\nContent-Type: application/octet-stream\r\nX-N: %d\r\n\r\n%b\r\n" % (number, content)
        for number, content in enumerate(contents)
    )
    body += b"--Boundary7--\r\n"
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    pieces = [body[start:end] for start, end in zip(edges, edges[1:], strict=False)]
    parts = parse(boundary, *pieces)
    assert [content for _, content in parts] == contents
    assert [dict(headers)[b"x-n"] for headers, _ in parts] == [b"%d" % n for n in range(len(contents))]
    assert len(_oracle(boundary, body)) == len(contents)


@given(
    contents=st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=126)), min_size=1, max_size=4),
    size=st.integers(1, 7),
)
@settings(max_examples=100, deadline=None)
def test_the_standard_library_reads_the_same_text(contents: list[str], size: int) -> None:
    body = (
        b"".join(b"--QQ\r\nContent-Type: text/plain\r\n\r\n%b\r\n" % c.encode() for c in contents)
        + b"--QQ--\r\n"
    )
    parts = parse(b"QQ", *(body[at : at + size] for at in range(0, len(body), size)))
    assert [content for _, content in parts] == _oracle(b"QQ", body)


def _oracle(boundary: bytes, body: bytes) -> list[bytes]:
    head = b"MIME-Version: 1.0\r\nContent-Type: multipart/form-data; boundary=%b\r\n\r\n" % boundary
    message = message_from_bytes(head + body, policy=policy.HTTP)
    return [part.get_payload(decode=True) for part in message.iter_parts()]  # type: ignore[attr-defined]


def test_python_multipart_finds_the_same_in_a_browsers_body() -> None:
    python_multipart = pytest.importorskip("python_multipart")
    body = field("a", b"1\r\n") + field("f", bytes(range(256)) * 9, '; filename="x.bin"') + b"--B--\r\n"
    found: list[bytes] = []
    oracle = python_multipart.MultipartParser(
        b"B",
        {
            "on_part_begin": lambda: found.append(b""),
            "on_part_data": lambda data, start, end: found.append(found.pop() + data[start:end]),
        },
    )
    oracle.write(body)
    oracle.finalize()
    assert [content for _, content in parse(b"B", body)] == found


# ----------------------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    ("value", "filename"),
    [
        (rb'form-data; filename="a b.txt"', b"a b.txt"),
        (rb"form-data; filename=a.txt; name=x", b"a.txt"),
        (rb'form-data; filename="a\"b.txt"', b'a"b.txt'),
        (rb'form-data; filename="C:\new\x.txt"', rb"C:\new\x.txt"),
        (rb"form-data; filename=plain; filename*=UTF-8''%c3%a9.txt", "é.txt".encode()),
        (rb"form-data; filename*=iso-8859-1'en'%e9", "é".encode()),
        (rb"form-data; filename*=koi8-r''%e9; filename=kept", b"kept"),
        (rb'form-data; FileName="x;y=z"', b"x;y=z"),
        (rb'form-data; filename="unclosed', b'"unclosed'),
    ],
)
def test_a_file_name_is_read(value: bytes, filename: bytes) -> None:
    assert parameters(value)[b"filename"] == filename


def test_a_boundary_is_read() -> None:
    assert (
        boundary_of(b"multipart/form-data; boundary=----WebKitFormBoundary7MA")
        == b"----WebKitFormBoundary7MA"
    )
    assert boundary_of(b'multipart/form-data; charset=utf-8; boundary="a b"') == b"a b"


@pytest.mark.parametrize(
    "value", [b"multipart/form-data", b"multipart/form-data; boundary=", b"x; boundary=" + b"y" * 201]
)
def test_a_content_type_without_a_boundary_is_refused(value: bytes) -> None:
    with pytest.raises(BadForm):
        boundary_of(value)


# ---------------------------------------------------------------------------------- forms


def collect(tmp_path: Path, body: bytes, **rules: object) -> FormCollector:
    form = FormCollector(UploadPolicy(str(tmp_path), **rules))  # type: ignore[arg-type]
    parser = MultipartParser(b"B", form)
    parser.feed(body)
    parser.finish()
    return form


def test_fields_and_files_are_told_apart_by_the_file_name(tmp_path: Path) -> None:
    form = collect(
        tmp_path,
        field("a", b"1")
        + field("f", b"abc", '; filename="dir/x.txt"\r\nContent-Type: text/plain')
        + b"--B--",
    )
    assert form.fields == [("a", "1")]
    (name, upload), *others = form.files
    assert (name, upload.name, upload.mime, upload.size, upload.error) == ("f", "x.txt", "text/plain", 3, 0)
    assert not others
    assert Path(upload.path).read_bytes() == b"abc"
    form.close()
    assert not list(tmp_path.iterdir())


def test_an_empty_file_name_is_a_field(tmp_path: Path) -> None:
    form = collect(tmp_path, field("f", b"", '; filename=""') + b"--B--")
    assert form.fields == [("f", "")]
    assert not form.files


def test_parts_without_a_name_are_passed_over(tmp_path: Path) -> None:
    body = (
        b"--B\r\n\r\nx\r\n--B\r\nContent-Disposition: attachment; name=a\r\n\r\nx\r\n"
        + field("", b"y")
        + b"--B--"
    )
    form = collect(tmp_path, body)
    assert not form.fields
    assert not form.files


def test_fields_above_their_limit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "MAX_FORM", 10)
    with pytest.raises(FormTooLarge) as caught:
        collect(tmp_path, field("a", b"x" * 6) + field("b", b"x" * 6) + b"--B--")
    assert caught.value.status == 413
    collect(tmp_path, field("f", b"x" * 99, "; filename=big") + b"--B--").close()
