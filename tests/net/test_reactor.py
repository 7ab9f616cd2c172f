"""The rr reactor: the stock one's behaviour, a flush around each poll, and its self-test."""

import os
import subprocess
import sys
import time

import pytest
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.main import CONNECTION_DONE
from twisted.logger import globalLogPublisher
from twisted.python import log as twisted_log

from tests.net.conftest import dispose, spin, turn
from twisted_rr.net import reactor as module
from twisted_rr.net.reactor import RRReactor
from twisted_rr.net.turn import turn_of


class Reader:
    """A pipe's read end."""

    rr_direct = True

    def __init__(self, reactor):
        self.reactor = reactor
        self.fd, self.other = os.pipe()
        os.set_blocking(self.fd, False)
        self.data = b""
        self.systems = []
        self.lost = []
        self.then = lambda: None
        reactor.addReader(self)

    def fileno(self):
        return self.fd

    def logPrefix(self):
        return "the reader"

    def doRead(self):
        self.systems.append((twisted_log.context.get(twisted_log.ILogContext) or {}).get("system"))
        data = os.read(self.fd, 100)
        if not data:
            return CONNECTION_DONE
        self.data += data
        return self.then()

    def connectionLost(self, reason):
        self.lost.append(reason)
        self.reactor.removeReader(self)

    def send(self, data=b"x"):
        os.write(self.other, data)

    def done(self):
        self.reactor.removeReader(self)
        os.close(self.fd)
        if self.other >= 0:
            os.close(self.other)


class Stock(Reader):
    rr_direct = False


@pytest.fixture
def events():
    seen = []
    globalLogPublisher.addObserver(seen.append)
    yield seen
    globalLogPublisher.removeObserver(seen.append)


def errors_of(events):
    """(log prefix, failure) of what was logged as an error."""
    return [
        (event.get("log_system", event.get("system")), event.get("log_failure", event.get("failure")))
        for event in events
        if event.get("log_failure") or event.get("failure")
    ]


class Item:
    def __init__(self, then=lambda: None):
        self.flushed = 0
        self.then = then

    def flush(self):
        self.flushed += 1
        self.then()


def test_ours_are_called_without_a_log_context_and_others_with_one(rr):
    ours, other = Reader(rr), Stock(rr)
    ours.send()
    other.send()
    spin(rr, lambda: ours.data and other.data)
    assert ours.systems == ["-"]
    assert other.systems == ["the reader"]
    ours.done()
    other.done()


@pytest.mark.parametrize("kind", [Reader, Stock])
def test_what_a_reader_raises_is_logged_under_its_name_and_costs_only_it(rr, events, kind):
    bad, good = kind(rr), kind(rr)

    def fail():
        raise ValueError("told to")

    bad.then = fail
    bad.send()
    good.send()
    spin(rr, lambda: bad.lost and good.data)
    assert bad.lost[0].check(ValueError)
    assert bad not in rr.getReaders()
    assert good.lost == []
    ((system, failure),) = errors_of(events)
    assert system == "the reader"
    assert failure.check(ValueError)
    bad.done()
    good.done()


@pytest.mark.parametrize("kind", [Reader, Stock])
def test_what_a_reader_returns_disconnects_it_without_an_error(rr, events, kind):
    reader = kind(rr)
    reader.send()
    turn(rr)
    os.close(reader.other)
    reader.other = -1
    spin(rr, lambda: reader.lost)
    assert reader.lost[0].check(ConnectionDone)
    reader.send = None
    other = kind(rr)
    other.then = lambda: ConnectionLost()
    other.send()
    spin(rr, lambda: other.lost)
    assert other.lost[0].check(ConnectionLost)
    assert not errors_of(events)
    reader.done()
    other.done()


def test_what_connection_lost_raises_is_logged_and_the_reactor_turns_on(rr, events):
    bad, good = Reader(rr), Reader(rr)

    def fail(reason):
        raise KeyError("told to")

    bad.connectionLost = fail
    bad.then = lambda: CONNECTION_DONE
    bad.send()
    good.send()
    spin(rr, lambda: good.data)
    spin(rr, lambda: errors_of(events))
    assert [system for system, _ in errors_of(events)] == ["the reader"]
    bad.done()
    good.done()


def test_a_reader_removed_by_the_one_before_it_is_not_called(rr):
    readers = [Reader(rr), Reader(rr)]

    def remove_others():
        for reader in readers:
            rr.removeReader(reader)

    for reader in readers:
        reader.then = remove_others
        reader.send()
    rr.iterate(1)
    assert sum(len(reader.data) for reader in readers) == 1
    for reader in readers:
        reader.done()


def test_what_an_event_made_is_flushed_before_the_next_poll(rr):
    reader, item = Reader(rr), Item()
    reader.then = lambda: rr.rr_turn.add(item)
    reader.send()
    rr.iterate(1)
    assert item.flushed == 1
    reader.done()


