"""The user's checks: how they are written, when they run, what their results do to the answers."""

from __future__ import annotations

from typing import Any

import pytest
from status_facts import ask, facts, listed
from twisted.internet.defer import Deferred, ensureDeferred, fail, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from twisted_rr.build import read_config
from twisted_rr.errors import ConfigError
from twisted_rr.plugins.status.checks.connect import CheckFailed, ask_http
from twisted_rr.plugins.status.checks.runner import CheckFacts, Runner
from twisted_rr.plugins.status.checks.settings import CheckSettings
from twisted_rr.testing.host import RecordingLog


class Server:
    """An endpoint whose server answers with some bytes."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer

    def __call__(self, reactor: Any, address: str, timeout: float) -> Server:
        return self

    def connect(self, factory: Any) -> Deferred[Any]:
        protocol = factory.buildProtocol(None)
        protocol.makeConnection(StringTransport())
        protocol.dataReceived(self.answer)
        return succeed(protocol)


@pytest.mark.parametrize("line", [b"HTTP/1.1 200 OK", b"HTTP/1.1 204", b"HTTP/1.0 301 "])
def test_a_reason_is_not_needed_in_an_answer_that_says_yes(line: bytes) -> None:
    asked = ensureDeferred(ask_http(None, "http://h/", 1.0, Server(line + b"\r\n")))
    assert asked.result is None  # type: ignore[attr-defined]


@pytest.mark.parametrize("line", [b"HTTP/1.1 503", b"HTTP/1.1", b"200 OK", b"HTTP/1.1 2x0 OK"])
def test_any_other_answer_fails(line: bytes) -> None:
    asked = ensureDeferred(ask_http(None, "http://h/", 1.0, Server(line + b"\r\n")))
    assert asked.result.check(CheckFailed)  # type: ignore[attr-defined]
    asked.addErrback(lambda failure: None)


# -------------------------------------------------------------------------------- the section


def read(checks: Any) -> Any:
    found = read_config({"version": "3", "status": {"address": ":2114", "checks": checks}}, environ={})
    return found.settings("status").checks, [str(each) for each in found.warnings]


def test_checks_are_a_map_by_name_or_a_list_of_items_with_names() -> None:
    by_name, _ = read({"db": {"tcp": "127.0.0.1:5432"}, "disk": {"exec": "test -w /data", "interval": "30s"}})
    listing, _ = read(
        [
            {"name": "db", "tcp": "127.0.0.1:5432"},
            {"name": "disk", "exec": ["test", "-w", "/data"], "interval": "30s"},
        ]
    )
    assert by_name == listing
    assert [(each.name, each.interval, each.needed) for each in by_name] == [
        ("db", 10.0, "ready"),
        ("disk", 30.0, "ready"),
    ]
    assert by_name[1].exec == ("test", "-w", "/data")


@pytest.mark.parametrize(
    ("checks", "words"),
    [
        ({"x": {}}, "exactly one of exec, tcp and http"),
        ({"x": {"tcp": ":1", "http": "http://h/"}}, "exactly one of exec, tcp and http"),
        ({"x": {"http": "https://h/"}}, "only http://"),
        ({"x": {"http": "http://u:p@h/"}}, "no user in it"),
        ({"x": {"tcp": "nowhere"}}, "the port is missing"),
        ({"x": {"tcp": ":1", "interval": "1ms"}}, "100ms or more"),
        ({"x": {"tcp": ":1", "timeout": "0s"}}, "more than 0s"),
        ({"x": {"tcp": ":1", "often": "1s"}}, "unknown key"),
        ({"bad name": {"tcp": ":1"}}, "letters, digits"),
        ([{"tcp": ":1"}], "the check's name"),
        ([{"name": "x", "tcp": ":1"}, {"name": "x", "tcp": ":2"}], "same name"),
        ({"x": {"name": "y", "tcp": ":1"}}, "named x and y"),
        ({f"c{number}": {"tcp": ":1"} for number in range(33)}, "at most 32"),
        ("db", "checks by name"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(checks: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read(checks)


def test_a_check_that_liveness_depends_on_is_warned_of() -> None:
    _, warnings = read({"db": {"tcp": ":1", "needed": "health"}})
    assert any("the server is restarted" in each and "checks.db.needed" in each for each in warnings)


# --------------------------------------------------------------------------------- the rhythm


class Rig:
    """One check; ``results`` are what its runs come to, a Deferred for one that the test ends."""

    def __init__(self, *results: Any, **changed: Any) -> None:
        self.clock = Clock()
        self.log = RecordingLog()
        self.results = list(results)
        self.runs: list[float] = []
        settings = CheckSettings(name="db", tcp=":1", **changed)
        self.runner = Runner([settings], 1.0, self.clock, self.run, self.log)

    def run(self, settings: CheckSettings, timeout: float) -> Any:
        self.runs.append(self.clock.seconds())
        result = self.results.pop(0)
        return fail(RuntimeError(result)) if isinstance(result, str) else result

    def state(self) -> tuple[bool, bool]:
        (found,) = self.runner.facts()
        return found.known, found.failing


def good() -> Deferred[None]:
    return succeed(None)


def test_it_runs_at_once_and_then_an_interval_after_each_end() -> None:
    slow: Deferred[None] = Deferred()
    rig = Rig(slow, good(), good(), interval=5.0)
    rig.runner.start()
    rig.clock.advance(0.5)
    assert rig.state() == (False, False)
    slow.callback(None)
    assert rig.state() == (True, False)
    rig.clock.advance(4.9)
    assert rig.runs == [0.0]
    rig.clock.advance(0.1)
    rig.clock.advance(5.0)
    assert rig.runs == pytest.approx([0.0, 5.5, 10.5])


def test_one_that_does_not_end_is_given_up_at_its_time_out() -> None:
    hung: Deferred[None] = Deferred()
    rig = Rig(hung, good(), timeout=2.0)
    rig.runner.start()
    rig.clock.advance(1.9)
    assert not hung.called
    rig.clock.advance(0.1)
    assert rig.state() == (True, True)
    assert rig.log.lines("warn") == ["check db fails: no result within 2 s"]
    rig.clock.advance(10)
    assert rig.state() == (True, False)


def test_only_changes_are_logged() -> None:
    rig = Rig("no", "no", "no", good(), good(), interval=1.0)
    rig.runner.start()
    for _ in range(4):
        rig.clock.advance(1)
    assert rig.log.lines() == ["check db fails: no", "check db succeeds again"]


def test_so_many_failures_in_a_row_as_were_asked_for_count() -> None:
    rig = Rig(good(), "no", good(), "no", "no", interval=1.0, failures=2)
    rig.runner.start()
    seen = [rig.state()[1]]
    for _ in range(4):
        rig.clock.advance(1)
        seen.append(rig.state()[1])
    assert seen == [False, False, False, False, True]


def test_a_first_failure_below_the_limit_proves_nothing_yet() -> None:
    rig = Rig("no", good(), interval=1.0, failures=2)
    rig.runner.start()
    assert rig.state() == (False, False)
    rig.clock.advance(1)
    assert rig.state() == (True, False)


def test_a_mistake_of_ours_in_a_check_is_its_failure_and_it_runs_again() -> None:
    rig = Rig(interval=1.0)
    rig.runner.start()  # no result is left: the run raises
    assert rig.state() == (True, True)
    rig.results.append(good())
    rig.clock.advance(1)
    assert rig.state() == (True, False)


def test_after_the_stop_nothing_runs_and_what_ran_was_given_up() -> None:
    hung: Deferred[None] = Deferred()
    cancelled = []
    hung.addErrback(lambda failure: cancelled.append(failure.type))
    rig = Rig(hung)
    rig.runner.start()
    rig.runner.stop()
    assert cancelled and not rig.clock.getDelayedCalls()


# -------------------------------------------------------------------------------- the answers


def check(failing: bool, needed: str = "ready", known: bool = True) -> tuple[CheckFacts, ...]:
    return (CheckFacts(name="db", needed=needed, known=known, failing=failing),)


def test_a_failing_check_keeps_traffic_away_and_is_shown_by_its_name_alone() -> None:
    now = facts(checks=check(True))
    assert ask("/ready", now).status == 503
    assert listed(ask("/ready", now))[-1] == ("db", "it fails", 503)
    assert ask("/health", now).status == 200


def test_a_check_that_never_succeeded_keeps_traffic_away_but_does_not_kill() -> None:
    now = facts(checks=check(False, known=False))
    assert ask("/ready", now).status == 503
    assert ask("/health", facts(checks=check(False, "health", known=False))).status == 200


def test_a_check_that_liveness_needs_says_no_to_health_alone() -> None:
    now = facts(checks=check(True, "health"))
    assert (ask("/health", now).status, ask("/ready", now).status) == (503, 200)
    assert ask("/health", now, liveness="always").status == 200


@pytest.mark.parametrize("state", ["draining:announce", "draining:finish", "draining:force", "stopping"])
def test_no_check_shortens_a_stop(state: str) -> None:
    assert ask("/health", facts(state, checks=check(True, "health"))).status == 200


def test_a_check_can_be_asked_about_by_its_name() -> None:
    assert listed(ask("/ready?plugin=db", facts(checks=check(True)))) == [("db", "it fails", 503)]


def test_health_json_has_it_too() -> None:
    found = ask("/ready", facts(checks=check(True)), headers={"Accept": "application/health+json"})
    assert b'"db:check":[{"componentType":"datastore","status":"fail"}]' in found.body
