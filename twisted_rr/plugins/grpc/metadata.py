"""Metadata as header fields, both ways, and the few fields that are gRPC's own.

The specification is "gRPC over HTTP2". Keys are lower case; a value is str, or bytes where the key ends in ``-bin``.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from twisted_rr.wire.grpc_status import INTERNAL

from .status import Refusal

Pairs = list[tuple[str, Any]]
Fields = list[tuple[bytes, bytes]]

BINARY: Final = "-bin"

#: Fields that are about the call itself. RoadRunner's workers do not see them either.
OWN: Final = frozenset(
    (b"te", b"grpc-timeout", b"grpc-encoding", b"grpc-message-type", b"grpc-status", b"grpc-message",
     b"grpc-status-details-bin", b"host", b"content-length")
)  # fmt: skip
#: More that only one-call workers see, because RoadRunner shows them.
SHOWN_BY_ROADRUNNER: Final = frozenset((b"content-type", b"grpc-accept-encoding"))

_TIMEOUT: Final = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNITS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}

_is_key: Final = re.compile(r"[0-9a-z_.\-]+").fullmatch
_spoils_value: Final = re.compile(r"[^\x20-\x7e]").search


def timeout(value: bytes) -> float:
    """Seconds of a ``grpc-timeout``.

    :raises Refusal: it is none.
    """
    found = _TIMEOUT.fullmatch(value)
    if found is None:
        raise Refusal(INTERNAL, "malformed grpc-timeout", 400)
    return int(found[1]) * _UNITS[found[2]]


def incoming(fields: Iterable[tuple[bytes, bytes]]) -> Pairs:
    """The metadata in a request's header fields.

    :raises Refusal: a binary value is no base64.
    """
    pairs: Pairs = []
    for name, value in fields:
        key = name.decode("ascii")
        if not key.endswith(BINARY):
            pairs.append((key, value.decode("latin-1")))
            continue
        # What was several fields may come as one (RFC 9110 section 5.3).
        pairs += [(key, _decoded(one)) for one in value.split(b",")]
    return pairs


def _decoded(value: bytes) -> bytes:
    """Padded or not: clients do both."""
    value = value.strip().rstrip(b"=")
    try:
        return base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refusal(INTERNAL, "malformed binary metadata", 400) from error


def outgoing(metadata: Sequence[tuple[str, Any]], skipped: list[str]) -> Fields:
    """Header fields for an application's metadata; keys of what cannot be sent are added to *skipped*."""
    fields: Fields = []
    for key, value in metadata:
        key = key.lower()
        if not _is_key(key) or key.startswith("grpc-") or key.encode() in _RESERVED:
            skipped.append(key)
        elif isinstance(value, bytes) or key.endswith(BINARY):
            data = value if isinstance(value, bytes) else value.encode()
            if key.endswith(BINARY):
                fields.append((key.encode(), base64.b64encode(data).rstrip(b"=")))
            else:
                skipped.append(key)
        elif _spoils_value(value):
            skipped.append(key)
        else:
            fields.append((key.encode(), value.strip().encode()))
    return fields


_RESERVED: Final = frozenset(
    (b"content-type", b"te", b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade",
     b"content-length", b"host")
)  # fmt: skip


def message_field(message: str) -> bytes:
    """``grpc-message``: percent-encoded, all but printable ASCII without ``%``."""
    data = message.encode("utf-8", "replace")
    if _plain(data):
        return data
    encoded = b"".join(_PERCENT[octet] for octet in data)
    if encoded[:1] == b" ":
        encoded = b"%20" + encoded[1:]
    return encoded[:-1] + b"%20" if encoded[-1:] == b" " else encoded


_PERCENT: Final = [
    bytes((octet,)) if 0x20 <= octet <= 0x7E and octet != 0x25 else b"%%%02X" % octet for octet in range(256)
]
# A blank at either end would be lost as a field's value.
_plain: Final = re.compile(
    rb"(?:[\x21-\x24\x26-\x7e](?:[\x20-\x24\x26-\x7e]*[\x21-\x24\x26-\x7e])?)?"
).fullmatch
