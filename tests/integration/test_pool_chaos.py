"""Random trouble for a pool of real processes: 20 s, or as long as ``RR_SOAK_SECONDS`` says.

The same rules as on fakes (tests/pool/chaos.py): each call ends once and with its own answer, at rest nobody waits
and the pool serves, after the stop no process is left.
"""

from __future__ import annotations

import os
import random
import signal
import time

import pytest
from pool_processes import Head, To, World, alive, command
from twisted.python.failure import Failure

from twisted_rr.errors import PoolError, RRError
from twisted_rr.pool.settings import SupervisorSettings

pytestmark = [pytest.mark.integration, pytest.mark.slow]

SECONDS = float(os.environ.get("RR_SOAK_SECONDS", "20"))
SEED = int(os.environ.get("CHAOS_SEED", "7"))
OPEN = 40
"""Calls open at most; what comes beyond waits for the next step."""


class Asked:
    """One call, what was asked, and whether an answer to it can be expected at all."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.to = To()
        self.call = None
        self.cancelled = False

    def check(self) -> None:
        assert self.to.ends == 1, f"{self.body[:40]!r} ended {self.to.ends} times"
        if self.to.error is not None:
            assert isinstance(self.to.error, PoolError), self.to.error
        else:
            assert self.to.body == self.body, "the answer of another call"


class RealChaos:
    def __init__(self, script: str, seed: int) -> None:
        self.random = random.Random(seed)
        self.world = World(
            command=command(script),
            num_workers=3,
            max_jobs=60,
            allocate_timeout=10.0,
            reset_timeout=5.0,
            destroy_timeout=5.0,
            supervisor=SupervisorSettings(watch_tick=0.5, ttl=8.0, exec_ttl=3.0),
        )
        self.open_calls: list[Asked] = []
        self.ended = {"answered": 0, "failed": 0, "cancelled": 0}
        self.results: list[object] = []
        self.pids: set[int] = set()
        self.number = 0

    def ask(self) -> None:
        if len(self.open_calls) >= OPEN:
            return
        self.number += 1
        chance = self.random.random()
        if chance < 0.8:
            body = b"call %d " % self.number + b"x" * self.random.choice((0, 10, 5000, 200_000))
        elif chance < 0.96:
            body = b"sleep 0.%d%07d" % (self.random.randrange(3), self.number)  # each is another body
        else:
            words = (b"exit 1", b"exit 0", b"kill 9", b"kill 11", b"garbage %d" % self.number, b"sleep 60")
            body = self.random.choice(words)
        asked = Asked(body)
        asked.call = self.world.pool.open(Head(), body, False, asked.to)
        self.open_calls.append(asked)

    def cancel(self) -> None:
        if self.open_calls:
            asked = self.random.choice(self.open_calls)
            asked.cancelled = True
            asked.call.cancel("client")

    def hit(self) -> None:
        """Something outside ends, or freezes, a worker."""
        pids = self.world.pids()
        if pids:
            number = self.random.choice((signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP))
            os.kill(self.random.choice(pids), number)

    def reset(self) -> None:
        self.world.pool.reset().addBoth(self.results.append)

    def resize(self) -> None:
        pool = self.world.pool
        step = pool.grow(1) if self.random.random() < 0.5 and pool.crew.wanted < 6 else pool.shrink(1)
        step.addBoth(self.results.append)

    def check(self) -> None:
        pool = self.world.pool
        self.pids.update(self.world.pids())
        counted = [worker for worker in pool.crew.workers if not worker.replaced and not worker.left]
        assert len(counted) <= pool.crew.target(), "more workers than wanted"
        for asked in [asked for asked in self.open_calls if asked.to.done]:
            asked.check()
            self.open_calls.remove(asked)
            kind = "cancelled" if asked.cancelled else "failed" if asked.to.error else "answered"
            self.ended[kind] += 1

    def run(self, seconds: float) -> None:
        self.world.start()
        end = time.monotonic() + seconds
        trouble = [self.cancel] * 6 + [self.hit, self.hit, self.reset, self.resize]
        while time.monotonic() < end:
            for _ in range(self.random.randrange(8)):
                self.ask()
            if self.random.random() < 0.06:
                self.random.choice(trouble)()
            self.world.reactor.iterate(0.005)
            self.check()
        self.come_to_rest()

    def come_to_rest(self) -> None:
        self.world.until(lambda: self.check() or not self.open_calls, 40)
        pool = self.world.pool
        assert pool.waiting() == 0
        self.world.until(lambda: sum(worker.ready for worker in pool.crew.workers) >= pool.crew.target(), 40)
        assert self.world.ask(b"still there") == b"still there"
        failures = [result for result in self.results if isinstance(result, Failure)]
        assert all(failure.check(RRError) for failure in failures), failures
        self.world.stop(30)
        assert not [pid for pid in self.pids if alive(pid)]


@pytest.mark.parametrize("script", ["raw_echo.py", "mux_echo.py"])
def test_no_call_is_lost_or_answered_twice_with_real_processes(script):
    chaos = RealChaos(script, SEED)
    try:
        chaos.run(SECONDS / 2)
    finally:
        chaos.world.close()
    print(chaos.ended)
    assert chaos.ended["answered"] > 10 * SECONDS / 2
