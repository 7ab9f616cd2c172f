"""The contexts of a gRPC call to a one-call worker, JSON, for both ends (protocol.md 5.1, 5.2).

Leaves out the deadline, for which they have no place, and what a status is made of: see grpc_status.py.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from twisted_rr.errors import FrameError
from twisted_rr.wire.grpc_status import decode_status, with_details
from twisted_rr.wire.json_shapes import read_grpc_call

Metadata = list[tuple[str, Any]]
"""Pairs of a key in lower case and a value: str, or bytes when the key ends with ``-bin``."""

BINARY: Final = "-bin"
AUTHORITY: Final = ":authority"
PEER: Final = ":peer.address"
AUTH_TYPE: Final = ":peer.auth-type"

_dump: Final = msgspec.json.Encoder().encode
_load: Final = msgspec.json.Decoder().decode


def encode_single_call(
    service: str, method: str, metadata: Metadata, peer: str, authority: str = "", auth_type: str = ""
) -> bytes:
    """The context of a call. *service* without a package has a leading dot, as RoadRunner writes it.

    *peer* is host and port. Binary metadata goes as text: UTF-8, and what is not passes as latin-1.
    """
    context: dict[str, list[str]] = {}
    for key, value in metadata:
        context.setdefault(key, []).append(value if isinstance(value, str) else _as_text(value))
    if authority:
        context[AUTHORITY] = [authority]
    context[PEER] = [peer]
    if auth_type:
        context[AUTH_TYPE] = [auth_type]
    if "." not in service:
        service = "." + service
    return _dump({"service": service, "method": method, "context": context})


def decode_single_call(data: bytes) -> tuple[str, str, Metadata, int | None, str, dict[str, Any] | None]:
    """``(service, method, metadata, None, peer, attributes)``, in the shape of `grpc_context.decode_call`.

    Keys that begin with a colon are no metadata: the peer is one of them, the others are attributes.

    :raises FrameError: not this shape.
    """
    try:
        request = read_grpc_call(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise FrameError(f"gRPC call context: {error}", data) from error
    metadata: Metadata = []
    attributes: dict[str, Any] = {}
    peer = ""
    for key, values in (request.context or {}).items():
        if key == PEER:
            peer = values[0] if values else ""
        elif key.startswith(":"):
            attributes[key] = values[0] if len(values) == 1 else values
        elif key.endswith(BINARY):
            metadata += [(key, value.encode()) for value in values]
        else:
            metadata += [(key, value) for value in values]
    return request.service.removeprefix("."), request.method, metadata, None, peer, attributes or None


def encode_single_end(
    code: int,
    message: str,
    details: bytes | None,
    headers: Metadata | None,
    trailers: Metadata | None,
    skipped: Callable[[str], None] | None = None,
) -> bytes:
    """The context of an answer; empty for OK without metadata. *details* is a serialised Status or None.

    There is one value for a key, so several are joined with commas. Binary ones that are no UTF-8
    have no place in JSON: *skipped* is told their keys.
    """
    context: dict[str, str] = {}
    if headers:
        context["headers"] = _flat(headers, skipped)
    if trailers:
        context["trailers"] = _flat(trailers, skipped)
    if code:
        context["error"] = base64.b64encode(with_details(code, message, details)).decode()
    return _dump(context) if context else b""


def decode_single_end(data: bytes) -> tuple[int, str, bytes | None, Metadata, Metadata]:
    """``(code, message, details, headers, trailers)`` of an answer's context; details is the whole Status.

    *details* is None where the status has none. Without ``headers`` and ``trailers`` every other key is
    a header (the older form). ``error`` that says OK is OK.

    :raises FrameError: not this shape; RoadRunner answers UNKNOWN then, and the worker lives.
    """
    if not data:
        return 0, "", None, [], []
    try:
        context = _load(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise FrameError(f"gRPC answer context: {error}", data) from error
    if not isinstance(context, dict) or not all(isinstance(value, str) for value in context.values()):
        raise FrameError("gRPC answer context: no object of strings", data)
    status = context.pop("error", "")
    if "headers" in context or "trailers" in context:
        headers = _pairs(context.get("headers", ""), data)
        trailers = _pairs(context.get("trailers", ""), data)
    else:
        headers, trailers = _lower(context.items()), []
    return (*_status(status, data), headers, trailers)


def _status(error: str, data: bytes) -> tuple[int, str, bytes | None]:
    if not error:
        return 0, "", None
    try:
        status = base64.b64decode(error, validate=True)
    except (binascii.Error, ValueError) as wrong:
        raise FrameError(f"gRPC answer context: error is no base64: {wrong}", data) from wrong
    code, message, details = decode_status(status)
    return code, message, status if details else None


def _pairs(text: str, data: bytes) -> Metadata:
    """Metadata in a JSON text; values that are not strings are left out, as RoadRunner does."""
    if not text:
        return []
    try:
        found = _load(text)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise FrameError(f"gRPC answer context: metadata: {error}", data) from error
    if found is None:
        return []
    if not isinstance(found, dict):
        raise FrameError("gRPC answer context: metadata is no object", data)
    return _lower((key, value) for key, value in found.items() if isinstance(value, str))


def _lower(items: Iterable[tuple[str, str]]) -> Metadata:
    pairs: Metadata = []
    for name, value in items:
        key = name.lower()
        pairs.append((key, value.encode() if key.endswith(BINARY) else value))
    return pairs


def _flat(metadata: Metadata, skipped: Callable[[str], None] | None) -> str:
    found: dict[str, str] = {}
    for key, value in metadata:
        if not isinstance(value, str):
            try:
                value = value.decode()
            except UnicodeDecodeError:
                if skipped is not None:
                    skipped(key)
                continue
        found[key] = f"{found[key]},{value}" if key in found else value
    return _dump(found).decode()


def _as_text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
