"""Private reactors of every kind, driven turn by turn; the global one is never used."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.selectreactor import SelectReactor

from twisted_rr.net.reactor import RRReactor

PATIENCE = 10.0  # seconds until a test that waits for something fails


def make_asyncio() -> Any:
    return AsyncioSelectorReactor(asyncio.new_event_loop())


MAKERS: dict[str, Callable[[], Any]] = {
    "rr": RRReactor,
    "epoll": EPollReactor,
    "select": SelectReactor,
    "asyncio": make_asyncio,
}


def dispose(reactor: Any) -> None:
    """Release what a private reactor holds."""
    reactor.removeAll()
    for reader in list(reactor._internalReaders):
        reactor._removeInternalReader(reader)
        reader.connectionLost(None)
    poller = getattr(reactor, "_poller", None)
    if poller is not None:
        poller.close()
    loop = getattr(reactor, "_asyncioEventloop", None)
    if loop is not None:
        loop.close()


@pytest.fixture(params=list(MAKERS))
def reactor(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A private reactor of each kind."""
    made = MAKERS[request.param]()
    yield made
    dispose(made)


@pytest.fixture
def epoll() -> Iterator[Any]:
    """A private stock epoll reactor, where the kind does not matter."""
    made = EPollReactor()
    yield made
    dispose(made)


@pytest.fixture
def rr() -> Iterator[Any]:
    """A private rr reactor."""
    made = RRReactor()
    yield made
    dispose(made)


def spin(reactor: Any, done: Callable[[], Any], patience: float = PATIENCE) -> None:
    """Turn the reactor until *done* is true; fail when it never gets so."""
    deadline = time.monotonic() + patience
    while not done():
        assert time.monotonic() < deadline, "the reactor turned, and what was waited for did not come"
        reactor.iterate(0.01)


def turn(reactor: Any, times: int = 3) -> None:
    """A few turns without waiting for anything."""
    for _ in range(times):
        reactor.iterate(0)


def fds() -> set[str]:
    """The fds of this process."""
    return set(os.listdir("/proc/self/fd"))
