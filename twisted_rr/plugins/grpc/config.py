"""The section ``grpc`` (features.md 2.6): names, kinds and defaults of its keys.

What the values do is written where it is done.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from twisted_rr.config import key, kinds
from twisted_rr.config.nodes import ListNode, Node
from twisted_rr.config.report import Place
from twisted_rr.pool.settings import PoolSettings

from .protos.files import ProtoError, ProtoSet, load
from .routes import OWN, RouteSettings, route_table

MEGABYTE = 1 << 20
MAX_MESSAGE = 50 * MEGABYTE

AUTH_TYPES = (
    "no_client_certs",
    "request_client_cert",
    "require_any_client_cert",
    "verify_client_cert_if_given",
    "require_and_verify_client_cert",
)


class Protos(kinds.Kind):
    """Patterns of .proto files, read at once: a file that does not parse is a mistake of the configuration."""

    expected = "a list of .proto files or patterns of them"

    def __init__(self) -> None:
        self._patterns = kinds.list_of(kinds.path())

    def read(self, node: Node, at: Place) -> Any:
        """The patterns with what their files declare, as `ProtoFiles`."""
        patterns = self._patterns.read(node, at)
        if not isinstance(patterns, tuple):
            return patterns
        try:
            return ProtoFiles(patterns, at.report.folder)
        except ProtoError as error:
            return at.reject(node, str(error))

    def schema(self) -> dict[str, Any]:
        """As the list it is."""
        return self._patterns.schema()


class Interceptors(kinds.Kind):
    """RoadRunner's interceptors are Go code inside its binary: there is nothing here that could run them."""

    expected = "nothing: interceptors are Go plugins of RoadRunner's binary and cannot run here"

    def read(self, node: Node, at: Place) -> Any:
        """An empty list asks for nothing."""
        if isinstance(node, ListNode) and not node.items:
            return None
        return at.reject(node, self.expected.removeprefix("nothing: "))

    def schema(self) -> dict[str, Any]:
        """Only what is empty passes."""
        return {"enum": [None, []]}


@attrs.frozen(init=False)
class ProtoFiles:
    """What ``grpc.proto`` says. Two are equal when their patterns and the files' contents are.

    :ivar patterns: as written.
    :ivar protos: what the files declare.
    """

    patterns: tuple[str, ...]
    protos: ProtoSet = attrs.field(eq=lambda protos: protos.digest, repr=False)

    def __init__(self, patterns: tuple[str, ...] = (), folder: str = "") -> None:
        """*folder* is where relative patterns begin.

        :raises ProtoError: a pattern finds nothing, or a file cannot be read or does not parse.
        """
        self.__attrs_init__(patterns, load(patterns, folder))


@attrs.frozen(kw_only=True)
class TlsSettings:
    """``grpc.tls``: served over TLS where it is there."""

    private_key: str = key(kinds.file(), required=True, name="key", doc="the private key, PEM")
    cert: str = key(kinds.file(), required=True, doc="the certificate and those above it, PEM")
    root_ca: str = key(kinds.file(), default="", doc="who may sign the clients' certificates, PEM")
    client_auth_type: str = key(
        kinds.choice(*AUTH_TYPES),
        default="",
        doc="what is asked of clients; with root_ca: require and verify",
    )

    def warnings(self) -> Iterable[tuple[str, str]]:
        """Files that are not there, or not ours to read: they may be where the server runs."""
        for name, path in (("key", self.private_key), ("cert", self.cert), ("root_ca", self.root_ca)):
            if path and not os.access(path, os.R_OK):
                yield name, f"{path} cannot be read here, and has to be where the server starts"

    @property
    def needs_certificate(self) -> bool:
        """Whether clients without one are turned away."""
        return self.client_auth_type.startswith("require_") or bool(
            self.root_ca and not self.client_auth_type
        )


@attrs.frozen(kw_only=True)
class HealthSettings:
    """``grpc.health``."""

    rr_compat: bool = key(
        kinds.boolean(), default=False, doc="answer for the whole server whatever service is asked for"
    )


@attrs.frozen(kw_only=True)
class GrpcSettings:
    """The gRPC front: where it listens, what it takes, and the pool that answers. Durations are seconds."""

    listen: str = key(kinds.address(), required=True, doc="where to listen: tcp://host:port or unix://path")
    proto: ProtoFiles = key(
        Protos(), factory=ProtoFiles, doc="the .proto files of what is served: *, ** and {a,b} are patterns"
    )
    env: Mapping[str, str] = key(kinds.environment(), factory=dict, doc="more environment for its workers")
    interceptors: None = key(Interceptors(), doc="Go plugins of RoadRunner's; only an empty list is fine")
    tls: TlsSettings | None = key(kinds.section(TlsSettings), default=None, doc="serve over TLS")
    max_send_msg_size: int = key(
        kinds.size_mb(), default=MAX_MESSAGE, doc="the largest message to a client; 0: the default of 50 MB"
    )
    max_recv_msg_size: int = key(
        kinds.size_mb(), default=MAX_MESSAGE, doc="the largest message of a client; 0: the default of 50 MB"
    )
    max_connection_idle: float = key(
        kinds.duration(), default=0.0, doc="a connection without a call for so long is told to go; 0: never"
    )
    max_connection_age: float = key(
        kinds.duration(), default=0.0, doc="a connection of this age is told to go; 0: never"
    )
    max_connection_age_grace: float = key(
        kinds.duration(), default=0.0, doc="how long its calls may go on after that; 0: as long as they take"
    )
    max_concurrent_streams: int = key(
        kinds.integer(min=0, max=2**31 - 1),
        default=10,
        doc="calls at once on one connection, the others wait in the client; 0: the default of 10",
    )
    ping_time: float = key(
        kinds.duration(), default=7200.0, doc="a client silent for so long is asked for a sign of life"
    )
    timeout: float = key(kinds.duration(), default=20.0, doc="how long that sign may take")
    compression: str = key(
        kinds.choice("request", "always", "never"),
        default="request",
        doc="gzip for answers: where the request had it, wherever the client takes it, or never",
    )
    reflection: bool = key(
        kinds.boolean(), default=True, doc="grpc.reflection.v1 and v1alpha, where there are .proto files"
    )
    access_logs: bool = key(kinds.boolean(), default=False, doc="one line for each call")
    health: HealthSettings = key(
        kinds.section(HealthSettings), factory=HealthSettings, doc="grpc.health.v1.Health"
    )
    pool: PoolSettings = key(kinds.section(PoolSettings), factory=PoolSettings, doc="the workers")
    routes: tuple[RouteSettings, ...] = key(
        route_table(), default=(), doc="services that have another pool: the narrowest route counts"
    )

    def pool_names(self) -> Iterable[tuple[str, str]]:
        """``(key path, name)`` of each pool that is asked for by name."""
        return [(f"routes[{i}].pool", route.pool) for i, route in enumerate(self.routes) if route.pool != OWN]

    @property
    def protos(self) -> ProtoSet:
        """What the .proto files declare."""
        return self.proto.protos

    @property
    def max_send(self) -> int:
        """Bytes of one message to a client; 0 means the default, as in RoadRunner."""
        return self.max_send_msg_size or MAX_MESSAGE

    @property
    def max_receive(self) -> int:
        """Bytes of one message of a client."""
        return self.max_recv_msg_size or MAX_MESSAGE
