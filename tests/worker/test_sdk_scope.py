"""The ASGI scope."""

from __future__ import annotations

import pytest

from twisted_rr.worker.scope import http_scope, path_of


@pytest.mark.parametrize(
    ("target", "path", "raw", "query"),
    [
        (b"/", "/", b"/", b""),
        (b"/a?b", "/a", b"/a", b"b"),
        (b"/a%20b?c?d", "/a b", b"/a%20b", b"c?d"),
        (b"/%C3%A9", "/é", b"/%C3%A9", b""),
        ("/é".encode(), "/é", "/é".encode(), b""),
        (b"/%FF\xff", "/\ufffd\ufffd", b"/%FF\xff", b""),
        (b"/%2", "/%2", b"/%2", b""),
        (b"*", "*", b"*", b""),
    ],
)
def test_the_path_is_decoded_and_the_rest_is_as_received(
    target: bytes, path: str, raw: bytes, query: bytes
) -> None:
    scope = http_scope(("GET", target, "1.1", "http", None, None, [], None), {}, {})
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == (path, raw, query)
    assert path_of(raw) == path


def test_scopes_do_not_share_what_an_application_may_change() -> None:
    fields = ("GET", b"/", "1.1", "http", None, None, [], None)
    first = http_scope(fields, {}, {})
    first["asgi"]["mine"] = True
    assert "mine" not in http_scope(fields, {}, {})["asgi"]


def test_attributes_are_an_extension() -> None:
    fields = ("GET", b"/", "1.1", "http", None, None, [], {"user": "x"})
    assert http_scope(fields, {}, {})["extensions"] == {"twisted_rr.attributes": {"user": "x"}}
