"""The contexts of an HTTP call to a one-call worker: protobuf http.v1 and RoadRunner's older JSON form, for both ends.

Sources: protocol.md 4.2 and 4.6. Leaves out how a request's fields are made (the front's) and the trees
of forms and uploads (protocol.md 4.4, 4.5), which come here as finished JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from twisted_rr.errors import FrameError
from twisted_rr.wire.frame import CODEC_JSON, CODEC_PROTO
from twisted_rr.wire.json_shapes import read_request
from twisted_rr.wire.protobuf import BYTES, VARINT, entry, fields, read_entry, string, tag, text, varint

_dump: Final = msgspec.json.Encoder().encode
_load: Final = msgspec.json.Decoder().decode

# protocol.md 4.2: remote_addr, protocol, method, uri, raw_query
_TEXT_FIELDS: Final = (1, 2, 3, 4, 7)


class HttpRequest:
    """http.v1.Request: what a one-call worker is told about a request.

    :ivar remote_addr: the client's IP without port.
    :ivar protocol: ``HTTP/1.1``, ``HTTP/2.0``.
    :ivar uri: absolute; :ivar raw_query: without ``?``.
    :ivar headers: canonical name to values, without Host. A value is bytes as received, or str (UTF-8);
        decoding gives bytes.
    :ivar cookies: name to value, the last one wins.
    :ivar parsed: the body is the JSON tree of a form.
    :ivar uploads: the JSON tree of uploads, None when there is none.
    :ivar attributes: name to value (str or bytes), or to a list of them.
    """

    __slots__ = (
        "attributes",
        "cookies",
        "headers",
        "method",
        "parsed",
        "protocol",
        "raw_query",
        "remote_addr",
        "uploads",
        "uri",
    )

    def __init__(
        self,
        remote_addr: str = "",
        protocol: str = "HTTP/1.1",
        method: str = "GET",
        uri: str = "",
        headers: dict[str, list[Any]] | None = None,
        cookies: dict[str, Any] | None = None,
        raw_query: str = "",
        parsed: bool = False,
        uploads: bytes | None = None,
        attributes: dict[str, Any] | None = None,
    ) -> None:
        self.remote_addr = remote_addr
        self.protocol = protocol
        self.method = method
        self.uri = uri
        self.headers: dict[str, list[Any]] = {} if headers is None else headers
        self.cookies: dict[str, Any] = {} if cookies is None else cookies
        self.raw_query = raw_query
        self.parsed = parsed
        self.uploads = uploads
        self.attributes: dict[str, Any] = {} if attributes is None else attributes

    def _values(self) -> tuple[Any, ...]:
        return (
            self.remote_addr,
            self.protocol,
            self.method,
            self.uri,
            self.headers,
            self.cookies,
            self.raw_query,
            self.parsed,
            self.uploads,
            self.attributes,
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HttpRequest) and self._values() == other._values()

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        return f"<HttpRequest {self.method} {self.uri}>"


# ------------------------------------------------------------------------------------ request


def encode_single_request(codec: int, request: HttpRequest) -> bytes:
    """The context of a request frame, in protobuf or JSON.

    :raises FrameError: *codec* is neither.
    """
    if codec == CODEC_JSON:
        return _json_request(request)
    if codec == CODEC_PROTO:
        return _proto_request(request)
    raise _wrong_codec(codec)


def decode_single_request(codec: int, data: bytes) -> HttpRequest:
    """The request; *codec* 0 means: JSON if it begins like a JSON object, else protobuf.

    :raises FrameError: it is neither, or has another shape.
    """
    if codec == 0:
        codec = CODEC_JSON if data[:1] == b"{" else CODEC_PROTO
    if codec == CODEC_JSON:
        return _read_json_request(data)
    if codec == CODEC_PROTO:
        return _read_proto_request(data)
    raise _wrong_codec(codec)


def _wrong_codec(codec: int) -> FrameError:
    return FrameError(f"codec 0x{codec:02x} carries no HTTP context, expected JSON or protobuf")


def as_text(value: Any) -> str:
    """A value for JSON: bytes that are not UTF-8 pass as latin-1 (design.md 6)."""
    if isinstance(value, str):
        return value
    try:
        return value.decode()  # type: ignore[no-any-return]
    except UnicodeDecodeError:
        return value.decode("latin-1")  # type: ignore[no-any-return]


def _octets(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    return str(value).encode("utf-8", "replace")


def _json_value(value: Any) -> Any:
    if isinstance(value, bytes):
        return as_text(value)
    if isinstance(value, list):
        return [_json_value(item) for item in value]
    return value


def json_start(remote_addr: str, protocol: str, method: str, origin: str) -> bytes:
    """How `json_request` begins: all before the target, with an *origin* such as ``http://example.org``."""
    told = tuple(map(_dump, (remote_addr, protocol, method, origin)))
    return b'{"remoteAddr":%b,"protocol":%b,"method":%b,"uri":%b' % (*told[:3], told[3][:-1])


