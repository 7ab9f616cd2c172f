"""A listener of a front: bound early, listening when told, closed without losing what was accepted.

What the connections do is the factory's; how a port is bound and emptied is `net.ports`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.application.service import Service

from twisted_rr.interfaces import IDrain
from twisted_rr.net import ports


class Listener(Service):
    """One address of a front.

    ``privilegedStartService`` binds (raises `ListenError`), `listen` begins to accept, `finish` empties the
    accept queue and closes, ``stopService`` closes whatever is left. Every accepted connection is told to
    ``drain.arrived``. May start again after a stop.
    """

    def __init__(
        self,
        address: str,
        factory: Any,
        reactor: Any,
        drain: IDrain,
        *,
        backlog: int = ports.BACKLOG,
        bind: Callable[[str], Any] = ports.bind,
    ) -> None:
        self.configured = address
        self.setName(f"listener {address}")
        self._factory = _Counted(factory, drain)
        self._reactor = reactor
        self._drain = drain
        self._backlog = backlog
        self._bind = bind
        self._port: Any = None
        self._silence = 0.0
        self.listening = False

    @property
    def address(self) -> str:
        """Where it is bound, with the real port; as configured while it is not bound."""
        return self.configured if self._port is None else str(self._port.address)

    def privilegedStartService(self) -> None:
        """Bind: while privileges are still there, and so that a port in use fails the start."""
        if self._port is None:
            self._port = self._bind(self.configured)
            if self._silence:
                self._port.limit_silence(self._silence)

    def limit_silence(self, seconds: float) -> None:
        """How long a peer may acknowledge nothing of what was sent; for connections from now on, 0: no limit of ours."""
        self._silence = seconds
        if self._port is not None:
            self._port.limit_silence(seconds)

    def startService(self) -> None:
        """Bind, for a parent that has no privileged step. Nothing is accepted before `listen`."""
        super().startService()
        self.privilegedStartService()

    def listen(self) -> bool:
        """Begin to accept; False, and nothing happens, when a stop came first."""
        if self.listening or self._port is None or self._drain.draining:
            return False
        self._port.listen(self._factory, self._reactor, self._backlog)
        self.listening = True
        return True

    def finish(self) -> None:
        """Take what is in the accept queue, then close; accepted connections are the factory's."""
        port, self._port = self._port, None
        if port is None:
            return
        if self.listening:
            self.listening = False
            port.finish()
        else:
            port.close()

    def stopService(self) -> None:
        """The same, for a stop without a drain and for a start that failed elsewhere."""
        if self.running:
            super().stopService()
        self.finish()


class _Counted:
    """A factory that tells the drain of each connection."""

    noisy = False

    def __init__(self, factory: Any, drain: IDrain) -> None:
        self._factory = factory
        # An IDrain of somebody else's making may not want to know.
        self._arrived: Callable[[], object] = getattr(drain, "arrived", lambda: None)

    def buildProtocol(self, address: Any) -> Any:
        self._arrived()
        return self._factory.buildProtocol(address)

    def doStart(self) -> None:  # noqa: N802
        self._factory.doStart()

    def doStop(self) -> None:  # noqa: N802
        self._factory.doStop()
