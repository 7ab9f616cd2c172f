"""What is no gRPC, over a real socket: the exact code, one line in the log, and nothing else is harmed."""

from __future__ import annotations

import gzip
import json
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from grpc_rig import PROTO, grpc_server
from rig import BIN, RunningServer, until

from twisted_rr.http2 import codes, frames
from twisted_rr.http2.blocks import encode
from twisted_rr.http2.hpack import Decoder

pytestmark = pytest.mark.integration

EMPTY = "/rr.interop.Interop/EmptyCall"
UNARY = "/rr.interop.Interop/UnaryCall"
STREAM = "/rr.interop.Interop/FullDuplexCall"
FIELDS = {
    b":method": b"POST", b":scheme": b"http", b":path": EMPTY.encode(), b":authority": b"a.example",
    b"te": b"trailers", b"content-type": b"application/grpc",
}  # fmt: skip
NOTHING = bytes(5)
SLEEPS = b"\0\0\0\0\x09\x19" + struct.pack("<d", 60.0)  # a request whose handler reads no other for a minute


def head(stream: int, end: bool = False, **changes: Any) -> bytes:
    """HEADERS of a call; *changes* by names with underscores, None takes a field away."""
    fields = dict(FIELDS)
    for key, value in changes.items():
        name = key.replace("_", "-").encode()
        name = b":" + name if b":" + name in FIELDS else name
        if value is None:
            del fields[name]
        else:
            fields[name] = value
    flags = frames.END_HEADERS | (frames.END_STREAM if end else 0)
    return frames.frame(frames.HEADERS, flags, stream, encode(fields.items()))


def data(stream: int, content: bytes, end: bool = True) -> bytes:
    sent = b""
    for start in range(0, max(len(content), 1), 16384):
        last = end and start + 16384 >= len(content)
        piece = content[start : start + 16384]
        sent += frames.frame(frames.DATA, frames.END_STREAM if last else 0, stream, piece)
    return sent


def call(stream: int, **changes: Any) -> bytes:
    return head(stream, **changes) + data(stream, NOTHING)