def json_request(start: bytes, target: bytes, headers: bytes, cookies: bytes) -> bytes:
    """What `encode_single_request` makes in JSON of a request that is no form.

    *start* is of `json_start`, *headers* and *cookies* are finished objects.
    """
    if target.translate(None, PLAIN):
        target = _dump(target.decode("latin-1"))[1:-1]
        # Neither a quote nor an escape of the target's has a question mark in it.
    return _JSON % (start, target, headers, cookies, target.partition(b"?")[2])


def json_string(value: bytes) -> bytes:
    """*value* as JSON, as `as_text` reads it."""
    return _dump(as_text(value)) if value.translate(None, PLAIN) else b'"' + value + b'"'


PLAIN: Final = bytes(byte for byte in range(0x20, 0x7F) if byte not in b'"\\')
"""Bytes that stand for themselves in JSON."""

_JSON: Final = (
    b'%b%b","headers":%b,"cookies":%b,"rawQuery":"%b","parsed":false,"uploads":null,"attributes":{}}'
)


def _json_request(request: HttpRequest) -> bytes:
    uploads = request.uploads
    return _dump(
        {
            "remoteAddr": request.remote_addr,
            "protocol": request.protocol,
            "method": request.method,
            "uri": request.uri,
            "headers": {
                name: [as_text(value) for value in values] for name, values in request.headers.items()
            },
            "cookies": {name: as_text(value) for name, value in request.cookies.items()},
            "rawQuery": request.raw_query,
            "parsed": request.parsed,
            "uploads": None if uploads is None else msgspec.Raw(uploads),
            "attributes": {name: _json_value(value) for name, value in request.attributes.items()},
        }
    )


def proto_start(remote_addr: str, protocol: str, method: str) -> bytes:
    """How `proto_request` begins."""
    out: list[bytes] = []
    for number, value in enumerate((remote_addr, protocol, method), 1):
        _put(out, number, _octets(value))
    return b"".join(out)


def proto_header(name: str, values: Sequence[bytes]) -> bytes:
    """One header of `proto_request`."""
    return _HEADER + entry(_key(name), list(map(string, values)))


def proto_request(start: bytes, uri: bytes, headers: bytes, cookies: dict[str, bytes], query: bytes) -> bytes:
    """What `encode_single_request` makes in protobuf of a request that is no form.

    *start* is of `proto_start`, *headers* the `proto_header` of each, in ASCII the others.
    """
    out = [start]
    _put(out, 4, uri)
    out.append(headers)
    for name, value in cookies.items():
        out.append(_COOKIE)
        out.append(entry(_key(name), [string(value)]))
    _put(out, 7, query)
    return b"".join(out)


def _proto_request(request: HttpRequest) -> bytes:
    out: list[bytes] = []
    # Fields in the order of their numbers, those at their default left out, as protobuf has it.
    _put(out, 1, _octets(request.remote_addr))
    _put(out, 2, _octets(request.protocol))
    _put(out, 3, _octets(request.method))
    _put(out, 4, _octets(request.uri))
    for name, values in request.headers.items():
        out.append(_HEADER)
        out.append(entry(_key(name), [string(_octets(value)) for value in values]))
    for name, value in request.cookies.items():
        out.append(_COOKIE)
        out.append(entry(_key(name), [string(_octets(value))]))
    _put(out, 7, _octets(request.raw_query))
    if request.parsed:
        out.append(_PARSED)
    if request.uploads:
        _put(out, 9, request.uploads)
    for name, attribute in request.attributes.items():
        out.append(_ATTRIBUTE)
        out.append(entry(_key(name), [string(_octets(item)) for item in _listed(attribute)]))
    return b"".join(out)


_HEADER: Final = tag(5, BYTES)
_COOKIE: Final = tag(6, BYTES)
_PARSED: Final = tag(8, VARINT) + b"\x01"
_ATTRIBUTE: Final = tag(10, BYTES)
_STATUS: Final = tag(1, VARINT)
_ANSWER_HEADER: Final = tag(2, BYTES)


_KEYS: Final = 1024
_keys: dict[str, bytes] = {}


def _key(name: str) -> bytes:
    """A map's key; names repeat, so they are kept, within bounds."""
    known = _keys.get(name)
    if known is None:
        known = string(_octets(name))
        if len(known) <= 64:
            if len(_keys) >= _KEYS:
                _keys.clear()
            _keys[name] = known
    return known


def _put(out: list[bytes], number: int, value: bytes) -> None:
    if value:
        out.append(tag(number, BYTES))
        out.append(varint(len(value)))
        out.append(value)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _read_proto_request(data: bytes) -> HttpRequest:
    texts = dict.fromkeys(_TEXT_FIELDS, "")
    maps: dict[int, dict[str, list[Any]]] = {5: {}, 6: {}, 10: {}}
    parsed = False
    uploads: bytes | None = None
    for number, kind, value in fields(data, 0, len(data)):
        if kind == VARINT:
            if number == 8:
                parsed = value != 0
        elif number in maps:
            key, values = read_entry(value)
            maps[number][text(key, data)] = values
        elif number in texts:
            texts[number] = text(value, data)
        elif number == 9:
            uploads = value
    return HttpRequest(
        texts[1],
        texts[2],
        texts[3],
        texts[4],
        maps[5],
        {name: as_text(values[-1]) if values else "" for name, values in maps[6].items()},
        texts[7],
        parsed,
        uploads,
        {name: values[0] if len(values) == 1 else values for name, values in maps[10].items()},
    )


