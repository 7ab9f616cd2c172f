"""What ``config check``, ``config show``, ``config schema`` and generated files say."""

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from sample import registry

from twisted_rr.config import check, load, masked, render
from twisted_rr.config.nodes import to_plain
from twisted_rr.config.report import Report
from twisted_rr.config.schema import export
from twisted_rr.config.source import read_yaml

GOOD = 'version: "3"\nserver: {command: php w.php}\nhttp:\n  address: 127.0.0.1:80\n'


# -------------------------------------------------------------------------------- check


def test_a_valid_file_is_one_line_and_zero():
    assert check(GOOD, registry()) == (0, "<text>: valid")


def test_a_file_with_warnings_is_valid():
    code, text = check(GOOD + "  pool: {allocate_timeout: 5}\n  old: x\n", registry())
    assert code == 0
    assert text == (
        "warning: <text>:5:28: http.pool.allocate_timeout: a bare number is seconds here, "
        "but RoadRunner reads it as nanoseconds; write 5s\n"
        "warning: <text>:6:3: http.old: has no effect: nobody uses it\n"
        "<text>: valid, with 2 warnings"
    )


def test_problems_come_with_the_warnings_and_make_one():
    code, text = check(GOOD + "  old: x\n  pool: {debug: 5}\n", registry(), ["htp.a=1"])
    assert code == 1
    assert text == (
        "error: -o htp.a: htp: unknown section; did you mean 'http'?\n"
        "error: <text>:6:17: http.pool.debug: expected true or false, not the number 5\n"
        "warning: <text>:5:3: http.old: has no effect: nobody uses it\n"
        "<text>: 2 errors; nothing would start"
    )


def test_one_error_is_not_a_plural_and_a_missing_file_is_one(tmp_path):
    code, text = check("none.yaml", registry(), directory=tmp_path)
    assert code == 1
    assert text.endswith("none.yaml: 1 error; nothing would start")


def test_as_json_each_problem_has_its_place_in_parts(tmp_path):
    (tmp_path / "rr.yaml").write_text(GOOD + "  old: x\n  pool: {debug: 5}\n")
    code, text = check("rr.yaml", registry(), ["htp.a=1"], {}, directory=tmp_path, as_json=True)
    assert code == 1
    assert json.loads(text) == {
        "file": "rr.yaml",
        "valid": False,
        "errors": [
            {"file": "-o htp.a", "line": None, "column": None, "path": "htp",
             "message": "unknown section; did you mean 'http'?"},
            {"file": "rr.yaml", "line": 6, "column": 17, "path": "http.pool.debug",
             "message": "expected true or false, not the number 5"},
        ],
        "warnings": [
            {"file": "rr.yaml", "line": 5, "column": 3, "path": "http.old",
             "message": "has no effect: nobody uses it"},
        ],
    }  # fmt: skip


def test_a_dict_can_be_checked():
    assert check({"version": "3"}, registry()) == (0, "<memory>: valid")


# ------------------------------------------------------------------------------- render


def test_a_configuration_is_written_with_what_each_key_is_for():
    data = {
        "version": "3",
        "server": {"command": "python -m app"},
        "http": {"address": ":8080", "pool": {"num_workers": 2, "debug": False}, "middleware": ["a", "b"]},
        "unknown": {"x": [], "y": {}, "z": None, "l": [{"a": 1, "b": [1, {"c": "d"}]}, [1, 2]]},
    }
    assert render(data, registry()) == (
        '# The format of this file, always "3".\n'
        'version: "3"\n\n'
        "# How workers are started.\nserver:\n  command: python -m app\n\n"
        "# The HTTP front.\nhttp:\n"
        '  # Where to listen.\n  address: ":8080"\n'
        "  pool:\n    # How many workers.\n    num_workers: 2\n    debug: false\n"
        "  middleware:\n    - a\n    - b\n\n"
        "unknown:\n  x: []\n  y: {}\n  z: null\n  l:\n    - a: 1\n      b:\n        - 1\n        - c: d\n    - [1, 2]\n"
    )


def test_without_comments_it_is_bare():
    assert (
        render({"version": "3", "kv": {"a": 1}}, registry(), comments=False) == 'version: "3"\nkv:\n  a: 1\n'
    )


