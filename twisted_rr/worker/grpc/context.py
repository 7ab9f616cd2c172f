"""The ``context`` argument of handlers: what grpcio's ServicerContext offers, for both kinds of handler.

What reads, writes or ends a call differs between them: `grpc.sync_call` and `grpc.async_call`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from twisted_rr.worker.grpc.call import GrpcCall
from twisted_rr.worker.grpc.status import Metadatum, text_of


class BaseContext:
    """What a handler may ask about its call and set for it, without waiting for anything."""

    __slots__ = ("_call",)

    def __init__(self, call: Any) -> None:
        self._call: Any = call

    def invocation_metadata(self) -> tuple[Metadatum, ...]:
        """The metadata that the client sent: pairs, with ``key`` and ``value``."""
        return tuple(Metadatum(key, value) for key, value in self._call.fields[2])

    def peer(self) -> str:
        """The client's address in gRPC's form: ``ipv4:192.0.2.1:5000``, ``ipv6:[::1]:5000``, ``unix:``."""
        return as_uri(self._call.fields[4])

    def peer_identities(self) -> list[bytes] | None:
        """The values of the client's identity, None when it has none."""
        key = self.peer_identity_key()
        return None if key is None else list(self.auth_context().get(key, ()))

    def peer_identity_key(self) -> str | None:
        """Which entry of `auth_context` is the client's identity; what the server told."""
        found = (self._call.fields[5] or {}).get("peer_identity_key")
        return found if isinstance(found, str) else None

    def auth_context(self) -> Mapping[str, Sequence[bytes]]:
        """What the server told about the client's authentication; empty without TLS."""
        attributes = self._call.fields[5] or {}
        found = attributes.get("auth_context")
        if isinstance(found, dict):
            return {str(key): [_as_bytes(value) for value in _as_list(found[key])] for key in found}
        kind = attributes.get(":peer.auth-type")
        return {"transport_security_type": [_as_bytes(kind)]} if isinstance(kind, str) else {}

    def time_remaining(self) -> float | None:
        """Seconds until the deadline, never negative; None when the call has none."""
        deadline = self._call.deadline
        return None if deadline is None else max(0.0, deadline - time.monotonic())

    def is_active(self) -> bool:
        """Whether anybody waits for the answer: False after a cancel, at the deadline, and at the end."""
        return not self._call.over()

    def set_code(self, code: Any) -> None:
        """The status code for the end: a grpc.StatusCode, or its number."""
        self._call.code = code

    def set_details(self, details: Any) -> None:
        """The status message for the end."""
        self._call.details = details

    def code(self) -> Any:
        """The status code as it was set, None before."""
        return self._call.code

    def details(self) -> Any:
        """The status message as it was set, None before."""
        return self._call.details

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        """Metadata for the end; ``-bin`` keys take bytes. Raises ValueError or TypeError."""
        self._call.set_trailing(trailing_metadata)

    def trailing_metadata(self) -> Any:
        """The metadata for the end as it was set, None before."""
        return self._call.trailing

    def set_compression(self, compression: Any) -> None:
        """Nothing: compression is between the server and the client."""

    def disable_next_message_compression(self) -> None:
        """Nothing: compression is between the server and the client."""


def note_abort(call: GrpcCall, code: Any, details: Any) -> None:
    """Take the status of ``abort``. OK is a mistake there: UNKNOWN, as in grpcio."""
    value = getattr(code, "value", code)
    if value == 0 or (isinstance(value, tuple) and value[:1] == (0,)):
        code, details = 2, ""
    call.code = code
    call.details = text_of(details)


def as_uri(peer: str) -> str:
    """*peer* with the scheme that gRPC puts before it."""
    if not peer or peer.startswith(("ipv4:", "ipv6:", "unix:", "unix-abstract:", "vsock:")):
        return peer
    if peer.startswith("/"):
        return f"unix:{peer}"
    return f"ipv6:{peer}" if peer.startswith("[") or peer.count(":") > 1 else f"ipv4:{peer}"


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _as_bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()
