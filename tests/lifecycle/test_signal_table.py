"""The signal table, a test a cell, and handlers that are safe before there is anything to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lifecycle_world import Reactor
from twisted.internet.error import ReactorNotRunning

import twisted_rr
from twisted_rr.lifecycle.budget import Budget
from twisted_rr.lifecycle.drain import ANNOUNCE, FINISH, FORCE, RUNNING, Drain
from twisted_rr.lifecycle.signals import HANDLED, TABLE, Signals, has_terminal

BUDGET = Budget(total=30.0, announce_min=2.0, announce_max=5.0)


class Process:
    """Signals, a reactor and a drain that runs."""

    def __init__(self, terminal: bool = False, running: bool = True, **second: str) -> None:
        self.reactor = Reactor()
        self.installed: dict[int, Any] = {}
        self.exits: list[int] = []
        self.hooks: list[str] = []
        self.terminal = terminal
        self.signals = Signals(
            terminal=lambda: self.terminal,
            seconds=self.reactor.seconds,
            leave=self.exits.append,
            set_handler=self.installed.__setitem__,
        )
        self.signals.install()
        self.drain = Drain(BUDGET, self.reactor.seconds)
        for name in ("reload", "reopen", "reset"):
            setattr(self.signals, name, lambda name=name: self.hooks.append(name))
        if running:
            self.attach(**second)
            self.drain.start()
            self.drain.ready()
            self.reactor.run()

    def attach(self, **second: str) -> None:
        self.signals.attach(self.reactor, self.drain, **second)

    def get(self, *numbers: int) -> Process:
        for number in numbers:
            self.installed[number](number, None)
            self.reactor.turn()
        return self


# The start of Python without what .pth files of an installation import.
WITHOUT_SITE = {**os.environ, "PYTHONPATH": str(Path(twisted_rr.__file__).parents[1])}

STOPS = (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT)


def test_the_handlers_can_be_taken_before_anything_heavy_is_imported() -> None:
    script = """
import sys
from twisted_rr.lifecycle.exits import Exits
from twisted_rr.lifecycle.signals import Signals
Exits().install()
Signals().install()
print(sorted({name.partition(".")[0] for name in sys.modules} & {"twisted", "zope", "txaio", "yaml", "attrs", "attr", "click"}))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "[]\n"


def test_every_signal_of_the_table_is_taken() -> None:
    process = Process()
    assert set(process.installed) == set(HANDLED)
    assert {name.split()[0] for name in TABLE} == {signal.Signals(number).name for number in HANDLED}


@pytest.mark.parametrize("number", STOPS)
def test_a_stop_signal_begins_the_drain_and_stops_the_reactor_once(number: int) -> None:
    process = Process().get(number)
    assert (process.drain.state, process.reactor.stops) == (ANNOUNCE, 1)
    assert process.drain.cause == signal.Signals(number).name


def test_nothing_happens_in_the_handler_itself() -> None:
    process = Process()
    process.installed[signal.SIGTERM](signal.SIGTERM, None)
    assert (process.drain.state, process.reactor.stops) == (RUNNING, 0)


def test_the_deadline_counts_from_the_signal_when_its_turn_came_late() -> None:
    process = Process()
    process.installed[signal.SIGTERM](signal.SIGTERM, None)
    process.reactor.advance(3)
    process.reactor.turn()
    assert process.drain.age() == 3.0


@pytest.mark.parametrize("first", STOPS)
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGQUIT])
def test_term_and_quit_after_a_stop_are_the_same_stop(first: int, second: int) -> None:
    process = Process().get(first)
    deadline = process.drain.deadline
    process.reactor.advance(1)
    process.get(*[second] * 20)
    assert (process.drain.state, process.drain.deadline, process.reactor.stops) == (ANNOUNCE, deadline, 1)


@pytest.mark.parametrize("first", STOPS)
@pytest.mark.parametrize("terminal", [False, True])
def test_int_after_anything_forces(first: int, terminal: bool) -> None:
    process = Process(terminal=terminal).get(first, signal.SIGINT)
    assert (process.drain.state, process.drain.hurried, process.reactor.stops) == (FORCE, True, 1)


def test_int_in_a_terminal_skips_the_announce() -> None:
    process = Process(terminal=True).get(signal.SIGINT)
    assert (process.drain.state, process.drain.brisk) == (FINISH, True)
    assert process.drain.remaining() == pytest.approx(2.0)


def test_term_in_a_terminal_is_an_ordinary_stop() -> None:
    process = Process(terminal=True).get(signal.SIGTERM)
    assert (process.drain.state, process.drain.brisk) == (ANNOUNCE, False)


def test_hup_without_a_terminal_reloads() -> None:
    process = Process().get(signal.SIGHUP)
    assert (process.hooks, process.drain.state) == (["reload"], RUNNING)


def test_a_closed_terminal_stops_as_int_does_and_once() -> None:
    process = Process(terminal=True)
    # After the hang-up the terminal cannot be asked for any more.
    process.terminal = False
    process.get(signal.SIGHUP, signal.SIGHUP)
    assert (process.drain.state, process.drain.brisk, process.drain.hurried) == (FINISH, True, False)
    assert process.hooks == []