class Talk:
    """A connection on which nothing is checked but what came."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.fields: dict[int, dict[bytes, bytes]] = {}
        self.ended: set[int] = set()
        self.resets: dict[int, int] = {}
        self.goaway: int | None = None
        self.over = False
        self._decoder = Decoder(1 << 20)
        self._rest = b""
        self.send(frames.PREFACE + frames.settings([]) + frames.SETTINGS_ACK)

    def send(self, sent: bytes) -> None:
        self.socket.sendall(sent)

    def read(self, done: Any) -> None:
        """Until *done* says so, or the server has closed."""
        while not done(self) and not self.over:
            try:
                piece = self.socket.recv(65536)
            except ConnectionResetError:
                piece = b""
            self.over = not piece
            self._rest += piece
            while len(self._rest) >= 9:
                end = 9 + int.from_bytes(self._rest[:3])
                if len(self._rest) < end:
                    break
                self._frame(self._rest[3], self._rest[4], int.from_bytes(self._rest[5:9]), self._rest[9:end])
                self._rest = self._rest[end:]

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == frames.HEADERS:
            pairs = [field.pair for field in self._decoder.decode(payload)]
            self.fields.setdefault(stream, {}).update(pairs)
        elif kind == frames.RST_STREAM:
            self.resets[stream] = int.from_bytes(payload)
        elif kind == frames.GOAWAY:
            self.goaway = int.from_bytes(payload[4:8])
        if flags & frames.END_STREAM and kind in (frames.HEADERS, frames.DATA):
            self.ended.add(stream)

    def status(self, stream: int) -> int:
        """Of a whole answer."""
        self.read(lambda self: stream in self.ended or stream in self.resets)
        return int(self.fields[stream][b"grpc-status"])

    def close(self) -> None:
        self.socket.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: Any) -> Iterator[RunningServer]:
    folder: Path = tmp_path_factory.mktemp("bad")
    drain = {"finish": "2s"}  # a test that fails may leave a call
    with grpc_server(folder, proto=[PROTO], max_recv_msg_size=1, drain=drain) as running:
        yield running


@pytest.fixture
def talk(server: RunningServer) -> Iterator[Talk]:
    made = Talk(server.port)
    yield made
    made.close()


def lines(server: RunningServer, at: int) -> list[str]:
    """What the front has logged since the log was *at* so many bytes long."""
    found = [json.loads(line) for line in server.log()[at:].splitlines() if line.startswith("{")]
    return [str(line) for line in found if line.get("logger") == "grpc"]


def one_line(server: RunningServer, at: int, said: str) -> None:
    until(lambda: lines(server, at), why="nothing was logged")
    logged = lines(server, at)
    assert len(logged) == 1 and said in logged[0], logged


BLOCK = encode(FIELDS.items())
CONNECTION = {
    "a frame too large": (b"\x00\x40\x01\x00\x00\x00\x00\x00\x03", codes.FRAME_SIZE_ERROR, "too large"),
    "DATA on a stream that is not open": (data(9, b"x"), codes.PROTOCOL_ERROR, "not open"),
    "PING of a wrong size": (frames.frame(frames.PING, 0, 0, b"1"), codes.FRAME_SIZE_ERROR, "PING"),
    "PUSH_PROMISE": (frames.frame(5, 4, 1, bytes(4)), codes.PROTOCOL_ERROR, "PUSH_PROMISE"),
    "an even number": (call(2), codes.PROTOCOL_ERROR, "not open"),
    "bad HPACK": (frames.frame(frames.HEADERS, 5, 3, b"\xbe"), codes.COMPRESSION_ERROR, ""),
    "a block without end": (
        frames.frame(frames.HEADERS, 0, 3, BLOCK) + frames.frame(frames.CONTINUATION, 0, 3, b"") * 40,
        codes.ENHANCE_YOUR_CALM, "header block",
    ),
    "a block interrupted": (
        frames.frame(frames.HEADERS, 0, 3, BLOCK) + data(3, b""), codes.PROTOCOL_ERROR, "inside a header block",
    ),
    "a window that overflows": (frames.window_update(0, 2**31 - 1), codes.FLOW_CONTROL_ERROR, "overflows"),
    "PINGs without end": (frames.ping(bytes(8)) * 11000, codes.ENHANCE_YOUR_CALM, ""),
    "SETTINGS out of bounds": (
        frames.frame(frames.SETTINGS, 0, 0, struct.pack(">HI", 4, 2**31)), codes.FLOW_CONTROL_ERROR, "out of bounds",
    ),
    "streams reset without end": (
        b"".join(call(number) + frames.rst_stream(number, codes.CANCEL) for number in range(3, 4003, 2)),
        codes.ENHANCE_YOUR_CALM, "reset",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", CONNECTION)
def test_what_breaks_the_connection_ends_it_with_its_code_and_no_other(
    server: RunningServer, talk: Talk, what: str
) -> None:
    sent, code, said = CONNECTION[what]
    other = Talk(server.port)
    other.send(head(1))
    talk.send(call(1))
    assert talk.status(1) == 0
    at = len(server.log())
    try:
        talk.send(sent)
    except ConnectionError:
        pass  # it was closed before it had said all
    talk.read(lambda talk: talk.over)
    assert talk.goaway == code
    one_line(server, at, f"connection {codes.name(code)}")
    assert said in lines(server, at)[0]
    other.send(data(1, NOTHING))
    assert other.status(1) == 0
    other.close()


STREAMS = {
    "no path": (call(3, path=None), codes.PROTOCOL_ERROR, "missing"),
    "a field in capitals": (call(3, Upper=b"x"), codes.PROTOCOL_ERROR, "malformed"),
    "more than the window": (
        head(3, path=STREAM.encode()) + data(3, SLEEPS + (struct.pack(">BI", 0, 700000) + bytes(700000)) * 3, False), codes.FLOW_CONTROL_ERROR, "window of the stream",
    ),
    "more than its content-length": (
        head(3, content_length=b"3") + data(3, NOTHING), codes.PROTOCOL_ERROR, "content-length",
    ),
    "DATA after the end": (
        head(3, path=UNARY.encode()) + data(3, SLEEPS) + data(3, b"x"),
        codes.STREAM_CLOSED, "ended",
    ),
    "WINDOW_UPDATE by 0": (head(3) + frames.window_update(3, 0), codes.PROTOCOL_ERROR, "by 0"),
}  # fmt: skip


@pytest.mark.parametrize("what", STREAMS)
def test_what_breaks_a_stream_resets_it_and_no_other(server: RunningServer, talk: Talk, what: str) -> None:
    sent, code, said = STREAMS[what]
    talk.send(head(1))
    at = len(server.log())
    talk.send(sent)
    talk.read(lambda talk: 3 in talk.resets)
    assert talk.resets == {3: code}
    until(lambda: lines(server, at))
    refused = [line for line in lines(server, at) if "stream 3" in line]
    assert len(refused) == 1 and codes.name(code) in refused[0] and said in refused[0]
    talk.send(data(1, NOTHING))
    assert talk.status(1) == 0
    assert talk.goaway is None


LARGE = 1024 * 1024 + 1
CALLS = {
    "GET": (head(3, end=True, method=b"GET"), 405, 13, "POST"),
    "another content-type": (call(3, content_type=b"application/json"), 415, 13, "content-type"),
    "no content-type": (call(3, content_type=None), 415, 13, "content-type"),
    "no TE": (call(3, te=None), 400, 13, "te: trailers"),
    "a path without a method": (call(3, path=b"/x"), 200, 12, "malformed method name"),
    "an unknown method": (call(3, path=b"/rr.interop.Interop/No"), 200, 12, "unknown method No"),
    "an unknown service": (call(3, path=b"/no.Such/No"), 200, 12, "unknown service"),
    "an unknown compression": (call(3, grpc_encoding=b"snappy"), 200, 12, "grpc-encoding"),
    "a bad deadline": (call(3, grpc_timeout=b"soon"), 400, 13, "timeout"),
    "bad binary metadata": (call(3, x_bin=b"!"), 400, 13, "malformed binary metadata"),
    "no message": (head(3, end=True), 200, 13, "without a message"),
    "half a prefix": (head(3) + data(3, b"\0\0"), 200, 13, "inside a message"),
    "half a message": (head(3) + data(3, b"\0\0\0\0\x05abc"), 200, 13, "inside a message"),
    "two messages": (head(3) + data(3, NOTHING * 2), 200, 13, "second message"),
    "an unknown flag": (head(3) + data(3, b"\x02\0\0\0\0"), 200, 13, "flag"),
    "compressed without saying so": (head(3) + data(3, b"\x01\0\0\0\0"), 200, 13, "grpc-encoding"),
    "no gzip": (head(3, grpc_encoding=b"gzip") + data(3, b"\x01\0\0\0\x04gzip"), 200, 13, "gzip"),
    "a message too large": (head(3) + data(3, struct.pack(">BI", 0, LARGE), False), 200, 8, "larger than max"),
    "a message too large unpacked": (
        head(3, grpc_encoding=b"gzip") + data(3, b"\x01" + struct.pack(">I", len(gzip.compress(bytes(LARGE)))) + gzip.compress(bytes(LARGE))),
        200, 8, "larger than 1048576 bytes once decompressed",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", CALLS)
def test_what_is_no_sound_call_is_told_so_and_no_other(server: RunningServer, talk: Talk, what: str) -> None:
    sent, status, code, said = CALLS[what]
    talk.send(head(1))
    at = len(server.log())
    talk.send(sent)
    assert talk.status(3) == code
    assert talk.fields[3][b":status"] == b"%d" % status
    assert said in talk.fields[3][b"grpc-message"].decode()
    one_line(server, at, said)
    talk.send(data(1, NOTHING))
    assert talk.status(1) == 0
    assert talk.goaway is None


def test_a_giant_head_is_refused_and_the_connection_goes_on(server: RunningServer, talk: Talk) -> None:
    at = len(server.log())
    block = encode([*FIELDS.items(), *((b"x-%d" % number, bytes(b"v" * 4000)) for number in range(10))])
    talk.send(
        frames.frame(frames.HEADERS, 0, 1, block[:16384])
        + frames.frame(frames.CONTINUATION, 0, 1, block[16384:32768])
        + frames.frame(frames.CONTINUATION, frames.END_HEADERS, 1, block[32768:])
    )
    talk.read(lambda talk: 1 in talk.resets)
    assert talk.fields[1][b":status"] == b"431"
    one_line(server, at, "too large")
    talk.send(call(3))
    assert talk.status(3) == 0


def test_what_is_not_http2_is_told_by_goaway(server: RunningServer) -> None:
    at = len(server.log())
    talk = Talk.__new__(Talk)
    talk.__dict__.update(over=False, goaway=None, fields={}, ended=set(), resets={}, _rest=b"")
    talk.socket = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    talk.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    talk.read(lambda talk: talk.over)
    assert talk.goaway == codes.PROTOCOL_ERROR
    one_line(server, at, "not the preface of HTTP/2")


def test_a_proto_that_does_not_parse_is_an_error_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "bad.proto").write_text('syntax = "proto3";\n\nmessage A {\n  string name 1;\n}\n')
    file = tmp_path / "rr.yaml"
    file.write_text(
        'version: "3"\nserver: {command: x}\ngrpc: {listen: "tcp://127.0.0.1:0", proto: [bad.proto]}\n'
    )
    done = subprocess.run(
        [BIN / "twisted-rr", "config", "check", file],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert "bad.proto:4:15" in done.stdout, done.stdout
