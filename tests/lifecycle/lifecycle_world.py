"""A reactor, services and fronts that record what happens to them, for the lifecycle's tests."""

from __future__ import annotations

from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ReactorNotRunning
from twisted.internet.task import Clock
from zope.interface import implementer

from twisted_rr.interfaces import IFront
from twisted_rr.lifecycle.budget import Budget
from twisted_rr.lifecycle.in_flight import InFlight
from twisted_rr.lifecycle.server import Server

QUICK = Budget(total=10.0)


class Reactor(Clock):
    """System events, threads and `stop`, by hand. ``turns`` counts what `turn` ran."""

    def __init__(self) -> None:
        super().__init__()
        self.running = False
        self.stops = 0
        self.turns = 0
        self._triggers: list[tuple[Any, ...]] = []
        self._queue: list[tuple[Any, ...]] = []
        self._when_running: list[Any] = []

    def addSystemEventTrigger(self, phase: str, event: str, call: Any, *args: Any) -> Any:
        handle = (phase, event, call, args)
        self._triggers.append(handle)
        return handle

    def removeSystemEventTrigger(self, handle: Any) -> None:
        self._triggers.remove(handle)

    def callWhenRunning(self, call: Any, *args: Any) -> None:
        if self.running:
            call(*args)
        else:
            self._when_running.append((call, args))

    def callFromThread(self, call: Any, *args: Any) -> None:
        self._queue.append((call, args))

    def run(self) -> None:
        self.running = True
        for call, args in self._when_running:
            call(*args)
        self._when_running = []

    def turn(self) -> None:
        self.turns += 1
        queue, self._queue = self._queue, []
        for call, args in queue:
            call(*args)

    def stop(self) -> None:
        if not self.running:
            raise ReactorNotRunning()
        self.stops += 1
        self.fire_shutdown()

    def fire_shutdown(self) -> list[Any]:
        results = []
        while self._triggers:
            _, _, call, args = self._triggers.pop(0)
            results.append(call(*args))
        return results

    def spend(self, seconds: float, step: float = 0.01) -> None:
        """Let time pass in small steps, so that what a timer starts happens in its own turn."""
        for _ in range(round(seconds / step)):
            self.advance(step)


class Item:
    """An exchange."""

    def __init__(self, since: float = 0.0, name: str = "GET /slow") -> None:
        self.since = since
        self.name = name

    def describe(self) -> str:
        return self.name


class Child(Service):
    """A service that writes ``name start``, ``name stop``, ``name stopped``, ``name hurry`` into *diary*.

    ``holds`` makes its stop wait for `release` (or for hurry, if ``yields``); ``broken`` makes it fail.
    """

    def __init__(self, name: str, diary: list[str], *, holds: bool = False, yields: bool = False) -> None:
        self.setName(name)
        self.diary = diary
        self.holds = holds
        self.yields = yields
        self.broken = False
        self.broken_bind: Exception | None = None
        self.broken_start: Exception | None = None
        self.hurried = 0
        self.bound = False
        self._stop: Deferred[None] | None = None

    def privilegedStartService(self) -> None:
        if self.broken_bind is not None:
            raise self.broken_bind
        self.bound = True

    def startService(self) -> None:
        if self.broken_start is not None:
            raise self.broken_start
        super().startService()
        self.diary.append(f"{self.name} start")

    def stopService(self) -> Any:
        self.running = 0
        self.bound = False
        self.diary.append(f"{self.name} stop")
        if self.broken:
            return fail(RuntimeError(f"{self.name} broke"))
        if not self.holds:
            self.diary.append(f"{self.name} stopped")
            return None
        self._stop = Deferred()
        return self._stop

    def release(self) -> None:
        stop, self._stop = self._stop, None
        if stop is not None:
            self.diary.append(f"{self.name} stopped")
            stop.callback(None)

    def hurry(self) -> None:
        self.hurried += 1
        self.diary.append(f"{self.name} hurry")
        if self.yields:
            self.release()


@implementer(IFront)
class Front(Child):
    """A front with exchanges that the test begins and ends."""

    def __init__(self, name: str, diary: list[str], reactor: Reactor, **options: Any) -> None:
        super().__init__(name, diary, **options)
        self.in_flight = InFlight(name, reactor.seconds)
        self.start: Deferred[None] | None = None

    def started(self) -> Deferred[None] | None:
        return self.start

    def announce(self) -> None:
        self.diary.append(f"{self.name} announce")

    def finish(self) -> None:
        self.diary.append(f"{self.name} finish")

    def hurry(self) -> None:
        for item in self.in_flight.items():
            self.in_flight.end_cut(item)
        super().hurry()


class World:
    """A server with one recording child a phase, and a front; ``diary`` is what happened."""

    def __init__(self, budget: Budget = QUICK, **options: Any) -> None:
        self.reactor = Reactor()
        self.diary: list[str] = []
        self.server = Server(self.reactor, budget, clock=self.reactor, **options)
        self.drain = self.server.drain
        self.states: list[str] = [self.drain.state]
        self.drain.watch(self.states.append)
        self.children: dict[str, Child] = {}
        for phase in ("STATUS", "METRICS", "CONTROL", "DRIVERS", "WORKERS"):
            self.add(phase, Child(phase.lower(), self.diary))
        self.front = Front("http", self.diary, self.reactor)
        self.server.place("FRONT", self.front)
        self.stopped: list[float] = []

    def add(self, phase: str, child: Child) -> Child:
        self.server.place(phase, child)
        self.children[str(child.name)] = child
        return child

    def start(self) -> World:
        self.server.privilegedStartService()
        self.server.startService()
        return self

    def stop(self) -> None:
        """As an embedding application does; ``stopped`` gets the time when it was done."""
        self.server.stopService().addCallback(lambda _: self.stopped.append(self.reactor.seconds()))

    def accept(self, name: str = "GET /slow") -> Item:
        item = Item(self.reactor.seconds(), name)
        self.front.in_flight.begin(item)
        return item

    def what(self, *words: str) -> list[str]:
        """The diary's lines that end in one of *words*."""
        return [line for line in self.diary if line.split()[-1] in words]