def test_what_a_timer_made_is_flushed_before_the_poll_waits(rr):
    item = Item()
    rr.callLater(0, lambda: turn_of(rr).add(item))
    rr.runUntilCurrent()
    rr.doIteration(0)
    assert item.flushed == 1
    assert not rr.getDelayedCalls()


def test_a_timer_made_by_a_flush_is_not_overslept(rr):
    called = []
    rr.rr_turn.add(Item(lambda: rr.callLater(0, called.append, 1)))
    start = time.monotonic()
    rr.doIteration(5)
    assert time.monotonic() - start < 4
    rr.runUntilCurrent()
    assert called == [1]


def test_a_later_timer_made_by_a_flush_does_not_lengthen_the_wait(rr):
    rr.rr_turn.add(Item(lambda: rr.callLater(100, lambda: None).cancel()))
    rr.rr_turn.add(Item(lambda: rr.callLater(100, lambda: None)))
    start = time.monotonic()
    rr.doIteration(0.01)
    assert time.monotonic() - start < 5
    for call in rr.getDelayedCalls():
        call.cancel()


def test_a_flush_that_asks_again_for_ever_does_not_wait_in_the_poll(rr):
    item = Item()
    item.then = lambda: rr.rr_turn.add(item)
    rr.rr_turn.add(item)
    start = time.monotonic()
    rr.doIteration(5)
    assert time.monotonic() - start < 4
    item.then = lambda: None
    turn(rr)
    assert not rr.rr_turn.pending()


def test_a_failing_flush_does_not_stop_the_reactor(rr, events):
    def fail():
        raise ValueError("told to")

    rr.rr_turn.add(Item(fail))
    rr.iterate(0)
    assert errors_of(events)


# ---------------------------------------------------------------------------------- self-test


def test_the_self_test_is_passed_here_and_leaves_nothing_behind():
    before = set(os.listdir("/proc/self/fd"))
    made, trouble = module._try()
    assert trouble == ""
    assert isinstance(made, RRReactor)
    assert [reader for reader in made.getReaders() if reader not in made._internalReaders] == []
    dispose(made)
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_twisted_without_the_private_parts_gets_the_stock_reactor(monkeypatch):
    monkeypatch.setattr(module, "NEEDED", ("_poller", "_gone"))
    made, trouble = module._try()
    assert not isinstance(made, RRReactor)
    assert trouble == "Twisted has no _gone any more"
    dispose(made)


class Deaf(RRReactor):
    def doPoll(self, timeout):
        pass

    doIteration = doPoll


class Forgetful(RRReactor):
    def doPoll(self, timeout):
        self.rr_turn._items.clear()
        super().doPoll(timeout)

    doIteration = doPoll


class Broken(RRReactor):
    def doPoll(self, timeout):
        raise AttributeError("moved")

    doIteration = doPoll


@pytest.mark.parametrize(
    ("kind", "part"), [(Deaf, "not read"), (Forgetful, "not flushed"), (Broken, "moved")]
)
def test_a_reactor_that_fails_the_probe_is_not_used(kind, part):
    made, trouble = module._try(kind)
    assert not isinstance(made, RRReactor)
    assert part in trouble
    dispose(made)


INSTALL = """
import sys
from twisted_rr.net import reactor as module
if sys.argv[1] == "broken":
    module.NEEDED = ("_gone",)
from twisted.logger import globalLogPublisher, formatEvent
lines = []
globalLogPublisher.addObserver(lambda event: lines.append(formatEvent(event)))
module.install()
from twisted.internet import reactor
reactor.callLater(0, reactor.stop)
reactor.run()
print(type(reactor).__name__)
print([line for line in lines if "rr reactor" in line])
"""


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("works", ["RRReactor", "[]"]),
        (
            "broken",
            [
                "EPollReactor",
                "['the rr reactor is not used, the epoll reactor is: Twisted has no _gone any more']",
            ],
        ),
    ],
)
def test_install_in_a_process_of_its_own(argument, expected):
    result = subprocess.run(
        [sys.executable, "-c", INSTALL, argument], capture_output=True, text=True, timeout=60
    )
    assert result.stdout.splitlines() == expected, result.stderr


RUN = """
import signal, sys
from twisted_rr.net.reactor import install
install()
from twisted.internet import reactor, threads
from twisted.internet.utils import getProcessOutput
said = []
def done(out):
    said.append(out)
    return threads.deferToThread(lambda: said.append(b"thread"))
getProcessOutput("/bin/echo", ["child"]).addCallback(done).addBoth(lambda _: reactor.stop())
reactor.callLater(20, reactor.stop)
reactor.run()
print(said)
"""


def test_processes_threads_and_signals_work_as_ever():
    result = subprocess.run([sys.executable, "-c", RUN], capture_output=True, text=True, timeout=60)
    assert result.stdout == "[b'child\\n', b'thread']\n", result.stderr
