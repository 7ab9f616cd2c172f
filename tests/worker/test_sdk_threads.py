"""Calls that threads run, with their relay in this process."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

from twisted_rr.wire.frame import CODEC_MSGPACK, CODEC_RAW, CREDIT, STREAM, encode
from twisted_rr.wire.mux_settings import MuxSettings
from twisted_rr.worker.descriptors import Relay
from twisted_rr.worker.signals import Waker
from twisted_rr.worker.thread_call import ThreadCall
from twisted_rr.worker.threads import ThreadServer


class Quiet(Waker):
    """No signals."""

    def on_terminate(self, note: Callable[[], None]) -> None:
        """SIGTERM stays what it is."""

    def close(self) -> None:
        os.close(self.fd)
        os.close(self._write)


def test_what_came_with_a_call_is_credited_before_its_application_reads() -> None:
    """A server with a small window may have used it up with the first frame, and has nothing to send until then."""
    window = 16384
    server, worker = socket.socketpair()
    waker = Quiet()
    seen: list[bytes] = []

    def handle(call: ThreadCall) -> None:
        server.setblocking(False)
        try:
            seen.append(server.recv(4096))
        except BlockingIOError:
            seen.append(b"")
        call.error("enough")
        server.close()

    server.sendall(encode(CODEC_MSGPACK, STREAM, (3, 1), b"ctx" + bytes(window)))
    relay = Relay(worker.fileno(), worker.fileno())
    threads: Any = ThreadServer(relay, waker, MuxSettings(window=window), 1, handle)
    assert threads.serve(b"") == "the server has closed the relay"
    worker.close()
    waker.close()
    assert seen == [encode(CODEC_RAW, CREDIT, (0, 1, window), b"")]
