"""gRPC calls on the relay of a worker process: the server's side, as much as tests need."""

from __future__ import annotations

from typing import Any

from worker_rig import MuxRelay

from twisted_rr.wire.call import Call
from twisted_rr.wire.grpc_context import decode_grpc_end, decode_grpc_head, encode_call


class Rpc:
    """One call, and what its receiver is told.

    :ivar head: the initial metadata, None when none came.
    """

    def __init__(self, mux: GrpcRelay) -> None:
        self.mux = mux
        self.call: Call
        self.head: list[tuple[str, Any]] | None = None
        self.messages: list[bytes] = []
        self.code = 0
        self.text = ""
        self.details: bytes | None = None
        self.trailers: list[tuple[str, Any]] = []
        self.error: Exception | None = None
        self.done = False
        self.room = True

    def context(self, codec: int, context: bytes, body: bytes, more: bool) -> None:
        assert not body
        if more:
            assert self.head is None and not self.messages
            self.head = decode_grpc_head(codec, context)
            return
        self.code, self.text, self.details, self.trailers = decode_grpc_end(codec, context)
        self.done = True

    def data(self, body: bytes, more: bool) -> None:
        assert not body and not more
        self.done = True

    def message(self, body: bytes, text: bool, more: bool) -> None:
        assert not text
        self.messages.append(body)
        self.done = not more

    def failed(self, error: Exception) -> None:
        assert not self.done
        self.error = error
        self.done = True

    def writable(self) -> None:
        self.room = True

    def send(self, *messages: bytes, more: bool = False) -> Rpc:
        """Messages, and with the last one the client's half-close."""
        for number, message in enumerate(messages, 1):
            self.room = self.call.message(message, False, more or number < len(messages))
        return self

    def close(self) -> Rpc:
        """The half-close alone."""
        self.call.send(b"", False)
        return self

    def wait(self) -> Rpc:
        """Until the end; raises the call's error."""
        self.mux.until(lambda: self.done)
        if self.error is not None:
            raise self.error
        return self

    @property
    def status(self) -> tuple[int, str]:
        return self.code, self.text


class GrpcRelay(MuxRelay):
    """Many gRPC calls on the relay of a worker process."""

    def begin(
        self,
        path: str,
        metadata: list[tuple[str, Any]] | None = None,
        deadline_ms: int | None = None,
        peer: str = "192.0.2.7:4711",
        attributes: dict[str, Any] | None = None,
    ) -> Rpc:
        """Open a call that has no message yet."""
        service, _, method = path.partition("/")
        rpc = Rpc(self)
        context = encode_call(self.end.codec, service, method, metadata or [], deadline_ms, peer, attributes)
        rpc.call = Call(None, rpc, None)
        self.end.open(rpc.call, context, b"", True)
        return rpc

    def rpc(self, path: str, *messages: bytes, **more: Any) -> Rpc:
        """Open a call and send all its messages."""
        rpc = self.begin(path, **more)
        return rpc.send(*messages) if messages else rpc.close()
