"""A small server for one worker process: enough of a pool to talk to `python -m twisted_rr.worker`."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twisted_rr.errors import ApplicationError
from twisted_rr.wire import frame
from twisted_rr.wire.call import Call
from twisted_rr.wire.context import (
    HttpRequest,
    decode_head,
    decode_single_response,
    decode_trailers,
    encode_request,
    encode_single_request,
)
from twisted_rr.wire.control import (
    STOP_COMMAND,
    MuxOffer,
    encode_pid_request,
    parse_pid_reply,
    server_settings,
)
from twisted_rr.wire.mux_server import MuxServerEnd
from twisted_rr.wire.reader import Frame, FrameReader

LIMIT = 20.0
"""Seconds after which anything that a test waits for counts as lost."""

HERE = Path(__file__).parent


class Process:
    """A worker process with this side of its relay; always `close` it."""

    def __init__(
        self,
        *arguments: str,
        module: Sequence[str] = ("-m", "twisted_rr.worker"),
        relay: str = "socketpair",
        env: dict[str, str] | None = None,
        cwd: Path = HERE,
    ) -> None:
        self.reader = FrameReader(frame.MAX_PAYLOAD)
        self.frames: list[Frame] = []
        self.ended = False
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **(env or {})}
        environment.pop("RR_RELAY", None) if "RR_RELAY" not in (env or {}) else None
        command = [sys.executable, *module, *arguments]
        handle, path = tempfile.mkstemp(suffix=".stderr")
        self.stderr_path = Path(path)
        with open(handle, "wb") as stderr:
            if relay == "socketpair":
                ours, theirs = socket.socketpair()
                self.process = subprocess.Popen(
                    command, stdin=theirs, stdout=theirs, stderr=stderr, env=environment, cwd=cwd
                )
                theirs.close()
                self.read_fd = self.write_fd = ours.detach()
            elif relay == "pipes":
                self.process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    env=environment,
                    cwd=cwd,
                )
                assert self.process.stdin is not None and self.process.stdout is not None
                self.read_fd = os.dup(self.process.stdout.fileno())
                self.write_fd = os.dup(self.process.stdin.fileno())
                self.process.stdin.close()
                self.process.stdout.close()
            else:
                self.process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=stderr,
                    env=environment,
                    cwd=cwd,
                )
                self.read_fd = self.write_fd = -1

    def accept(self, listener: socket.socket) -> None:
        """Take the relay of a worker that connects."""
        listener.settimeout(LIMIT)
        self.read_fd = self.write_fd = listener.accept()[0].detach()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def stderr(self) -> str:
        return self.stderr_path.read_text()

    def write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self.write_fd, data) :]

    def read(self, limit: float = LIMIT) -> bytes:
        """What comes next, b"" at the end of the relay."""
        if not select.select([self.read_fd], [], [], limit)[0]:
            raise AssertionError(f"nothing came from the worker; its stderr:\n{self.stderr}")
        try:
            return os.read(self.read_fd, 65536)
        except ConnectionError:
            return b""

    def quiet(self, seconds: float = 0.2) -> bool:
        """Whether the worker writes nothing for a moment."""
        return not self.frames and not select.select([self.read_fd], [], [], seconds)[0]

    def next(self) -> Frame:
        """The next frame."""
        while not self.frames:
            data = self.read()
            assert data, f"the relay ended; the worker's stderr:\n{self.stderr}"
            self.frames = self.reader.feed(data)
        return self.frames.pop(0)

    def hello(self, offer: MuxOffer | None = None) -> Any:
        """The handshake; the worker's answer to *offer*."""
        self.write(encode_pid_request(os.getpid(), offer))
        pid, answer = parse_pid_reply(self.next(), offer)
        assert pid == self.pid
        return answer

    def stop(self) -> int:
        """The stop command, then the exit code."""
        self.write(STOP_COMMAND)
        return self.wait()

    def wait(self) -> int:
        return self.process.wait(LIMIT)

    def term(self) -> None:
        os.kill(self.pid, signal.SIGTERM)

    def hang_up(self) -> None:
        """Close our side of the relay."""
        for fd in {self.read_fd, self.write_fd}:
            if fd >= 0:
                os.close(fd)
        self.read_fd = self.write_fd = -1

    def close(self) -> None:
        self.hang_up()
        if self.process.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
        self.process.wait()
        self.stderr_path.unlink(missing_ok=True)

    # --------------------------------------------------------------- one call at a time

    def call(self, request: HttpRequest, body: bytes = b"", codec: int = frame.CODEC_JSON) -> None:
        context = encode_single_request(codec, request)
        self.write(frame.encode(codec, 0, (len(context),), context + body))

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and whole body of one answer, streamed or not."""
        first = self.next()
        if first.flags & frame.ERROR:
            raise ApplicationError(first.payload.decode())
        size = first.options[0]
        status, pairs = decode_single_response(first.flags, first.payload[:size])
        body = first.payload[size:]
        while first.bits & frame.STREAM:
            first = self.next()
            if first.flags & frame.ERROR:
                raise ApplicationError(first.payload.decode())
            assert first.options == (0,)
            body += first.payload
        return status, {name.decode().lower(): value.decode() for name, value in pairs}, body


def request(
    path: str = "/", method: str = "GET", headers: dict[str, str] | None = None, **more: Any
) -> HttpRequest:
    """A one-call request as a server makes it."""
    raw_query = path.partition("?")[2]
    return HttpRequest(
        remote_addr="192.0.2.7",
        protocol="HTTP/1.1",
        method=method,
        uri=f"http://example.com{path}",
        headers={name: [value] for name, value in (headers or {}).items()},
        raw_query=raw_query,
        **more,
    )


def tree(value: Any) -> bytes:
    return json.dumps(value).encode()


class Answer:
    """Records what a call's receiver is told."""

    def __init__(self, mux: MuxRelay) -> None:
        self.mux = mux
        self.call: Call
        self.heads: list[tuple[int, list[tuple[bytes, bytes]]]] = []
        self.trailers: list[tuple[bytes, bytes]] | None = None
        self.pieces: list[bytes] = []
        self.error: Exception | None = None
        self.done = False
        self.room = True

    def context(self, codec: int, context: bytes, body: bytes, more: bool) -> None:
        final = self.heads and self.heads[-1][0] >= 200
        if final:
            self.trailers = decode_trailers(codec, context)
        else:
            self.heads.append(decode_head(codec, context))
        self.data(body, more)

    def data(self, body: bytes, more: bool) -> None:
        if body:
            self.pieces.append(body)
        self.done = not more

    def message(self, body: bytes, text: bool, more: bool) -> None:
        self.data(body, more)

    def failed(self, error: Exception) -> None:
        assert not self.done
        self.error = error
        self.done = True

    def writable(self) -> None:
        self.room = True

    @property
    def status(self) -> int:
        return self.heads[-1][0]

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode().lower(): value.decode() for name, value in self.heads[-1][1]}

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    def wait(self) -> Answer:
        """Until the end; raises the call's error."""
        self.mux.until(lambda: self.done)
        if self.error is not None:
            raise self.error
        return self


