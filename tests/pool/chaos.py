"""Random trouble for a pool on fakes, by seed: calls, cancels, crashes, hangs, garbage, resets, resizes, drains.

Whatever happens: each call ends once, nobody waits at rest, no more workers than wanted, all are reaped.
"""

from __future__ import annotations

import random
import signal

from pool_world import Head, To, World
from twisted.python.failure import Failure

from twisted_rr.errors import PoolError, RRError
from twisted_rr.pool.settings import SupervisorSettings
from twisted_rr.wire.frame import CODEC_RAW, encode

HEAD = b"\x92\xcc\xc8\x90"
SEEDS = 20
STEPS = 2500
"""Together, with both kinds of worker, 100,000 steps. Many short runs find more than one long one: each begins
with other limits, and ends with a stop in another state."""


class Strict(To):
    """Fails the test when it is told anything after the end, or before ``open`` returned."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.sent = body
        self.opened = False
        self.ends = 0

    def context(self, codec, context, body, more):
        self._told(more)
        super().context(codec, context, body, more)

    def data(self, body, more):
        self._told(more)
        super().data(body, more)

    def failed(self, error):
        assert isinstance(error, PoolError), error
        self._told(False)
        super().failed(error)

    def _told(self, more):
        assert self.opened, "told before open returned"
        assert not self.ends, "told after the end"
        self.ends += not more


class Chaos:
    def __init__(self, seed: int, mux: bool) -> None:
        self.random = random.Random(seed)
        self.mux = mux
        self.world = World(
            mux=mux,
            random=self.random.random,
            num_workers=3,
            max_jobs=self.random.choice((0, 1, 5, 20)),
            max_queue_size=self.random.choice((0, 4)),
            max_queue_age=self.random.choice((0.0, 1.0)),
            allocate_timeout=5.0,
            reset_timeout=3.0,
            destroy_timeout=3.0,
            supervisor=SupervisorSettings(
                watch_tick=1.0, ttl=self.random.choice((0.0, 20.0)), exec_ttl=self.random.choice((0.0, 4.0))
            ),
        )
        self.calls: list[tuple[object, Strict]] = []
        self.hung: set[int] = set()
        self.asked: dict[int, list[object]] = {}
        self.results: list[object] = []
        self.number = 0
        self.answered = 0

    # ------------------------------------------------------------------ the steps

    def open(self):
        self.number += 1
        body = b"%d" % self.number
        to = Strict(body)
        more = self.random.random() < 0.3
        call = self.world.pool.open(Head(), body, more, to)
        to.opened = True
        self.calls.append((call, to))

    def finish_body(self):
        halves = [call for call, to in self.calls if call.more and not call.ended]
        if halves:
            self.random.choice(halves).send(b"", False)

    def cancel(self):
        running = [call for call, to in self.calls if not to.ends]
        if running:
            self.random.choice(running).cancel("client")

    def handshake(self):
        for worker in self.world.new():
            if not worker.process.alive or worker.relay.closed:
                continue
            fate = self.random.random()
            if fate < 0.75:
                worker.answer_handshake(self.mux, streams=self.random.choice((1, 2, 50)))
            elif fate < 0.85:
                worker.write(b"Hello, world")
            elif fate < 0.95:
                worker.process.exit(code=self.random.choice((0, 1)))
            # else it never answers

    def bury(self):
        """Forget processes that have ended: otherwise every step looks at all that ever were."""
        world = self.world
        dead = [worker for worker in world.workers if not worker.process.alive]
        for worker in dead:
            self.hung.discard(worker.pid)
            self.asked.pop(worker.pid, None)
        world.forget(dead)

    def living(self):
        return [
            worker
            for worker in self.world.workers
            if worker.process.alive and not worker.relay.closed and worker.pid not in self.hung
        ]

    def work(self):
        for worker in self.living():
            self.read(worker)
            asked = self.asked.setdefault(worker.pid, [])
            self.random.shuffle(asked)
            while asked and self.random.random() < 0.7:
                self.reply(worker, asked.pop())
            if self.stopping(worker) and not asked and self.random.random() < 0.7:
                worker.process.exit()

    def read(self, worker):
        asked = self.asked.setdefault(worker.pid, [])
        if worker.relay.owner.end is None:
            return
        if self.mux:
            asked += worker.read()
            return
        for frame in worker.frames():
            if frame.flags & 1:
                worker.said_to_us.append({"stop": True})
            else:
                asked.append(frame.payload[frame.options[0] :])

    def stopping(self, worker):
        return bool(worker.said_to_us) or (worker.end is not None and worker.end.stopping)

    def reply(self, worker, asked):
        refuse = self.random.random() < 0.05
        if self.mux:
            if refuse or asked.cancelled:
                asked.stop()
            elif asked.closed or self.random.random() < 0.5:
                asked.send(HEAD, asked.to.body, False)
            else:
                asked.send(HEAD, b"", True)
                asked.send(b"", asked.to.body, False)
            worker.flush()
        elif refuse:
            worker.write(encode(CODEC_RAW, 0, (13,), b'{"stop":true}'))
        else:
            worker.reply(asked)

    def crash(self):
        living = self.living()
        if living:
            self.random.choice(living).process.exit(signal=signal.SIGSEGV)

    def garble(self):
        living = [worker for worker in self.living() if worker.relay.owner.end is not None]
        if living:
            self.random.choice(living).write(b"PHP Warning: x")

    def hang(self):
        living = self.living()
        if living and len(self.hung) < 40:
            self.hung.add(self.random.choice(living).pid)

    def reset(self):
        self.world.pool.reset().addBoth(self.results.append)

    def resize(self):
        pool = self.world.pool
        step = pool.grow(1) if self.random.random() < 0.5 and pool.crew.wanted < 8 else pool.shrink(1)
        step.addBoth(self.results.append)

    def drain(self):
        drain = self.world.drain
        if drain.draining:
            drain.undrain()
        else:
            drain.enter("draining:announce")

    def pass_time(self):
        self.world.reactor.advance(self.random.choice((0, 0.01, 0.3, 1.1)))

    # ------------------------------------------------------------------ the run

    def run(self, steps: int) -> None:
        self.world.start()
        often = [self.open, self.open, self.work, self.work, self.handshake, self.pass_time, self.finish_body]
        seldom = [self.cancel, self.cancel, self.crash, self.garble, self.hang, self.reset, self.resize]
        seldom += [self.cancel, self.drain]
        for number in range(steps):
            step = self.random.choice(seldom if self.random.random() < 0.08 else often)
            step()
            self.check()
            if not number % 50:
                self.bury()
        if self.random.random() < 0.3:
            self.stop_at_once()
        else:
            self.come_to_rest()

    def check(self) -> None:
        pool = self.world.pool
        counted = [worker for worker in pool.crew.workers if not worker.replaced and not worker.left]
        assert len(counted) <= pool.crew.target(), "more workers than wanted"
        ends = [worker.end for worker in pool.crew.workers if worker.end is not None]
        assert all(end.load <= max(end.limit, 1) for end in ends)
        self.calls = [(call, to) for call, to in self.calls if not to.ends or to.error or self.right(to)]
        self.calls = [(call, to) for call, to in self.calls if not to.ends]
        assert pool.waiting() <= len(self.calls), "a call waits that nobody waits for"

    def right(self, to: Strict) -> bool:
        assert to.body == to.sent, "the answer of another call"
        self.answered += 1
        return True

    def stop_at_once(self) -> None:
        """A stop in the midst of it: everybody is told, whatever state the calls and workers are in."""
        self.world.drain.enter("stopping")
        self.check_stop()
        self.check()
        assert self.calls == [], "a call was lost in the stop"

    def come_to_rest(self) -> None:
        """No new trouble: what is open ends, by answers or time limits, and the pool serves again."""
        if self.world.drain.draining:
            self.world.drain.undrain()
        for call, _ in self.calls:
            if call.more:
                call.send(b"", False)
        for worker in self.world.workers:
            if worker.pid in self.hung and worker.process.alive:
                worker.process.exit(signal=signal.SIGKILL)
        for _ in range(400):
            self.work()
            self.world.up(50)
            self.world.reactor.advance(0.25)
        self.check()
        assert self.calls == []
        assert self.world.pool.waiting() == 0
        loads = [worker.end.load for worker in self.world.pool.crew.workers if worker.end is not None]
        assert not any(loads), "a slot is taken by no call"
        failures = [result for result in self.results if isinstance(result, Failure)]
        assert all(failure.check(RRError) for failure in failures), failures
        crew = self.world.pool.crew
        assert sum(worker.ready for worker in crew.workers) == crew.target()
        self.check_stop()

    def check_stop(self) -> None:
        seen: list[object] = []
        self.world.pool.stopService().addBoth(seen.append)
        for _ in range(40):
            self.world.reactor.advance(0.25)
        assert seen == [None]
        assert self.world.alive == []
        assert self.world.reactor.getDelayedCalls() == []
        assert self.world.reactor.readers == []
