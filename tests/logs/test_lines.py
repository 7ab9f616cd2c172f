"""Log lines cannot be forged, are of bounded length, and hold what was said."""

import json
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import LogLevel
from twisted.python.failure import Failure

from twisted_rr.logs.escape import MAX_LINE, capped, escaped, escaped_json, text_of
from twisted_rr.logs.lines import ConsoleForm, JsonForm, RawForm, level_of, rfc3339

NASTY = "a\nb\r\x1b[31m\x00\x7f\x85\u2028\u202e\u2066\ufeff\ud800\U000e0041z"
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
FORMS = {"console": ConsoleForm(False), "colour": ConsoleForm(True), "json": JsonForm(), "raw": RawForm()}


def event(text="{text}", level=LogLevel.info, **fields):
    return {"log_format": text, "log_level": level, "log_time": 1.5, "channel": "http", **fields}


def failure(text="boom"):
    try:
        raise ValueError(text)
    except ValueError:
        return Failure()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ü 漢 \u200d", "plain ü 漢 \u200d"),
        ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
        ("\x00\x1b\x7f\x9b", "\\x00\\x1b\\x7f\\x9b"),
        ("\u202e\u2028\ufeff", "\\u202e\\u2028\\ufeff"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_control_characters_are_written_out(text, shown):
    assert escaped(text) == shown


@given(st.text(st.characters()))
def test_json_stays_the_same_value_however_much_is_escaped(text):
    line = escaped_json(json.dumps(text, ensure_ascii=False))
    assert json.loads(line) == text
    assert not CONTROL.search(line)


@given(st.text(max_size=60), st.integers(40, 80))
def test_a_capped_text_fits_and_is_whole_when_it_may(text, limit):
    found = capped(text, limit)
    assert len(found.encode()) <= limit
    assert (found == text) == (len(text.encode()) <= limit)


def test_what_was_cut_is_told():
    assert capped("ü" * 100, 40) == "ü" * 12 + "... (200 bytes)"


def test_any_value_has_a_text():
    class Broken:
        def __str__(self):
            raise RuntimeError

    assert text_of("a") == "a"
    assert text_of(b"\xff\xc3\xbc") == "\\xffü"
    assert text_of(5) == "5"
    assert text_of(Broken()) == "<Broken that has no text>"


@given(
    form=st.sampled_from(["console", "json", "raw"]),
    text=st.text(),
    field=st.text() | st.binary(),
    channel=st.text(max_size=20),
)
def test_no_text_makes_a_second_line_or_reaches_the_terminal(form, text, field, channel):
    made = FORMS[form](event(text=text, other=field) | {"channel": channel})
    assert made.endswith(b"\n")
    assert not CONTROL.search(made[:-1].decode("utf-8"))
    assert len(made) <= MAX_LINE + 1


@pytest.mark.parametrize("form", FORMS)
def test_every_form_survives_the_nastiest_text(form):
    assert FORMS[form](event(text=NASTY, more=NASTY)).count(b"\n") == 1


# --------------------------------------------------------------------------------- JSON


def test_a_json_line_has_roadrunner_s_keys_then_the_fields():
    made = FORMS["json"](event("hello {name}", name="x", pid=7, level_="z", none=None, ok=True, ratio=0.5))
    assert json.loads(made) == {
        "time": "1970-01-01T00:00:01.500000Z",
        "level": "info",
        "logger": "http",
        "msg": "hello x",
        "name": "x",
        "pid": 7,
        "level_": "z",
        "none": None,
        "ok": True,
        "ratio": 0.5,
    }
    assert list(json.loads(made))[:4] == ["time", "level", "logger", "msg"]


def test_a_field_cannot_pose_as_a_key_of_the_line():
    made = json.loads(
        FORMS["json"](event("m") | {"level": "debug", "msg": "forged", "traceback": "x", "logger": "y"})
    )
    assert (made["level"], made["msg"], made["logger"]) == ("info", "m", "http")
    assert (made["level_"], made["msg_"], made["traceback_"], made["logger_"]) == (
        "debug",
        "forged",
        "x",
        "y",
    )
    assert "traceback" not in made


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (2**70, str(2**70)),
        (b"\xff", "\\xff"),
        ({"a": [1, {"b": (2, {"c": 3})}]}, {"a": [1, {"b": "(2, {'c': 3})"}]}),
        ({1: 2}, {"1": 2}),
        ({"x"}, ["x"]),
        (ValueError("e"), "e"),
    ],
)
def test_any_value_becomes_json(value, shown):
    assert json.loads(FORMS["json"](event("m", value=value)))["value"] == shown


