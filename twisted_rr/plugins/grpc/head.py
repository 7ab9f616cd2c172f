"""What a call's head means, and the contexts that workers read of it (mux.md 7, protocol.md 5.1).

Left out: messages (`framing`), and what is done with a call (`exchange`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from zope.interface import classImplements

from twisted_rr.interfaces import ICallHead
from twisted_rr.pool.spool import BodySpool
from twisted_rr.wire.frame import CODEC_JSON, CODEC_MSGPACK
from twisted_rr.wire.grpc_context import encode_call, encode_single_call, pack_metadata
from twisted_rr.wire.grpc_status import INTERNAL

from . import metadata as pairs
from .compression import GZIP, IDENTITY
from .deadlines import FAR
from .status import UNIMPLEMENTED, Refusal

if TYPE_CHECKING:
    from twisted_rr.http2.head import Head

    from .connection import Connection
    from .metrics import Tally
    from .service import GrpcFront

_TYPES: Final = frozenset((b"application/grpc", b"application/grpc+proto"))


class Derived:
    """What header fields come to: kept with their block, and by their connection, so computed once while they repeat.

    :ivar service: with its package, without a leading dot.
    :ivar streams: the client may send any number of messages; None where no .proto file says.
    :ivar lasting: one of both sides may, as far as is known.
    :ivar gzip_in: messages may be compressed.
    :ivar gzip_out: answers are to be compressed.
    :ivar refusal: why the call is not served, None when it is.
    :ivar served: neither of both: it goes to the workers.
    :ivar tally: where its calls are counted, once one has ended well.
    :ivar local: makes the handler for a service of the server's own, None for the workers'.
    """

    __slots__ = (
        "_attributes", "_fields", "_metadata", "_packed", "_used", "authority", "connection", "gzip_in", "gzip_out",
        "lasting", "local", "method", "path", "refusal", "served", "service", "streams", "tally", "_context",
        "_agent", "_single",
    )  # fmt: skip

    def __init__(self, connection: Connection, head: Head) -> None:
        self.connection = connection
        self.path = head.path.decode("latin-1")
        self.authority = head.authority.decode("latin-1")
        self.service = ""
        self.method = ""
        self.streams: bool | None = None
        self.lasting = False
        self.gzip_in = False
        self.gzip_out = False
        self.refusal: Refusal | None = None
        self.local: Any = None
        self.tally: Tally | None = None
        self._fields = [field for field in head.fields if field[0] not in pairs.OWN]
        self._agent: str | None = None
        self._metadata: pairs.Pairs | None = None
        self._packed: Any = None
        self._used = False
        self._context = b""  # of calls without a deadline, once it repeats
        self._single = b""
        self.served = False
        self._attributes: dict[str, str] = {":authority": self.authority}
        if connection.auth_type:
            self._attributes[":peer.auth-type"] = connection.auth_type

    @property
    def agent(self) -> str:
        """What the client says it is."""
        if self._agent is None:
            self._agent = next(
                (value.decode("latin-1") for key, value in self._fields if key == b"user-agent"), "-"
            )
        return self._agent

    def read_metadata(self) -> None:
        """:raises Refusal: binary metadata is malformed."""
        self._metadata = pairs.incoming(self._fields)

    def metadata(self) -> pairs.Pairs:
        """For mux workers."""
        assert self._metadata is not None
        hidden = pairs.SHOWN_BY_ROADRUNNER
        return [pair for pair in self._metadata if pair[0].encode() not in hidden]

    # What follows is `ICallHead`: of a call without a deadline.

    def mux_context(self, codec: int) -> bytes:
        """See `ICallHead`."""
        if codec != CODEC_MSGPACK:
            return self.context(codec, None)
        if not self._context:
            context = self.context(codec, None)
            if self._packed is not None:
                self._context = context
            return context
        return self._context

    def spool(self) -> BodySpool:
        """See `ICallHead`."""
        if not self._single:
            self._single = self.single_context()
        return BodySpool(CODEC_JSON, self._single)

    def describe(self) -> str:
        """The method's path."""
        return self.path

    def request_id(self) -> str:
        """What the client calls this call (metadata ``x-request-id``), for logs; empty when nobody named it."""
        named = (value[:128] for key, value in self._fields if key == b"x-request-id")
        return next(named, b"").decode("ascii", "backslashreplace")

    def context(self, codec: int, deadline_ms: int | None) -> bytes:
        """The call array of mux.md 7."""
        packed = self._packed
        if packed is None:
            packed = self.metadata()
            # Encoded from the second time on, when it is clear that it repeats.
            if self._used and codec == CODEC_MSGPACK:
                packed = self._packed = pack_metadata(packed)
            self._used = True
        return encode_call(
            codec, self.service, self.method, packed, deadline_ms, self.connection.peer, self._attributes
        )

    def single_context(self) -> bytes:
        """The object of protocol.md 5.1."""
        assert self._metadata is not None
        connection = self.connection
        return encode_single_call(
            self.service, self.method, self._metadata, connection.peer, self.authority, connection.auth_type
        )


Judged = tuple[Derived, float]
"""What a head comes to, and the seconds that its client gives; 0 for as long as it takes."""

TIMEOUT: Final = b"grpc-timeout"

