"""A bound port in memory: a test connects to whatever listens on it."""

from __future__ import annotations

from typing import Any


class FakePort:
    """What a front's ``bind`` returns.

    :ivar address: as given, with 8080 for the port 0.
    :ivar events: ``listen``, ``finish``, ``close``, as they were asked for.
    :ivar silence: what `limit_silence` was told last.
    :ivar waiting: the transports in the accept queue, which `finish` takes.
    """

    def __init__(self, address: str = "127.0.0.1:0") -> None:
        self.address = address[:-1] + "8080" if address.endswith(":0") else address
        self.events: list[str] = []
        self.silence = 0.0
        self.waiting: list[Any] = []
        self._factory: Any = None

    @property
    def listening(self) -> bool:
        """Whether a client would be accepted."""
        return self._factory is not None

    def connect(self, transport: Any) -> Any:
        """A client comes in; the protocol that the front has made for it, None when it was not wanted."""
        if self._factory is None:
            raise ConnectionRefusedError(self.address)
        # A transport may want to know whom to tell what comes.
        protocol = transport.protocol = self._factory.buildProtocol(transport.getPeer())
        if protocol is not None:
            protocol.makeConnection(transport)
        return protocol

    # -- the server's side

    def listen(self, factory: Any, reactor: Any, backlog: int = 0, spare: int = 0) -> None:
        """See `net.ports.BoundPort`."""
        self._factory = factory
        self.events.append("listen")

    def limit_silence(self, seconds: float) -> None:
        """See `net.ports.BoundPort`."""
        self.silence = seconds

    def finish(self) -> None:
        """See `net.ports.BoundPort`."""
        waiting, self.waiting = self.waiting, []
        for transport in waiting:
            self.connect(transport)
        self._factory = None
        self.events.append("finish")

    def close(self) -> None:
        """See `net.ports.BoundPort`."""
        self._factory = None
        self.events.append("close")
