"""What the way out tells: who blocks it, what was cut by what, and the report for those who flush."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from lifecycle_world import World
from twisted.logger import globalLogPublisher

from twisted_rr.lifecycle.budget import Budget


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
