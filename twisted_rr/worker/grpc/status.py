"""What grpcio's names stand for when they come by duck type: status codes, metadata, exceptions.

grpcio is never imported here. Where the application has loaded it, exceptions are also of its classes,
so that the application's own ``except`` clauses fit.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from twisted_rr.wire.grpc_status import UNKNOWN

RICH: Final = "grpc-status-details-bin"
"""The trailing metadata that carries a serialised google.rpc.Status; on the relay it has a place of its own."""

_KEY: Final = re.compile(r"[0-9a-z_.\-]+").fullmatch


class Metadatum(NamedTuple):
    """One pair of metadata, with grpcio's names."""

    key: str
    value: str | bytes


class Aborted(Exception):
    """``context.abort`` was called: the call has its status, and its handler should end."""


class CallOver(Exception):
    """A read or a write of a call that was cancelled, timed out or has ended."""


class EndOfStream:
    """What ``context.read`` gives after the last message where grpcio, which has an object for it, is not loaded."""


def aborted() -> Exception:
    """A new `Aborted`, which is grpc.aio's AbortError too where grpcio is loaded."""
    return _error(Aborted, "aio.AbortError", "grpc" in sys.modules)("the call was aborted")


def call_over(text: str) -> Exception:
    """A new `CallOver`, which is grpc's RpcError too where grpcio is loaded."""
    return _error(CallOver, "RpcError", "grpc" in sys.modules)(text)


@functools.cache
def _error(ours: type[Exception], dotted: str, loaded: bool) -> type[Exception]:
    theirs = _grpc(dotted) if loaded else None
    if theirs is None:
        return ours
    return type(ours.__name__, (ours, theirs), {"__doc__": ours.__doc__})


def end_of_stream() -> Any:
    """The object that ``context.read`` gives at the end: ``grpc.aio.EOF`` where there is one."""
    found = _grpc("aio.EOF") if "grpc" in sys.modules else None
    return EndOfStream if found is None else found


def _grpc(dotted: str) -> Any:
    found: Any = sys.modules.get("grpc")
    for name in dotted.split("."):
        found = getattr(found, name, None)
    return found


def number(code: Any) -> int:
    """The number of a grpc.StatusCode or of an int; UNKNOWN for what is neither, as in grpcio."""
    value = getattr(code, "value", code)
    if isinstance(value, tuple) and value:
        value = value[0]
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    return UNKNOWN


def text_of(details: Any) -> str:
    """Status details as text; grpcio takes bytes too."""
    if isinstance(details, bytes):
        return details.decode("utf-8", "replace")
    return "" if details is None else str(details)


def outgoing(metadata: Iterable[tuple[Any, Any]] | None) -> list[tuple[str, str | bytes]]:
    """*metadata* as it goes out. Raises ValueError or TypeError for what gRPC does not allow."""
    found: list[tuple[str, str | bytes]] = []
    for key, value in metadata or ():
        name = key.decode("ascii") if isinstance(key, bytes) else key
        if not isinstance(name, str) or not _KEY(name):
            raise ValueError(f"metadata: {key!r} is no key: a-z, 0-9, '_', '-' and '.' are allowed")
        found.append((name, _binary(name, value) if name.endswith("-bin") else _printable(name, value)))
    return found


def _binary(name: str, value: Any) -> bytes:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    raise TypeError(f"metadata: the value of {name!r} should be bytes, not {type(value).__name__}")


def _printable(name: str, value: Any) -> str:
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    if not isinstance(text, str):
        raise TypeError(f"metadata: the value of {name!r} should be str, not {type(value).__name__}")
    if not (text.isascii() and text.isprintable()):
        raise ValueError(
            f"metadata: the value of {name!r} is not printable ASCII; use a key that ends with -bin"
        )
    return text


def without_rich(
    metadata: list[tuple[str, str | bytes]],
) -> tuple[bytes | None, list[tuple[str, str | bytes]]]:
    """A serialised Status taken out of trailing *metadata*, and the rest."""
    for key, value in metadata:
        if key == RICH and isinstance(value, bytes):
            return value, [pair for pair in metadata if pair[0] != RICH]
    return None, metadata
