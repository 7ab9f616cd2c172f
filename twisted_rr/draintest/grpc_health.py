"""gRPC's health service as one more channel: asked as the kubelet asks, and watched as a load balancer watches.

What it tells is written down; `judge_grpc` judges it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time

from twisted_rr.draintest.grpc_clients import HEALTH, WATCH
from twisted_rr.draintest.h2 import Connection
from twisted_rr.draintest.records import Channel, Evidence, Probe
from twisted_rr.draintest.wire import Address, Ended
from twisted_rr.wire.protobuf import fields

SERVING, NOT_SERVING = 1, 2

_TIMEOUT = 1.0
_STEP = 0.05
_LIST = "/grpc.health.v1.Health/List"
_WATCHED = ("readiness", "liveness")


def asking(service: str) -> bytes:
    """A HealthCheckRequest."""
    name = service.encode()
    return b"\x0a" + bytes((len(name),)) + name if name else b""


def status_of(message: bytes) -> int:
    """Of a HealthCheckResponse; UNKNOWN is 0."""
    return next((value for number, _, value in fields(message, 0, len(message)) if number == 1), 0)


def readiness_in(message: bytes) -> int:
    """Of a HealthListResponse."""
    for _, _, entry in fields(message, 0, len(message)):
        pair = {number: value for number, _, value in fields(entry, 0, len(entry))}
        if pair.get(1) == b"readiness":
            return status_of(pair.get(2, b""))
    return 0


class HealthWatchers:
    """Asks about readiness and liveness, lists, and watches both, until `stop`."""

    def __init__(self, evidence: Evidence, address: Address, tls: ssl.SSLContext | None = None) -> None:
        self._evidence = evidence
        self._address = address
        self._tls = tls
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to ask."""
        for watch in (
            *(self._poll(name) for name in _WATCHED),
            self._poll("list"),
            *(self._watch(name) for name in _WATCHED),
        ):
            self._tasks.append(asyncio.ensure_future(watch))

    async def stop(self) -> None:
        """End all of it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _poll(self, service: str) -> None:
        while True:
            await self._ask(service)
            await asyncio.sleep(_STEP)

    async def _ask(self, service: str) -> None:
        """A connection for each question: that is what a kubelet does."""
        at = time.monotonic()
        record = Channel(address=self._address, client="grpc probe", opened=at, by_plan=True)
        code = -2
        try:
            async with asyncio.timeout(_TIMEOUT):
                connection = await Connection.open(self._address, record, _TIMEOUT, tls=self._tls)
                with contextlib.closing(connection):
                    asks = service == "list"
                    stream = connection.call(_LIST if asks else HEALTH, b"" if asks else asking(service))
                    await stream.over()
                    if stream.status == 0 and stream.messages:
                        told = (readiness_in if asks else status_of)(stream.messages[0])
                        code = 200 if told == SERVING else 503
        except TimeoutError:
            code = -1
        except ConnectionRefusedError:
            code = 0
        except (OSError, Ended):
            code = -2
        self._evidence.probes.append(
            Probe(channel=f"grpc {service}", at=at, took=time.monotonic() - at, code=code)
        )

    async def _watch(self, service: str) -> None:
        """One Watch on a connection that stays as long as the server lets it."""
        while True:
            record = Channel(
                address=self._address, client=f"watch {service}", opened=time.monotonic(), watches=service
            )
            with contextlib.suppress(OSError, Ended):
                connection = await Connection.open(self._address, record, _TIMEOUT, tls=self._tls)
                with contextlib.closing(connection):
                    self._evidence.channels.append(record)
                    await connection.call(WATCH, asking(service)).over()
                    await connection.closed()
            await asyncio.sleep(_STEP)
