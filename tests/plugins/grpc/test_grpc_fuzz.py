"""Clients and workers of a gRPC front do anything at any moment: every call ends once, for both, and nothing is kept."""

from __future__ import annotations

import gzip
import os
from typing import Any

import pytest
from grpc_world import Client, GrpcCall, World
from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from twisted_rr.errors import (
    ApplicationError,
    Draining,
    ExecTimeout,
    FrameError,
    NoFreeWorker,
    QueueFull,
    WorkerDied,
)
from twisted_rr.plugins.grpc.framing import framed

PATHS = (
    "/rr.test.Echo/Say",
    "/rr.test.Echo/Sum",
    "/x",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
)
FIELDS = (
    (), (), (), (("grpc-timeout", "1S"),), (("grpc-timeout", "soon"),), (("grpc-encoding", "gzip"),),
    (("grpc-encoding", "br"),), (("grpc-accept-encoding", "gzip"),), (("a-bin", "AQI"), ("b", "c")), (("a-bin", "!"),),
    (("content-length", "7"),),
)  # fmt: skip
PIECES = (
    framed(b"hi"), framed(b"") * 3, framed(bytes(3000)), framed(b"half")[:6], b"\0\0\0", b"\0", b"\2\0\0\0\0",
    b"\1\0\0\0\2hi", b"\0\0\1\0\0", b"", framed(bytes(200))[:-1],
    b"\1" + len(gzip.compress(b"packed")).to_bytes(4) + gzip.compress(b"packed"),
)  # fmt: skip
ERRORS = (
    NoFreeWorker(1.0),
    Draining(),
    QueueFull(3),
    WorkerDied(7, "signal 9"),
    ExecTimeout(1.0),
    ApplicationError("5|:|no"),
)
PICK = st.integers(0, 50)


