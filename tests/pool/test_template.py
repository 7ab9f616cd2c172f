"""The server's side of preload, with a template that the test speaks for."""

from __future__ import annotations

import errno
import json
import os
import socket

import pytest

from twisted_rr.pool.process import WorkerProcess
from twisted_rr.pool.settings import PoolSettings, ServerSettings
from twisted_rr.pool.spec import LaunchSpec, preload_patience, why_no_preload
from twisted_rr.pool.template import AT_ONCE
from twisted_rr.pool.templates import AGAIN, Templates
from twisted_rr.testing.host import RecordingLog
from twisted_rr.testing.reactor import FakeReactor

WORKER = ("python", "-m", "twisted_rr.worker", "app:app")
PRELOADED = (*WORKER, "--preload")
SPEC = LaunchSpec("python", ("python", "worker"), {"A": "b"}, "worker", preload=20.0)


class Owner:
    """Who has a worker's process."""

    def __init__(self):
        self.started = 0
        self.ending = None

    def process_started(self):
        self.started += 1

    def process_exited(self, ending):
        self.ending = ending


class Reactor(FakeReactor):
    """Keeps the other end of what a process gets as its descriptor 0."""

    def __init__(self):
        super().__init__()
        self.ends = []

    def spawnProcess(self, protocol, executable, args=(), env=None, childFDs=None):
        self.ends.append(os.dup(childFDs[0]))
        return super().spawnProcess(protocol, executable, args, env, childFDs)


class Room:
    def __init__(self):
        self.reactor = Reactor()
        self.log = RecordingLog()
        self.subreaper = 0
        self.templates = Templates(
            self.reactor, self.log, self.reap, getpid=lambda: 1, pidfd_open=None, killpg=self.reactor.killpg
        )
        self.null = os.open(os.devnull, os.O_RDWR)
        self.channel = None

    def reap(self):
        self.subreaper += 1

    def worker(self, spec=SPEC):
        owner = Owner()
        process = WorkerProcess(
            owner, self.reactor, self.log, None, self.reactor.killpg, nursery=self.templates
        )
        process.spawn(spec, self.null, self.null)
        return owner, process

    def answer(self, **message):
        """The youngest template says something."""
        if self.channel is None or len(self.reactor.ends):
            self.channel = socket.socket(fileno=self.reactor.ends.pop())
            self.channel.setblocking(False)
            assert len(self.channel.recv(100)) == 12 and self.channel.recv(100).startswith(b'{"pid":1')
        self.channel.send(json.dumps(message).encode())
        self.reader().doRead()

    def reader(self):
        return next(reader for reader in self.reactor.readers if type(reader).__name__ == "Template")

    def asked(self):
        """What the template has been asked for; the descriptors are closed."""
        found = []
        while True:
            try:
                data, fds, _, _ = socket.recv_fds(self.channel, 1000, 8)
            except BlockingIOError:
                return found
            for fd in fds:
                os.close(fd)
            assert len(fds) == 3
            found.append(json.loads(data)["fork"])

    def close(self):
        self.templates.stopService()
        if self.channel is not None:
            self.channel.close()
        for fd in (*self.reactor.ends, self.null):
            os.close(fd)


@pytest.fixture
def room():
    made = Room()
    yield made
    made.close()


def test_workers_wait_for_their_template_and_are_adopted(room):
    owner, process = room.worker()
    [template] = room.reactor.processes
    assert template.env == {"A": "b", "RR_TEMPLATE": "1"}
    assert process.alive and process.pid == 0 and room.subreaper == 1
    room.answer(ready=1)
    assert room.asked() == [1]
    room.answer(forked=1, pid=4711)
    assert process.pid == 4711 and owner.started == 1
    room.worker()
    assert room.asked() == [2]
    assert len(room.reactor.processes) == 1


def test_only_so_many_are_asked_for_at_once(room):
    for _ in range(AT_ONCE + 3):
        room.worker()
    room.answer(ready=1)
    assert len(room.asked()) == AT_ONCE
    room.answer(forked=1, pid=4711)
    assert len(room.asked()) == 1


def test_a_template_that_refuses_is_asked_no_more_until_it_is_renewed(room):
    owners = [room.worker()[0] for _ in range(2)]
    room.answer(refused="threads are running: poller")
    assert len(room.reactor.processes) == 3 and [owner.started for owner in owners] == [1, 1]
    assert "threads are running: poller" in room.log.lines("warn")[0]
    room.reactor.advance(AGAIN + 1)
    room.worker()
    assert len(room.reactor.processes) == 4
    room.templates.renew(SPEC)
    room.worker()
    assert room.reactor.processes[-1].env.get("RR_TEMPLATE")


def test_one_that_is_never_ready_is_given_up(room):
    owner, process = room.worker()
    room.reactor.advance(19)
    assert not owner.started
    room.reactor.advance(2)
    assert owner.started and process.pid == room.reactor.processes[1].number
    assert "not ready in time" in room.log.lines("warn")[0]


def test_one_that_does_not_answer_a_request_is_given_up(room):
    owner, _ = room.worker()
    room.answer(ready=1)
    room.reactor.advance(11)
    assert owner.started == 1 and len(room.reactor.processes) == 2


