"""What a process does that belongs to one server: its signals and its exit code.

Loads neither Twisted nor zope, so that it can be the first thing that happens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .backstop import Backstop
from .exits import Exits
from .signals import Signals

if TYPE_CHECKING:
    from .server import Server
    from .settings import DrainSettings


class Process:
    """The exit hook and the signal handlers, installed by being made.

    :ivar exits: the exit code.
    :ivar backstop: ends the process when its reactor cannot.
    :ivar signals: the handlers; `follow` lets them act on a server.
    """

    def __init__(self) -> None:
        # Exit hooks run last-registered first, and signals that come from here on are remembered.
        self.signals = Signals()
        self.exits = Exits(hush=self.signals.ignore)
        self.exits.install()
        self.backstop = Backstop(self.exits.code_or)
        self.signals.alarm = self.backstop.alarm
        self.signals.install()

    def follow(self, server: Server, reactor: Any, drain: DrainSettings) -> None:
        """Signals stop *server*, and its outcome becomes the exit code."""
        second = drain.second_signal
        self.signals.attach(reactor, server.drain, second_int=second.int, second_term=second.term)
        self.backstop.follow(server, reactor)
        self.exits.follow(lambda: server.code, zero=drain.exit_code == "zero")

    def failed(self, failure: Any) -> None:
        """For ``on_failure`` of the server: stop the process with exit code 1."""
        self.exits.fail()
        self.signals.stop("failure")
