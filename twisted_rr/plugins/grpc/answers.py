"""Heads and ends of answers as header blocks ("gRPC over HTTP2", Responses); those that repeat are made once.

What an answer says is settled by `exchange` and `reply`.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, Final

from twisted_rr.http1.cache import Cache
from twisted_rr.http2.blocks import Block, response, trailers
from twisted_rr.wire.grpc_context import decode_grpc_end

from . import metadata as pairs
from .compression import ACCEPTED, GZIP
from .fitting import NO_LIMIT, fitted, size_of
from .status import Refusal, Status, sendable

Metadata = Sequence[tuple[str, Any]]

_TYPE: Final = (b"content-type", b"application/grpc")
_GZIP: Final = (b"grpc-encoding", GZIP)

#: What ``:status`` counts for, and with the content-type.
_STATUS: Final = size_of([(b":status", b"200")])
_OWN: Final = _STATUS + size_of([_TYPE])

HEAD: Final = response(200, [_TYPE])
HEAD_GZIP: Final = response(200, [_TYPE, _GZIP])
OK_END: Final = trailers([(b"grpc-status", b"0")])


def head(metadata: Metadata, gzip: bool, skipped: list[str], limit: int = NO_LIMIT) -> Block | None:
    """The head with the initial metadata; keys of what cannot be sent are added to *skipped*. None where it is larger
    than *limit*, which the client has told."""
    if not metadata:
        return HEAD_GZIP if gzip else HEAD
    own = [_TYPE, _GZIP] if gzip else [_TYPE]
    fields = own + pairs.outgoing(metadata, skipped)
    return response(200, fields) if _STATUS + size_of(fields) <= limit else None


def status_fields(status: Status) -> list[tuple[bytes, bytes]]:
    """``grpc-status`` and what goes with it."""
    fields = [(b"grpc-status", b"%d" % status.code)]
    if status.message:
        fields.append((b"grpc-message", pairs.message_field(status.message)))
    if status.details:
        fields.append((b"grpc-status-details-bin", base64.b64encode(status.details).rstrip(b"=")))
    return fields


def end(status: Status, metadata: Metadata, skipped: list[str]) -> Block:
    """The trailers that end an answer."""
    if not metadata and not status.code and not status.message:
        return OK_END
    return trailers(status_fields(status) + pairs.outgoing(metadata, skipped))


def alone(status: Status, metadata: Metadata, skipped: list[str], http: int = 200) -> Block:
    """An answer that is all in its head (Trailers-Only)."""
    return response(http, [_TYPE, *status_fields(status), *pairs.outgoing(metadata, skipped)])


def ending(
    status: Status, metadata: Metadata, skipped: list[str], alone_in_head: bool, limit: int
) -> tuple[Block, int, str]:
    """As `end` or `alone`, of which no more than *limit* is sent; the code that is told, and what gave way."""
    room = limit - _OWN if alone_in_head else limit
    fields, code, cut = fitted(status, pairs.outgoing(metadata, skipped), room)
    if alone_in_head:
        return response(200, [_TYPE, *fields]), code, cut
    return trailers(fields), code, cut


def refusal(refused: Refusal, encodings: bool = False) -> Block:
    """The answer to a request that is not served; *encodings*: say which ones are."""
    fields = [_TYPE, *status_fields(Status(refused.code, refused.message))]
    if encodings:
        fields.append((b"grpc-accept-encoding", ACCEPTED))
    return response(refused.http, fields)


#: Fields and names that each end may have.
_FRAME: Final = 400


class Ends:
    """Statuses of mux workers with their blocks, both kinds, by their contexts: 2048 of at most 512 bytes.

    None with metadata in it, which may hold secrets.
    """

    __slots__ = ("_cache",)

    def __init__(self) -> None:
        self._cache = Cache(1024, 512)

    def find(self, codec: int, context: bytes) -> End:
        """What *context* says.

        :raises FrameError: it makes no sense.
        """
        found: End | None = self._cache.young.get(context) or self._cache.older(context)
        if found is None or found.codec != codec:
            code, message, details, metadata = decode_grpc_end(codec, context)
            found = End(codec, Status(sendable(code), message, details), metadata, len(context))
            if not metadata:
                self._cache.put(context, found)
        return found


class End:
    """The end of a call as its worker told it.

    :ivar skipped: keys of metadata that cannot be sent, once a block was asked for.
    :ivar most: what its blocks count for at most, against a limit of heads.
    """

    __slots__ = ("_alone", "_end", "codec", "metadata", "most", "skipped", "status")

    def __init__(self, codec: int, status: Status, metadata: Metadata, size: int) -> None:
        """*size*: bytes of the context that told it."""
        self.codec = codec
        # An octet becomes three of a text, one and a third of what is binary.
        self.most = 3 * size + 32 * len(metadata) + _FRAME
        self.status = status
        self.metadata = metadata
        self.skipped: list[str] = []
        self._end: Block | None = None
        self._alone: Block | None = None

    def block(self, alone_in_head: bool) -> Block:
        """The trailers, or the whole answer where nothing was sent before."""
        if alone_in_head:
            if self._alone is None:
                self._alone = alone(self.status, self.metadata, self.skipped)
            return self._alone
        if self._end is None:
            self._end = end(self.status, self.metadata, self.skipped)
        return self._end
