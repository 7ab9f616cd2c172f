"""Those who watch during a run: pollers of every health channel and of the listener, the census, the rig's own lag.

Each only writes down what it saw, with the time; a channel that refuses is asked on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable

from twisted_rr.draintest import processes
from twisted_rr.draintest.records import Connect, Event, Evidence, Life, Probe
from twisted_rr.draintest.wire import Address, Answer, Ended, Malformed, Wire, request

# A kubelet's time-out: what takes longer has failed.
_PROBE_TIMEOUT = 1.0
_STEP = 0.02
_SELDOM = 0.1
_CENSUS = 0.03


class Watchers:
    """All watchers of one run, as tasks of the running loop.

    :param said: called with each lifecycle state that a health answer tells.
    """

    def __init__(
        self, evidence: Evidence, app: Address, status: Address, pid: int, said: Callable[[str], None]
    ) -> None:
        self._evidence = evidence
        self._app = app
        self._status = status
        self._pid = pid
        self._said = said
        self._tasks: list[asyncio.Task[None]] = []
        self._state = ""

    def start(self) -> None:
        """Begin to watch."""
        for watch in (
            self._poll("health", "/health", _STEP),
            self._poll("ready", "/ready", _STEP),
            self._poll("startup", "/startup", _SELDOM),
            self._poll("unknown", "/ready?plugin=nope", _SELDOM),
            self._long_poll(),
            self._connects(),
            self._census(),
            self._lag(),
        ):
            self._tasks.append(asyncio.ensure_future(watch))

    async def stop(self) -> None:
        """End all of them."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _poll(self, channel: str, path: str, step: float) -> None:
        while True:
            await self.ask(channel, path)
            await asyncio.sleep(step)

    async def ask(
        self, channel: str, path: str, headers: dict[str, str] | None = None, timeout: float = _PROBE_TIMEOUT
    ) -> tuple[Probe, Answer | None]:
        """One question on a connection of its own, as a kubelet asks."""
        at, waited = time.monotonic(), processes.waited_for_cpu(self._pid)
        code, answer = 0, None
        try:
            async with asyncio.timeout(timeout):
                wire = await Wire.open(self._status, timeout)
                with contextlib.closing(wire):
                    wire.write(request("GET", path, "probe", {"Connection": "close", **(headers or {})}))
                    answer = await wire.answer()
                    code = answer.status
        except TimeoutError:
            code = -1
        except ConnectionRefusedError:
            code = 0
        except (OSError, Ended, Malformed):
            code = -2
        waited = max(0.0, processes.waited_for_cpu(self._pid) - waited)
        probe = self._probe(channel, at, waited, code, answer)
        self._evidence.probes.append(probe)
        if probe.state and probe.state != self._state and channel in ("health", "ready"):
            self._state = probe.state
            self._evidence.events.append(Event(probe.ended, "state", probe.state))
            self._said(probe.state)
        return probe, answer

    def _probe(self, channel: str, at: float, waited: float, code: int, answer: Answer | None) -> Probe:
        headers = {} if answer is None else answer.headers
        in_flight = headers.get("x-rr-in-flight", "")
        return Probe(
            channel=channel,
            at=at,
            took=time.monotonic() - at,
            code=code,
            waited=waited,
            state=headers.get("x-rr-lifecycle", ""),
            in_flight=int(in_flight) if in_flight.isdigit() else None,
            entries=None if answer is None else entries_of(answer),
        )

    async def _long_poll(self) -> None:
        """Learns of each state when it comes; a server without long polls is just polled seldom."""
        tag = '"running"'
        while True:
            probe, answer = await self.ask(
                "long poll", "/ready", {"If-None-Match": tag, "Prefer": "wait=30"}, 31.0
            )
            tag = tag if answer is None else answer.headers.get("etag", tag)
            await asyncio.sleep(_SELDOM if probe.took < 1.0 else 0.0)

    async def _connects(self) -> None:
        # One that hangs, its SYN dropped by a full queue, must not hide that the next is refused.
        async with asyncio.TaskGroup() as attempts:
            while True:
                attempts.create_task(self._connect())
                await asyncio.sleep(_STEP)

    async def _connect(self) -> None:
        self._evidence.connects.append(await connect(self._app))

    async def _census(self) -> None:
        lives = self._evidence.lives
        while True:
            now = time.monotonic()
            present = processes.descendants(self._pid)
            for pid in present:
                life = lives.setdefault(pid, Life(pid, now))
                if processes.state_of(pid) in ("Z", "X"):
                    life.zombie_since = life.zombie_since or now
                    life.zombie_until = now
            for pid, life in lives.items():
                if life.gone is None and pid not in present:
                    life.gone = now
            await asyncio.sleep(_CENSUS)

    async def _lag(self) -> None:
        """Also for how long the server waits for a CPU; only what changes is kept."""
        step, waits = 0.005, self._evidence.cpu_waits
        while True:
            before = time.monotonic()
            await asyncio.sleep(step)
            lag = time.monotonic() - before - step
            waited = processes.waited_for_cpu(self._pid)
            if waited and (not waits or waited > waits[-1][1]):
                waits.append((before, waited))
            if lag > 0.01:
                self._evidence.lags.append((before, lag))


async def connect(address: Address, timeout: float = 1.0) -> Connect:
    """Connect and leave."""
    at = time.monotonic()
    try:
        wire = await Wire.open(address, timeout)
    except TimeoutError:
        outcome = "hung"
    except ConnectionRefusedError:
        outcome = "refused"
    except OSError:
        outcome = "reset"
    else:
        outcome = "accepted"
        wire.close()
    return Connect(at, time.monotonic() - at, outcome)


def entries_of(answer: Answer) -> tuple[int, ...] | None:
    """The status codes in RoadRunner's list; None when the body is none."""
    try:
        entries = json.loads(answer.body)
        return tuple(int(entry["status_code"]) for entry in entries)
    except (ValueError, TypeError, KeyError):
        return None