def _map(value: Any) -> dict[str, Any]:
    """A JSON object; PHP writes an empty one as ``[]``, others as null."""
    if isinstance(value, dict):
        return value
    if value is None or value == []:
        return {}
    raise TypeError


def _read_json_request(data: bytes) -> HttpRequest:
    try:
        told = read_request(data)
    except Exception:  # another shape, or bytes that are not UTF-8
        return _read_other_request(data)
    headers = {name: [value.encode() for value in values] for name, values in told.headers.items()}
    uploads = told.uploads
    return HttpRequest(
        told.remoteAddr,
        told.protocol,
        told.method,
        told.uri,
        headers,
        told.cookies,
        told.rawQuery,
        told.parsed,
        None if uploads is None else _dump(uploads),
        told.attributes,
    )


def _read_other_request(data: bytes) -> HttpRequest:
    found, charset = _read_object(data, "request")
    uploads = found.get("uploads")
    try:
        return HttpRequest(
            str(found.get("remoteAddr", "")),
            str(found.get("protocol", "")),
            str(found.get("method", "")),
            str(found.get("uri", "")),
            {
                name: [value.encode(charset) for value in _strings(values)]
                for name, values in _map(found.get("headers")).items()
            },
            _map(found.get("cookies")),
            str(found.get("rawQuery", "")),
            bool(found.get("parsed", False)),
            None if uploads is None else _dump(uploads),
            _map(found.get("attributes")),
        )
    except (TypeError, AttributeError, UnicodeEncodeError) as error:
        raise FrameError("request context: expected RoadRunner's JSON request", data) from error


def _read_object(data: bytes, name: str) -> tuple[dict[str, Any], str]:
    """A JSON object, and the charset that turns its strings into bytes again."""
    charset = "utf-8"
    try:
        try:
            found = _load(data)
        except UnicodeDecodeError:
            # Not JSON by the letter, but what a worker sends that copies header bytes as they are.
            charset = "latin-1"
            found = _load(data.decode(charset).encode())
    except (msgspec.DecodeError, RecursionError) as error:
        raise FrameError(f"{name} context: {error}", data) from error
    if not isinstance(found, dict):
        raise FrameError(f"{name} context: expected a JSON object", data)
    return found, charset


# ----------------------------------------------------------------------------------- response


def encode_single_response(codec: int, status: int, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """The context of an answer's first frame; headers of one name are collected under its first spelling.

    :raises FrameError: *codec* is neither JSON nor protobuf.
    """
    if codec != CODEC_JSON and codec != CODEC_PROTO:
        raise _wrong_codec(codec)
    collected: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        collected.setdefault(name, []).append(value)
    if codec == CODEC_JSON:
        return _dump(
            {
                "status": status,
                "headers": {
                    as_text(name): [as_text(value) for value in values] for name, values in collected.items()
                },
            }
        )
    out = [_STATUS, varint(status)] if status else []
    for name, values in collected.items():
        out.append(_ANSWER_HEADER)
        out.append(entry(string(name), [string(value) for value in values]))
    return b"".join(out)


def decode_single_response(codec: int, data: bytes) -> tuple[int, list[tuple[bytes, bytes]]]:
    """``(status, headers)``; *codec* 0 means JSON. A missing status is 0.

    :raises FrameError: not this shape.
    """
    if codec == CODEC_PROTO:
        return _read_proto_response(data)
    if codec in (0, CODEC_JSON):
        return _read_json_response(data)
    raise _wrong_codec(codec)


def _read_proto_response(data: bytes) -> tuple[int, list[tuple[bytes, bytes]]]:
    status = 0
    headers: dict[bytes, list[bytes]] = {}
    for number, kind, value in fields(data, 0, len(data)):
        if number == 1 and kind == VARINT:
            status = value - (1 << 64) if value >> 63 else value
        elif number == 2 and kind == BYTES:
            key, values = read_entry(value)
            text(key, data)
            headers[key] = values
    return status, [(name, value) for name, values in headers.items() for value in values]


def _read_json_response(data: bytes) -> tuple[int, list[tuple[bytes, bytes]]]:
    found, charset = _read_object(data, "response")
    status = found.get("status", 0)
    if type(status) is not int:
        raise FrameError("response context: status is not an integer", data)
    try:
        headers = [
            (name.encode(charset), value.encode(charset))
            for name, values in _map(found.get("headers")).items()
            for value in _strings(values)
        ]
    except (TypeError, AttributeError, UnicodeEncodeError) as error:
        raise FrameError("response context: expected headers as names with lists of strings", data) from error
    return status, headers


def _strings(values: Any) -> list[str]:
    if not isinstance(values, list):
        raise TypeError
    return values
