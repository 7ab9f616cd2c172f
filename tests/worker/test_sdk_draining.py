"""What a worker makes of the server's word that it drains."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from twisted_rr.wire.control import draining
from twisted_rr.worker.draining import Deadline, is_endless
from twisted_rr.worker.lifespan import Draining as LoopDraining
from twisted_rr.worker.threads import Draining as ThreadDraining


def test_before_a_drain_nothing_is_known() -> None:
    told = Deadline()
    assert (told.remaining(), told.deadline, told.streams_over()) == (None, None, False)


def test_the_times_become_monotonic_ones() -> None:
    told = Deadline()
    told.told(draining(20000, 5000)["draining"])
    left = told.remaining()
    assert left is not None and 19.5 < left <= 20.0
    assert told.streams_end is not None and 4.5 < told.streams_end - time.monotonic() <= 5.0
    assert not told.streams_over()


def test_a_grace_of_nothing_is_over_at_once() -> None:
    told = Deadline()
    told.told(draining(20000, 0)["draining"])
    assert told.streams_over()


def test_a_server_that_knows_no_stream_grace_ends_no_stream() -> None:
    told = Deadline()
    told.told(draining(1000)["draining"])
    assert told.streams_end is None and not told.streams_over()


@pytest.mark.parametrize("times", [None, True, [], {}, {"deadline_ms": "soon"}, {"deadline_ms": True}])
def test_what_cannot_be_read_is_passed_over(times: Any) -> None:
    told = Deadline()
    told.told(times)
    assert told.remaining() is None


def test_a_deadline_in_the_past_leaves_nothing() -> None:
    told = Deadline()
    told.told({"deadline_ms": -5})
    assert told.remaining() == 0.0


def test_both_kinds_of_worker_give_an_event_with_the_deadline() -> None:
    assert isinstance(ThreadDraining(), threading.Event) and ThreadDraining().remaining() is None
    assert not LoopDraining().is_set() and LoopDraining().remaining() is None


@pytest.mark.parametrize(
    ("headers", "endless"),
    [
        ([(b"Content-Type", b"text/event-stream; charset=utf-8")], True),
        ([(b"x-a", b"1"), (b"content-type", b"multipart/x-mixed-replace;boundary=x")], True),
        ([(b"content-type", b"application/x-ndjson")], False),
        ([(b"content-type", b"text/csv")], False),
        ([], False),
    ],
)
def test_only_streams_that_are_complete_anywhere_are_endless(headers: Any, endless: bool) -> None:
    assert is_endless(headers) is endless
