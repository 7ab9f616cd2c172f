"""A gRPC front without a world: fake host and pool, a transport in memory, and a small HTTP/2 client of its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.task import Clock

from twisted_rr.http2.blocks import encode
from twisted_rr.http2.frames import frame
from twisted_rr.http2.hpack import Decoder
from twisted_rr.plugins.grpc.config import GrpcSettings
from twisted_rr.plugins.grpc.framing import framed
from twisted_rr.plugins.grpc.service import GrpcFront
from twisted_rr.testing.host import FakeHost
from twisted_rr.testing.pool import FakeCall, FakePool
from twisted_rr.testing.port import FakePort
from twisted_rr.testing.transport import StringTransport
from twisted_rr.wire.frame import CODEC_JSON, CODEC_MSGPACK
from twisted_rr.wire.grpc_context import decode_call, decode_single_call, encode_grpc_end, encode_grpc_head

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST, SETTINGS, PING, GOAWAY, WINDOW = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1


class GrpcCall(FakeCall):
    """`FakeCall` with messages in both directions: ``messages`` are the front's; answer with `reply` and `end`."""

    def __init__(self, head: Any, to: Any) -> None:
        super().__init__(head, to)
        self.messages: list[bytes] = []
        self.worker: Any = None
        self.id = 1
        self.length = -1

    def message(self, body: bytes, text: bool = False, more: bool = True) -> bool:  # type: ignore[override]
        if self.ended:
            return True
        assert not text and not self.complete
        self.messages.append(body)
        self.complete = not more
        return self.room or not more

    def reply(self, body: bytes, more: bool = True) -> None:
        self._before(more)
        self.to.message(body, False, more)

    def initial(self, metadata: Any) -> None:
        self.head(CODEC_MSGPACK, encode_grpc_head(CODEC_MSGPACK, metadata))

    def end(self, code: int = 0, message: str = "", details: bytes | None = None, metadata: Any = ()) -> None:
        context = encode_grpc_end(CODEC_MSGPACK, code, message, details, list(metadata))
        self.answer(CODEC_MSGPACK, context)

    def respond(self, context: bytes = b"", body: bytes = b"") -> None:
        """As a one-call worker."""
        self.answer(CODEC_JSON, context, body)

    @property
    def opened(self) -> tuple[Any, ...]:
        """What a mux worker reads of the head."""
        return decode_call(CODEC_MSGPACK, self.context(CODEC_MSGPACK))

    @property
    def request(self) -> tuple[Any, ...]:
        """What a one-call worker reads."""
        return decode_single_call(self.call_head.spool().finish()[1])


class GrpcPool(FakePool):
    """Makes `GrpcCall`s."""

    def open(self, head: Any, body: bytes, more: bool, to: Any) -> GrpcCall:
        call = GrpcCall(head, to)
        call.take(body, more)
        self.calls.append(call)
        return call


class Stream:
    """An answer as the client sees it."""

    def __init__(self) -> None:
        self.head: dict[str, str] = {}
        self.trailers: dict[str, str] = {}
        self.data = b""
        self.ended = False
        self.reset: int | None = None

    @property
    def status(self) -> int | None:
        found = self.trailers.get("grpc-status", self.head.get("grpc-status"))
        return None if found is None else int(found)

    @property
    def text(self) -> str:
        return self.trailers.get("grpc-message", self.head.get("grpc-message", ""))

    @property
    def messages(self) -> list[bytes]:
        found, data = [], self.data
        while data:
            size = int.from_bytes(data[1:5])
            found.append(data[5 : 5 + size])
            data = data[5 + size :]
        return found


