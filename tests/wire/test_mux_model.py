"""Both mux ends back to back under random use: what must hold whatever applications and clients do.

Exactly one terminal frame an id, credit never negative, nobody starves, and no lost wake-up: once all
consumers take, every call ends and nothing is left queued. A world is a seed, so a failure repeats.
"""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_recorders import (
    CREDIT,
    ERROR,
    MESSAGE,
    PART,
    STOP,
    STREAM,
    MuxServer,
    MuxWorker,
    parse_all,
)

from twisted_rr.errors import WorkerDied
from twisted_rr.wire.call import Call
from twisted_rr.wire.credit import cost
from twisted_rr.wire.mux_server import MuxServerEnd
from twisted_rr.wire.mux_settings import MuxSettings
from twisted_rr.wire.mux_worker import MuxWorkerEnd


class Pipe:
    """One direction of the relay: bytes under way, which arrive in random pieces."""

    def __init__(self):
        self.bytes = bytearray()


def pieces(rng):
    """What one side sends; now and then enough to be held."""
    if rng.random() < 0.1:
        return [rng.randbytes(150000) for _ in range(rng.randrange(2, 5))]
    return [rng.randbytes(rng.choice((0, 1, 100, 5000, 40000))) for _ in range(rng.randrange(0, 8))]


class Client:
    """Opens one call, sends a body or messages, takes the answer, and may give up."""

    def __init__(self, world):
        rng = world.rng
        self.world = world
        self.events = []
        self.answer = bytearray()
        self.got = []
        self.held = False  # told to wait for writable
        self.over = 0
        self.mode = rng.choice(("bytes", "bytes", "messages"))
        self.to_send = pieces(rng)
        self.sent = b"".join(self.to_send)
        self.call = Call(None, self, world.server)
        self.call.runs = rng.random() < 0.5
        first = b"" if self.mode == "messages" or not self.to_send else self.to_send.pop(0)
        self.open = bool(self.to_send) or rng.random() < 0.5
        world.server.open(self.call, b"context", first, self.open)

    def step(self):
        rng, call = self.world.rng, self.call
        choice = rng.random()
        if choice < 0.03 and self.world.cancels:
            call.cancel("client")
        elif choice < 0.15:
            call.pauseProducing()
        elif choice < 0.4:
            call.resumeProducing()
        elif self.open and not self.held:
            self.send()

    def send(self):
        rng, call = self.world.rng, self.call
        if not self.to_send:
            self.open = False
            if rng.random() < 0.3:
                call.finish(lambda codec: b"trailers")
            else:
                call.send(b"", False)
            return
        piece = self.to_send.pop(0)
        self.open = bool(self.to_send) or rng.random() < 0.5
        if self.mode == "messages":
            room = call.message(piece, rng.random() < 0.5, self.open)
        else:
            room = call.send(piece, self.open)
        self.held = not room and not call.ended

    def relent(self):
        """From now on this one takes and sends all."""
        self.call.resumeProducing()
        while self.open and not self.held and not self.over:
            self.send()

    def ended(self):
        self.over += 1

    def context(self, codec, context, body, more):
        self.answer += body
        if not more:
            self.ended()

    def data(self, body, more):
        self.answer += body
        if not more:
            self.ended()

    def message(self, body, text, more):
        self.got.append(body)
        if not more:
            self.ended()

    def messages(self, run):
        assert run
        self.got += run

    def failed(self, error):
        self.error = error
        self.ended()

    def writable(self):
        self.world.wakes["client"] += 1
        assert self.held
        self.held = False
        if self.world.quiet:
            self.relent()


