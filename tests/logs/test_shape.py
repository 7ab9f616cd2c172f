"""The short way of access lines writes what the long one writes, and says when it cannot."""

import json
import os

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.logger import LogLevel, globalLogBeginner, globalLogPublisher

from twisted_rr import log
from twisted_rr.config.sections import ChannelSettings, LogSettings
from twisted_rr.log import Lines, logger
from twisted_rr.logs.escape import MAX_LINE
from twisted_rr.logs.lines import CONSOLE_ROOM, ConsoleForm, JsonForm, RawForm
from twisted_rr.logs.outlet import Outlet, Route
from twisted_rr.logs.shape import Shape, short_form
from twisted_rr.logs.sinks import FileSink, Sink, StreamSink
from twisted_rr.plugins.grpc import access as grpc_access
from twisted_rr.plugins.http import access as http_access

SHAPES = [
    http_access.COMPLETE,
    http_access.INCOMPLETE,
    http_access.REFUSED,
    grpc_access.COMPLETE,
    grpc_access.INCOMPLETE,
    Shape("100% of {msg}: {level} {grün:.1f}", msg=str, level=int, grün=float),
]
FORMS = [
    form
    for ending in ("\n", "\r\n", ";", "", "ü\n")
    for form in (JsonForm(ending), ConsoleForm(False, ending), ConsoleForm(True, ending), RawForm(ending))
]
PLAIN = ("192.168.17.23", "GET", "/things/4711", 200, 5123, 0.0123456, "Mozilla/5.0 (X11; rv:128.0)")
NASTY = [
    '"',
    "\\",
    "\n",
    "\r\n{",
    "\x1b[31m",
    "\x7f",
    "\x85",
    "\u2028",
    "\u202e",
    "\ud800",
    "%s",
    "{x}",
    "ü",
    "",
]

text = st.text(st.characters(codec="ascii"), max_size=40) | st.text(max_size=40) | st.sampled_from(NASTY)
whole = st.integers() | st.integers(0, 600) | st.sampled_from([1 << 53, (1 << 64) - 1, 1 << 64, -(1 << 64)])
values_of = {
    str: text | st.integers(0, 2 * MAX_LINE).map("x".__mul__),
    int: whole,
    float: st.floats() | st.floats(0, 100),
}


class Kept(Sink):
    """Keeps each write."""

    def __init__(self):
        super().__init__("kept")
        self.writes = []

    def _send(self, data):
        self.writes.append(bytes(data))
        return len(data)


class Turn:
    """Flushes when the test says so."""

    def __init__(self):
        self.driven = True
        self.items = {}

    def add(self, item):
        self.items[item] = None

    def run(self):
        items, self.items = self.items, {}
        for item in items:
            item.flush()


def gather(sink, line):
    sink.gather(lambda moment, values: line, None, 1.5, ())


def say(outlet, channel, shape, moment, values):
    outlet.write(outlet.ways(channel, shape), moment, values)


@given(st.data(), st.sampled_from(FORMS), st.sampled_from(SHAPES), st.text(max_size=80), st.floats(0, 4e9))
def test_a_line_of_the_short_way_is_that_of_the_long_one(data, form, shape, channel, moment):
    values = tuple(data.draw(values_of[kind]) for kind in shape.types)
    kept = Kept()
    outlet = Outlet(Route("info", ((form, kept),)), {})
    say(outlet, channel, shape, moment, values)
    outlet(
        {
            **dict(zip(shape.names, values, strict=True)),
            "channel": channel,
            "log_format": shape.format,
            "log_level": LogLevel.info,
            "log_time": moment,
        }
    )
    assert outlet.failed == 0
    if form.ending:
        assert len(kept.writes) == 2
    assert kept.writes[::2] == kept.writes[1::2]


@given(st.sampled_from(FORMS), st.sampled_from(NASTY[:-4]), st.integers(0, 6))
@example(FORMS[0], "\ud800", 2)
def test_no_value_forges_a_line_or_a_field(form, nasty, at):
    values = list(PLAIN)
    if isinstance(values[at], str):
        values[at] = f"a{nasty}b"
    made = short_form(form, http_access.COMPLETE, "http")(1.5, tuple(values))
    if isinstance(values[at], str) and (isinstance(form, JsonForm) or nasty not in '"\\'):
        assert made is None


@pytest.mark.parametrize("form", FORMS)
def test_an_ordinary_line_goes_the_short_way_up_to_the_longest(form):
    short = short_form(form, http_access.COMPLETE, "http")
    assert short(1.5, PLAIN) == form(http_access.COMPLETE.event("http", 1.5, PLAIN))
    room = CONSOLE_ROOM if isinstance(form, ConsoleForm) else MAX_LINE
    fitting = 0
    for size in range(3900, room + 10):
        values = (*PLAIN[:-1], "x" * size)
        made = short(1.5, values)
        if made is None:
            break
        fitting = size
    assert fitting
    for size in (fitting, fitting + 1):
        values = (*PLAIN[:-1], "x" * size)
        long = form(http_access.COMPLETE.event("http", 1.5, values))
        assert (short(1.5, values) or long) == long
    assert (b"... (" in long) or b'"msg":"' in long


