"""What the way out tells: who blocks it, what was cut by what, and the report for those who flush."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from lifecycle_world import Item, World
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure

from twisted_rr.errors import WorkerStartError
from twisted_rr.lifecycle.blockers import blockers_of
from twisted_rr.lifecycle.budget import Budget
from twisted_rr.lifecycle.in_flight import InFlight
from twisted_rr.lifecycle.termination import fitted


def test_half_way_to_the_deadline_the_log_tells_who_blocks_and_once_only() -> None:
    world = World(Budget(total=10.0)).start()
    world.accept("GET /forever")
    with recorded() as told:
        world.stop()
        world.reactor.spend(2.9)
        assert [one for one in told if "half of the time" in one["log_format"]] == []
        world.reactor.spend(2.9)
    (event,) = [one for one in told if "half of the time" in one["log_format"]]
    (blocker,) = event["blockers"]
    assert blocker.pop("age") == pytest.approx(3.0, abs=0.02)
    assert blocker == {"protocol": "http", "method": "GET", "path": "/forever", "pid": 0}
    assert event["left"] == pytest.approx(3.0, abs=0.02)


def test_the_report_tells_what_cut_and_what_to_set() -> None:
    world = World(Budget(total=10.0)).start()
    died, forever = world.accept("GET /died"), world.accept("GET /forever")
    world.stop()
    world.reactor.spend(1.0)
    world.front.in_flight.end_cut(died)
    world.reactor.spend(9.0)
    report = world.server.report
    assert report is not None
    assert (report.cut, report.cut_by) == (2, {"worker": 1, "deadline": 1})
    assert [one.call for one in report.blockers] == [forever.name]
    assert [one.key for one in report.advice] == ["endure.grace_period"]
    assert json.loads(json.dumps(report.record()))["code"] == 3


def test_a_forced_stop_is_no_lesson_about_the_budget() -> None:
    world = World(Budget(total=10.0)).start()
    world.accept()
    world.stop()
    world.reactor.spend(1.0)
    world.drain.hurry()
    world.reactor.spend(2.0)
    report = world.server.report
    assert report is not None
    assert (report.outcome, report.cut_by, report.advice) == ("forced", {"forced": 1}, ())


def test_a_failure_is_told_with_its_reason_to_the_end() -> None:
    """The termination message and the last line of the log have no other line to point to."""
    world = World().start()
    with recorded() as told:
        world.server.fail(Failure(WorkerStartError("php w.php", "it ended", ["PHP Fatal error: x"])))
        world.reactor.spend(1.0)
    report = world.server.report
    assert report is not None and report.outcome == "failed"
    assert report.reason == "worker 'php w.php' did not start: it ended; it said: PHP Fatal error: x"
    (event,) = [one for one in told if one.get("event") == "stopped"]
    assert "failed: worker 'php w.php' did not start" in event["log_format"].format(**event)
    assert b"PHP Fatal error" in fitted(report.record())


def test_a_stop_that_did_not_fail_has_no_reason() -> None:
    world = World().start()
    with recorded() as told:
        world.stop()
        world.reactor.spend(1.0)
    (event,) = [one for one in told if one.get("event") == "stopped"]
    assert "reason" not in event and event["log_format"].format(**event).startswith(
        "stopped by stopService in "
    )


def test_who_flushes_finds_the_report() -> None:
    world = World().start()
    found: list[Any] = []
    world.server.at_end(lambda: found.append(world.server.report))
    world.stop()
    world.reactor.spend(1.0)
    assert [report.outcome for report in found] == ["drained"]


@contextlib.contextmanager
def recorded() -> Iterator[list[dict[str, Any]]]:
    """Events of the log meanwhile."""
    events: list[dict[str, Any]] = []
    globalLogPublisher.addObserver(events.append)
    try:
        yield events
    finally:
        globalLogPublisher.removeObserver(events.append)


def test_of_several_fronts_the_oldest_call_is_told_first_and_only_so_many() -> None:
    http, grpc = InFlight("http", lambda: 10.0), InFlight("grpc", lambda: 10.0)
    for since in (1.0, 4.0):
        http.begin(Item(since, f"GET /{since:g}"))
        grpc.begin(Item(since + 1.0, f"call{since + 1:g}"))
    found = blockers_of([http, grpc], 10.0, 3, stack_of=lambda pid: "never asked without a worker")
    assert [str(one) for one in found] == ["http GET /1 (9.0 s)", "grpc call2 (8.0 s)", "http GET /4 (6.0 s)"]
    assert found[1].record() == {"protocol": "grpc", "call": "call2", "age": 8.0, "pid": 0}


def test_a_worker_that_said_where_it_is_is_told_with_it() -> None:
    http, item = InFlight("http", lambda: 1.0), Item(0.0)
    item.worker_pid = 7  # type: ignore[attr-defined]
    http.begin(item)
    (found,) = blockers_of([http], 1.0, 9, stack_of=lambda pid: f"stack of {pid}")
    assert str(found) == "http GET /slow (1.0 s, worker 7)"
    assert found.record()["stack"] == "stack of 7"