class App:
    """The application's side of one call in the worker."""

    def __init__(self, world, stream, body, more):
        rng = world.rng
        self.world = world
        self.stream = stream
        self.body = bytearray(body)
        self.messages = []
        self.unread = len(body)
        self.body_over = not more
        self.held = False
        self.stopped = False
        self.mode = rng.choice(("bytes", "bytes", "messages"))
        self.text = rng.random() < 0.5
        self.patient = rng.random() < 0.6  # answers only when it has the whole body
        self.fate = rng.choices(("answer", "error", "stop"), (8, 1, 1))[0]
        self.to_send = pieces(rng)
        self.sent = []
        self.head_sent = False

    def step(self):
        rng = self.world.rng
        if rng.random() < 0.4:
            self.read()
        elif self.may_act():
            self.act()

    def may_act(self):
        if self.stopped:
            return True
        return not self.held and (self.body_over or not self.patient)

    def read(self):
        if self.unread:
            count = self.world.rng.randrange(1, self.unread + 1) if not self.world.quiet else self.unread
            self.unread -= count
            self.stream.consumed(count)

    def act(self):
        stream = self.stream
        if self.stopped:
            if self.world.quiet or self.world.rng.random() < 0.3:
                stream.stop()
        elif not self.head_sent:
            self.head_sent = True
            if self.fate == "stop" and self.world.rng.random() < 0.5:
                stream.stop()
            else:
                self.hold(stream.send(b"head", b"", True))
        elif self.to_send:
            piece = self.to_send.pop(0)
            self.sent.append(piece)
            if self.mode == "messages":
                self.hold(stream.message(piece, self.text, True))
            else:
                self.hold(stream.send(b"", piece, True))
        elif self.fate == "error":
            stream.error("boom")
        elif self.fate == "stop":
            stream.stop()
        elif self.world.rng.random() < 0.5:
            stream.send(b"trailers", b"", False)
        else:
            stream.send(b"", b"", False)

    def hold(self, room):
        self.held = not room and not self.stream.ended

    def relent(self):
        self.read()
        while not self.stream.ended and self.stream.more and self.may_act():
            self.act()

    def data(self, body, more):
        self.body += body
        self.unread += len(body)
        self.body_over = not more

    def message(self, body, text, more):
        self.messages.append(body)
        self.unread += cost(len(body), True)
        self.body_over = not more

    def finished(self, context):
        assert context == b"trailers"
        self.body_over = True

    def cancelled(self, reason):
        assert not self.stopped
        self.stopped = True

    def writable(self):
        self.world.wakes["app"] += 1
        assert self.held
        self.held = False