@pytest.mark.parametrize(
    ("format", "types"),
    [
        ("{a} {b}", {"a": str}),
        ("{a}", {"a": str, "b": str}),
        ("{b} {a}", {"a": str, "b": str}),
        ("{a} {a}", {"a": str}),
        ("{log_time}", {"log_time": float}),
        ("{channel}", {"channel": str}),
        ("{a:.3f}", {"a": int}),
        ("{a:>9}", {"a": str}),
        ("{a!r}", {"a": str}),
        ("{a}", {"a": list}),
    ],
)
def test_a_shape_that_cannot_be_told_beforehand_is_refused(format, types):
    with pytest.raises(ValueError):
        Shape(format, **types)


# -------------------------------------------------------------------------------- where lines go


@pytest.fixture
def stderr(tmp_path):
    if globalLogBeginner._temporaryObserver is not None:
        globalLogBeginner.beginLoggingTo([], discardBuffer=True, redirectStandardIO=False)
    fd = os.open(tmp_path / "stderr", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    before = list(globalLogPublisher._observers)
    for one in before:
        globalLogPublisher.removeObserver(one)
    yield {"stderr": fd}, lambda: (tmp_path / "stderr").read_text()
    log.stop()
    for one in before:
        globalLogPublisher.addObserver(one)
    os.close(fd)


@pytest.fixture
def emitted(monkeypatch):
    """Counts the events that are made."""
    found = []
    before = log._Emitter.emit
    monkeypatch.setattr(
        log._Emitter,
        "emit",
        lambda self, *told, **fields: (found.append(told), before(self, *told, **fields)),
    )
    return found


def test_no_event_is_made_where_nobody_else_observes(stderr, emitted):
    streams, written = stderr
    log.begin(streams=streams)
    Lines(logger("http"), http_access.COMPLETE).write(*PLAIN)
    line = json.loads(written())
    assert emitted == []
    assert list(line) == ["time", "level", "logger", "msg", *http_access.COMPLETE.names]
    assert (line["level"], line["logger"], line["duration"]) == ("info", "http", 0.0123456)
    assert line["msg"] == "192.168.17.23 GET /things/4711 200 5123 0.012 Mozilla/5.0 (X11; rv:128.0)"


def test_an_observer_of_somebody_else_gets_the_event_and_the_log_its_line(stderr):
    streams, written = stderr
    log.begin(LogSettings(mode="raw"), streams=streams)
    found = []
    globalLogPublisher.addObserver(found.append)
    try:
        Lines(logger("http"), http_access.COMPLETE).write(*PLAIN)
    finally:
        globalLogPublisher.removeObserver(found.append)
    assert (found[0]["channel"], found[0]["status"], found[0]["log_level"]) == ("http", 200, LogLevel.info)
    assert written().count("\n") == 1


def test_an_observer_alone_gets_the_event(stderr):
    found = []
    globalLogPublisher.addObserver(found.append)
    try:
        Lines(logger("http"), http_access.COMPLETE).write(*PLAIN)
    finally:
        globalLogPublisher.removeObserver(found.append)
    assert found[0]["path"] == "/things/4711"


def test_values_of_other_types_go_the_long_way(stderr, emitted):
    streams, written = stderr
    log.begin(LogSettings(mode="raw"), streams=streams)
    Lines(logger("http"), http_access.REFUSED).write("x", True, None)
    assert len(emitted) == 1
    assert written() == "x refused True None\n"


@pytest.mark.parametrize(
    ("settings", "shown"),
    [
        (LogSettings(mode="raw", level="warn"), 0),
        (LogSettings(mode="none"), 0),
        (LogSettings(mode="raw", level="warn", channels={"http": ChannelSettings(level="info")}), 1),
        (LogSettings(mode="raw", channels={"http": ChannelSettings(level="error")}), 0),
        (LogSettings(mode="raw", channels={"http": ChannelSettings(mode="off")}), 0),
    ],
)
def test_levels_and_channels_hold_for_the_short_way(stderr, settings, shown):
    streams, written = stderr
    log.begin(settings, streams=streams)
    lines = Lines(logger("http"), http_access.REFUSED)
    lines.write("x", 400, "bad")
    assert written() == "x refused 400 bad\n" * shown
    log.apply(LogSettings(mode="raw"))
    lines.write("x", 400, "bad")
    assert written() == "x refused 400 bad\n" * (shown + 1)


def test_the_route_decides_too_where_the_logger_s_level_was_changed(stderr):
    streams, written = stderr
    log.begin(LogSettings(mode="raw", level="warn"), streams=streams)
    log.set_levels("debug", {})
    Lines(logger("http"), http_access.REFUSED).write("x", 400, "bad")
    assert written() == ""


def test_several_outputs_have_each_line_each_in_its_form(stderr, tmp_path):
    streams, written = stderr
    log.begin(LogSettings(mode="raw", output=("stderr", str(tmp_path / "a.log"))), streams=streams)
    Lines(logger("http"), http_access.REFUSED).write("x", 400, "b\nd")
    assert written() == (tmp_path / "a.log").read_text() == "x refused 400 b\\nd\n"


def test_lines_of_a_turn_are_one_write_in_order_with_all_others(stderr, tmp_path):
    turn = Turn()
    clock = type("Reactor", (), {"rr_turn": turn})()
    streams, written = stderr
    made = log.begin(LogSettings(mode="raw"), streams=streams, clock=clock)
    lines = Lines(logger("http"), http_access.REFUSED)
    lines.write("1", 400, "bad")
    lines.write("2", 400, "bad")
    assert written() == ""
    turn.run()
    assert written() == "1 refused 400 bad\n2 refused 400 bad\n"
    lines.write("3", 400, "bad")
    logger("server").info("4")
    assert written().endswith("3 refused 400 bad\n4\n")
    lines.write("5", 400, "bad")
    made.apply(LogSettings(mode="raw"))
    assert written().endswith("5 refused 400 bad\n")
    lines.write("6", 400, "bad")
    log.stop()
    assert written().endswith("6 refused 400 bad\n")
    turn.run()
    assert written().count("\n") == 6


def test_a_reactor_that_may_stop_before_its_timers_gets_each_line_at_once(stderr):
    turn = Turn()
    turn.driven = False
    streams, written = stderr
    log.begin(LogSettings(mode="raw"), streams=streams, clock=type("Reactor", (), {"rr_turn": turn})())
    Lines(logger("http"), http_access.REFUSED).write("1", 400, "bad")
    assert written() == "1 refused 400 bad\n"


def test_no_write_of_gathered_lines_is_longer_than_a_pipe_takes_in_one_piece():
    sink, turn = Kept(), Turn()
    sink.turn = turn
    for size in (1000, 3000, 200, 5000, 10):
        gather(sink, b"x" * (size - 1) + b"\n")
    turn.run()
    assert [len(one) for one in sink.writes] == [4000, 200, 5000, 10]


def test_a_file_takes_more_at_once_and_a_fifo_in_its_place_does_not(tmp_path):
    read, write = os.pipe()
    os.mkfifo(tmp_path / "fifo")
    other = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    rooms = []
    for sink in (
        FileSink(str(tmp_path / "a.log")),
        FileSink(str(tmp_path / "fifo")),
        StreamSink("stderr", write),
        StreamSink("stdout", other),
    ):
        writes = []
        sink._send = lambda data, writes=writes: writes.append(len(data)) or len(data)
        sink.turn = Turn()
        for _ in range(10):
            gather(sink, b"x" * 999 + b"\n")
        sink.turn.run()
        rooms.append(writes)
        sink.close()
    for fd in (read, write, other):
        os.close(fd)
    assert rooms == [[10000], [4000, 4000, 2000], [4000, 4000, 2000], [4000, 4000, 2000]]


def test_lines_of_the_short_way_are_dropped_and_counted_when_the_sink_is_clogged():
    class Stuck(Sink):
        def _send(self, data):
            raise BlockingIOError(11, "full")

    sink, turn = Stuck("stuck"), Turn()
    sink.turn = turn
    outlet = Outlet(Route("info", ((RawForm(), sink),)), {})
    for _ in range(2000):
        say(outlet, "http", http_access.REFUSED, 1.5, ("x", 400, "y" * 1000))
        turn.run()
    taken = bytes(sink._pending).count(b"\n")
    assert sink.dropped == 2000 - taken
    assert sink.dropped > 900
    sink._send = len
    say(outlet, "http", http_access.REFUSED, 1.5, ("x", 400, "end"))
    assert not sink.pending


def test_a_sink_that_fails_within_the_short_way_is_counted_and_nobody_s_error():
    class Broken(Sink):
        def clogged(self):
            raise RuntimeError

    outlet = Outlet(Route("info", ((RawForm(), Broken("broken")),)), {})
    say(outlet, "http", http_access.REFUSED, 1.5, ("x", 400, "y"))
    assert outlet.failed == 1


def test_a_line_that_cannot_be_made_at_the_turn_s_end_is_lost_and_counted_alone():
    sink, turn = Kept(), Turn()
    sink.turn = turn
    sink.note = lambda count: b"%d lost\n" % count
    gather(sink, b"1\n")
    sink.gather(lambda moment, values: None, lambda moment, values: 1 / 0, 1.5, ())
    gather(sink, b"3\n")
    turn.run()
    assert (sink.writes, sink.dropped) == ([b"1 lost\n1\n3\n"], 1)


def test_a_turn_that_goes_on_and_on_writes_meanwhile():
    sink, turn = Kept(), Turn()
    sink.turn = turn
    for _ in range(300):
        gather(sink, b"x\n")
    assert b"".join(sink.writes).count(b"\n") == 256
    turn.run()
    assert b"".join(sink.writes).count(b"\n") == 300
