"""A pool on a fake reactor with fake relays: the test is the worker, and time passes when it says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted_rr.pool.host import PoolHost, StopSchedule
from twisted_rr.pool.pool import WorkerPool
from twisted_rr.pool.settings import PoolSettings, ServerSettings
from twisted_rr.pool.spool import BodySpool
from twisted_rr.testing.host import FakeDrain, FakeTurn
from twisted_rr.testing.reactor import FakeProcess, FakeReactor
from twisted_rr.wire.control import MuxAnswer, MuxOffer, encode_pid_reply, parse_control, worker_settings
from twisted_rr.wire.frame import CODEC_RAW, CONTROL, encode
from twisted_rr.wire.mux_worker import MuxWorkerEnd
from twisted_rr.wire.reader import Frame, FrameReader


class Head:
    """What a call starts with."""

    def __init__(self) -> None:
        self.spools: list[BodySpool] = []

    def mux_context(self, codec: int) -> bytes:
        return b"\x90"

    def spool(self) -> BodySpool:
        self.spools.append(BodySpool(CODEC_RAW, b"{}"))
        return self.spools[-1]

    def describe(self) -> str:
        return "GET /"


class To:
    """Keeps what the receiver of a call is told."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def context(self, codec: int, context: bytes, body: bytes, more: bool) -> None:
        self.events.append(("context", context, body, more))

    def data(self, body: bytes, more: bool) -> None:
        self.events.append(("data", body, more))

    def message(self, body: bytes, text: bool, more: bool) -> None:
        self.events.append(("message", body, text, more))

    def failed(self, error: Exception) -> None:
        self.events.append(("failed", error))

    def writable(self) -> None:
        self.events.append(("writable",))

    @property
    def error(self) -> Exception | None:
        return next((event[1] for event in self.events if event[0] == "failed"), None)

    @property
    def body(self) -> bytes | None:
        """The body of a complete answer, None while there is none."""
        done = [event for event in self.events if event[0] in ("context", "data") and not event[-1]]
        pieces = [event[-2] for event in self.events if event[0] in ("context", "data")]
        return b"".join(pieces) if done else None


class FakeEnds:
    """A relay before its worker is started (`RelayEnds`)."""

    stdin = stdout = 0

    def __init__(self) -> None:
        self.relay = FakeRelay()

    def attach(self, reactor: Any, turn: Any, owner: Any) -> FakeRelay:
        self.relay.owner = owner
        return self.relay

    def close(self) -> None:
        pass


class FakeRelay:
    """The server's end: what the pool writes is read by `FakeWorker`."""

    def __init__(self) -> None:
        self.owner: Any = None
        self.closed = False
        self.paused = False
        self.unsent = 0  # bytes that did not reach the worker
        self.unread: list[bytes] = []  # written by the worker, not yet noticed by the reactor

    def wake(self) -> None:
        pass

    def push(self) -> None:
        self.wake()

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def read_rest(self) -> bool:
        unread, self.unread = self.unread, []
        for data in unread:
            self.owner.relay_data(data)
        return True

    def close(self) -> None:
        self.closed = True

    def output(self) -> bytes:
        data = b""
        while piece := self.owner.relay_output():
            data += b"".join(piece) if isinstance(piece, list) else piece
        return data


