"""Codes and headers by state, and saturation: seen at once, acted on when it has lasted."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from status_facts import FINE, ask, facts, header, listed
from twisted.internet.task import Clock

from twisted_rr.build import read_config
from twisted_rr.errors import ConfigError
from twisted_rr.interfaces import IFront, IHealth
from twisted_rr.lifecycle.settings import DrainSettings
from twisted_rr.plugins.status.config import AnswerSettings, SaturationSettings, StatusSettings
from twisted_rr.plugins.status.evidence import Saturation, Standstill
from twisted_rr.plugins.status.facts import Collector, PluginFacts
from twisted_rr.testing.host import FakeHost

STUCK = (PluginFacts(name="http", not_alive="dead", not_alive_for=11.0, proved=True, workers=(0, 4)),)


def say(**states: dict[str, Any]) -> dict[str, Any]:
    return {"answers": {state: AnswerSettings(**said) for state, said in states.items()}}


# ---------------------------------------------------------------------------- status.answers


def test_a_state_can_have_codes_of_its_own() -> None:
    said = say(draining={"ready": 200}, drained={"ready": 429}, running={"health": 204})
    assert ask("/ready", facts("draining:finish"), **said).status == 200
    assert ask("/ready", facts("drained"), **said).status == 429
    assert ask("/health", facts(), **said).status == 204


def test_the_state_itself_comes_before_draining() -> None:
    said = say(draining={"health": 200, "ready": 503}, force={"health": 500})
    assert ask("/health", facts("draining:force"), **said).status == 500
    assert ask("/ready", facts("draining:force"), **said).status == 503
    assert ask("/health", facts("draining:finish"), **said).status == 200


def test_being_stuck_has_a_code_of_its_own_in_whatever_state() -> None:
    said = say(draining={"health": 200}, stuck={"health": 599})
    assert ask("/health", facts("draining:finish", plugins=STUCK), **said).status == 599
    assert (
        ask("/health", facts("draining:finish", plugins=STUCK), **say(draining={"health": 200})).status == 503
    )


def test_a_plugin_that_is_not_ready_is_not_talked_over() -> None:
    now = facts(plugins=(PluginFacts(name="http", not_ready="no worker is alive"),))
    assert ask("/ready", now, **say(running={"ready": 200})).status == 503


def test_before_the_flip_readiness_is_still_yes() -> None:
    assert (
        ask("/ready", facts("draining:announce", flipped=False), **say(draining={"ready": 503})).status == 200
    )


@pytest.mark.parametrize("state", ["running", "drained", "draining:finish", "stopping", "booting"])
@pytest.mark.parametrize("path", ["/health", "/ready", "/ready?plugin=http", "/health?plugin=nope"])
def test_body_and_code_never_disagree(state: str, path: str) -> None:
    said = say(draining={"health": 500, "ready": 200}, drained={"ready": 429}, running={"ready": 207})
    found = ask(path, facts(state), **said)
    bad = [code for _, _, code in listed(found) if code >= 400]
    assert bool(bad) is (found.status >= 400)


def test_headers_are_added_in_their_state_and_tell_it() -> None:
    said = say(draining={"headers": {"X-State": "now {state}", "Cache-Control": "no-cache"}})
    found = ask("/health", facts("draining:announce"), **said)
    assert header(found, "x-state") == "now draining:announce"
    assert [value for name, value in found.headers if name == b"cache-control"] == [b"no-cache"]
    assert header(ask("/health", facts(), **said), "x-state") is None


def section(answers: Any) -> Any:
    return read_config({"version": "3", "status": {"address": ":2114", "answers": answers}}, environ={})


def test_a_mapping_that_gets_a_draining_pod_killed_is_warned_of_with_its_place() -> None:
    warning, rest = section({"finish": {"health": 503}}).warnings
    assert warning.path == "status.answers.finish.health" or "status.answers" in str(warning)
    assert "kills the server while it is draining" in str(warning)
    fine = section({"finish": {"health": 200, "ready": 503}, "stuck": {"health": 500}})
    assert list(map(str, fine.warnings)) == [str(rest)]  # that nothing but status is served


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"stuck_after": "0s"}, 1),
        ({"stuck_after": "200ms"}, 1),
        ({"stuck_after": "1s"}, 0),
        ({"stuck_after": "0s", "liveness": "always"}, 0),
    ],
)
def test_evidence_of_a_moment_is_warned_of(keys: dict[str, str], told: int) -> None:
    read = read_config({"version": "3", "status": {"address": ":2114", **keys}}, environ={})
    assert [each.path for each in read.warnings if each.path].count("status.stuck_after") == told


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({"dying": {"health": 200}}, "not allowed here"),
        ({"finish": {"health": 100}}, "200"),
        ({"finish": {"headers": {"Content-Length": "3"}}}, "set by the server"),
        ({"finish": {"headers": {"X-A": "a\nb"}}}, "header's value"),
        ({"finish": {"headers": {"X A": "a"}}}, "not allowed here"),
    ],
)
def test_answers_that_cannot_be_given_are_refused(answers: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        section(answers)


# -------------------------------------------------------------------------------- saturation


def test_saturation_is_a_warning_at_once() -> None:
    now = facts(plugins=(attrs.evolve(FINE[1], saturated="all workers are busy"),))
    assert listed(ask("/ready", now))[-1] == ("http", "all workers are busy", 200)
    found = ask("/ready", now, headers={"Accept": "application/health+json"})
    assert b'"status":"warn"' in found.body and found.status == 200
    assert ask("/health", now).status == 200


def test_it_turns_readiness_when_it_has_lasted_and_back_when_it_has_been_over() -> None:
    judge = Saturation(after=5.0, recover=2.0)
    told = [
        judge.observe(now, busy) for now, busy in ((0, True), (4, True), (5, True), (6, False), (7, True))
    ]
    assert told == [False, False, True, True, True]
    assert [judge.observe(now, False) for now in (8, 9, 10)] == [True, True, False]


def test_one_look_at_a_free_worker_begins_the_stretch_anew() -> None:
    judge = Saturation(after=5.0, recover=2.0)
    looks = ((0, True), (4, True), (4.5, False), (5, True), (9, True))
    assert [judge.observe(now, busy) for now, busy in looks] == [False] * 5


class Busy:
    """A pool that is busy, and says how much it moves."""

    name = "http"
    busy = True
    moved = 0

    def alive(self) -> str | None:
        return None

    ready = alive

    def saturated(self) -> str | None:
        return "all workers are busy" if self.busy else None

    def activity(self) -> int:
        return self.moved

    def counts(self) -> tuple[int, int]:
        return 1, 2


def collector(host: FakeHost, **changed: Any) -> Collector:
    return Collector(host, StatusSettings(address=":0", **changed), host.log("status"))


@pytest.mark.parametrize(
    ("mode", "expected"), [("lasting", [False, False, True]), ("at_once", [True] * 3), ("never", [False] * 3)]
)
def test_what_saturation_does_is_the_users_choice(mode: str, expected: list[bool]) -> None:
    host = FakeHost(Clock())
    host.provide(IHealth, Busy())
    found = collector(host, on_saturation=SaturationSettings(mode=mode))
    seen = []
    for _ in range(3):
        seen.append(found.collect().plugins[0].overloaded)
        host.clock.advance(2.5)
    assert seen == expected
    assert found.collect().plugins[0].workers == (1, 2)


def test_a_stuck_server_tells_how_many_workers_live() -> None:
    assert listed(ask("/health", facts(plugins=STUCK)))[0][1].endswith("workers alive=0/4")


# ------------------------------------------------------------------------- liveness: strict


def test_any_sign_is_progress_and_so_is_having_nothing_to_do() -> None:
    progress = Standstill()
    assert progress.observe(1, (0, 0)) is None
    assert progress.observe(1, (0, 0)) == "no completion, byte, heartbeat or CPU time"
    assert progress.observe(1, (0, 7)) is None
    assert progress.observe(0, (0, 7)) is None


def test_strict_counts_the_bytes_and_the_cpu_time_that_pools_tell() -> None:
    class Flight:
        name, finished, cut, lost = "http", 0, 0, 0

        def count(self) -> int:
            return 1

        def oldest(self) -> float:
            return 1.0

    class Front:
        in_flight = Flight()

    host, pool = FakeHost(Clock()), Busy()
    host.provide(IHealth, pool)
    host.provide(IFront, Front())
    found = collector(host, liveness="strict", stuck_after=10.0)
    for _ in range(15):
        pool.moved += 1
        assert not found.collect().plugins[0].proved
        host.clock.advance(1)
    for _ in range(12):
        proved = found.collect().plugins[0].proved
        host.clock.advance(1)
    assert proved


def test_a_peer_envoy_is_told_by_every_answer_where_that_was_asked_for() -> None:
    assert header(
        ask("/health", facts("draining:announce", immediate_fail=True)), "x-envoy-immediate-health-check-fail"
    )
    assert not header(ask("/health", facts("draining:announce")), "x-envoy-immediate-health-check-fail")
    host = FakeHost(Clock(), settings={"drain": DrainSettings(envoy_immediate_fail=True)})
    found = collector(host)
    assert not found.collect().immediate_fail
    host.drain.begin("SIGTERM")
    assert found.collect().immediate_fail