def test_a_traceback_is_one_escaped_field():
    made = json.loads(FORMS["json"](event("it broke", LogLevel.critical, log_failure=failure("a\nb"))))
    assert (made["level"], made["msg"]) == ("error", "it broke")
    assert made["traceback"].endswith("builtins.ValueError: a\nb")


def test_a_long_line_is_cut_to_size_and_stays_json():
    made = FORMS["json"](event("m" * 50_000, a="ü" * 50_000, log_failure=failure("end" * 5_000)))
    assert len(made) <= MAX_LINE + 1
    found = json.loads(made)
    assert found["msg"].startswith("mmm")
    assert found["traceback"].endswith("end")


def test_a_line_of_too_many_fields_keeps_its_head():
    made = FORMS["json"](event("m", **{f"field{n}": "x" * 90 for n in range(200)}))
    assert json.loads(made) == {
        "time": "1970-01-01T00:00:01.500000Z", "level": "info", "logger": "http", "msg": "m", "truncated": True,
    }  # fmt: skip


def test_times_are_utc_with_microseconds():
    assert rfc3339(1_700_000_000.000001) == "2023-11-14T22:13:20.000001Z"
    assert rfc3339(1_700_000_000.9999999) == "2023-11-14T22:13:21.000000Z"


# --------------------------------------------------------------------------------- text


@pytest.fixture
def utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_a_console_line_has_its_fields_before_the_message(utc):
    made = FORMS["console"](event("hello {name}", LogLevel.warn, name="x", pid=7, path="/a b", odd='"'))
    assert made == b'1970-01-01 00:00:01.500 warn  http     [pid=7 path="/a b" odd="\\""] hello x\n'


def test_a_message_that_looks_like_fields_stays_behind_them(utc):
    made = FORMS["console"](event(text="] [pid=666] admin", pid=7)).decode()
    assert made.endswith("http     [pid=7] ] [pid=666] admin\n")


def test_colours_are_around_the_server_s_own_words_only(utc):
    made = FORMS["colour"](event(text="\x1b[31mred", level=LogLevel.error))
    assert made == b"\x1b[2m1970-01-01 00:00:01.500\x1b[0m \x1b[31merror\x1b[0m http     \\x1b[31mred\n"


def test_a_traceback_on_a_console_has_lines_of_its_own_that_pose_as_nothing_else():
    lines = (
        FORMS["console"](event("it broke", log_failure=failure("x\n1970-01-01 fake\x1b")))
        .decode()
        .splitlines()
    )
    assert lines[0].endswith("it broke")
    assert all(line.startswith("    | ") for line in lines[1:])
    assert lines[-1] == "    | 1970-01-01 fake\\x1b"


def test_an_endless_traceback_is_cut_from_above():
    lines = FORMS["console"](event("m", log_failure=failure("x\n" * 500))).decode().splitlines()
    assert len(lines) == 202
    assert lines[1] == "    | ..."


def test_raw_is_the_message_alone_and_what_a_failure_says():
    assert FORMS["raw"](event("hello {name}", name="x", pid=7)) == b"hello x\n"
    assert FORMS["raw"](event("it broke", log_failure=failure())) == b"it broke: ValueError: boom\n"
    assert FORMS["raw"](event(None, log_failure=failure())) == b"ValueError: boom\n"


def test_an_event_of_old_style_or_with_a_broken_format_is_still_a_line(utc):
    made = FORMS["console"]({"log_namespace": "twisted.python", "log_format": "{", "log_time": 1.5})
    assert made.startswith(b"1970-01-01 00:00:01.500 info  twisted  ")
    assert level_of({}) == "info"


def test_the_ending_is_what_the_settings_say():
    assert JsonForm("\r\n")(event("m")).endswith(b"}\r\n")
    assert RawForm("")(event("m")) == b"m"


def test_a_format_whose_field_is_missing_tells_so_in_the_line():
    assert FORMS["raw"](event("hello {nobody}")).startswith(b"Unable to format event")


def test_formats_with_more_than_names_are_those_of_twisted():
    assert (
        FORMS["raw"](event("{value.real} {maker()} {items[0]}", value=5, maker=lambda: 6, items=[7]))
        == b"5 6 7\n"
    )
