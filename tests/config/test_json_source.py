"""JSON text to nodes, by RFC 8259, against the standard library as the oracle of values."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_rr.config.json_source import read_json
from twisted_rr.config.nodes import Mark, to_plain
from twisted_rr.config.report import Report
from twisted_rr.config.source import MAX_DEPTH, MAX_NODES

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(min_size=1), inner, max_size=4),
    max_leaves=12,
)


def read(text):
    report = Report()
    node = read_json(text, "f.json", report)
    return node, [str(problem) for problem in report.problems]


@given(values, st.sampled_from([None, "\t", 2]), st.booleans())
def test_values_are_those_of_the_standard_library(value, indent, ascii_only):
    node, problems = read(json.dumps(value, indent=indent, ensure_ascii=ascii_only))
    assert problems == []
    assert to_plain(node) == value


def test_places_are_lines_and_columns():
    node, _ = read('{\n\t"a": [1,\n  "x"]\n}')
    assert node.entries["a"].mark == Mark("f.json", 2, 2)
    assert node.entries["a"].node.items[1].mark == Mark("f.json", 3, 3)


def test_floats_and_surrogate_pairs_are_read():
    node, _ = read(r'["\ud83d\ude00", 1.5e3, -0.5]')
    assert to_plain(node) == ["\U0001f600", 1500.0, -0.5]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "f.json:1:1: not JSON: expected a value"),
        ("{", "f.json:1:2: not JSON: expected a key in double quotes"),
        ('{"a" 1}', "f.json:1:6: not JSON: expected ':'"),
        ('{"a": 1 "b": 2}', "f.json:1:9: not JSON: expected ',' or '}'"),
        ("[1\n2]", "f.json:2:1: not JSON: expected ',' or ']'"),
        ("[1,]", "f.json:1:4: not JSON: expected a value"),
        ("{} x", "f.json:1:4: not JSON: more text after the value"),
        ('["a', "f.json:1:2: not JSON: Unterminated string starting at"),
        ("[" * (MAX_DEPTH + 2), f"f.json:1:{MAX_DEPTH + 2}: not JSON: nested more than {MAX_DEPTH} deep"),
        ("[yes]", "f.json:1:2: not JSON: expected a value"),
    ],
)
def test_what_is_no_json_is_told_with_its_place(text, problem):
    assert read(text) == (None, [problem])


def test_a_duplicate_key_is_refused_with_its_path():
    _, problems = read('{"a": {"b": 1,\n "b": 2}}')
    assert problems == ["f.json:2:2: a.b: is set twice, first in line 1"]


def test_places_in_a_long_file_are_found_without_beginning_anew():
    text = "[" + "\n 1," * 90_000 + "\n  2]"
    node, problems = read(text)
    assert problems == []
    assert node.items[-1].mark == Mark("f.json", 90_002, 3)


def test_more_values_than_any_configuration_has_are_an_error():
    _, problems = read("[" + "1," * MAX_NODES + "1]")
    assert problems == [f"f.json:1:{2 * MAX_NODES}: not JSON: more than {MAX_NODES} values"]


@pytest.mark.parametrize("text", ['{\n"a": "\\ud800"}', '{\n"\\udfff": 1}'])
def test_half_of_a_surrogate_pair_which_no_file_could_be_called_is_an_error(text):
    node, problems = read(text)
    assert node is None
    assert problems[0].startswith("f.json:2:")
    assert problems[0].endswith("not JSON: half of a surrogate pair is no character")
