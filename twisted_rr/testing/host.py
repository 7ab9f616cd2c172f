"""A host for a plugin's test: it records what the plugin provides, places and fails with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from twisted.application.service import IService
from twisted.internet.task import Clock
from zope.interface import implementer

from twisted_rr.interfaces import IDrain, IHost
from twisted_rr.net import ports
from twisted_rr.testing.pool import FakePool


@implementer(IDrain)
class FakeDrain:
    """A drain the test moves with `enter`; ``budget`` is what remaining() answers."""

    def __init__(self, state: str = "running") -> None:
        self.state = state
        self.budget = 30.0
        self.hurried = False
        self.causes: list[str] = []
        self._watchers: list[Callable[[str], None]] = []

    @property
    def draining(self) -> bool:
        return self.state.startswith("draining") or self.state == "stopping"

    def enter(self, state: str) -> None:
        """Change the state and tell the watchers, as the lifecycle does."""
        self.state = state
        for watcher in list(self._watchers):
            watcher(state)

    def begin(self, cause: str) -> None:
        self.causes.append(cause)
        if not self.draining:
            self.enter("draining:announce")

    def undrain(self) -> None:
        self.enter("running")

    def remaining(self) -> float:
        return self.budget

    def hurry(self) -> None:
        self.hurried = True
        self.budget = 0.0

    def watch(self, changed: Callable[[str], None]) -> Callable[[], None]:
        self._watchers.append(changed)

        def end() -> None:
            if changed in self._watchers:
                self._watchers.remove(changed)

        return end


class FakeTurn:
    """A turn that the test ends: `end` flushes what was added."""

    def __init__(self) -> None:
        self.items: list[Any] = []

    def add(self, item: Any) -> None:
        if item not in self.items:
            self.items.append(item)

    def end(self) -> None:
        items, self.items = self.items, []
        for item in items:
            item.flush()


class RecordingLog:
    """A logger that keeps ``(level, format, fields)`` in ``events``."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, dict[str, Any]]] = []

    def _keep(self, level: str, format: str, fields: dict[str, Any]) -> None:
        self.events.append((level, format, fields))

    def debug(self, format: str, **fields: Any) -> None:
        self._keep("debug", format, fields)

    def info(self, format: str, **fields: Any) -> None:
        self._keep("info", format, fields)

    def warn(self, format: str, **fields: Any) -> None:
        self._keep("warn", format, fields)

    def error(self, format: str, **fields: Any) -> None:
        self._keep("error", format, fields)

    def failure(self, format: str, **fields: Any) -> None:
        self._keep("critical", format, fields)

    def lines(self, *levels: str) -> list[str]:
        """The formatted events, of these levels or of all."""
        return [text.format(**fields) for level, text, fields in self.events if not levels or level in levels]


@implementer(IHost)
class FakeHost:
    """``pools`` (name to `FakePool`), ``placed`` (phase, service), ``provided``, ``failures``, ``logs`` (part to log)."""

    def __init__(self, reactor: Any = None, settings: dict[str, Any] | None = None, mux: bool = True) -> None:
        self.reactor = reactor if reactor is not None else Clock()
        self.clock = self.reactor
        self.drain = FakeDrain()
        self.turn = FakeTurn()
        self.mux = mux
        self.settings = settings or {}
        self.pools: dict[str, FakePool] = {}
        self.modes: dict[str, str] = {}
        self.placed: list[tuple[str, IService]] = []
        self.provided: list[tuple[Any, object]] = []
        self.failures: list[Any] = []
        self.logs: dict[str, RecordingLog] = {}

    def log(self, part: str) -> RecordingLog:
        return self.logs.setdefault(part, RecordingLog())

    def pool(
        self, name: str, settings: Any, mode: str, key: str = "pool", env: Mapping[str, str] | None = None
    ) -> FakePool:
        self.modes[name] = mode
        return self.pools.setdefault(name, FakePool(name, self.mux))

    def named_pool(self, name: str, mode: str, key: str, env: Mapping[str, str] | None = None) -> FakePool:
        return self.pool(name, None, mode, key, env)

    def bind(self, address: str, key: str = "address") -> ports.BoundPort:
        return ports.bind(address)

    def place(self, phase: str, service: IService) -> None:
        self.placed.append((phase, service))

    def provide(self, interface: Any, provider: object) -> None:
        self.provided.append((interface, provider))

    def collect(self, interface: Any) -> Iterable[Any]:
        return [provider for kind, provider in self.provided if kind is interface]

    def setting(self, section: str) -> Any:
        return self.settings.get(section)

    def fail(self, failure: Any) -> None:
        self.failures.append(failure)