class Client:
    """The other side of a connection: writes frames, reads what came."""

    def __init__(self, world: World, transport: StringTransport, protocol: Any) -> None:
        self.world = world
        self.transport = transport
        self.protocol = protocol
        self.streams: dict[int, Stream] = {}
        self.goaways: list[tuple[int, int]] = []
        self.pings: list[bytes] = []
        self.order: list[str] = []
        self._decoder = Decoder(1 << 20)
        self._rest = b""
        self._next = 1

    def greet(self, window: int = 65535) -> Client:
        settings = (4).to_bytes(2) + window.to_bytes(4)
        self.send(PREFACE + frame(SETTINGS, 0, 0, settings) + frame(SETTINGS, ACK, 0, b""))
        return self

    def send(self, data: bytes) -> None:
        self.protocol.dataReceived(data)
        self.world.turn()

    def call(
        self,
        path: str = "/rr.test.Echo/Say",
        message: bytes | None = b"hi",
        fields: Iterable[tuple[str, str]] = (),
        end: bool = True,
        method: str = "POST",
        content_type: str = "application/grpc",
        te: str = "trailers",
    ) -> int:
        """Begin a call; its stream's number."""
        number, self._next = self._next, self._next + 2
        pairs = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "test")]
        pairs += [("content-type", content_type)] if content_type else []
        pairs += [("te", te)] if te else []
        block = encode([(name.encode(), value.encode("latin-1")) for name, value in (*pairs, *fields)])
        self.streams[number] = Stream()
        ends = end and message is None
        out = frame(HEADERS, END_HEADERS | (END_STREAM if ends else 0), number, block)
        if message is not None:
            out += frame(DATA, END_STREAM if end else 0, number, framed(message))
        self.send(out)
        return number

    def data(self, number: int, data: bytes, end: bool = False) -> None:
        self.send(frame(DATA, END_STREAM if end else 0, number, data))

    def cancel(self, number: int, code: int = 8) -> None:
        self.send(frame(RST, 0, number, code.to_bytes(4)))

    def grant(self, number: int, size: int) -> None:
        self.send(frame(WINDOW, 0, number, size.to_bytes(4)))

    def acknowledge(self) -> None:
        """Answer every PING."""
        self.read()
        pings, self.pings = self.pings, []
        for payload in pings:
            self.send(frame(PING, ACK, 0, payload))

    def lose(self) -> None:
        self.protocol.connectionLost(None)

    def read(self) -> Client:
        """Take in what the server has sent."""
        data = self._rest + self.transport.take()
        while len(data) >= 9:
            size = int.from_bytes(data[:3])
            if len(data) < 9 + size:
                break
            self._frame(data[3], data[4], int.from_bytes(data[5:9]), data[9 : 9 + size])
            data = data[9 + size :]
        self._rest = data
        return self

    def answer(self, number: int) -> Stream:
        """The stream as it is now."""
        self.read()
        return self.streams[number]

    def _frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        self.order.append(
            {DATA: "data", HEADERS: "headers", GOAWAY: "goaway", RST: "reset"}.get(kind, "other")
        )
        if kind == GOAWAY:
            self.goaways.append((int.from_bytes(payload[:4]), int.from_bytes(payload[4:8])))
        elif kind == PING and not flags & ACK:
            self.pings.append(payload)
        elif kind == RST:
            self.streams[number].reset = int.from_bytes(payload)
        elif kind == HEADERS:
            self._headers(self.streams[number], payload, bool(flags & END_STREAM))
        elif kind == DATA:
            self.streams[number].data += payload
            self.streams[number].ended |= bool(flags & END_STREAM)

    def _headers(self, stream: Stream, block: bytes, end: bool) -> None:
        fields = literal_fields(block)
        if stream.head:
            stream.trailers = fields
        else:
            stream.head = fields
        stream.ended = end


def literal_fields(block: bytes) -> dict[str, str]:
    """The fields of a block of the server's, by the library that serves as oracle."""
    import hpack

    return {
        name if isinstance(name, str) else name.decode(): value
        if isinstance(value, str)
        else value.decode("latin-1")
        for name, value in hpack.Decoder().decode(block, raw=True)
    }


class World:
    """A front with its doubles. *keys* are those of the section ``grpc``."""

    def __init__(self, mux: bool = True, **keys: Any) -> None:
        keys.setdefault("listen", "127.0.0.1:0")
        self.clock = Clock()
        self.host = FakeHost(self.clock, mux=mux)
        self.host.drain.arrived = lambda: None  # type: ignore[attr-defined]
        self.pool = GrpcPool("grpc", mux)
        self.pool.debug = "pool" in keys and keys["pool"].debug
        self.ports: list[FakePort] = []
        self.front = GrpcFront(GrpcSettings(**keys), self.pool, self.host, bind=self._bind)
        self.clients: list[Client] = []

    def _bind(self, address: str) -> Any:
        self.ports.append(FakePort(address))
        return self.ports[-1]

    def start(self) -> World:
        self.front.privilegedStartService()
        self.front.startService()
        return self

    def connect(self, window: int = 65535) -> Client:
        transport = StringTransport()
        client = Client(self, transport, self.ports[-1].connect(transport))
        self.clients.append(client)
        return client.greet(window)

    @property
    def call(self) -> GrpcCall:
        found = self.pool.last
        assert isinstance(found, GrpcCall)
        return found

    def turn(self) -> None:
        """The reactor's turn ends; lingering connections are closed by their clients."""
        while self.host.turn.items:
            self.host.turn.end()
        for client in list(self.clients):
            if client.transport.closing:
                self.clients.remove(client)
                client.protocol.connectionLost(None)

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.turn()

    def log(self, *levels: str) -> list[str]:
        return self.host.log("grpc").lines(*levels)


def served(mux: bool = True, **keys: Any) -> tuple[World, Client]:
    """A front that listens, and a client that is connected."""
    world = World(mux, **keys).start()
    return world, world.connect()
