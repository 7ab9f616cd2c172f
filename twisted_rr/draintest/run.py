"""One run: start the server, load it, watch it, inject faults, signal, wait for the end; gives the evidence.

What the evidence means is `invariants`' subject; which runs there are is `campaign`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from twisted_rr.draintest import processes, records
from twisted_rr.draintest.clients import HttpClients, Paths
from twisted_rr.draintest.faults import Fault
from twisted_rr.draintest.grpc_clients import GrpcClients, Methods
from twisted_rr.draintest.grpc_health import HealthWatchers
from twisted_rr.draintest.probes import Watchers
from twisted_rr.draintest.records import ANNOUNCE, FINISH, RUNNING, STOP, Event, Evidence
from twisted_rr.draintest.target import Launch, Target, reports_in
from twisted_rr.draintest.wire import Ended, Malformed, Wire, h2_over_tls, request

# How long a start may take, and for how long beyond its budget a server is waited for.
_START = 30.0
_OVERTIME = 5.0
_STEP = 0.005


@attrs.frozen(kw_only=True)
class Load:
    """The ordinary load of a run.

    :ivar rate: requests a second.
    :ivar warm: seconds of it before the signal.
    :ivar long: long requests in flight at the signal, as parts of the time from the announce to the cut.
    """

    rate: float = 60.0
    warm: float = 0.7
    long: tuple[float, ...] = (0.2, 0.5, 0.8)


class Failed(Exception):
    """The run could not be made: the server did not start."""


class Run:
    """One run, and what the faults may use of it.

    :param faults: each with the phase in which it is injected.
    """

    def __init__(
        self,
        name: str,
        launch: Launch,
        scratch: Path,
        *,
        faults: Sequence[tuple[Fault, str]] = (),
        paths: Paths | None = None,
        methods: Methods | None = None,
        load: Load | None = None,
    ) -> None:
        self.launch = launch
        self.scratch = scratch
        self.phase = RUNNING
        self.over = False
        self.evidence = Evidence(name, launch.terms, time.monotonic())
        self.facts: dict[str, Any] = self.evidence.facts
        self._load = load or Load()
        self._faults = list(faults)
        self._paths = paths or Paths()
        self._methods = methods or Methods()
        self._at_end: list[Callable[[], object]] = []
        self._reached = {phase: asyncio.Event() for phase in records.PHASES}
        self.target: Target
        self.clients: HttpClients
        self.grpc: GrpcClients | None = None
        self.watchers: Watchers
        self.health: HealthWatchers | None = None

    async def go(self) -> Evidence:
        """The whole run; raises `Failed`."""
        environ: dict[str, str] = {}
        for fault, _ in self._faults:
            environ.update(fault.environ(str(self.scratch)))
        launch = self.launch
        extra = [
            word for fault, _ in self._faults for override in fault.overrides for word in ("-o", override)
        ]
        if launch.config and extra:
            launch = attrs.evolve(launch, command=(*launch.command, *extra))
        self.target = Target(launch, environ, piped=any(fault.piped for fault, _ in self._faults))
        timeout = launch.terms.total + _OVERTIME
        self.clients = HttpClients(self.evidence.exchanges, launch.app, self._paths, timeout)
        if launch.grpc is not None:
            lines, channels = self.evidence.exchanges, self.evidence.channels
            tls = h2_over_tls() if launch.grpc_tls else None
            self.grpc = GrpcClients(lines, channels, launch.grpc, self._methods, timeout, tls)
            self.health = HealthWatchers(self.evidence, launch.grpc, tls)
        self.watchers = Watchers(self.evidence, launch.app, launch.status, self.target.pid, self._said)
        try:
            await self._go()
        finally:
            await self._clean_up()
        return self.evidence

    async def _go(self) -> None:
        self.watchers.start()
        if self.health is not None:
            self.health.start()
        await self._until(self._ready, _START, "it was not ready")
        self.evidence.ready = time.monotonic()
        self.evidence.holders = self._holders()
        self._begin_load()
        await self.wait(self._load.warm)
        await self._inject(RUNNING)
        terms = self.launch.terms
        for part in self._load.long:
            # Beyond the announce, so that there is something to wait for once the listeners are closed.
            self._long(terms.announce_max + (terms.cut - terms.announce_max) * part)
        await self.wait(0.2)
        self.target.note_family()
        self.phase = ANNOUNCE
        if self.target.code is None:
            self.evidence.signalled = self.signal(signal.SIGTERM)
        later = [asyncio.ensure_future(self._inject(phase)) for phase in (ANNOUNCE, FINISH, STOP)]
        with contextlib.suppress(Failed):
            await self._until(
                lambda: self.target.code is not None, terms.total + _OVERTIME + self._held(), ""
            )
        self.evidence.exited = time.monotonic()
        self.evidence.code = self.target.code
        self.note(
            "the server is gone" if self.target.code is not None else "the server did not end", "process"
        )
        self.over = True
        for event in self._reached.values():
            event.set()
        await asyncio.wait(later, timeout=1.0)
        await self._settle(later)

    async def _settle(self, later: Sequence[asyncio.Task[None]]) -> None:
        for task in later:
            task.cancel()
        for result in await asyncio.gather(*later, return_exceptions=True):
            if isinstance(result, Exception):
                self.note(f"a fault went wrong: {result!r}")
        await self._finish(1.5)
        waiting = self.facts.get("drain --wait")
        if isinstance(waiting, asyncio.Task):
            done, _ = await asyncio.wait([waiting], timeout=2.0)
            self.facts["drain --wait"] = waiting.result() if done else None
        # The census needs a moment to see the last one go.
        patience = time.monotonic() + 2.0
        while self.target.left_behind() and time.monotonic() < patience:
            await asyncio.sleep(0.02)
        self.facts["last process gone"] = time.monotonic()
        self.evidence.left_behind = self.target.left_behind()
        self.evidence.log = self.target.log()
        reports = reports_in(self.evidence.log)
        self.evidence.reports = len(reports)
        self.evidence.report = reports[-1] if reports else None

    async def _clean_up(self) -> None:
        await self.watchers.stop()
        if self.health is not None:
            await self.health.stop()
        await self._finish(0.0)
        for end in self._at_end:
            with contextlib.suppress(OSError):
                end()
        self.target.end()

    def _begin_load(self) -> None:
        """Half of it for each of two protocols."""
        rate = self._load.rate / (2 if self.launch.http and self.grpc is not None else 1)
        if self.launch.http:
            self.clients.load(rate)
        if self.grpc is not None:
            self.grpc.load(rate)

    def _long(self, seconds: float) -> None:
        if self.launch.http:
            self.clients.long(seconds)
        if self.grpc is not None and self.grpc.methods.unary is not None:
            self.grpc.long(seconds)

    async def _finish(self, seconds: float) -> None:
        clients = [self.clients, *((self.grpc,) if self.grpc is not None else ())]
        await asyncio.gather(*(each.finish(seconds) for each in clients))

    def _ready(self) -> bool:
        if self.target.code is not None:
            raise Failed(f"the server ended with {self.target.code}:\n{self.target.log()[-3000:]}")
        self.target.note_family()
        return any(probe.code == 200 for probe in self.evidence.channel("ready")[-3:])

    def _holders(self) -> list[int]:
        inodes = processes.listening_inodes(self.launch.app[1])
        return processes.holders_of(inodes, processes.descendants(self.target.pid))

    def _held(self) -> float:
        return sum(over - begun for begun, over in self.evidence.holds)

    # --------------------------------------------------------------- phases

    def _said(self, state: str) -> None:
        """A health answer told a state."""
        phase = {
            "draining:announce": ANNOUNCE,
            "draining:finish": FINISH,
            "draining:force": STOP,
            "stopping": STOP,
        }.get(state)
        if phase is not None:
            self._reach(phase)

    def _reach(self, phase: str) -> None:
        # Whoever sees a later phase has missed the earlier ones, but they are over.
        for each in records.PHASES[: records.PHASES.index(phase) + 1]:
            self._reached[each].set()

    async def _inject(self, phase: str) -> None:
        mine = [fault for fault, when in self._faults if when == phase]
        if not mine:
            return
        if phase != RUNNING:
            await self._phase_comes(phase)
        self.phase = phase
        for fault in mine:
            reason = (
                self._no_front(fault)
                or fault.missing(self)
                or ("the phase was over too soon" if self.over else "")
            )
            if reason:
                self.evidence.missed[fault.id] = reason
                continue
            self.evidence.faults.append(f"{fault.id}:{phase}" if fault.id.count(":") == 0 else fault.id)
            self.evidence.effects |= fault.effects
            self.evidence.events.append(Event(time.monotonic(), "fault", f"{fault.id} {fault.text}"))
            await fault.inject(self)

    def _no_front(self, fault: Fault) -> str:
        """Why its clients have nobody to speak to."""
        if fault.protocol == "http" and not self.launch.http:
            return "needs an HTTP front"
        if fault.protocol == "grpc" and self.grpc is None:
            return "needs a gRPC front"
        return ""

    async def _phase_comes(self, phase: str) -> None:
        if phase == ANNOUNCE:
            await asyncio.sleep(0.05)
            return
        while not self._reached[phase].is_set() and not self.over:
            if phase == FINISH and self.evidence.first_refused() is not None:
                return
            await asyncio.sleep(_STEP)

    # ------------------------------------------------------- what faults use

    def long(self, seconds: float, client: str) -> None:
        """Something that stays in flight for *seconds*, and may be cut."""
        if self.launch.http or self.grpc is None:
            self.clients.long(seconds, client, by_plan=True)
        else:
            self.grpc.long(seconds, client, by_plan=True)

    def signal(self, number: int) -> float:
        """Send a signal to the server; when that was."""
        self.note(f"{signal.Signals(number).name} to the server", "signal")
        at = time.monotonic()
        self.target.signal(number)
        return at

    def kill(self, pid: int, number: int) -> None:
        """Send a signal to one of its workers."""
        self.note(f"{signal.Signals(number).name} to worker {pid}", "signal")
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        if number == signal.SIGSTOP:
            # A stopped process that nobody continues would outlive a server that does not kill it.
            self.at_end(lambda: os.kill(pid, signal.SIGCONT) if processes.state_of(pid) == "T" else None)

    def some_worker(self) -> int:
        """A worker to hurt, 0 when there is none. The first: which one holds calls cannot be seen from here."""
        return next(iter(self.target.workers()), 0)

    def hold_begins(self) -> float:
        """Keep the server from running."""
        self.signal(signal.SIGSTOP)
        begun = time.monotonic()
        self.evidence.holds.append((begun, begun + 3600.0))
        return begun

    def hold_ends(self, begun: float) -> None:
        """Let it run on."""
        self.evidence.holds = [
            (start, time.monotonic() if start == begun else over) for start, over in self.evidence.holds
        ]
        if self.target.code is None:
            self.signal(signal.SIGCONT)

    def outage_begins(self) -> None:
        """No worker can go on."""
        self.evidence.outages.append((time.monotonic(), float("inf")))

    def outage_ends(self) -> None:
        """They can again."""
        begun, _ = self.evidence.outages[-1]
        self.evidence.outages[-1] = (begun, time.monotonic())

    def spare(self) -> float:
        """Seconds until what is in flight is cut; before the signal, the whole of it."""
        signalled = self.evidence.signalled
        if signalled is None:
            return self.launch.terms.cut
        return max(0.1, signalled + self.launch.terms.cut - time.monotonic())

    def since_signal_at(self, offset: float) -> float:
        """The moment *offset* seconds after the signal."""
        return (self.evidence.signalled or time.monotonic()) + offset

    def at_end(self, end: Callable[[], object]) -> None:
        """Call *end* when the run is over."""
        self._at_end.append(end)

    def note(self, text: str, kind: str = "note") -> None:
        """Write an event down."""
        self.evidence.events.append(Event(time.monotonic(), kind, text))

    async def wait(self, seconds: float) -> None:
        """Let time pass, at most until the server is gone."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and self.target.code is None:
            await asyncio.sleep(min(left, 0.05))

    async def verb(self, *words: str) -> int:
        """Run an operator's verb against the server; its exit code."""
        self.note(f"twisted-rr {' '.join(words)}", "signal")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "twisted_rr.cli.entry", *words, "--socket", self.launch.admin,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        self.at_end(lambda: process.kill() if process.returncode is None else None)
        return await process.wait()

    async def odd_probes(self) -> None:
        """F46: each must get one complete answer; the last client stays as long as it may."""
        questions = {
            "HEAD": request("HEAD", "/health", "odd"),
            "HTTP/1.0": b"GET /health HTTP/1.0\r\n\r\n",
            "absolute form": b"GET http://odd/health HTTP/1.1\r\nHost: odd\r\n\r\n",
            "Expect": request("GET", "/health", "odd", {"Expect": "100-continue", "Content-Length": "0"}),
        }
        answers = self.facts.setdefault("odd probes", [])
        for name, question in questions.items():
            began, status = time.monotonic(), 0
            try:
                wire = await Wire.open(self.launch.status, 1.0)
                with contextlib.closing(wire):
                    wire.write(question)
                    async with asyncio.timeout(1.0):
                        answer = await wire.answer(head_only=name == "HEAD")
                    status = answer.status
            except (OSError, Ended, Malformed, TimeoutError) as error:
                status = -1 if isinstance(error, TimeoutError) else -2
                self.note(f"the health client {name} got {error!r}")
            answers.append((name, began, time.monotonic(), status))
        with contextlib.suppress(OSError, Ended, Malformed):
            stays = await Wire.open(self.launch.status, 1.0)
            with contextlib.closing(stays):
                stays.write(request("GET", "/health", "odd"))
                await stays.answer()
                await stays.ended()

    async def _until(self, what: Callable[[], bool], seconds: float, why: str) -> None:
        deadline = time.monotonic() + seconds
        while not what():
            if time.monotonic() > deadline + self._held():
                raise Failed(f"{why} within {seconds:g} s:\n{self.target.log()[-3000:]}")
            await asyncio.sleep(_STEP)


async def start_up(launch: Launch, offsets: Sequence[float], environ: Mapping[str, str]) -> Evidence:
    """F28: SIGTERM at some moments of the start; what outlived it and what did not end is the evidence."""
    evidence = Evidence("SIGTERM while it starts", launch.terms, time.monotonic())
    outcomes: list[tuple[float, int | None, int]] = []
    for offset in offsets:
        target = Target(launch, environ)
        try:
            end = time.monotonic() + offset
            while time.monotonic() < end:
                target.note_family()
                await asyncio.sleep(0.01)
            target.note_family()
            target.signal(signal.SIGTERM)
            patience = time.monotonic() + launch.terms.total + 1.0
            # What it has to wait for a CPU is no fault of its own: Python alone takes a good part of a second to start.
            while target.code is None and time.monotonic() < patience + processes.waited_for_cpu(target.pid):
                target.note_family()
                await asyncio.sleep(0.01)
            patience = time.monotonic() + 2.0
            while target.left_behind() and time.monotonic() < patience:
                await asyncio.sleep(0.02)
            outcomes.append((offset, target.code, len(target.left_behind())))
        finally:
            target.end()
    evidence.facts["starts"] = outcomes
    evidence.exited = time.monotonic()
    return evidence