def test_a_daemon_has_no_terminal_although_it_was_started_in_one() -> None:
    process = Process(terminal=True, running=False)
    process.attach()
    process.drain.start()
    process.drain.ready()
    process.terminal = False
    process.reactor.run()
    process.get(signal.SIGHUP)
    assert (process.hooks, process.drain.state) == (["reload"], RUNNING)


@pytest.mark.parametrize(("number", "hook"), [(signal.SIGUSR1, "reopen"), (signal.SIGUSR2, "reset")])
def test_usr_signals_call_their_hooks(number: int, hook: str) -> None:
    assert Process().get(number).hooks == [hook]


def test_while_stopping_log_files_are_reopened_and_nothing_is_reloaded() -> None:
    process = Process().get(signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2, signal.SIGUSR1)
    assert process.hooks == ["reopen"]


def test_a_hook_that_fails_or_is_missing_harms_nothing() -> None:
    process = Process()

    def broken() -> None:
        raise RuntimeError

    process.signals.reload = broken
    process.signals.reset = None
    process.get(signal.SIGHUP, signal.SIGUSR2, signal.SIGUSR1)
    assert process.hooks == ["reopen"]


def test_the_second_signals_can_be_configured() -> None:
    process = Process(second_term="force").get(signal.SIGTERM, signal.SIGTERM)
    assert process.drain.hurried
    process = Process(second_int="same_stop").get(signal.SIGTERM, signal.SIGINT)
    assert not process.drain.hurried


@pytest.mark.parametrize("number", STOPS)
def test_a_stop_before_there_is_anything_to_stop_ends_the_process_on_the_spot(number: int) -> None:
    assert Process(running=False).get(number).exits == [0]


def test_another_signal_before_there_is_a_reactor_is_kept() -> None:
    process = Process(running=False).get(signal.SIGUSR1)
    process.attach()
    process.reactor.run()
    process.reactor.turn()
    assert (process.hooks, process.exits) == (["reopen"], [])


def test_the_console_script_ends_at_once_while_it_still_imports() -> None:
    script = """
import _signal, os, sys
sys.argv = ["twisted-rr", "serve"]
class Slow:
    def find_spec(self, name, *_):
        if name == "threading":
            os.kill(os.getpid(), _signal.SIGTERM)
import twisted_rr.cli.entry
assert "signal" not in sys.modules and "typing" not in sys.modules, "that takes longer than Python's own start"
sys.meta_path.insert(0, Slow())
twisted_rr.cli.entry.main()
"""
    done = subprocess.run(
        [sys.executable, "-S", "-c", script], env=WITHOUT_SITE, capture_output=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_signal_before_the_reactor_runs_stops_it_in_its_first_turn() -> None:
    process = Process(running=False)
    process.attach()
    process.get(signal.SIGTERM)
    assert (process.drain.draining, process.reactor.stops) == (True, 0)
    process.reactor.run()
    assert process.reactor.stops == 1


def test_a_failure_before_the_reactor_runs_stops_it_too() -> None:
    process = Process(running=False)
    process.attach()
    process.signals.stop("failure")
    process.reactor.run()
    assert (process.drain.cause, process.reactor.stops) == ("failure", 1)


def test_an_interrupt_after_somebody_else_has_stopped_the_reactor_only_forces() -> None:
    process = Process()
    process.drain.begin("shutdown")

    def stopped_already() -> None:
        raise ReactorNotRunning()

    process.reactor.stop = stopped_already  # type: ignore[method-assign]
    process.get(signal.SIGINT)
    assert (process.drain.state, process.drain.hurried) == (FORCE, True)


def test_handlers_are_taken_again_when_the_reactor_has_taken_them() -> None:
    process = Process(running=False)
    process.attach()
    process.installed.clear()
    process.reactor.run()
    assert set(process.installed) == set(HANDLED)


def test_an_interrupt_that_nobody_answers_can_be_repeated_to_leave_at_once() -> None:
    process = Process(running=False)
    process.attach()
    handler: Callable[..., None] = process.installed[signal.SIGINT]
    handler(signal.SIGINT, None)
    process.reactor.advance(0.1)
    handler(signal.SIGINT, None)
    assert process.exits == []
    process.reactor.advance(1)
    handler(signal.SIGINT, None)
    assert process.exits == [4]


def test_two_quick_interrupts_in_one_turn_are_a_stop_and_a_hurry() -> None:
    process = Process(terminal=True)
    for _ in range(2):
        process.installed[signal.SIGINT](signal.SIGINT, None)
    process.reactor.turn()
    assert (process.drain.state, process.reactor.stops) == (FORCE, 1)


def test_whoever_ignores_the_hang_up_on_purpose_is_left_alone() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert signal.SIGHUP not in Process(terminal=True).installed
        assert signal.SIGHUP in Process(terminal=False).installed
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_process_with_a_terminal_of_its_own_knows_it() -> None:
    pid, master = os.forkpty()
    if pid == 0:
        os._exit(17 if has_terminal() else 0)
    _, status = os.waitpid(pid, 0)
    os.close(master)
    assert os.waitstatus_to_exitcode(status) == 17
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os._exit(17 if has_terminal() else 0)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