class MuxRelay:
    """Many calls on the relay of a worker process."""

    def __init__(self, process: Process, offer: MuxOffer | None = None) -> None:
        self.process = process
        offer = offer or MuxOffer()
        self.accepted = process.hello(offer)
        assert self.accepted is not None, "the worker did not accept mux"
        self.said_all: list[dict[str, Any]] = []
        self.refusals: list[Call] = []
        self.freed_calls: list[Call] = []
        self.end = MuxServerEnd(self, server_settings(offer, self.accepted))
        self.unsent = b""
        os.set_blocking(process.write_fd, False)

    def dirty(self) -> None:
        """`step` always asks."""

    def freed(self, call: Call) -> None:
        self.freed_calls.append(call)

    def refused(self, call: Call) -> bool:
        self.refusals.append(call)
        return False

    def said(self, message: dict[str, Any]) -> None:
        self.said_all.append(message)

    def open(
        self,
        path: str = "/",
        body: bytes = b"",
        more: bool = False,
        method: str = "GET",
        headers: Sequence[tuple[bytes, bytes]] = (),
        scheme: str = "http",
        attributes: dict[str, Any] | None = None,
    ) -> Answer:
        answer = Answer(self)
        context = encode_request(
            self.end.codec,
            method,
            path.encode(),
            "1.1",
            scheme,
            ("192.0.2.7", 4711),
            ("127.0.0.1", 8080),
            [(b"host", b"example.com"), *headers],
            attributes,
        )
        answer.call = Call(None, answer, None)
        self.end.open(answer.call, context, body, more)
        return answer

    def get(self, path: str = "/", **more: Any) -> Answer:
        return self.open(path, **more).wait()

    def step(self, limit: float = LIMIT) -> None:
        """Write what there is, then wait for the worker's next bytes."""
        while True:
            self.unsent = self.unsent or self.end.take()
            if not self.unsent:
                break
            try:
                self.unsent = self.unsent[os.write(self.process.write_fd, self.unsent) :]
            except BlockingIOError:
                break
        writers = [self.process.write_fd] if self.unsent else []
        readers, _, _ = select.select([self.process.read_fd], writers, [], limit)
        if readers:
            data = os.read(self.process.read_fd, 65536)
            assert data, f"the relay ended; the worker's stderr:\n{self.process.stderr}"
            self.end.feed(data)

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + LIMIT
        while not condition():
            left = deadline - time.monotonic()
            assert left > 0, f"waited in vain; the worker's stderr:\n{self.process.stderr}"
            self.step(min(left, 1.0))
