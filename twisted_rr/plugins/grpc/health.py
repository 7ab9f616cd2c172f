"""grpc.health.v1.Health: Check, Watch and List, out of the same lifecycle as the status listener (drain.md 5.6).

``""`` and the names of services tell whether a new call would be served here; ``readiness``, ``liveness`` and
``startup`` tell what ``/ready``, ``/health`` and ``/startup`` do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from twisted_rr.errors import FrameError
from twisted_rr.interfaces import IHealth
from twisted_rr.lifecycle.drain import ANNOUNCE, DRAINED, FINISH, RUNNING
from twisted_rr.wire.grpc_status import INVALID_ARGUMENT
from twisted_rr.wire.protobuf import BYTES, fields

from .local import LocalExchange, unary
from .protos.descriptors import data, number, text
from .status import NOT_FOUND, Refusal

SERVICE: Final = "grpc.health.v1.Health"

SERVING: Final = 1
NOT_SERVING: Final = 2
SERVICE_UNKNOWN: Final = 3

PROBES: Final = ("liveness", "readiness", "startup")

_WORKING: Final = frozenset((RUNNING, DRAINED, ANNOUNCE, FINISH))


class Health:
    """The statuses, and who watches them.

    *serving* says whether this front takes calls that are to stay here; *services* are the names of those it has.
    """

    def __init__(
        self, host: Any, serving: Callable[[], bool], services: Iterable[str], rr_compat: bool = False
    ) -> None:
        self._host = host
        self._serving = serving
        self._names = ("", *PROBES, *services)
        self._services = frozenset(services)
        self._rr_compat = rr_compat
        self._log = host.log("health")
        self._watches: dict[Watch, None] = {}

    def methods(self) -> dict[str, Any]:
        """The service's methods by name."""
        return {"Check": unary(self.check), "List": unary(self.list), "Watch": self._watch}

    # ---------------------------------------------------------------------------- what is asked

    def check(self, request: bytes) -> bytes:
        """Answer a Check.

        :raises Refusal: NOT_FOUND.
        """
        status = self.status(wanted(request))
        if status == SERVICE_UNKNOWN:
            raise Refusal(NOT_FOUND, "unknown service")
        return response(status)

    def list(self, request: bytes) -> bytes:
        """Answer a List."""
        return b"".join(data(1, text(1, name) + data(2, response(self.status(name)))) for name in self._names)

    def _watch(self, exchange: LocalExchange) -> Watch:
        return Watch(self, exchange)

    # -------------------------------------------------------------------------------- statuses

    def status(self, name: str) -> int:
        """What to answer for *name*."""
        if name in PROBES and not self._rr_compat:
            good = {"liveness": self._alive, "readiness": self._ready, "startup": self._started}[name]()
        elif not name or self._rr_compat or name in self._services:
            good = self._serving() and self._ready()
        else:
            return SERVICE_UNKNOWN
        return SERVING if good else NOT_SERVING

    def _ready(self) -> bool:
        drain = self._host.drain
        if drain.draining:
            if getattr(drain, "ready_flipped", True):
                return False
        elif drain.state != RUNNING:
            return False
        return not any(self._ask(provider.ready) for provider in self._host.collect(IHealth))

    def _alive(self) -> bool:
        # While workers are being stopped, missing progress is by plan.
        if self._host.drain.state not in _WORKING or self._always_alive():
            return True
        return not any(self._ask(provider.alive) for provider in self._host.collect(IHealth))

    def _always_alive(self) -> bool:
        return getattr(self._host.setting("status"), "liveness", "") == "always"

    def _started(self) -> bool:
        drain = self._host.drain
        return bool(getattr(drain, "was_ready", drain.state == RUNNING))

    def _ask(self, question: Callable[[], str | None]) -> str | None:
        try:
            return question()
        except Exception:
            self._log.failure("the health of a part cannot be told")
            return "its health cannot be told"

    # -------------------------------------------------------------------------------- watching

    def watch(self, watch: Watch) -> None:
        """Tell it of every change until `forget`."""
        self._watches[watch] = None

    def forget(self, watch: Watch) -> None:
        """It is over."""
        self._watches.pop(watch, None)

    def refresh(self) -> None:
        """Something may have changed: tell those who watch."""
        for watch in list(self._watches):
            watch.refresh()


class Watch:
    """One Watch call; a `local.Handler`. A client that does not read gets the latest status only."""

    lasting = True

    def __init__(self, health: Health, exchange: LocalExchange) -> None:
        self._health = health
        self._exchange = exchange
        self._name: str | None = None
        self._told = -1

    def message(self, data: bytes) -> None:
        """The service's name."""
        if self._name is None:
            self._name = wanted(data)
            self._health.watch(self)
            self.refresh()

    def done(self) -> None:
        """The client listens from now on."""
        if self._name is None:
            raise Refusal(INVALID_ARGUMENT, "a Watch without a message")

    def gone(self) -> None:
        """Nobody listens any more."""
        self._health.forget(self)

    def writable(self) -> None:
        """The client takes again."""
        self.refresh()

    def refresh(self) -> None:
        """Tell the status, if it is another one."""
        if self._name is None or self._exchange.full:
            return
        status = self._health.status(self._name)
        if status != self._told:
            self._told = status
            self._exchange.reply(response(status))


def wanted(request: bytes) -> str:
    """The service a HealthCheckRequest names.

    :raises Refusal: it is none.
    """
    name = ""
    try:
        for field, kind, value in fields(request, 0, len(request)):
            if field == 1 and kind == BYTES:
                name = value.decode()
    except (FrameError, UnicodeDecodeError):
        raise Refusal(INVALID_ARGUMENT, "no HealthCheckRequest") from None
    return name


def response(status: int) -> bytes:
    """A HealthCheckResponse."""
    return number(1, status)
