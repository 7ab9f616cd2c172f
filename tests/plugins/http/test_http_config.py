"""The section ``http`` as people write it."""

from __future__ import annotations

import pytest

from twisted_rr import __version__
from twisted_rr.config import Registry, load
from twisted_rr.errors import ConfigError
from twisted_rr.plugins.http.config import HttpSettings


def read(text: str) -> HttpSettings:
    known = Registry()
    known.add("http", HttpSettings)
    source = 'version: "3"\nhttp:\n' + "".join(f"  {line}\n" for line in text.splitlines())
    settings = load(_file(source), known, environ={}).settings("http")
    assert isinstance(settings, HttpSettings)
    return settings


_files: list[str] = []


def _file(source: str) -> str:
    import tempfile

    with tempfile.NamedTemporaryFile("w", suffix=".yaml", delete=False) as file:
        file.write(source)
    _files.append(file.name)
    return file.name


@pytest.fixture(autouse=True)
def _clean() -> object:
    import os

    yield
    while _files:
        os.unlink(_files.pop())


def problems(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text)
    return str(caught.value)


def test_what_is_not_served_says_how_to_start_without_it() -> None:
    assert "compat: {unserved: warn} starts without it" in problems("address: :80\nmiddleware: [gzip]")


def test_compat_takes_keys_that_are_not_served_as_well() -> None:
    known = Registry()
    known.add("http", HttpSettings)
    text = """version: "3"
compat: {unserved: warn}
http: {address: ":80", middleware: [gzip], static: {dir: .}, ssl: {address: ":443"}, fcgi: {address: "tcp://:9"}}
"""
    config = load(text, known, environ={})
    served = f"is not served by twisted_rr {__version__} and has no effect"
    assert [str(warning) for warning in config.warnings] == [
        f"<text>:3:36: http.middleware: middleware {served} (a proxy in front can do it)",
        f"<text>:3:52: http.static: the static middleware {served} (a proxy in front can do it)",
        f"<text>:3:67: http.ssl: TLS {served} (a proxy in front can do it)",
        f"<text>:3:92: http.fcgi: FastCGI {served}",
    ]


@pytest.mark.parametrize(
    "value", ("{max_concurrent_streams: 128}", "{h2c: false, max_concurrent_streams: 128}")
)
def test_http2_without_h2c_asks_for_nothing(value: str) -> None:
    assert read(f"address: :80\nhttp2: {value}").http2 is None


def test_an_address_is_enough() -> None:
    settings = read("address: 127.0.0.1:8080")
    assert settings.max_request_size == 1000 << 20
    assert settings.internal_error_code == 500
    assert settings.trusted_subnets is None
    assert settings.codec == "json"
    assert not settings.access_logs
    assert (settings.timeouts.header, settings.timeouts.body) == (10.0, 30.0)
    assert (settings.timeouts.keepalive, settings.timeouts.write) == (75.0, 30.0)


def test_every_key_that_is_served() -> None:
    settings = read(
        """\
address: unix:///run/app.sock
internal_error_code: 503
access_logs: true
max_request_size: 5
raw_body: true
codec: proto
uploads: {dir: /tmp, allow: [".PNG", jpg], forbid: [.php, .exe]}
trusted_subnets: [10.0.0.0/8, "::1"]
trusted_headers: [Forwarded, CF-Connecting-IP]
half_close: true
timeouts: {header: 5s, body: 1m, keepalive: 10s, write: 0}
max_header_bytes: 8192
max_headers: 50
middleware: []
pool: {num_workers: 2, debug: true}"""
    )
    assert settings.max_body == 5 << 20
    assert settings.uploads.allow == (".png", "jpg")
    assert settings.uploads.forbid == (".php", ".exe")
    assert settings.trusted_subnets == ("10.0.0.0/8", "::1")
    assert settings.timeouts.write == 0
    assert settings.pool.num_workers == 2


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("middleware: [gzip]", "middleware is not served by twisted_rr"),
        ("ssl: {address: ':443'}", "TLS is not served by twisted_rr"),
        ("http2: {h2c: true}", "HTTP/2 is not served by twisted_rr"),
        ("http3: {address: ':443'}", "HTTP/3 is not served by twisted_rr"),
        ("fcgi: {address: 'tcp://:9000'}", "FastCGI is not served by twisted_rr"),
        ("static: {dir: public}", "static"),
        ("headers: {request: {a: b}}", "headers"),
        ("cache: {a: b}", "cache"),
    ],
)
def test_what_is_not_served_yet_is_refused_in_words(text: str, where: str) -> None:
    found = problems("address: ':80'\n" + text)
    assert where in found
    assert f"is not served by twisted_rr {__version__}" in found
    assert ":4:" in found


@pytest.mark.parametrize(
    "text",
    [
        "access_logs: true",
        "address: nowhere",
        "address: ':80'\ncodec: xml",
        "address: ':80'\ntrusted_subnets: [10.0.0/8]",
        "address: ':80'\ntrusted_headers: ['a b']",
        "address: ':80'\nuploads: {forbid: ['../x']}",
        "address: ':80'\ninternal_error_code: 200",
        "address: ':80'\nmax_headers: 0",
    ],
)
def test_what_makes_no_sense_is_refused(text: str) -> None:
    assert "http" in problems(text)