class World:
    """A server end, a worker end, two pipes, clients and applications."""

    def __init__(self, seed, cancels=True):
        self.rng = rng = random.Random(seed)
        self.cancels = cancels
        self.quiet = False
        self.clients = []
        self.apps = {}
        self.free = []
        self.wakes = {"client": 0, "app": 0}
        self.up = Pipe()
        self.down = Pipe()
        self.flags = {"server": False, "worker": False}
        self.terminals = {}
        self.opened_ids = []
        window, peer = rng.choice((16384, 40000, 524288)), rng.choice((16384, 50000, 524288))
        frame = rng.choice((4096, 10000, 65536, 262144))
        self.windows = {"up": peer, "down": window}
        self.server = MuxServerEnd(
            Owner(self, "server"), MuxSettings(50, window, peer, frame, caps=["heartbeat"])
        )
        self.worker = MuxWorkerEnd(
            Owner(self, "worker"), MuxSettings(50, peer, window, frame, caps=["heartbeat"])
        )

    # Bytes move only when somebody said dirty, as on a real relay: a missing dirty() is a lost wake-up.
    def take(self, name, end, pipe, pieces):
        while self.flags[name] and pieces:
            pieces -= 1
            piece = end.take()
            if piece:
                self.look(name, piece)
                pipe.bytes += piece
            else:
                self.flags[name] = False

    def arrive(self, end, pipe, count):
        data = bytes(pipe.bytes[:count])
        del pipe.bytes[:count]
        if data:
            end.feed(data)

    def look(self, name, piece):
        """Check the frames of *piece* against the rules that an outsider can see."""
        for flags, bits, options, payload in parse_all(piece):
            if len(options) < 2:
                continue
            id = options[1]
            if bits & (CREDIT | STOP) and name == "server":
                assert id in self.server.calls, "CREDIT or STOP for a call that has ended"
            if name == "server":
                if id > (self.opened_ids[-1] if self.opened_ids else 0):
                    assert id == len(self.opened_ids) + 1
                    assert options[0]
                    self.opened_ids.append(id)
            else:
                assert id in self.opened_ids
                assert id not in self.terminals, "a frame after the terminal one"
                if not bits & (STREAM | CREDIT):
                    self.terminals[id] = "stop" if bits & STOP else "error" if flags & ERROR else "end"
            if bits & PART:
                assert bits & MESSAGE and bits & STREAM
            assert len(payload) - options[0] <= self.server.settings.max_frame

    def check(self):
        for call in self.server.calls.values():
            assert call.credit_out >= 0
            assert 0 <= call.credit_in <= self.windows["down"]
        for stream in self.worker.streams.values():
            assert stream.credit_out >= 0
            assert 0 <= stream.credit_in <= self.windows["up"]
            assert stream._outstanding >= 0 and stream._prepaid >= 0

    def step(self):
        rng = self.rng
        choice = rng.randrange(8)
        if choice == 0 and self.server.load < 50:
            self.clients.append(Client(self))
        elif choice in (1, 2) and self.clients:
            rng.choice(self.clients).step()
        elif choice in (3, 4) and self.apps:
            rng.choice(list(self.apps.values())).step()
        elif choice == 5:
            self.take("server", self.server, self.down, rng.randrange(3))
            self.take("worker", self.worker, self.up, rng.randrange(3))
        elif choice == 6:
            self.arrive(self.worker, self.down, rng.choice((1, 19, 1000, 70000)))
        else:
            self.arrive(self.server, self.up, rng.choice((1, 19, 1000, 70000)))
        self.check()

    def settle(self):
        """Everybody takes and ends; nothing but wake-ups moves anything."""
        self.quiet = True
        for _ in range(3000):
            for client in self.clients:
                client.relent()
            for app in list(self.apps.values()):
                app.relent()
            self.take("server", self.server, self.down, 1)
            self.take("worker", self.worker, self.up, 1)
            self.arrive(self.worker, self.down, 65536)
            self.arrive(self.server, self.up, 65536)
            self.check()
            if not self.server.load and not self.worker.streams and not any(self.flags.values()):
                return
        raise AssertionError(f"{self.server.load} calls did not end: {self.server.calls}")


class Owner:
    def __init__(self, world, name):
        self.world = world
        self.name = name

    def dirty(self):
        assert not self.world.flags[self.name], "dirty twice"
        self.world.flags[self.name] = True

    def freed(self, call):
        self.world.free.append(call)

    def refused(self, call):
        return False

    def said(self, message):
        raise AssertionError(message)

    def opened(self, stream, codec, context, body, more):
        assert context == b"context"
        stream.to = self.world.apps[stream.id] = App(self.world, stream, body, more)


def run(seed, steps, **more):
    world = World(seed, **more)
    for _ in range(steps):
        world.step()
    world.settle()
    return world


def judge(world):
    assert world.clients
    assert [client.over for client in world.clients] == [1] * len(world.clients)
    assert sorted(world.terminals) == world.opened_ids
    assert len(world.free) == len(world.clients) == len(set(world.free))
    assert not world.up.bytes and not world.down.bytes
    for end in (world.server, world.worker):
        assert end.take() == b""
        assert not end._out._ring and not end._out._grants
    for client in world.clients:
        assert not client.call.queue and not client.call.queued
        compare(world, client)


def compare(world, client):
    """Nothing is lost, doubled or out of order: what arrived begins what was sent; after an end it is all."""
    app = world.apps.get(client.call.id)
    if app is None:
        return
    sent = b"".join(app.sent)
    got = b"".join(client.got) if app.mode == "messages" else bytes(client.answer)
    assert sent.startswith(got)
    if world.terminals[client.call.id] == "end" and not client.call.cancelled:
        assert got == sent
    if app.mode == "messages":
        assert client.got == app.sent[: len(client.got)]
    body = b"".join(app.messages) if client.mode == "messages" else bytes(app.body)
    assert client.sent.startswith(body)