class Grpc(RuleBasedStateMachine):
    """See the module."""

    mux = True

    def __init__(self) -> None:
        super().__init__()
        self.world = World(
            self.mux, max_recv_msg_size=5000, max_send_msg_size=5000, max_concurrent_streams=20
        ).start()
        self.client: Client = self.world.connect(100)
        self.over = False
        self.unended: set[int] = set()  # requests of the client's that are not complete
        self.cancelled: set[int] = set()

    # -- clients

    @rule(window=st.sampled_from((0, 100, 65535)))
    def connect(self, window: int) -> None:
        if not self.over:
            self.client = self.world.connect(window)
            self.unended, self.cancelled = set(), set()

    @rule(
        path=st.sampled_from(PATHS), fields=st.sampled_from(FIELDS), kind=st.sampled_from(("application/grpc", "", "a/b")),
        message=st.sampled_from((None, b"", b"hi", bytes(6000))), end=st.booleans(), te=st.sampled_from(("trailers", "")),
    )  # fmt: skip
    def call(self, path: str, fields: Any, kind: str, message: bytes | None, end: bool, te: str) -> None:
        number = self.client.call(path, message, fields, end, content_type=kind, te=te)
        if not end:
            self.unended.add(number)

    @rule(count=st.integers(1, 5), message=st.sampled_from((b"", b"hi", bytes(300))))
    def say(self, count: int, message: bytes) -> None:
        for _ in range(count):
            self.client.call(message=message)

    @rule(pick=PICK, pieces=st.lists(st.sampled_from(PIECES), min_size=1, max_size=4), end=st.booleans())
    def data(self, pick: int, pieces: list[bytes], end: bool) -> None:
        number = self._stream(pick)
        if number:
            for piece in pieces[:-1]:
                self.client.data(number, piece)
            self.client.data(number, pieces[-1], end)
            if end:
                self.unended.discard(number)

    @rule(pick=PICK)
    def cancel(self, pick: int) -> None:
        number = self._stream(pick)
        if number:
            self.client.cancel(number)
            self.cancelled.add(number)

    @rule(pick=PICK, size=st.sampled_from((1, 100, 65535)))
    def grant(self, pick: int, size: int) -> None:
        number = self._stream(pick)
        if number:
            self.client.grant(number, size)

    @rule(room=st.sampled_from((None, 0, 10)))
    def hold(self, room: int | None) -> None:
        if room is None:
            self.client.transport.release()
            self.world.turn()
        else:
            self.client.transport.hold(room)

    @rule()
    def acknowledge(self) -> None:
        self.client.acknowledge()

    @rule()
    def lose(self) -> None:
        if self.client in self.world.clients:
            self.world.clients.remove(self.client)
            self.client.lose()

    def _stream(self, pick: int) -> int:
        numbers = list(self.client.streams)
        return numbers[pick % len(numbers)] if numbers else 0

    # -- workers

    def _call(self, pick: int) -> GrpcCall | None:
        calls: list[Any] = [call for call in self.world.pool.calls if not call.ended]
        return calls[pick % len(calls)] if calls else None

    def _worker(self, pick: int, does: Any) -> None:
        """Let a worker answer; one that breaks the protocol is lost, as the pool has it."""
        call = self._call(pick)
        if call is not None:
            try:
                does(call)
            except FrameError:
                call.ended = False
                call.fail(WorkerDied(7, "broke the protocol"))
            self.world.turn()

    @rule(pick=PICK, size=st.sampled_from((0, 10, 4000, 6000)), count=st.integers(1, 6))
    def reply(self, pick: int, size: int, count: int) -> None:
        def does(call: GrpcCall) -> None:
            for _ in range(count):
                if not call.ended and not call.paused:
                    call.reply(bytes(size))

        self._worker(pick, does)

    @rule(pick=PICK, size=st.sampled_from((0, 10, 6000)))
    def finish_with(self, pick: int, size: int) -> None:
        self._worker(pick, lambda call: call.reply(bytes(size), more=False))

    @rule(
        pick=PICK, code=st.integers(0, 17), metadata=st.sampled_from(((), (("a", "b"),), (("grpc-x", "b"),)))
    )
    def end(self, pick: int, code: int, metadata: Any) -> None:
        self._worker(pick, lambda call: call.end(code, "said so", None, metadata))

    @rule(pick=PICK)
    def head(self, pick: int) -> None:
        self._worker(pick, lambda call: call.initial([("a", "b")]))

    @rule(
        pick=PICK,
        context=st.sampled_from((b"", b"{}", b'{"error":"CAU="}', b"{")),
        body=st.sampled_from((b"", b"hi", bytes(6000))),
    )
    def respond(self, pick: int, context: bytes, body: bytes) -> None:
        self._worker(pick, lambda call: call.respond(context, body))

    @rule(pick=PICK, which=st.integers(0, len(ERRORS) - 1))
    def fail(self, pick: int, which: int) -> None:
        self._worker(pick, lambda call: call.fail(ERRORS[which]))

    @rule(pick=PICK, room=st.booleans())
    def room(self, pick: int, room: bool) -> None:
        def does(call: GrpcCall) -> None:
            if room:
                call.drained()
            else:
                call.room = False

        self._worker(pick, does)

    # -- the server

    @rule(seconds=st.sampled_from((0.01, 0.5, 1.0, 3.0)))
    def wait(self, seconds: float) -> None:
        self.world.advance(seconds)

    @rule()
    def announce(self) -> None:
        if not self.over:
            self.world.host.drain.enter("draining:announce")
            self.world.front.announce()
            self.world.turn()

    @rule(forced=st.booleans())
    def stop(self, forced: bool) -> None:
        if len(self.world.pool.calls) > 4 and not self.over:
            self.over = True
            self.world.host.drain.enter("draining:finish")
            self.world.front.finish()
            self.world.turn()
            if forced:
                self.world.front.hurry()
                self.world.turn()

    # -- what must hold

    @invariant()
    def the_server_never_failed(self) -> None:
        assert not self.world.log("critical")

    @invariant()
    def an_answer_is_whole(self) -> None:
        for stream in self.client.read().streams.values():
            if stream.ended and stream.head.get(":status") == "200":
                assert stream.status is not None
                assert all(len(message) <= 5000 for message in stream.messages)

    @invariant()
    def who_is_gone_is_not_in_flight(self) -> None:
        front = self.world.front
        streams = sum(session.open_streams + len(session._finished) for session in front.connections)
        assert len(front.in_flight.items()) + len(front._local_calls) <= streams

    def settle(self) -> None:
        """Both ends do what is left to do; every call has to end by it."""
        client = self.client
        client.transport.release()
        self.world.turn()
        client.grant(0, 10**6)
        for number in [number for number, stream in client.read().streams.items() if not stream.ended]:
            client.grant(number, 10**6)
            if number in self.unended:
                client.data(number, b"", True)
        for call in list(self.world.pool.calls):
            while not call.ended:
                # What it has no room for may end it.
                self._worker_of(call)
        self.world.advance(2.0)
        self.world.host.drain.enter("draining:finish")
        self.world.front.finish()
        self.world.turn()
        client.acknowledge()
        last = client.goaways[-1][0] if client.goaways else 2**31
        for number, stream in client.read().streams.items():
            is_known = stream.ended or stream.reset is not None or number in self.cancelled or number > last
            assert is_known, f"call {number} has no answer"

    def _worker_of(self, call: Any) -> None:
        if not call.room:
            call.drained()
        elif self.mux:
            call.end(0)
        else:
            call.respond(b"{}", b"hi")
        self.world.turn()

    def teardown(self) -> None:
        self.world.turn()
        if self.client in self.world.clients:
            self.settle()
        for client in list(self.world.clients):
            self.world.clients.remove(client)
            client.lose()
        self.world.turn()
        front = self.world.front
        assert not front.in_flight.items() and not front._local_calls and not front.connections
        assert all(call.ended for call in self.world.pool.calls), "a worker was left with a call"  # type: ignore[attr-defined]
        self.the_server_never_failed()


class SingleGrpc(Grpc):
    """With workers that take one call at a time."""

    mux = False


@pytest.mark.parametrize("machine", [Grpc, SingleGrpc])
def test_whatever_clients_and_workers_do_calls_end_once(machine: Any) -> None:
    count = 30 * max(1, int(float(os.environ.get("RR_FUZZ_HTTP2", "1"))))
    once = settings(
        max_examples=count, stateful_step_count=40, deadline=None, database=None, print_blob=False,
        phases=(Phase.generate, Phase.shrink), suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    run_state_machine_as_test(seeded(int(os.environ.get("RR_FUZZ_SEED", "1")))(machine), settings=once)
