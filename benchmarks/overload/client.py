"""Clients with patience: requests leave at a fixed rate whatever comes back, each on a connection of its own."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Outcome:
    """What so many clients saw.

    ``seconds`` is how long requests left; ``good`` counts the answers 200 within the clients' patience, and
    ``latencies`` has their times.
    """

    seconds: float
    sent: int = 0
    good: int = 0
    gave_up: int = 0
    statuses: Counter = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    lag: float = 0.0

    @property
    def goodput(self) -> float:
        """Good answers a second."""
        return self.good / self.seconds

    def percentile(self, part: float) -> float:
        """Of the good answers, in seconds."""
        times = sorted(self.latencies)
        return times[min(len(times) - 1, int(len(times) * part))] if times else 0.0


async def _ask(port: int) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"GET / HTTP/1.1\r\nHost: bench.example\r\nConnection: close\r\n\r\n")
        line = await reader.readline()
        await reader.read()
        return int(line.split()[1]) if line else 0
    finally:
        writer.close()


async def _one(port: int, patience: float, outcome: Outcome) -> None:
    begin = time.monotonic()
    try:
        status = await asyncio.wait_for(_ask(port), patience)
    except TimeoutError:
        outcome.gave_up += 1
        return
    except (OSError, ValueError, IndexError):
        status = 0
    outcome.statuses[status] += 1
    if status == 200:
        outcome.good += 1
        outcome.latencies.append(time.monotonic() - begin)


async def run(port: int, rate: float, seconds: float, patience: float) -> Outcome:
    """*rate* requests a second for *seconds*; who has no whole answer within *patience* closes and is gone."""
    outcome = Outcome(seconds)
    tasks: set[asyncio.Task] = set()
    begin = time.monotonic()
    for number in range(int(rate * seconds)):
        delay = begin + number / rate - time.monotonic()
        outcome.lag = max(outcome.lag, -delay)
        if delay > 0:
            await asyncio.sleep(delay)
        task = asyncio.ensure_future(_one(port, patience, outcome))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        outcome.sent += 1
    if tasks:
        await asyncio.wait(tasks, timeout=patience + 5)
    return outcome
