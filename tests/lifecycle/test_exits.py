"""Exit codes and the report behind them."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

from twisted_rr.lifecycle.exits import Exits
from twisted_rr.lifecycle.report import EXIT_CODES, Report, Tally, outcome_of


@pytest.mark.parametrize(
    ("facts", "outcome", "code"),
    [
        ({}, "drained", 0),
        ({"cut": 1}, "cut", 3),
        ({"killed": 1}, "killed", 5),
        ({"cut": 1, "killed": 1}, "cut", 3),
        ({"forced": True}, "forced", 4),
        ({"forced": True, "cut": 1, "killed": 1}, "forced", 4),
        ({"failed": True, "forced": True, "cut": 1}, "failed", 1),
    ],
)
def test_the_outcome_is_the_thing_to_act_on(facts: dict[str, int], outcome: str, code: int) -> None:
    found = outcome_of(**{"failed": False, "forced": False, "cut": 0, "killed": 0, **facts})
    assert (found, Report(cause="SIGTERM", outcome=found, duration=1.0).code) == (outcome, code)
    assert EXIT_CODES[outcome] == code


def test_a_set_of_anothers_making_is_counted_as_far_as_it_goes() -> None:
    class Plain:
        finished = 2

    assert Tally.of([Plain(), Plain()]).since(Tally(1)) == Tally(3)  # type: ignore[list-item]


def test_a_clean_end_leaves_pythons_code_alone() -> None:
    left: list[int] = []
    exits = Exits(left.append)
    exits.leave()
    exits.follow(lambda: 0)
    exits.leave()
    assert left == []


def test_a_signal_during_the_interpreters_own_end_does_not_become_the_code() -> None:
    """SIGTERM again, in the tens of milliseconds between the last hook and the end of the process."""
    program = (
        "import atexit, os, signal\n"
        "from twisted_rr.lifecycle.process import Process\n"
        "class Late:\n"
        "    def __del__(self, kill=os.kill, pid=os.getpid(), number=signal.SIGTERM):\n"
        "        kill(pid, number)\n"
        "signal.late = Late()\n"
        "Process()\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], timeout=20, check=False)
    assert ended.returncode == 0


def test_any_other_outcome_ends_the_process_with_its_code() -> None:
    left: list[int] = []
    exits = Exits(left.append)
    exits.follow(lambda: 3)
    exits.leave()
    assert left == [3]


def test_a_failed_start_is_1_whatever_followed() -> None:
    left: list[int] = []
    exits = Exits(left.append)
    exits.follow(lambda: 4)
    exits.fail()
    exits.leave()
    assert left == [1]


def test_outcomes_can_be_kept_to_ourselves_but_not_a_failure() -> None:
    exits = Exits(lambda code: None)
    exits.follow(lambda: 3, zero=True)
    assert exits.code == 0
    exits.fail()
    assert exits.code == 1


def run(script: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        **options,
    )  # type: ignore[call-overload,no-any-return]


def test_in_a_real_process_it_comes_after_all_other_hooks_and_after_a_flush() -> None:
    done = run(
        """
        import atexit, sys
        from twisted_rr.lifecycle.exits import Exits
        exits = Exits()
        exits.install()
        atexit.register(lambda: sys.stdout.write("other hook "))
        exits.follow(lambda: 5)
        sys.stdout.write("last words ")
        """
    )
    assert (done.returncode, done.stdout) == (5, "last words other hook ")


def test_closed_output_does_not_hide_the_code() -> None:
    done = run(
        """
        import os, sys
        from twisted_rr.lifecycle.exits import Exits
        exits = Exits()
        exits.install()
        exits.follow(lambda: 3)
        sys.stdout.write("x")
        os.close(1); os.close(2)
        """
    )
    assert done.returncode == 3


def test_under_twistd_the_code_arrives_and_a_real_signal_drains() -> None:
    """A server under a real reactor as twistd runs it: TERM, then INT, gives 4; TERM alone 0."""
    script = """
        import os, signal, sys, time
        from twisted_rr.lifecycle.exits import Exits
        from twisted_rr.lifecycle.signals import Signals
        exits = Exits(); exits.install()
        signals = Signals(); signals.install()
        from twisted.internet import reactor
        reactor.seconds = time.monotonic
        from twisted.application import app, service
        from twisted_rr.lifecycle.budget import Budget
        from twisted_rr.lifecycle.in_flight import InFlight
        from twisted_rr.lifecycle.server import Server
        from zope.interface import implementer
        from twisted_rr.interfaces import IFront

        class Item:
            since = 0.0
            def describe(self): return "GET /"

        @implementer(IFront)
        class Front(service.Service):
            in_flight = InFlight("http", reactor.seconds)
            def announce(self): print("announce", server.drain.state)
            def finish(self): print("finish")
            def hurry(self):
                for item in self.in_flight.items(): self.in_flight.end_cut(item)

        server = Server(reactor, Budget(total=20.0), clock=reactor)
        front = Front()
        front.in_flight.begin(Item())
        server.place("FRONT", front)
        signals.attach(reactor, server.drain)
        exits.follow(lambda: server.code)
        application = service.Application("x")
        server.setServiceParent(application)
        app.startApplication(application, False)
        first, second = int(sys.argv[1]), int(sys.argv[2])
        reactor.callLater(0.1, os.kill, os.getpid(), first)
        if second: reactor.callLater(0.4, os.kill, os.getpid(), second)
        else: reactor.callLater(0.4, lambda: [front.in_flight.end(item) for item in front.in_flight.items()])
        reactor.run()
        print("ran", round(server.report.duration, 1), server.report.outcome)
    """
    path = [sys.executable, "-c", textwrap.dedent(script)]
    for first, second, code, words in (
        ("15", "2", 4, "forced"),
        ("15", "0", 0, "drained"),
        ("3", "0", 0, "drained"),
    ):
        done = subprocess.run(
            [*path, first, second], capture_output=True, text=True, timeout=30, check=False, start_new_session=True,
            env={**os.environ},
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        assert done.stdout.split() == ["announce", "draining:announce", "finish", "ran", "0.3", words]


def test_an_end_that_is_not_the_servers_own_has_a_code_unless_zero_was_asked_for() -> None:
    exits = Exits(lambda code: None)
    exits.follow(lambda: 0)
    assert (exits.code, exits.code_or(3)) == (0, 3)
    exits.follow(lambda: 5)
    assert exits.code_or(3) == 5
    exits.follow(lambda: 0, zero=True)
    assert exits.code_or(3) == 0
