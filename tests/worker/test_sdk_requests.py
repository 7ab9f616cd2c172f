"""Requests of one-call relays in the shape that the adapters take."""

from __future__ import annotations

from typing import Any

import pytest
from worker_rig import request, tree

from twisted_rr.errors import FrameError
from twisted_rr.wire.context import HttpRequest, encode_single_request
from twisted_rr.wire.frame import CODEC_JSON, CODEC_PROTO
from twisted_rr.worker.requests import codec_of, read_single


def read(made: HttpRequest, body: bytes = b"", codec: int = CODEC_JSON) -> Any:
    return read_single(codec, encode_single_request(codec, made), body)


@pytest.mark.parametrize("codec", [CODEC_JSON, CODEC_PROTO])
def test_a_request_gets_the_fields_of_a_mux_request(codec: int) -> None:
    made = request("/a%20b?x=1", "PUT", {"X-Test": "yes", "User-Agent": "me"})
    (method, target, version, scheme, client, server, headers, attributes), body, pieces = read(
        made, b"raw", codec
    )
    assert (method, target, version, scheme) == ("PUT", b"/a%20b?x=1", "1.1", "http")
    assert (client, server, attributes) == (("192.0.2.7", 0), ("example.com", 80), None)
    assert sorted(headers) == [
        (b"content-length", b"3"), (b"host", b"example.com"), (b"user-agent", b"me"), (b"x-test", b"yes"),
    ]  # fmt: skip
    assert (body, pieces) == (b"raw", None)


@pytest.mark.parametrize(
    ("uri", "target", "server", "host"),
    [
        ("https://example.com/x", b"/x", ("example.com", 443), b"example.com"),
        ("http://example.com:81", b"/", ("example.com", 81), b"example.com:81"),
        ("http://[::1]:82/y", b"/y", ("::1", 82), b"[::1]:82"),
        ("http://[::1]/y", b"/y", ("::1", 80), b"[::1]"),
        ("/only/path", b"/only/path", None, None),
    ],
)
def test_the_uri_gives_target_server_and_host(
    uri: str, target: bytes, server: Any, host: bytes | None
) -> None:
    fields, _, _ = read(HttpRequest(uri=uri, method="GET"))
    assert (fields[1], fields[5]) == (target, server)
    assert dict(fields[6]).get(b"host") == host


def test_the_codec_is_read_from_the_flags_or_from_the_first_byte() -> None:
    assert codec_of(CODEC_PROTO, b"{") == CODEC_PROTO
    assert codec_of(CODEC_JSON, b"\x0a") == CODEC_JSON
    assert codec_of(0, b"{}") == CODEC_JSON
    assert codec_of(0, b"\x0a") == CODEC_PROTO


def test_a_parsed_form_is_a_body_again_with_its_headers() -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": "99"}
    made = request("/", "POST", headers, parsed=True)
    fields, body, pieces = read(made, tree({"a": ["1", "2"]}))
    assert body == b""
    assert b"".join(pieces) == b"a%5B%5D=1&a%5B%5D=2"
    assert dict(fields[6])[b"content-length"] == b"19"
    assert dict(fields[6])[b"content-type"] == b"application/x-www-form-urlencoded"
    assert len(fields[6]) == 3


def test_an_empty_tree_is_an_empty_body() -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    fields, _, pieces = read(request("/", "POST", headers, parsed=True), b"")
    boundary = dict(fields[6])[b"content-type"].partition(b"boundary=")[2]
    assert b"".join(pieces) == b"--" + boundary + b"--\r\n"


def test_a_body_of_unknown_length_gets_one() -> None:
    fields, _, _ = read(request("/", "POST", {"Transfer-Encoding": "chunked"}), b"12345")
    assert dict(fields[6]) == {b"host": b"example.com", b"content-length": b"5"}


def test_nonsense_is_an_error() -> None:
    with pytest.raises(FrameError):
        read_single(CODEC_JSON, b"nonsense", b"")