def test_one_that_is_lost_is_followed_by_another_after_a_while(room):
    room.worker()
    room.answer(ready=1)
    room.channel.close()
    room.channel = None
    room.reader().doRead()
    assert len(room.reactor.processes) == 2, "it was started alone"
    room.reactor.processes[0].exit(signal=9)
    room.worker()
    assert not room.reactor.processes[-1].env.get("RR_TEMPLATE")
    room.reactor.advance(AGAIN)
    room.worker()
    assert room.reactor.processes[-1].env.get("RR_TEMPLATE")


def test_a_worker_that_is_killed_before_it_was_asked_for_never_is(room):
    owner, process = room.worker()
    process.signal(9)
    assert owner.ending is None, "the owner hears of it in a later turn"
    room.reactor.advance(0)
    assert owner.ending.signal == 9 and not process.alive
    room.answer(ready=1)
    assert room.asked() == []


def test_a_worker_that_is_killed_while_it_is_forked_is_killed_as_soon_as_it_is_there(room):
    killed = []
    owner, process = room.worker()
    process._killpg = lambda pid, number: killed.append((pid, number))
    room.answer(ready=1)
    process.signal(9)
    room.answer(forked=1, pid=4711)
    assert killed == [(4711, 9)] and not owner.started


def test_a_fork_that_fails_is_a_plain_start(room):
    owner, _ = room.worker()
    room.answer(ready=1)
    room.answer(failed=1, reason="no fork: no memory")
    assert owner.started == 1 and len(room.reactor.processes) == 2
    assert "no memory" in room.log.lines("warn")[0]


def test_a_renewed_template_first_forks_what_was_asked_of_it(room):
    owner, process = room.worker()
    room.templates.renew(SPEC)
    room.answer(ready=1)
    assert room.asked() == [1]
    room.answer(forked=1, pid=4711)
    assert process.pid == 4711 and owner.started
    assert room.channel.recv(100) == b"", "then it is let go"


def test_where_no_process_can_become_a_subreaper_workers_start_alone(room):
    def impossible():
        raise OSError(22, "Invalid argument")

    room.templates._become_subreaper = impossible
    owner, _ = room.worker()
    assert owner.started == 1 and len(room.reactor.processes) == 1


FLAG = ("python", "-m", "twisted_rr.worker", "--preload", "app:app")


@pytest.mark.parametrize(
    "server, pool, auto, asked",
    [
        ({"command": FLAG}, {}, True, True),
        ({"command": FLAG}, {}, False, False),  # embedded, and only the flag says so
        ({"command": FLAG, "preload": True}, {}, False, True),
        ({"command": FLAG}, {"preload": False}, True, False),
        ({"command": FLAG}, {"command": ("php", "worker.php")}, True, False),
        ({"command": ("php", "--preload")}, {}, True, False),
        ({"preload": True}, {}, True, True),
        ({"preload": True}, {"debug": True}, True, False),
        ({"preload": True, "relay": "unix:///run/rr.sock"}, {}, True, False),
        ({}, {"preload": True}, False, True),
    ],
)
def test_who_is_preloaded(server, pool, auto, asked):
    patience = preload_patience(PoolSettings(allocate_timeout=7.0, **pool), ServerSettings(**server), auto)
    assert patience == (7.0 if asked else 0.0)


def test_it_is_told_what_has_become_of_the_template(room):
    def told():
        info = room.templates.info(SPEC)
        return info.pid, info.ready, info.seconds, info.reason

    assert told() == (0, False, 0.0, "no worker has been started")
    room.worker()
    [template] = room.reactor.processes
    room.reactor.advance(2)
    assert told() == (template.number, False, 2.0, "")
    room.answer(ready=1)
    room.reactor.advance(3)
    assert told() == (template.number, True, 3.0, "")
    room.answer(refused="threads are running")
    assert told() == (0, False, 0.0, "threads are running")


@pytest.mark.parametrize(
    ("server", "pool", "auto", "why"),
    [
        ({}, {"command": ("php", "worker.php", "--preload")}, True, None),
        ({}, {"command": WORKER}, True, None),
        ({}, {"command": PRELOADED}, True, ""),
        ({}, {"command": PRELOADED, "preload": False}, True, None),
        ({}, {"command": PRELOADED, "debug": True}, True, "with debug"),
        (
            {"relay": "tcp://127.0.0.1:6001"},
            {"command": PRELOADED},
            True,
            "server.relay tcp://127.0.0.1:6001",
        ),
        ({}, {"command": PRELOADED}, False, "server.preload: true"),
        ({"preload": True}, {"command": WORKER}, False, ""),
    ],
)
def test_why_workers_are_not_preloaded_although_that_was_asked_for(server, pool, auto, why):
    told = why_no_preload(PoolSettings(**pool), ServerSettings(**server), auto)
    assert told == why if not why else why in told


class NoRoom:
    """A spawner in a process that has no descriptors left."""

    def fork(self, spec, process, stdin, stdout):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    def withdraw(self, process):
        return False


def test_whoever_waits_for_a_template_that_is_lost_is_told_when_no_process_can_be_made_either(room):
    room.templates._spawner = NoRoom()
    waiting = [room.worker() for _ in range(2)]
    room.answer(refused="threads are running")
    for owner, process in waiting:
        assert str(owner.ending) == "start: Too many open files"
        assert not process.alive
