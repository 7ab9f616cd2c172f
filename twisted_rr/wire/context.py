"""The contexts of an HTTP call on a mux relay: request, head and trailers (mux.md 7), for both ends.

Those of one-call workers are in single_context.py and can be imported from here too. Leaves out what a
head means: hop-by-hop fields, content-length and the range of a status are the front's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from twisted_rr.errors import FrameError
from twisted_rr.wire.frame import CODEC_JSON, CODEC_MSGPACK
from twisted_rr.wire.single_context import (
    HttpRequest,
    decode_single_request,
    decode_single_response,
    encode_single_request,
    encode_single_response,
)

__all__ = [
    "HttpRequest",
    "decode_close",
    "decode_head",
    "decode_request",
    "decode_single_request",
    "decode_single_response",
    "decode_trailers",
    "encode_close",
    "encode_head",
    "encode_request",
    "encode_single_request",
    "encode_single_response",
    "encode_trailers",
    "pack_headers",
]

Pairs = list[tuple[bytes, bytes]]

_pack: Final = msgspec.msgpack.Encoder().encode
_dump: Final = msgspec.json.Encoder().encode

# Each context has two decoders. The exact tuple is the fast one; what it refuses goes to one that
# ignores further elements (mux.md 7), and whose error names the place.
_PEER: Final = tuple[str, int | None] | None
_MAP: Final = dict[str, Any] | None


def _shapes(name: str, *elements: Any) -> tuple[Any, Any]:
    fields = [(f"_{number}", element) for number, element in enumerate(elements)]
    return tuple[elements], msgspec.defstruct(name, fields, array_like=True)  # type: ignore[valid-type]


def _decoders(codec: int, name: str, *elements: Any) -> tuple[Any, Any]:
    make: Any = msgspec.msgpack.Decoder if codec == CODEC_MSGPACK else msgspec.json.Decoder
    exact, longer = _shapes(name, *elements)
    return make(exact).decode, make(longer).decode


_BYTES: Final = list[tuple[bytes, bytes]]
_TEXTS: Final = list[tuple[str, str]]  # JSON: code points 0-255 for bytes
_REQUEST, _REQUEST_LONGER = _decoders(
    CODEC_MSGPACK, "request", str, bytes, str, str, _PEER, _PEER, _BYTES, _MAP
)
_HEAD, _HEAD_LONGER = _decoders(CODEC_MSGPACK, "head", int, _BYTES)
_TRAILERS, _TRAILERS_LONGER = _decoders(CODEC_MSGPACK, "trailers", _BYTES)
_CLOSE, _CLOSE_LONGER = _decoders(CODEC_MSGPACK, "close", int, str)
_JSON_REQUEST, _JSON_REQUEST_LONGER = _decoders(
    CODEC_JSON, "request", str, str, str, str, _PEER, _PEER, _TEXTS, _MAP
)
_JSON_HEAD, _JSON_HEAD_LONGER = _decoders(CODEC_JSON, "head", int, _TEXTS)
_JSON_TRAILERS, _JSON_TRAILERS_LONGER = _decoders(CODEC_JSON, "trailers", _TEXTS)
_JSON_CLOSE, _JSON_CLOSE_LONGER = _decoders(CODEC_JSON, "close", int, str)


def _decode_longer(decode: Any, name: str, data: bytes) -> Any:
    """Decode an array with further elements; the error if it is none."""
    try:
        found = decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(f"{name} context: {error}", data) from error
    return msgspec.structs.astuple(found)


def _wrong_codec(codec: int) -> FrameError:
    return FrameError(f"codec 0x{codec:02x} carries no mux context, expected msgpack or JSON")


def _text_pairs(headers: Any) -> list[tuple[str, str]]:
    if type(headers) is msgspec.Raw:
        headers = msgspec.msgpack.decode(headers)
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


def _byte_pairs(headers: list[tuple[str, str]], name: str, data: bytes) -> Pairs:
    try:
        return [(key.encode("latin-1"), value.encode("latin-1")) for key, value in headers]
    except UnicodeEncodeError as error:
        raise FrameError(f"{name} context: a header has a code point above 255", data) from error


def pack_headers(headers: Sequence[tuple[bytes, bytes]]) -> msgspec.Raw:
    """The headers as `encode_request` takes them already packed, to keep for the next request that repeats them."""
    return msgspec.Raw(_pack(headers))


def encode_request(
    codec: int,
    method: str,
    target: bytes,
    version: str,
    scheme: str,
    client: tuple[str, int | None] | None,
    server: tuple[str, int | None] | None,
    headers: Any,
    attributes: dict[str, Any] | None,
) -> bytes:
    """A request's context. *headers* are pairs of bytes, names in lower case, or the result of `pack_headers`.

    :raises FrameError: *codec* is neither msgpack nor JSON.
    """
    if codec == CODEC_MSGPACK:
        return _pack((method, target, version, scheme, client, server, headers, attributes))
    if codec != CODEC_JSON:
        raise _wrong_codec(codec)
    path = target.decode("latin-1")
    return _dump((method, path, version, scheme, client, server, _text_pairs(headers), attributes))


def decode_request(codec: int, data: bytes) -> tuple[Any, ...]:
    """``(method, target, version, scheme, client, server, headers, attributes)``, as `encode_request` took them.

    :raises FrameError: not this shape; the message names the place and what was expected.
    """
    found: Any
    if codec == CODEC_MSGPACK:
        try:
            found = _REQUEST(data)
        except Exception:
            found = _decode_longer(_REQUEST_LONGER, "request", data)
        return found  # type: ignore[no-any-return]
    if codec != CODEC_JSON:
        raise _wrong_codec(codec)
    try:
        found = _JSON_REQUEST(data)
    except Exception:
        found = _decode_longer(_JSON_REQUEST_LONGER, "request", data)
    method, target, version, scheme, client, server, headers, attributes = found
    pairs = _byte_pairs([("", target), *headers], "request", data)
    return (method, pairs[0][1], version, scheme, client, server, pairs[1:], attributes)


def encode_head(codec: int, status: int, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """The context of a final or interim head.

    :raises FrameError: *codec* is neither msgpack nor JSON.
    """
    if codec == CODEC_MSGPACK:
        return _pack((status, headers))
    if codec != CODEC_JSON:
        raise _wrong_codec(codec)
    return _dump((status, _text_pairs(headers)))


def decode_head(codec: int, data: bytes) -> tuple[int, Pairs]:
    """``(status, headers)``; the status may be any integer.

    :raises FrameError: not this shape.
    """
    found: Any
    if codec == CODEC_MSGPACK:
        try:
            found = _HEAD(data)
        except Exception:
            found = _decode_longer(_HEAD_LONGER, "head", data)
        return found  # type: ignore[no-any-return]
    if codec != CODEC_JSON:
        raise _wrong_codec(codec)
    try:
        found = _JSON_HEAD(data)
    except Exception:
        found = _decode_longer(_JSON_HEAD_LONGER, "head", data)
    return (found[0], _byte_pairs(found[1], "head", data))


def encode_trailers(codec: int, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """The context of a frame that ends an answer with trailers.

    :raises FrameError: *codec* is neither msgpack nor JSON.
    """
    if codec == CODEC_MSGPACK:
        return _pack((headers,))
    if codec != CODEC_JSON:
        raise _wrong_codec(codec)
    return _dump((_text_pairs(headers),))


def decode_trailers(codec: int, data: bytes) -> Pairs:
    """The trailers.

    :raises FrameError: not this shape.
    """
    found: Any
    if codec == CODEC_MSGPACK:
        try:
            found = _TRAILERS(data)
        except Exception:
            found = _decode_longer(_TRAILERS_LONGER, "trailers", data)
        return found[0]  # type: ignore[no-any-return]
    if codec != CODEC_JSON:
        raise _wrong_codec(codec)
    try:
        found = _JSON_TRAILERS(data)
    except Exception:
        found = _decode_longer(_JSON_TRAILERS_LONGER, "trailers", data)
    return _byte_pairs(found[0], "trailers", data)


def encode_close(codec: int, code: int, reason: str) -> bytes:
    """The context of a WebSocket's close, either way.

    :raises FrameError: *codec* is neither msgpack nor JSON.
    """
    if codec == CODEC_MSGPACK:
        return _pack((code, reason))
    if codec != CODEC_JSON:
        raise _wrong_codec(codec)
    return _dump((code, reason))


def decode_close(codec: int, data: bytes) -> tuple[int, str]:
    """``(code, reason)`` of a WebSocket's close.

    :raises FrameError: not this shape.
    """
    if codec != CODEC_MSGPACK and codec != CODEC_JSON:
        raise _wrong_codec(codec)
    found: Any
    try:
        found = _CLOSE(data) if codec == CODEC_MSGPACK else _JSON_CLOSE(data)
    except Exception:
        longer = _CLOSE_LONGER if codec == CODEC_MSGPACK else _JSON_CLOSE_LONGER
        found = _decode_longer(longer, "close", data)
    return found  # type: ignore[no-any-return]