def test_dollars_are_protected_unless_they_are_variables():
    data = {"version": "3", "server": {"command": "echo ${A:-b}"}}
    assert "command: echo $${A:-b}" not in render(data, registry())
    assert '"echo $${A:-b}"' in render(data, registry())
    text = render(data, registry(), variables=True)
    assert load(text, registry()).settings("server").command == ("echo", "b")


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**15), 10**15)
    | st.floats(allow_nan=False, allow_infinity=False)
)
names = st.text(min_size=1).filter(lambda name: name != "<<")
values = st.recursive(
    scalars | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(names, values, max_size=4))
def test_what_is_written_reads_back_the_same(data):
    report = Report()
    text = render(data, registry(), variables=True, comments=False) or "{}"
    for loader in (yaml.SafeLoader, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        assert to_plain(read_yaml(text, "f", report, loader)) == data, text
    assert report.problems == []


@pytest.mark.parametrize(
    "text", ["on", "010", "22:30", "0o7", "2001-01-01", "=", "1_0", "null", "a: b", "a #b", "- a"]
)
def test_texts_that_either_version_of_yaml_would_take_for_more_are_quoted(text):
    written = render({"a": text}, registry())
    assert yaml.safe_load(written) == {"a": text}
    assert to_plain(read_yaml(written, "f", Report())) == {"a": text}


def test_a_config_that_was_written_loads_to_the_same_settings():
    data = {"version": "3", "server": {"command": ["a", "$b c"]}, "http": {"address": ":80"}}
    first = load(data, registry())
    second = load(render(first, registry(), secrets=True), registry())
    assert second.settings("server") == first.settings("server")
    assert second.settings("http") == first.settings("http")


# ------------------------------------------------------------------------------ secrets


def test_secrets_are_masked_by_declaration_and_by_name():
    data = {
        "version": "3",
        "server": {
            "plain": "a",
            "token": "b",
            "key": "/etc/key.pem",
            "env": {"DB_PASSWORD": "c", "SMTP_PASS": "c", "COMPASS": "n", "HOME": "/h"},
        },
        "kv": {
            "a": {
                "secret": "d",
                "api_key": "e",
                "key": "f",
                "url": "redis://user:pw@host/0",
                "none_token": None,
            },
            "b": ["amqp://guest:guest@h", "amqp://guest:gu@est@h/a@b", {"password": "g"}, 5],
        },
        "other": {"auth": "h", "monkey": "i", "author": "j", "Authorization": "Basic k", "token_keys": "l"},
        "tokens": {"first": "m", "more": {"second": "n", "none": None}},
    }
    assert masked(data, registry()) == {
        "version": "3",
        "server": {"plain": "***", "token": "***", "key": "/etc/key.pem",
                   "env": {"DB_PASSWORD": "***", "SMTP_PASS": "***", "COMPASS": "n", "HOME": "/h"}},
        "kv": {
            "a": {"secret": "***", "api_key": "***", "key": "***", "url": "redis://user:***@host/0",
                  "none_token": None},
            "b": ["amqp://guest:***@h", "amqp://guest:***@h/a@b", {"password": "***"}, 5],
        },
        "other": {"auth": "***", "monkey": "i", "author": "j", "Authorization": "***", "token_keys": "***"},
        "tokens": {"first": "***", "more": {"second": "***", "none": None}},
    }  # fmt: skip


def test_a_config_is_shown_without_its_secrets_unless_asked():
    config = load('version: "3"\nserver: {command: a, token: t0p}\n', registry())
    assert "t0p" not in render(config, registry())
    assert "t0p" in render(config, registry(), secrets=True)
    assert "t0p" not in repr(config)


# ------------------------------------------------------------------------------- schema


def test_the_schema_has_every_section_and_key_with_its_bounds():
    schema = export(registry())
    assert schema["required"] == ["version"]
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) >= {
        "version",
        "logs",
        "endure",
        "http",
        "server",
        "kv",
        "grpc",
        "temporal",
    }
    http = schema["properties"]["http"]
    assert http["description"] == "The HTTP front."
    assert http["required"] == ["address"]
    assert http["properties"]["address"]["description"] == "Where to listen."
    workers = http["properties"]["pool"]["properties"]["num_workers"]
    assert workers["anyOf"][0] == {"type": "integer", "minimum": 0, "maximum": 2048}
    assert http["properties"]["old"]["description"] == "Accepted, has no effect: nobody uses it"
    json.dumps(schema)


def test_the_schema_of_the_registry_as_a_kind_is_the_same():
    assert registry().schema() == export(registry())


def test_the_same_warning_is_kept_once():
    report = Report()
    for path in ("a", "a", "b"):
        report.warning(path, "odd", None)
    assert [str(one) for one in report.warnings] == ["a: odd", "b: odd"]
