"""Loggers by channel, and the server's log from its settings to its lines."""

import json
import os
import subprocess
import sys

import pytest
import twisted.python.log
from twisted.internet.task import Clock
from twisted.logger import (
    ILogObserver,
    LogBeginner,
    Logger,
    LogLevel,
    LogPublisher,
    globalLogBeginner,
    globalLogPublisher,
)
from twisted.python.components import Componentized

from twisted_rr import log
from twisted_rr.config.sections import ChannelSettings, FileLoggerSettings, LogSettings
from twisted_rr.errors import ConfigError
from twisted_rr.log import ServerLog, logger, set_levels


@pytest.fixture(autouse=True)
def fresh():
    # What other tests logged in this process, before any log began, is not ours.
    if globalLogBeginner._temporaryObserver is not None:
        globalLogBeginner.beginLoggingTo([], discardBuffer=True, redirectStandardIO=False)
    yield
    log.stop()
    set_levels("info", {})


@pytest.fixture
def events():
    found = []
    globalLogPublisher.addObserver(found.append)
    yield found
    globalLogPublisher.removeObserver(found.append)


@pytest.fixture
def stderr(tmp_path):
    """A file in the place of stderr: its number, and what was written."""
    fd = os.open(tmp_path / "stderr", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    yield {"stderr": fd, "stdout": fd}, lambda: (tmp_path / "stderr").read_text()
    os.close(fd)


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


# ------------------------------------------------------------------------------ loggers


def test_events_carry_the_channel(events):
    logger("http").info("hello {name}", name="x")
    assert (events[0]["channel"], events[0]["name"], events[0]["log_level"]) == ("http", "x", LogLevel.info)


def test_there_is_one_logger_for_each_channel():
    assert logger("http") is logger("http")
    assert logger("http") is not logger("server")


def test_a_failure_is_logged_with_its_traceback(events):
    try:
        raise ValueError("boom")
    except ValueError:
        logger("http").failure("it broke {what}", what="x")
    assert events[0]["log_failure"].value.args == ("boom",)
    assert (events[0]["channel"], events[0]["log_level"]) == ("http", LogLevel.critical)


@pytest.mark.parametrize(
    ("level", "heard"),
    [
        ("debug", ["debug", "info", "warn", "error", "critical"]),
        ("info", ["info", "warn", "error", "critical"]),
        ("warn", ["warn", "error", "critical"]),
        ("error", ["error", "critical"]),
        ("critical", ["critical"]),
        ("none", []),
    ],
)
def test_levels_of_loggers_made_before_and_after(events, level, heard):
    before = logger("before")
    set_levels(level, {})
    for one in (before, logger(f"after-{level}")):
        events.clear()
        for name in ("debug", "info", "warn", "error", "critical"):
            getattr(one, name)("x")
        assert [event["log_level"].name for event in events] == heard
        assert one.debug_enabled == (level == "debug")
        assert one.info_enabled == (level in ("debug", "info"))


def test_a_channel_s_own_level_wins(events):
    set_levels("warn", {"jobs": "debug"})
    logger("jobs").debug("x")
    logger("http").info("x")
    assert [event["channel"] for event in events] == ["jobs"]


def test_taking_a_logger_starts_no_logging_and_no_reactor():
    code = (
        "import sys; from twisted_rr.log import logger; from twisted.logger import globalLogBeginner as b;"
        "logger('x').info('hello');"
        "sys.exit(b._temporaryObserver is None or 'twisted.internet.reactor' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


# --------------------------------------------------------------------- the server's log


def test_the_default_is_info_as_json_on_stderr_when_it_is_no_terminal(stderr):
    streams, written = stderr
    log.begin(streams=streams)
    logger("http").debug("hidden")
    logger("http").info("hello {name}", name="x")
    assert [(line["level"], line["logger"], line["msg"]) for line in lines(written())] == [
        ("info", "http", "hello x")
    ]


def test_on_a_terminal_it_is_text_in_colour_unless_told_otherwise():
    import pty

    master, slave = pty.openpty()
    for environ, coloured in (({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
        log.begin(streams={"stderr": slave}, environ=environ)
        logger("http").info("hello")
        text = os.read(master, 1000)
        assert text.endswith(b"http     hello\r\n")
        assert (b"\x1b[" in text) == coloured
    log.stop()
    os.close(master)
    os.close(slave)


@pytest.mark.parametrize(
    ("mode", "ending"),
    [("development", "info  http     hello\n"), ("raw", "hello\n"), ("none", ""), ("off", "")],
)
def test_modes(stderr, mode, ending):
    streams, written = stderr
    log.begin(LogSettings(mode=mode), streams=streams)
    logger("http").info("hello")
    assert written().endswith(ending)
    assert ("hello" in written()) == bool(ending)


def test_several_outputs_channels_and_levels(stderr, tmp_path):
    streams, written = stderr
    settings = LogSettings(
        level="warn",
        mode="raw",
        output=("stderr", str(tmp_path / "all.log")),
        line_ending="\\n",
        channels={
            "http": ChannelSettings(level="debug", output=(str(tmp_path / "http.log"),)),
            "jobs": ChannelSettings(mode="none"),
            "status": ChannelSettings(level="panic"),
            "rpc": ChannelSettings(line_ending=";\n"),
        },
    )
    log.begin(settings, streams=streams)
    logger("http").debug("h")
    logger("jobs").error("j")
    logger("status").error("s")
    logger("server").info("hidden")
    logger("server").warn("w")
    logger("rpc").warn("r")
    assert logger("http").debug_enabled
    assert (tmp_path / "http.log").read_text() == "h\n"
    assert written() == (tmp_path / "all.log").read_text() == "w\nr;\n"


def test_a_rotating_file_takes_the_place_of_the_output(stderr, tmp_path):
    streams, written = stderr
    options = FileLoggerSettings(log_output=str(tmp_path / "r.log"), max_size=0)
    log.begin(LogSettings(mode="raw", file_logger_options=options), streams=streams)
    logger("http").info("hello")
    assert lines((tmp_path / "r.log").read_text())[0]["msg"] == "hello"
    assert written() == ""


def test_a_default_output_serves_where_the_settings_name_none(tmp_path):
    log.begin(LogSettings(mode="raw"), default_output=str(tmp_path / "d.log"))
    logger("http").info("hello")
    assert (tmp_path / "d.log").read_text() == "hello\n"


def test_files_that_cannot_be_opened_are_all_told_and_nothing_begins(tmp_path):
    bad = str(tmp_path / "none/a.log")
    settings = LogSettings(
        output=(bad, str(tmp_path / "ok.log")), channels={"http": ChannelSettings(output=(bad + "2",))}
    )
    with pytest.raises(ConfigError) as caught:
        log.begin(settings)
    assert [str(problem) for problem in caught.value.problems] == [
        f"logs.output: cannot open {bad}: No such file or directory",
        f"logs.channels.http.output: cannot open {bad}2: No such file or directory",
    ]


def test_other_people_s_events_are_heard_but_twisted_s_chatter_is_debug(stderr):
    streams, written = stderr
    log.begin(LogSettings(mode="raw", channels={"library": ChannelSettings(level="error")}), streams=streams)
    Logger(namespace="twisted.internet").info("chatter")
    Logger(namespace="twisted.internet").warn("a warning")
    twisted.python.log.msg("old chatter")
    Logger(namespace="other.part").info("heard")
    Logger(namespace="library.part").info("hidden")
    Logger(namespace="library.part").critical("critical")
    globalLogPublisher({"log_format": "no level", "log_time": 1.0})
    assert written() == "a warning\nheard\ncritical\nno level\n"


def test_an_event_that_cannot_be_written_is_counted(stderr):
    streams, written = stderr
    made = log.begin(streams=streams)
    made.observer({"log_level": "not a level"})
    assert made.dropped == 1
    assert written() == ""


def test_reopen_and_stop_of_the_log_that_was_begun(tmp_path):
    path = tmp_path / "a.log"
    log.reopen()
    log.begin(LogSettings(mode="raw", level="debug", output=(str(path),)))
    logger("http").info("1")
    path.rename(tmp_path / "old")
    log.reopen()
    logger("http").info("2")
    assert path.read_text() == "2\n"
    assert logger("http").debug_enabled
    log.stop()
    assert not logger("http").debug_enabled
    logger("http").info("3")
    assert path.read_text() == "2\n"


def test_other_settings_can_be_applied_or_refused_while_it_runs(stderr, tmp_path):
    streams, written = stderr
    made = log.begin(LogSettings(mode="raw"), streams=streams)
    made.apply(LogSettings(mode="raw", level="debug", output=(str(tmp_path / "a.log"),)))
    logger("http").debug("1")
    with pytest.raises(ConfigError):
        made.apply(LogSettings(output=(str(tmp_path / "none/b.log"),)))
    logger("http").debug("2")
    assert (tmp_path / "a.log").read_text() == "1\n2\n"
    assert written() == ""


def test_a_stalled_sink_is_tried_again_by_the_clock():
    read, write = os.pipe()
    clock = Clock()
    made = log.begin(LogSettings(mode="raw"), clock=clock, streams={"stderr": write})
    for _ in range(200):
        logger("http").info("x" * 1000)
    assert len(clock.getDelayedCalls()) == 1
    found = 0
    while clock.getDelayedCalls():
        found += len(os.read(read, 1 << 16))
        clock.advance(0.1)
    found += len(os.read(read, 1 << 20))
    assert found == 200 * 1001
    assert made.dropped == 0
    for _ in range(200):
        logger("http").info("x" * 1000)
    made.stop(patience=0.0)
    assert clock.getDelayedCalls() == []
    os.close(read)
    os.close(write)


def test_lost_lines_are_told_in_the_form_of_the_log():
    read, write = os.pipe()
    made = log.begin(streams={"stderr": write})
    os.set_blocking(read, False)
    for _ in range(2000):
        logger("http").info("x" * 1000)
    while made._sinks["stderr"].pending:
        os.read(read, 1 << 16)
        made.flush()
    logger("http").info("end")
    last = lines(os.read(read, 1 << 20).decode().partition("\n")[2])[-2:]
    assert last[0]["msg"] == f"{made.dropped} lines of the log were lost here: it could not be written to"
    assert (last[0]["logger"], last[0]["level"], last[1]["msg"]) == ("logs", "warn", "end")
    log.stop()
    os.close(read)
    os.close(write)


# ---------------------------------------------------------------- where logging begins


def test_install_begins_logging_and_replays_what_was_said_before(stderr):
    streams, written = stderr
    publisher = LogPublisher()
    beginner = LogBeginner(
        publisher, sys.stderr, type("Stdio", (), {})(), type("W", (), {"showwarning": None})()
    )
    Logger(namespace="early", observer=publisher).info("before")
    made = ServerLog(LogSettings(mode="raw"), streams=streams)
    made.install(beginner, publisher)
    Logger(namespace="late", observer=publisher).info("after")
    assert written() == "before\nafter\n"
    made.stop()
    Logger(namespace="late", observer=publisher).info("too late")
    assert written() == "before\nafter\n"


def test_where_logging_has_begun_the_observer_joins_without_a_warning(stderr):
    streams, written = stderr
    publisher = LogPublisher()
    beginner = LogBeginner(
        publisher, sys.stderr, type("Stdio", (), {})(), type("W", (), {"showwarning": None})()
    )
    beginner.beginLoggingTo([], redirectStandardIO=False)
    made = ServerLog(LogSettings(mode="raw"), streams=streams)
    made.install(beginner, publisher)
    Logger(namespace="x", observer=publisher).info("hello")
    made.stop()
    assert written() == "hello\n"


def test_under_twistd_the_application_names_our_observer(stderr):
    streams, written = stderr
    application = Componentized()
    made = log.begin(LogSettings(level="debug"), application=application, streams=streams)
    assert application.getComponent(ILogObserver) is made.observer
    assert logger("http").debug_enabled
    logger("http").info("twistd has not begun")
    assert written() == ""


GOES_ON = (
    "from twisted_rr import log; made = log.begin(); l = log.logger('x');"
    "[l.info('y' * 1000) for _ in range(2000)]; made.stop(); print('alive', made.dropped > 0)"
)


@pytest.mark.parametrize("redirect", ["2>&-", "2>/dev/full"])
def test_a_process_whose_stderr_is_closed_or_full_goes_on(redirect):
    shell = f'exec "$0" -c "$1" {redirect}'
    done = subprocess.run(
        ["sh", "-c", shell, sys.executable, GOES_ON], capture_output=True, timeout=30, check=False
    )
    assert done.stdout == b"alive True\n"


def test_a_process_whose_log_s_reader_is_gone_goes_on():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-c", GOES_ON], stdout=subprocess.PIPE, stderr=write, timeout=30, check=False
    )
    os.close(write)
    assert done.stdout == b"alive True\n"
