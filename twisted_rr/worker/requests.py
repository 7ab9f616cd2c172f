"""Reads the request of a one-call relay (protocol.md 4.2-4.5) into the shape of mux.md 7.

Applications therefore see the same scope or environ under either kind of relay. The codecs are
`wire.context`'s, writing a parsed form back as a body is `forms`'.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from twisted_rr.wire.context import HttpRequest, decode_single_request, encode_single_response
from twisted_rr.wire.frame import CODEC_JSON, CODEC_PROTO
from twisted_rr.worker.forms import rebuild

Fields = tuple[str, bytes, str, str, Any, Any, list[tuple[bytes, bytes]], Any]

_DEFAULT_PORTS = {"http": 80, "https": 443}


def codec_of(flags: int, context: bytes) -> int:
    """The codec of a request's context, by its flags or else by its first byte; the answer repeats it."""
    if flags & CODEC_PROTO:
        return CODEC_PROTO
    if flags & CODEC_JSON or context[:1] == b"{":
        return CODEC_JSON
    return CODEC_PROTO


def single_head(codec: int, status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
    """The context of an answer's first frame."""
    return encode_single_response(codec, status, headers)


def read_single(codec: int, context: bytes, body: bytes) -> tuple[Fields, bytes, Iterator[bytes] | None]:
    """``(fields, body, pieces)``: *pieces* gives the body where *body* is empty because it comes from files.

    Headers get Host, which such a request names in its URI only, and the Content-Length of the body
    as it is now. Raises FrameError, and ValueError for a form tree that is none.
    """
    request = decode_single_request(codec, context)
    scheme, authority, target = _split(request)
    headers = _headers(request, authority)
    pieces: Iterator[bytes] | None = None
    if request.parsed:
        form = rebuild(_first(headers, b"content-type"), body, request.uploads)
        headers = _with_length(headers, form.length)
        headers = [pair for pair in headers if pair[0] != b"content-type"]
        headers.append((b"content-type", form.content_type.encode("latin-1")))
        body, pieces = b"", form.pieces()
    elif body:
        headers = _with_length(headers, len(body))
    client = (request.remote_addr, 0) if request.remote_addr else None
    server = _server(scheme, authority)
    version = request.protocol.partition("/")[2] or "1.1"
    fields = (request.method, target, version, scheme, client, server, headers, request.attributes or None)
    return fields, body, pieces


def _split(request: HttpRequest) -> tuple[str, str, bytes]:
    """Scheme, authority and target of the absolute URI."""
    scheme, separator, rest = request.uri.partition("://")
    authority, slash, path = rest.partition("/")
    if separator and slash and "?" not in authority and "#" not in authority:
        target = "/" + (path.partition("?")[0] if "?" in path else path)
        if request.raw_query:
            target = f"{target}?{request.raw_query}"
        return scheme, authority, target.encode("utf-8", "surrogatepass")
    if not separator:
        scheme, rest = "http", request.uri
    end = min((rest.find(mark) for mark in "/?#" if mark in rest), default=len(rest))
    authority, path = rest[:end], rest[end:].partition("?")[0]
    if path[:1] not in ("/", "*"):
        path = "/" + path
    target = f"{path}?{request.raw_query}" if request.raw_query else path
    return scheme, authority, target.encode("utf-8", "surrogatepass")


def _headers(request: HttpRequest, authority: str) -> list[tuple[bytes, bytes]]:
    headers: list[tuple[bytes, bytes]] = []
    host = b""
    for name, values in request.headers.items():
        lower = _lower.get(name)
        if lower is None:
            lower = _new_name(name)
        for value in values:
            headers.append((lower, value))
            if lower == b"host" and not host:
                host = value
    if authority and not host:
        headers.insert(0, (b"host", authority.encode("latin-1", "replace")))
    return headers


_MOST_NAMES = 1024
_lower: dict[str, bytes] = {}


def _new_name(name: str) -> bytes:
    lower = name.lower().encode("latin-1", "replace")
    if len(_lower) < _MOST_NAMES and len(name) <= 64:
        _lower[name] = lower
    return lower


def _first(headers: list[tuple[bytes, bytes]], wanted: bytes) -> str:
    for name, value in headers:
        if name == wanted:
            return value.decode("latin-1")
    return ""


def _with_length(headers: list[tuple[bytes, bytes]], length: int) -> list[tuple[bytes, bytes]]:
    kept = [pair for pair in headers if pair[0] not in (b"content-length", b"transfer-encoding")]
    kept.append((b"content-length", b"%d" % length))
    return kept


def _server(scheme: str, authority: str) -> tuple[str, int] | None:
    if not authority:
        return None
    host, _, port = authority.rpartition(":")
    if host and port.isdigit() and not host.endswith(":"):
        return host.strip("[]"), int(port)
    return authority.strip("[]"), _DEFAULT_PORTS.get(scheme, 80)
