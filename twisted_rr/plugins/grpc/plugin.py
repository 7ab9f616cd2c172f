"""What discovery asks of the gRPC plugin: its settings, and its parts built into a host."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final

from zope.interface import implementer

from twisted_rr.errors import ConfigError, ConfigProblem
from twisted_rr.interfaces import IHost, IMetrics, IReloadable

from .config import GrpcSettings
from .service import GrpcFront

SETTINGS = GrpcSettings

#: What can change while it serves: not its listener nor its services, and its pool elsewhere.
LIVE: Final = frozenset(
    {
        "max_recv_msg_size",
        "max_connection_idle",
        "max_connection_age",
        "max_connection_age_grace",
        "max_concurrent_streams",
        "ping_time",
        "timeout",
        "compression",
        "access_logs",
    }
)


def build(settings: GrpcSettings, host: IHost) -> None:
    """Give *host* the front and its pool, whose health the host collects.

    :raises ConfigError: the files of ``grpc.tls`` cannot be used.
    """
    tls = None
    if settings.tls is not None:
        try:
            from .tls import ServerTls
        except ImportError as error:
            problem = ConfigProblem("grpc.tls", f"needs pyOpenSSL, which cannot be imported: {error}")
            raise ConfigError([problem]) from error
        tls = ServerTls(settings.tls, host.log("tls"))
    pool = host.pool("grpc", settings.pool, "grpc", env=settings.env)
    # A message may be of any size up to the limits, which are checked here.
    pool.max_message = 2 * settings.max_send

    def pool_of(name: str, index: int) -> Any:
        named = host.named_pool(name, "grpc", f"grpc.routes[{index}].pool", settings.env)
        named.max_message = pool.max_message
        return named

    front = GrpcFront(
        settings, pool, host, tls, lambda address: host.bind(address, "listen"), random.random, pool_of
    )
    host.provide(IMetrics, front.metrics)
    host.place("FRONT", front)
    host.provide(IReloadable, GrpcReload(front))


@implementer(IReloadable)
class GrpcReload:
    """The front's part of a reload; see `IReloadable`. TLS files are read again by themselves."""

    section = "grpc"
    live = LIVE

    def __init__(self, front: GrpcFront) -> None:
        self._front = front

    def prepare(self, settings: GrpcSettings) -> Callable[[], None]:
        """See `IReloadable`."""
        return lambda: self._front.use(settings)
