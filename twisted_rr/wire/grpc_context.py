"""The contexts of a gRPC call on a mux relay: call, head and end (mux.md 7), for both ends.

Those of one-call workers are in grpc_single_context.py, google.rpc.Status in grpc_status.py; both can be
imported from here too. Leaves out what metadata may contain, and the range of a status: the front's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from twisted_rr.errors import FrameError
from twisted_rr.wire.frame import CODEC_JSON, CODEC_MSGPACK
from twisted_rr.wire.grpc_single_context import (
    Metadata,
    decode_single_call,
    decode_single_end,
    encode_single_call,
    encode_single_end,
)
from twisted_rr.wire.grpc_status import (
    decode_error_text,
    decode_status,
    encode_error_text,
    encode_status,
    with_details,
)

__all__ = [
    "Metadata",
    "decode_call",
    "decode_error_text",
    "decode_grpc_end",
    "decode_grpc_head",
    "decode_single_call",
    "decode_single_end",
    "decode_status",
    "encode_call",
    "encode_error_text",
    "encode_grpc_end",
    "encode_grpc_head",
    "encode_single_call",
    "encode_single_end",
    "encode_status",
    "pack_metadata",
    "with_details",
]

Call = tuple[str, str, Metadata, int | None, str, dict[str, Any] | None]
End = tuple[int, str, bytes | None, Metadata]

_pack: Final = msgspec.msgpack.Encoder().encode
_dump: Final = msgspec.json.Encoder().encode

_PAIRS: Any = list[tuple[str, Any]]
_TEXTS: Any = list[tuple[str, str]]
_MAP: Any = dict[str, Any] | None


def _shape(name: str, *elements: Any) -> Any:
    """An array that may be longer (mux.md 7), where the exact tuple, which is faster, does not fit."""
    return msgspec.defstruct(
        name, [(f"_{number}", element) for number, element in enumerate(elements)], array_like=True
    )


_CALL: Final = msgspec.msgpack.Decoder(tuple[str, str, _PAIRS, int | None, str, _MAP]).decode
_HEAD: Final = msgspec.msgpack.Decoder(tuple[_PAIRS]).decode
_END: Final = msgspec.msgpack.Decoder(tuple[int, str, bytes | None, _PAIRS]).decode
_CALL_LONGER: Final = msgspec.msgpack.Decoder(_shape("call", str, str, _PAIRS, int | None, str, _MAP)).decode
_HEAD_LONGER: Final = msgspec.msgpack.Decoder(_shape("head", _PAIRS)).decode
_END_LONGER: Final = msgspec.msgpack.Decoder(_shape("end", int, str, bytes | None, _PAIRS)).decode
_CALL_JSON: Final = msgspec.json.Decoder(_shape("call", str, str, _TEXTS, int | None, str, _MAP)).decode
_HEAD_JSON: Final = msgspec.json.Decoder(_shape("head", _TEXTS)).decode
_END_JSON: Final = msgspec.json.Decoder(_shape("end", int, str, str | None, _TEXTS)).decode


def pack_metadata(metadata: Sequence[tuple[str, Any]]) -> msgspec.Raw:
    """The metadata as `encode_call` takes it already packed, to keep for the next call that repeats it."""
    return msgspec.Raw(_pack(metadata))


def encode_call(
    codec: int,
    service: str,
    method: str,
    metadata: Any,
    deadline_ms: int | None,
    peer: str,
    attributes: dict[str, Any] | None,
) -> bytes:
    """The context that opens a call. *metadata* is pairs, bytes for ``-bin``, or `pack_metadata`'s result.

    *deadline_ms* is what is left of the call's time now; *peer* is host and port, or ``unix:``.

    :raises FrameError: *codec* is neither msgpack nor JSON.
    """
    if codec == CODEC_MSGPACK:
        return _pack((service, method, metadata, deadline_ms, peer, attributes))
    return _encode_json(codec, (service, method, _texts(metadata), deadline_ms, peer, attributes))


def decode_call(codec: int, data: bytes) -> Call:
    """``(service, method, metadata, deadline_ms, peer, attributes)``, as `encode_call` took them.

    :raises FrameError: not this shape.
    """
    found: Any
    if codec != CODEC_MSGPACK:
        service, method, texts, deadline_ms, peer, attributes = _decode(codec, _CALL_JSON, "call", data)
        return service, method, _from_texts(texts, data), deadline_ms, peer, attributes
    try:
        found = _CALL(data)
    except Exception:
        found = _astuple(_CALL_LONGER, "call", data)
    for pair in found[2]:
        if type(pair[1]) is not str:
            _check(pair, data)
    return found  # type: ignore[no-any-return]


def encode_grpc_head(codec: int, metadata: Sequence[tuple[str, Any]]) -> bytes:
    """The context of the initial metadata.

    :raises FrameError: *codec* is neither msgpack nor JSON.
    """
    if codec == CODEC_MSGPACK:
        return _pack((metadata,))
    return _encode_json(codec, (_texts(metadata),))


def decode_grpc_head(codec: int, data: bytes) -> Metadata:
    """The initial metadata.

    :raises FrameError: not this shape.
    """
    if codec != CODEC_MSGPACK:
        return _from_texts(_decode(codec, _HEAD_JSON, "head", data)[0], data)
    try:
        metadata = _HEAD(data)[0]
    except Exception:
        metadata = _astuple(_HEAD_LONGER, "head", data)[0]
    return _checked(metadata, data)


def encode_grpc_end(
    codec: int,
    code: int,
    message: str,
    details: bytes | None,
    metadata: Sequence[tuple[str, Any]],
) -> bytes:
    """The context that ends a call with a status and trailing metadata. A frame without one means OK.

    *details* is a serialised google.rpc.Status, the value of ``grpc-status-details-bin``.

    :raises FrameError: *codec* is neither msgpack nor JSON.
    """
    if codec == CODEC_MSGPACK:
        return _pack((code, message, details, metadata))
    text = None if details is None else details.decode("latin-1")
    return _encode_json(codec, (code, message, text, _texts(metadata)))


def decode_grpc_end(codec: int, data: bytes) -> End:
    """``(code, message, details, metadata)``; the code may be any integer.

    :raises FrameError: not this shape.
    """
    found: Any
    if codec != CODEC_MSGPACK:
        code, message, text, texts = _decode(codec, _END_JSON, "end", data)
        details = None if text is None else _latin(text, data)
        return code, message, details, _from_texts(texts, data)
    try:
        found = _END(data)
    except Exception:
        found = _astuple(_END_LONGER, "end", data)
    _checked(found[3], data)
    return found  # type: ignore[no-any-return]


def _astuple(decode: Any, name: str, data: bytes) -> Any:
    try:
        found = decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(f"gRPC {name} context: {error}", data) from error
    return msgspec.structs.astuple(found)


def _decode(codec: int, decode: Any, name: str, data: bytes) -> Any:
    if codec != CODEC_JSON:
        raise _wrong_codec(codec)
    return _astuple(decode, name, data)


def _encode_json(codec: int, array: Any) -> bytes:
    if codec != CODEC_JSON:
        raise _wrong_codec(codec)
    return _dump(array)


def _wrong_codec(codec: int) -> FrameError:
    return FrameError(f"codec 0x{codec:02x} carries no mux context, expected msgpack or JSON")


def _checked(metadata: Metadata, data: bytes) -> Metadata:
    for pair in metadata:
        if type(pair[1]) is not str:
            _check(pair, data)
    return metadata


def _check(pair: tuple[str, Any], data: bytes) -> None:
    if type(pair[1]) is not bytes:
        raise FrameError(f"gRPC context: the value of {pair[0]!r} is a {type(pair[1]).__name__}", data)


def _texts(metadata: Any) -> list[tuple[str, str]]:
    if type(metadata) is msgspec.Raw:
        metadata = msgspec.msgpack.decode(metadata)
    return [(key, value if isinstance(value, str) else value.decode("latin-1")) for key, value in metadata]


def _from_texts(texts: list[tuple[str, str]], data: bytes) -> Metadata:
    return [(key, _latin(value, data) if key.endswith("-bin") else value) for key, value in texts]


def _latin(text: str, data: bytes) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError as error:
        raise FrameError("gRPC context: a code point above 255 in a binary value", data) from error
