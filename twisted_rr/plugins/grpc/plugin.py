"""What discovery asks of the gRPC plugin: its settings, and its parts built into a host."""

from __future__ import annotations

import random

from twisted_rr.errors import ConfigError, ConfigProblem
from twisted_rr.interfaces import IHost, IMetrics

from .config import GrpcSettings
from .service import GrpcFront

SETTINGS = GrpcSettings


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
    front = GrpcFront(settings, pool, host, tls, lambda address: host.bind(address, "listen"), random.random)
    host.provide(IMetrics, front.metrics)
    host.place("FRONT", front)