@pytest.mark.parametrize("seed", range(40))
def test_random_worlds_end_well(seed):
    judge(run(seed, 1500))


@pytest.mark.parametrize("seed", range(40, 55))
def test_worlds_without_cancels_lose_nothing(seed):
    world = run(seed, 1500, cancels=False)
    judge(world)
    for client in world.clients:
        if not client.call.id:  # given back by the worker
            continue
        app = world.apps[client.call.id]
        if world.terminals[client.call.id] == "end" and app.body_over:
            body = b"".join(app.messages) if client.mode == "messages" else bytes(app.body)
            assert body == client.sent


@pytest.mark.parametrize("seed", range(55, 70))
def test_a_relay_lost_at_any_moment_ends_every_call_once(seed):
    world = World(seed)
    for _ in range(random.Random(seed).randrange(50, 1500)):
        world.step()
    world.server.fail_all(lambda call: WorkerDied(1, "signal 9"))
    assert [client.over for client in world.clients] == [1] * len(world.clients)
    assert world.server.take() == b""


def test_a_thousand_streaming_calls_share_the_relay_fairly():
    """Every call has sent about as much as the others, whatever piece of the way is looked at."""
    server = MuxServerEnd(NoOwner(), MuxSettings(peer_window=1 << 20))
    calls = []
    for _ in range(1000):
        call = Call(None, None, server)
        server.open(call, b"c", b"", True)
        calls.append(call)
    while server.take():
        pass
    for call in calls:
        call.send(bytes(200000), True)
    sent = dict.fromkeys(range(1, 1001), 0)
    for _ in range(300):
        for _, _, options, _ in parse_all(server.take()):
            sent[options[1]] += 1
    assert max(sent.values()) - min(sent.values()) <= 1


# ------------------------------------------------------------------ what is conserved

WINDOW = 16384
FRAME = 4096

#: Sizes of messages: empty ones, small ones, some of more than a frame, and some of more than the window.
MESSAGES = st.lists(
    st.one_of(st.just(0), st.integers(0, 3), st.integers(0, 2 * FRAME), st.just(WINDOW + 1)), max_size=40
)


class Pair:
    """Two ends with one call open in both directions, whose bytes are carried when `exchange` is called."""

    def __init__(self, runs=False):
        self.server = MuxServer(window=WINDOW, peer_window=WINDOW, max_frame=FRAME)
        self.worker = MuxWorker(window=WINDOW, peer_window=WINDOW, max_frame=FRAME)
        self.call = self.server.open(more=True)
        self.call.runs = runs
        self.exchange()
        self.stream = self.worker.streams[1]

    def exchange(self):
        """Carry bytes until neither side has any."""
        while True:
            down, up = self.server.end.take(), self.worker.end.take()
            if not down and not up:
                return
            self.worker.end.feed(down)
            self.server.end.feed(up)

    def came_down(self):
        return [event[1] for event in self.stream.to.events if event[0] == "message"]

    def came_up(self):
        got = []
        for event in self.call.to.events:
            got += event[1] if event[0] == "messages" else [event[1]] if event[0] == "message" else []
        return got


@given(up=MESSAGES, down=MESSAGES, runs=st.booleans())
def test_when_all_is_taken_the_credit_is_the_window_again(up, down, runs):
    pair = Pair(runs)
    call, stream = pair.call, pair.stream
    for size in up:
        stream.message(bytes(size), False, True)
    for size in down:
        call.message(bytes(size), False, True)
    taken = 0
    while True:
        pair.exchange()
        new = pair.came_down()[taken:]
        if not new:
            break
        taken += len(new)
        for body in new:
            stream.consumed(cost(len(body), True))
    assert [len(body) for body in pair.came_down()] == down
    assert [len(body) for body in pair.came_up()] == up
    for sender, receiver in ((call, stream), (stream, call)):
        assert sender.credit_out == receiver.credit_in
        assert sender.credit_out + receiver.taken == WINDOW
        assert receiver.taken < WINDOW // 2
        assert sender.queued == 0


class NoOwner:
    def dirty(self):
        self.said = True
