"""One worker from its start to its end: process, relay, handshake, calls, stop; one explicit state.

Which calls it gets, and what replaces it, is decided by its owner, the pool.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred

from twisted_rr.errors import FrameError, WorkerDied, WorkerStartError
from twisted_rr.pool.handshake import Answer, Handshake
from twisted_rr.pool.host import PoolHost
from twisted_rr.pool.process import Ending, WorkerProcess
from twisted_rr.pool.relay import NoPipes, Standard
from twisted_rr.pool.remedy import remedy, sought
from twisted_rr.pool.spec import LaunchSpec
from twisted_rr.pool.state import WorkerInfo, WorkerState
from twisted_rr.pool.usage import cpu_ticks, usage
from twisted_rr.wire.call import Call
from twisted_rr.wire.mux_server import MuxServerEnd
from twisted_rr.wire.single import SingleServerEnd

HANG_UP: Final = 0.5  # a process that closed its relay has so long to end by itself, which tells how it ended
NEVER: Final = 1 << 62

#: States in which no call is given to it and none is left: the stop is under way.
GOING: Final = (WorkerState.STOPPING, WorkerState.STOPPED, WorkerState.ERRORED)


class WorkerOwner(Protocol):
    """The pool, as a worker sees it.

    :ivar max_message: bytes of one message that a worker may send.
    :ivar concurrency: calls that it gets at once at most; 0: as many as it takes.
    """

    max_message: int

    @property
    def concurrency(self) -> int: ...

    def worker_ready(self, worker: Worker) -> None:
        """It answered the handshake."""

    def worker_left(self, worker: Worker) -> None:
        """It takes no more calls, for good; called once, `worker_gone` follows."""

    def worker_gone(self, worker: Worker) -> None:
        """Its process has been reaped, or could not be started (``worker.error``); called last, once."""

    def worker_room(self, worker: Worker) -> None:
        """It may take calls again: its capacity grew, or it answers heartbeats again."""

    def worker_retires(self, worker: Worker) -> None:
        """It asks to be replaced."""

    def worker_forced(self, worker: Worker) -> None:
        """It was told to stop and needed SIGKILL."""

    def worker_answered(self, worker: Worker) -> None:
        """It gave its first answer."""

    def call_freed(self, worker: Worker, call: Call) -> None:
        """It is done with a call."""

    def call_refused(self, worker: Worker, call: Call) -> bool:
        """It did not start *call*; True: it will be run elsewhere."""

    def call_lost(self, worker: Worker, call: Call) -> None:
        """It died with *call*, whose receiver has been told."""


class Worker:
    """A worker. The pool reads and writes the first group of attributes on its way through every call.

    :ivar end: its relay's end, None until the handshake is over.
    :ivar lost: calls that failed because it was lost.
    :ivar jobs: calls given to it; at ``limit`` the pool looks after it.
    :ivar since: when it was last given a call or freed of one, monotonic.
    :ivar replaced: it is not counted any more: another was started for it, or it is not wanted.
    :ivar told_pid: the pid it told of itself: another than ``pid`` behind a wrapper.
    :ivar error: why it did not start; ``unreachable`` then tells that its program was not even reached.
    :ivar planned: it ends because it was told to.
    :ivar received: bytes that came from it; ``seen`` and ``overdue`` are the supervisor's notes,
    """

    __slots__ = (
        "__weakref__",
        "_feed",
        "_host",
        "_kill_reason",
        "_log",
        "_owner",
        "_paused",
        "_relay",
        "_stalled",
        "_take",
        "_timer",
        "_timeout",
        "_waiters",
        "answered",
        "born",
        "created",
        "end",
        "error",
        "jobs",
        "left",
        "limit",
        "lost",
        "overdue",
        "planned",
        "process",
        "received",
        "replaced",
        "seen",
        "since",
        "spec",
        "state",
        "still",
        "told_pid",
        "unreachable",
    )

    def __init__(
        self, owner: WorkerOwner, host: PoolHost, spec: LaunchSpec, timeout: float, log: Any
    ) -> None:
        """*timeout*: seconds from its start to the end of the handshake."""
        self.end: Any = None
        self.jobs = 0
        self.limit = NEVER
        self.lost = 0
        self.replaced = False
        self.left = False
        self.answered = False
        self.planned = False
        self.received = self.seen = 0
        self.overdue: dict[Call, float] = {}
        self.state = WorkerState.INACTIVE
        self.spec = spec
        self.told_pid = 0
        self.error: WorkerStartError | None = None
        self.created = time.time_ns()  # for display only
        self.born = self.since = host.reactor.seconds()
        self.process = WorkerProcess(
            self, host.reactor, log, host.pidfd_open, host.killpg, start=host.start, nursery=host.templates
        )
        self._owner = owner
        self._host = host
        self._timeout = timeout
        self._log = log
        self._relay: Any = None
        self._feed: Callable[[bytes], object] = self._no_data
        self._take: Callable[[], Any] = _nothing
        self._timer: Any = None
        self._kill_reason = ""
        self._stalled = False
        self.still: tuple[int, float] | None = None
        self.unreachable = False
        self._waiters: list[tuple[str, Deferred[Worker]]] = []

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def mux(self) -> bool:
        return isinstance(self.end, MuxServerEnd)

    @property
    def ready(self) -> bool:
        """It answered the handshake and nothing has ended its service."""
        return self.end is not None and not self.left

    def when_ready(self) -> Deferred[Worker]:
        """Fires once it answered the handshake; fails with WorkerStartError once it is known that it will not."""
        return self._when("ready")

    def when_gone(self) -> Deferred[Worker]:
        """Fires when its process has been reaped."""
        return self._when("gone")

    def _when(self, event: str) -> Deferred[Worker]:
        waiter: Deferred[Worker] = Deferred()
        if event == "ready" and self.error is not None:
            # It was over before anybody could ask: a process may end within its very start.
            waiter.errback(self.error)
            return waiter
        self._waiters.append((event, waiter))
        return waiter

    # ------------------------------------------------------------------ start

    def start(self, relay: str, relay_pipes: bool) -> None:
        """Start the process. What goes wrong comes as `WorkerOwner.worker_gone`, in a later turn."""
        try:
            ends = self._make_ends(relay, relay_pipes)
        except OSError as error:
            self._not_started(f"no relay could be made: {error.strerror}")
            return
        try:
            self._relay = ends.attach(self._host.reactor, self._host.turn, self)
            self.process.spawn(self.spec, ends.stdin, ends.stdout)
        except OSError as error:
            self._not_started(f"the process could not be started: {error.strerror}")
            return
        finally:
            ends.close()
        if self.process.alive and self._timer is None and self.process.pid:
            self._begin_handshake()

    def process_started(self) -> None:
        """For the process: it is there, somewhat later than it was asked for."""
        if not self.left:
            self._begin_handshake()

    def _make_ends(self, relay: str, relay_pipes: bool) -> Any:
        if self._host.make_ends is not None:
            return self._host.make_ends()
        if relay != "pipes":
            return NoPipes()
        return Standard.pipes() if relay_pipes else Standard.sockets()

    def _not_started(self, reason: str) -> None:
        self._close_relay()
        self.unreachable = True
        self.error = WorkerStartError(self.spec.command, reason)
        self._host.reactor.callLater(0, self._gone)

    def _begin_handshake(self) -> None:
        self._timer = self._host.reactor.callLater(self._timeout, self._too_late)
        if self._relay is None:
            self._host.relays.expect(self.pid, self._introduced, self.kill)
            return
        handshake = Handshake(self._host.getpid())
        request = [handshake.request]
        self._take = lambda: request.pop() if request else b""
        self._feed = lambda data: self._handshake_data(handshake, data)
        self._relay.wake()

    def _too_late(self) -> None:
        self.kill(f"no answer to the handshake within {self._timeout:g} s (allocate_timeout)")

    def _handshake_data(self, handshake: Handshake, data: bytes) -> None:
        answer = handshake.feed(data)
        if answer is not None:
            self._settle(answer, handshake.rest())

    def _introduced(self, connection: Any, answer: Answer, rest: bytes) -> None:
        """It connected to the shared listener and told its pid."""
        from twisted_rr.net.descriptor import RelayDescriptor

        if self._relay is not None or self.left:
            connection.close()
            return
        self._relay = RelayDescriptor(connection, self._host.reactor, self._host.turn, self)
        try:
            self._settle(answer, rest)
        except FrameError as error:
            self._broken(error)

    def _settle(self, answer: Answer, rest: bytes) -> None:
        if self.left:
            return
        self._cancel_timer()
        self.told_pid = answer.pid
        if answer.pid != self.pid:
            self._log.info(
                "worker {pid} says that its pid is {told}: it runs behind a wrapper",
                pid=self.pid,
                told=answer.pid,
            )
        if answer.mux is not None:
            answer.mux.max_message = self._owner.max_message
            answer.mux.streams = min(answer.mux.streams, self._owner.concurrency or answer.mux.streams)
        if answer.mux is not None:
            mux = self.end = MuxServerEnd(self, answer.mux)
            self._take = mux.take_piece
        else:
            self.end = SingleServerEnd(self)
            self._take = self.end.take
        self._feed = self.end.feed
        self.state = WorkerState.READY
        self.since = self._host.reactor.seconds()
        self._owner.worker_ready(self)
        if self.error is not None:
            return  # it was refused
        self._fire("ready")
        if rest and not self.left:
            self._feed(rest)

    # ------------------------------------------------------------------ relay (RelayOwner)

    def relay_data(self, data: bytes) -> None:
        self.received += len(data)
        try:
            self._feed(data)
        except FrameError as error:
            self._broken(error)
        except Exception:
            self._log.failure("worker {pid}: its answer could not be handled", pid=self.pid)
            self._lose("its answer could not be handled")
            self.process.signal(signal.SIGKILL)

    def relay_output(self) -> Any:
        return self._take()

    def relay_lost(self, reason: str) -> None:
        if self._kill_reason or self.state in GOING:
            return  # it was killed or told to stop, and its process will end
        self._leave()
        try:
            if self.end is not None:
                self.end.eof()
        except FrameError as error:
            self._broken(error)
            return
        # How the process ends is told by its exit, a moment later as a rule.
        self._schedule(HANG_UP, lambda: self.kill(f"relay {reason}"))

    def _no_data(self, data: bytes) -> None:
        raise FrameError("bytes before the handshake", data)

    def _broken(self, error: FrameError) -> None:
        """Its bytes are in doubt from here on; nothing it says counts any more."""
        if self.end is None:
            self.kill(str(error))
            return
        self._log.error("worker {pid} is killed: {reason}", pid=self.pid, reason=str(error))
        self._lose("bad frame")
        self.process.signal(signal.SIGKILL)

    def _close_relay(self) -> None:
        if self._relay is not None:
            self._relay.close()

    # ------------------------------------------------------------------ calls (the end's owner)

    def dirty(self) -> None:
        self._relay.wake()

    def push(self) -> None:
        self._relay.push()

    def freed(self, call: Call) -> None:
        # ``call.answered`` alone is not set by an answer of one frame.
        if not self.answered and (call.answered or (call.ended and not call.cancelled)):
            self.answered = True
            self._owner.worker_answered(self)
        self._owner.call_freed(self, call)

    def refused(self, call: Call) -> bool:
        return self._owner.call_refused(self, call)

    def said(self, message: dict[str, Any]) -> None:
        if message.get("retire"):
            self.planned = self.planned or not self.process.alive  # it said so before its end
            self._owner.worker_retires(self)
        else:
            self._owner.worker_room(self)

    def pause(self) -> None:
        self._relay.pause_reading()

    def resume(self) -> None:
        self._relay.resume_reading()

    def tick(self, now: float) -> None:
        """Once a second: heartbeats."""
        if not self.ready:
            return
        self.end.tick(now)
        if not self.end.missed:
            self.still = None
            if self._stalled:
                self._stalled = False
                self._owner.worker_room(self)
            return
        if not self._stalled:
            self._stalled = True
            self._log.warn("worker {pid} did not answer a heartbeat, it gets no new calls", pid=self.pid)
        ticks = cpu_ticks(self.pid)
        if self.still is None or self.still[0] != ticks:
            self.still = (ticks, now)

    def still_for(self, now: float) -> float:
        """Seconds for which it has neither answered heartbeats nor used CPU time."""
        return now - self.still[1] if self.still is not None else 0.0

    def open_calls(self) -> list[Call]:
        """The calls on its relay, cancelled ones too."""
        if isinstance(self.end, MuxServerEnd):
            return list(self.end.calls.values())
        return [self.end.call] if self.end is not None and self.end.call is not None else []

    # ------------------------------------------------------------------ the end

    def retire(self, state: WorkerState, limit: float | None = None) -> None:
        """Take no more calls, stop when the last is done; at the latest after *limit* seconds."""
        if self.left:
            return
        self.state = state
        self._leave()
        if self.end is None or not self.end.load:
            self.stop()
        elif limit is not None:
            self._schedule(limit, self.stop)

    def idle(self) -> None:
        """For the pool: its last call is done. Ends a retirement."""
        if self.left and self.process.alive and self.state not in GOING:
            self.stop()

    def stop(self) -> None:
        """The stop frame now, SIGTERM and SIGKILL to its group by the schedule. Idempotent."""
        if self.state in GOING:
            return
        self._leave()
        self.planned = True
        self.state = WorkerState.STOPPING
        if not self.process.alive:
            return
        if self.end is None:
            self.kill("stopped while it started")  # it holds nothing
            return
        self.end.control({"stop": True})
        self._schedule(self._host.stop.term, self._terminate)

    def _terminate(self) -> None:
        self._log.debug("worker {pid} has not stopped, SIGTERM", pid=self.pid)
        self.process.signal(signal.SIGTERM)
        self._schedule(max(0.0, self._host.stop.kill - self._host.stop.term), self._force)

    def _force(self) -> None:
        self._log.warn("worker {pid} has not stopped, SIGKILL", pid=self.pid)
        self._owner.worker_forced(self)
        self.process.signal(signal.SIGKILL)

    def kill(self, reason: str) -> None:
        """SIGKILL to its group. What it has written still counts; it ends when it has been reaped."""
        if not self._kill_reason or self.end is not None:
            self._kill_reason = reason
        self._leave()
        self._cancel_timer()
        self.process.signal(signal.SIGKILL)

    def kill_soon(self, reason: str, seconds: float) -> None:
        """As `kill`, but it has *seconds* to say something first; it gets no more calls."""
        if not seconds or self.state in GOING:
            self.kill(reason)
            return
        self._kill_reason = reason
        self._leave()
        self._schedule(seconds, lambda: self.kill(reason))

    def process_exited(self, ending: Ending) -> None:
        self._cancel_timer()
        self._leave()  # before its last answers are read, or the next call would be given to it
        starting = self.end is None
        if self._relay is not None and not self._relay.closed:
            self._relay.read_rest()
        self._lose(self._kill_reason or str(ending))
        if starting:
            self.error = self._start_error(ending)
        elif not self.planned:
            self._log.warn(
                "worker {pid} ended: {reason}; calls it held: {calls}",
                event="worker_died",
                pid=self.pid,
                reason=self._death(ending),
                ending=str(ending),
                calls=self.lost,
            )
        self.state = WorkerState.STOPPED if ending.code == 0 or self.planned else WorkerState.ERRORED
        self._gone()

    def _death(self, ending: Ending) -> str:
        return self._kill_reason or str(ending)

    def _start_error(self, ending: Ending) -> WorkerStartError:
        self.unreachable = bool(ending.step)
        if ending.step == "exec":
            program = self.spec.command.split()[0]
            reason = f"{program}: {ending}"
            if ending.errno == 2:
                reason = f"command not found: {program} ({sought(program, self.spec)})"
        elif ending.step:
            reason = f"it could not be prepared: {ending}"
        elif self._kill_reason:
            reason = self._kill_reason
        else:
            reason = f"it ended before the handshake with {ending}"
        tail = list(self.process.tail)
        return WorkerStartError(self.spec.command, reason + remedy(reason, tail, self.spec), tail)

    def _lose(self, reason: str) -> None:
        """No more from its relay: whatever it still holds has failed."""
        self._leave()
        self._close_relay()
        if self.end is None:
            return
        if isinstance(self.end, MuxServerEnd):
            self._give_back(self.end.take_back(), reason)
        elif self._relay is not None:
            self.end.take_back(self._relay.unsent)
        calls = self.open_calls()
        self.lost += sum(not call.cancelled for call in calls)
        pid = self.pid
        self.end.fail_all(lambda call: WorkerDied(pid, reason))
        for call in calls:
            self._owner.call_lost(self, call)

    def _give_back(self, calls: list[Call], reason: str) -> None:
        """It never got these: another worker does, however often that happens."""
        for call in calls:
            refused_before, call.retried = call.retried, False
            if not self._owner.call_refused(self, call):
                call.fail(WorkerDied(self.pid, reason))
            call.retried = refused_before

    def _leave(self) -> None:
        if not self.left:
            self.left = True
            if self._host.relays is not None:
                self._host.relays.forget(self.pid)
            self._owner.worker_left(self)

    def _gone(self) -> None:
        self._leave()
        self._owner.worker_gone(self)
        self._fire("ready")
        self._fire("gone")

    def _fire(self, event: str) -> None:
        fired = [waiter for kind, waiter in self._waiters if kind == event]
        self._waiters = [(kind, waiter) for kind, waiter in self._waiters if kind != event]
        for waiter in fired:
            if event == "ready" and (self.end is None or self.error is not None):
                waiter.errback(self.error or WorkerStartError(self.spec.command, "stopped"))
            else:
                waiter.callback(self)

    # ------------------------------------------------------------------ time

    def _schedule(self, seconds: float, action: Callable[[], None]) -> None:
        """One thing at a time is due; the next step of the end takes the place of the one before."""
        self._cancel_timer()
        self._timer = self._host.reactor.callLater(seconds, action)

    def _cancel_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    # ------------------------------------------------------------------ for people

    def info(self, now: float) -> WorkerInfo:
        state = self.state
        load = self.end.load if self.end is not None else 0
        if state is WorkerState.READY and load:
            state = WorkerState.WORKING
        memory, cpu = usage(self.pid, self.told_pid, now - self.born)
        return WorkerInfo(
            pid=self.pid,
            status=int(state),
            status_text=state.word,
            num_execs=self.jobs,
            created=self.created,
            memory=memory,
            cpu=cpu,
            command=self.spec.command,
            open_calls=load,
            limit=self.end.limit if self.end is not None else 0,
            abandoned=sum(call.cancelled for call in self.open_calls()),
            progress=not self._stalled,
        )


def _nothing() -> bytes:
    return b""