class FakeWorker:
    """The worker's side of one process."""

    def __init__(self, relay: FakeRelay, process: FakeProcess) -> None:
        self.relay = relay
        self.process = process
        self.reader = FrameReader(1 << 20)
        self.end: MuxWorkerEnd | None = None
        self.streams: list[Any] = []
        self.said_to_us: list[dict[str, Any]] = []

    @property
    def pid(self) -> int:
        return self.process.number

    def write(self, data: bytes) -> None:
        self.relay.owner.relay_data(data)

    def answer_handshake(self, mux: bool = False, streams: int = 100) -> None:
        self.reader.feed(self.relay.output())
        answer = MuxAnswer(streams=streams) if mux else None
        if answer is not None:
            self.end = MuxWorkerEnd(self, worker_settings(MuxOffer(), answer))
        self.write(encode_pid_reply(self.pid, answer))

    # one call at a time

    def frames(self) -> list[Frame]:
        """What the server wrote since the last look."""
        return self.reader.feed(self.relay.output())

    def request(self) -> bytes | None:
        """The body of the one request that is there, None when there is none."""
        bodies = [frame.payload[frame.options[0] :] for frame in self.frames() if not frame.flags & CONTROL]
        return bodies[0] if bodies else None

    def told_to_stop(self) -> bool:
        return any(
            frame.flags & CONTROL and parse_control(frame.payload).get("stop") for frame in self.frames()
        )

    def reply(self, body: bytes) -> None:
        self.write(encode(CODEC_RAW, 0, (2,), b"{}" + body))

    # mux

    def dirty(self) -> None:
        pass

    def said(self, message: dict[str, Any]) -> None:
        self.said_to_us.append(message)

    def opened(self, stream: Any, codec: int, context: bytes, body: bytes, more: bool) -> None:
        stream.to = MuxCall(stream, body)
        self.streams.append(stream)

    def read(self) -> list[Any]:
        """Feed what the server wrote; the calls opened by it."""
        assert self.end is not None
        self.streams = []
        self.end.feed(self.relay.output())
        return self.streams

    def flush(self) -> None:
        assert self.end is not None
        while data := self.end.take():
            self.write(data)


class MuxCall:
    """One call in the mux worker."""

    def __init__(self, stream: Any, body: bytes) -> None:
        self.body = body
        self.cancel_reason: str | None = None

    def data(self, body: bytes, more: bool) -> None:
        self.body += body

    def message(self, body: bytes, text: bool, more: bool) -> None:
        self.body += body

    def finished(self, context: bytes) -> None:
        pass

    def cancelled(self, reason: str) -> None:
        self.cancel_reason = reason

    def writable(self) -> None:
        pass


class World:
    """``pool`` with its fakes; `up` brings workers to the end of their handshake."""

    def __init__(
        self,
        mux: bool = False,
        random: Callable[[], float] = lambda: 0.0,
        drain: Callable[[FakeReactor], Any] = lambda reactor: FakeDrain(),
        **settings: Any,
    ) -> None:
        self.reactor = FakeReactor()
        self.drain = drain(self.reactor)
        self.relays: list[FakeRelay] = []
        self.mux = mux
        self.started = 0
        self.workers: list[FakeWorker] = []
        settings.setdefault("num_workers", 2)
        settings.setdefault("command", ("php", "worker.php"))
        self.pool = WorkerPool(
            "http",
            "http",
            PoolSettings(**settings),
            ServerSettings(),
            PoolHost(
                reactor=self.reactor,
                turn=FakeTurn(),
                environ={"PATH": "/bin"},
                drain=self.drain,
                stop=StopSchedule(term=1.0, kill=3.0),
                random=random,
                getpid=lambda: 1,
                pidfd_open=self.reactor.pidfd_open,
                killpg=self.reactor.killpg,
                make_ends=self._make_relay,
            ),
        )

    def _make_relay(self) -> FakeEnds:
        ends = FakeEnds()
        self.relays.append(ends.relay)
        return ends

    def start(self) -> World:
        """Start the pool and let every worker answer."""
        self.pool.startService()
        self.up()
        return self

    def up(self, streams: int = 100) -> list[FakeWorker]:
        """Let every worker that was started since the last time answer the handshake."""
        new = self.new()
        for worker in new:
            if worker.process.alive:
                worker.answer_handshake(self.mux, streams)
        return new

    def new(self) -> list[FakeWorker]:
        """Workers that were started since the last time."""
        count = self.started
        pairs = zip(self.relays[count:], self.reactor.processes[count:], strict=False)
        new = [FakeWorker(relay, process) for relay, process in pairs]
        self.workers += new
        self.started += len(new)
        return new

    def forget(self, workers: list[FakeWorker]) -> None:
        """Those ended and were seen to; nobody looks at them again."""
        for worker in workers:
            self.workers.remove(worker)
            self.relays.remove(worker.relay)
            self.reactor.processes.remove(worker.process)
            self.started -= 1

    def open(self, body: bytes = b"hello", more: bool = False) -> tuple[Any, To]:
        to = To()
        call = self.pool.open(Head(), body, more, to)
        return call, to

    def turn(self) -> None:
        """Let a reactor turn pass."""
        self.reactor.advance(0)

    @property
    def alive(self) -> list[FakeProcess]:
        return self.reactor.alive
