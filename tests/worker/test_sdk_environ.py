"""The WSGI environ."""

from __future__ import annotations

import io
from typing import Any

import pytest

from twisted_rr.worker.environ import EnvironMaker, FileWrapper


def make(
    target: bytes = b"/",
    headers: Any = (),
    method: str = "GET",
    scheme: str = "http",
    client: Any = ("192.0.2.7", 4711),
    server: Any = ("10.0.0.1", 8080),
    attributes: Any = None,
    threads: bool = False,
) -> dict[str, Any]:
    return EnvironMaker(threads).make(method, target, "1.1", scheme, client, server, headers, attributes)


def test_everything_pep_3333_asks_for_is_there() -> None:
    environ = make(b"/a/b?x=1&y=2", [(b"content-type", b"text/plain"), (b"content-length", b"3")], "POST")
    assert environ["REQUEST_METHOD"] == "POST"
    assert environ["SCRIPT_NAME"] == ""
    assert environ["PATH_INFO"] == "/a/b"
    assert environ["QUERY_STRING"] == "x=1&y=2"
    assert environ["CONTENT_TYPE"] == "text/plain"
    assert environ["CONTENT_LENGTH"] == "3"
    assert "HTTP_CONTENT_TYPE" not in environ
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("10.0.0.1", "8080")
    assert environ["SERVER_PROTOCOL"] == "HTTP/1.1"
    assert environ["wsgi.version"] == (1, 0)
    assert environ["wsgi.url_scheme"] == "http"
    assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == ("192.0.2.7", "4711")
    assert environ["wsgi.input_terminated"] is True
    assert environ["wsgi.multiprocess"] is True
    assert environ["wsgi.run_once"] is False


@pytest.mark.parametrize("threads", [True, False])
def test_multithread_says_whether_calls_run_side_by_side(threads: bool) -> None:
    assert make(threads=threads)["wsgi.multithread"] is threads


def test_the_path_is_its_bytes_as_latin_1() -> None:
    assert make(b"/caf%C3%A9%2Fx")["PATH_INFO"] == "/café/x".encode().decode("latin-1")
    assert make("/é".encode())["PATH_INFO"] == "/é".encode().decode("latin-1")
    assert make(b"/a%2Fb?c")["RAW_URI"] == "/a%2Fb?c"


def test_repeated_headers_are_joined() -> None:
    environ = make(headers=[(b"x-a", b"1"), (b"cookie", b"a=1"), (b"x-a", b"2"), (b"cookie", b"b=2")])
    assert environ["HTTP_X_A"] == "1,2"
    assert environ["HTTP_COOKIE"] == "a=1; b=2"


def test_a_header_with_an_underscore_cannot_pose_as_another() -> None:
    environ = make(headers=[(b"x_forwarded_for", b"evil"), (b"x-real-ip", b"good")])
    assert "HTTP_X_FORWARDED_FOR" not in environ
    assert environ["HTTP_X_REAL_IP"] == "good"


def test_header_values_are_latin_1() -> None:
    assert make(headers=[(b"x-a", b"\xe9")])["HTTP_X_A"] == "é"


@pytest.mark.parametrize(
    ("headers", "scheme", "name", "port"),
    [
        ([(b"host", b"example.com:81")], "http", "example.com", "81"),
        ([(b"host", b"example.com")], "https", "example.com", "443"),
        ([(b"host", b"[::1]:82")], "http", "[::1]", "82"),
        ([(b"host", b"[::1]")], "http", "[::1]", "80"),
        ([], "http", "localhost", "80"),
    ],
)
def test_a_unix_listener_has_the_name_that_the_client_used(
    headers: Any, scheme: str, name: str, port: str
) -> None:
    environ = make(headers=headers, scheme=scheme, server=None, client=None)
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == (name, port)
    assert environ["REMOTE_ADDR"] == ""


def test_environs_do_not_share_what_an_application_may_change() -> None:
    maker = EnvironMaker(False)
    arguments = ("GET", b"/", "1.1", "http", None, None, [], {"user": "x"})
    first = maker.make(*arguments)
    first["wsgi.version"] = first["mine"] = "changed"
    second = maker.make(*arguments)
    assert second["wsgi.version"] == (1, 0)
    assert "mine" not in second
    assert second["twisted_rr.attributes"] == {"user": "x"}


def test_the_file_wrapper_gives_blocks_and_closes_its_file() -> None:
    file = io.BytesIO(b"x" * 25)
    wrapper = FileWrapper(file, 10)
    assert [len(block) for block in wrapper] == [10, 10, 5]
    wrapper.close()
    assert file.closed
    FileWrapper(type("Bare", (), {"read": lambda self, size: b""})()).close()
