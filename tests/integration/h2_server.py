"""A plain HTTP/2 server on the session alone, for h2spec: prints its port and runs until it is killed."""

from __future__ import annotations

import sys
import time
from typing import Any

from twisted.internet import protocol, reactor, task

from twisted_rr.http2 import blocks
from twisted_rr.http2.session import Session
from twisted_rr.http2.settings import SessionSettings
from twisted_rr.net.ports import bind
from twisted_rr.net.turn import turn_of

HEAD = blocks.response(200, [(b"content-type", b"text/plain")])
SETTINGS = SessionSettings(header_timeout=2.0)


class Exchange:
    """Answers a complete request, in a later turn when it had no content."""

    def __init__(self, stream: Any, end: bool) -> None:
        self.stream = stream
        if end:
            reactor.callLater(0, self.answer)

    def answer(self) -> None:
        self.stream.respond(HEAD, b"hello, spec", True)

    def data(self, data: bytes, end: bool) -> bool:
        if end:
            self.answer()
        return True

    def trailers(self, fields: Any) -> None:
        self.answer()

    def writable(self) -> None: ...
    def closed(self) -> None: ...
    def reset(self, code: int) -> None: ...


class Connection(protocol.Protocol):
    """A session on a transport; it is its front too."""

    def connectionMade(self) -> None:
        self.session = Session(self.transport, self, SETTINGS, time.monotonic)
        self.sweeps = task.LoopingCall(lambda: self.session.sweep(time.monotonic()))
        self.sweeps.start(0.5, now=False)
        self.session.start()

    def dataReceived(self, data: bytes) -> None:
        self.session.receive(data)

    def connectionLost(self, reason: Any = None) -> None:
        self.sweeps.stop()
        self.session.connection_lost()

    def flush(self) -> None:
        self.session.flush()

    def dirty(self, session: Session) -> None:
        turn_of(reactor).add(self)

    def begin(self, session: Session, stream: Any, head: Any, end: bool) -> Exchange:
        return Exchange(stream, end)

    def begin_whole(self, session: Session, stream: Any, head: Any, content: bytes) -> Exchange:
        return Exchange(stream, True)

    def refused(self, session: Session, stream: int, code: int, reason: str) -> None: ...
    def closed(self, session: Session) -> None: ...


def main() -> None:
    port = bind("127.0.0.1:0")
    port.listen(protocol.Factory.forProtocol(Connection), reactor)
    sys.stdout.write(f"{port.address}\n")
    sys.stdout.flush()
    reactor.run()


if __name__ == "__main__":
    main()