#: A connection remembers what so many heads came to, of so many fields and bytes.
MOST_HEADS: Final = 16
MOST_FIELDS: Final = 50
MOST_BYTES: Final = 2048


def derive(front: GrpcFront, connection: Connection, head: Head) -> Judged:
    """Judge a request's head; what is wrong with it is in ``refusal``.

    Heads that differ only in the time they give come to the same: many clients give another with each call.
    """
    value: bytes | None = None
    rest: list[tuple[bytes, bytes]] = []
    for pair in head.fields:
        if pair[0] == TIMEOUT:
            value = pair[1]
        else:
            rest.append(pair)
    key = (head.method, head.path, head.authority, tuple(rest))
    derived = connection.known.get(key)
    if derived is None:
        derived = _derived(front, connection, head)
        if len(rest) <= MOST_FIELDS and sum([len(name) + len(text) for name, text in rest]) <= MOST_BYTES:
            connection.remember(key, derived)
    if value is None:
        return derived, 0.0
    try:
        seconds = pairs.timeout(value) or 1e-9
    except Refusal as refusal:
        if derived.refusal is None:
            derived = Derived(connection, head)
            derived.refusal = refusal
        return derived, 0.0
    return derived, seconds if seconds <= FAR else 0.0


def _derived(front: GrpcFront, connection: Connection, head: Head) -> Derived:
    derived = Derived(connection, head)
    try:
        _judge(front, derived, head)
    except Refusal as refusal:
        derived.refusal = refusal
    derived.served = derived.refusal is None and derived.local is None
    return derived


def _judge(front: GrpcFront, derived: Derived, head: Head) -> None:
    fields = dict(head.fields)
    if head.method != b"POST":
        raise Refusal(INTERNAL, f"gRPC is POST, not {head.method[:20].decode('latin-1')}", 405)
    if fields.get(b"content-type", b"").partition(b";")[0].strip().lower() not in _TYPES:
        raise Refusal(INTERNAL, "the content-type is not application/grpc", 415)
    if b"te" not in fields:
        raise Refusal(INTERNAL, "te: trailers is missing, so a proxy on the way may not speak gRPC", 400)
    _find(front, derived, head.path)
    _encodings(front, derived, fields)
    derived.read_metadata()


def _find(front: GrpcFront, derived: Derived, path: bytes) -> None:
    """Which service and method are meant.

    :raises Refusal: UNIMPLEMENTED, in grpc-go's words.
    """
    service, _, method = derived.path[1:].rpartition("/")
    if not service or not method:
        raise Refusal(UNIMPLEMENTED, f"malformed method name: {derived.path[:200]!r}")
    derived.service = service
    derived.method = method
    local = front.local.get(service)
    if local is not None:
        derived.local = local.get(method)
        if derived.local is None:
            raise Refusal(UNIMPLEMENTED, f"unknown method {method[:200]} for service {service}")
        return
    protos = front.settings.protos
    if not protos.files:
        return
    known = protos.methods.get(path)
    if known is None:
        if service in protos.services:
            raise Refusal(UNIMPLEMENTED, f"unknown method {method[:200]} for service {service}")
        raise Refusal(UNIMPLEMENTED, f"unknown service {service[:200]}")
    derived.streams = known.client_streaming
    derived.lasting = known.client_streaming or known.server_streaming


def _encodings(front: GrpcFront, derived: Derived, fields: dict[bytes, bytes]) -> None:
    encoding = fields.get(b"grpc-encoding", IDENTITY)
    if encoding == GZIP:
        derived.gzip_in = True
    elif encoding != IDENTITY:
        shown = encoding[:40].decode("latin-1")
        raise UnknownEncoding(f'grpc: Decompressor is not installed for grpc-encoding "{shown}"')
    accepted = fields.get(b"grpc-accept-encoding", b"").replace(b" ", b"").split(b",")
    how = front.settings.compression
    # A client that sends gzip reads it, whatever it says (as grpc-go has it).
    derived.gzip_out = derived.gzip_in if how == "request" else how == "always" and GZIP in accepted


class UnknownEncoding(Refusal):
    """Its answer has to say which encodings there are."""

    def __init__(self, message: str) -> None:
        super().__init__(UNIMPLEMENTED, message)


class CallHead:
    """One call's head; makes the context for whichever worker takes it.

    *deadline* is monotonic seconds, 0 for none.
    """

    __slots__ = ("_deadline", "_derived", "_seconds")

    def __init__(self, derived: Derived, seconds: Any, deadline: float) -> None:
        self._derived = derived
        self._seconds = seconds
        self._deadline = deadline

    def mux_context(self, codec: int) -> bytes:
        """See `ICallHead`. What is left of the time is told in milliseconds."""
        if not self._deadline:
            return self._derived.context(codec, None)
        left = self._deadline - self._seconds()
        return self._derived.context(codec, int(left * 1000) if left > 0 else 0)

    def spool(self) -> BodySpool:
        """See `ICallHead`."""
        return self._derived.spool()

    def request_id(self) -> str:
        """See `Derived.request_id`."""
        return self._derived.request_id()

    def describe(self) -> str:
        """The method's path."""
        return self._derived.path


classImplements(Derived, ICallHead)
classImplements(CallHead, ICallHead)
