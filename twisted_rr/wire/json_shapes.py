"""The shapes of requests and calls in RoadRunner's JSON: read and checked at once.

A module of its own, as a class that msgspec makes is not for mypyc, which would forget its annotations.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec


class Request(msgspec.Struct):
    """An HTTP request, as nearly all are."""

    remoteAddr: str = ""  # noqa: N815
    protocol: str = ""
    method: str = ""
    uri: str = ""
    headers: dict[str, list[str]] = {}
    cookies: dict[str, Any] = {}
    rawQuery: str = ""  # noqa: N815
    parsed: bool = False
    uploads: Any = None
    attributes: dict[str, Any] = {}


class GrpcCall(msgspec.Struct):
    """A call's context."""

    service: str
    method: str
    context: dict[str, list[str]] | None = None


read_request: Final = msgspec.json.Decoder(Request).decode
read_grpc_call: Final = msgspec.json.Decoder(GrpcCall).decode
"""Of bytes; msgspec's errors where they have another shape."""
