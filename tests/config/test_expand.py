"""Variables in values: the forms, their mixture, what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_rr.config.expand import Expansion, ExpansionError, expand
from twisted_rr.config.nodes import Mark, to_plain
from twisted_rr.config.report import Place, Report
from twisted_rr.config.source import from_data

ENVIRON = {"A": "1", "EMPTY": "", "PORT": "80", "DOLLAR": "$A"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${A}", "1"),
        ("$A", "1"),
        ("$A.x", "1.x"),
        ("$AB", ""),
        ("x${A}y", "x1y"),
        ("127.0.0.1:${PORT:-8080}", "127.0.0.1:80"),
        ("127.0.0.1:${NONE:-8080}", "127.0.0.1:8080"),
        ("${EMPTY:-d}", "d"),
        ("${EMPTY}", ""),
        ("${NONE}", ""),
        ("${NONE:-}", ""),
        ("${NONE:-a:-b}", "a:-b"),
        ("${A}-${NONE:-x}", "1-x"),  # RoadRunner makes the whole value empty here
        ("${NONE:-${A}}", "1"),
        ("${NONE:-${NONE:-${A}}}", "1"),
        ("${A}}", "1}"),
        ("$$A", "$A"),
        ("$${A}", "${A}"),
        ("$$$A", "$1"),
        ("${NONE:-$$}", "$"),
        ("${DOLLAR}", "$A"),  # a value is not expanded again
        ("^x$", "^x$"),
        ("$", "$"),
        ("$ 5", "$ 5"),
        ("$2y$10$", "$2y$10$"),
        ("no variable", "no variable"),
    ],
)
def test_forms(text, value):
    assert Expansion(ENVIRON).text(text) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("${A:=x}", "${A:=x}: only ${NAME} and ${NAME:-default} are known"),
        ("${A:?x}", "${A:?x}: only"),
        ("${A-x}", "${A-x}: only"),
        ("${}", "${}: only"),
        ("${5}", "${5}: only"),
        ("${A", "${ without its closing }"),
        ("x ${NONE:-${A}", "${ without its closing }"),
        ("${X:-" * 20 + "}" * 20, "nested more than 16 deep"),
    ],
)
def test_other_forms_are_errors(text, reason):
    with pytest.raises(ExpansionError) as caught:
        Expansion(ENVIRON).text(text)
    assert reason in str(caught.value)


@given(st.text())
def test_a_doubled_dollar_protects_any_text(text):
    assert Expansion({}).text(text.replace("$", "$$")) == text


@given(st.text(alphabet="${}:-AB", max_size=30))
def test_any_text_gives_a_text_or_the_named_error(text):
    try:
        assert isinstance(Expansion({"A": "1"}).text(text), str)
    except ExpansionError:
        pass


@given(st.text())
def test_the_value_of_a_variable_passes_as_it_is(value):
    assert Expansion({"A": value}).text("<${A}>") == f"<{value}>"


def test_a_tree_is_expanded_in_values_lists_included_and_not_in_keys():
    report = Report()
    node = from_data({"$A": ["${A}", {"k": "${NONE:-x}"}], "n": 5}, Mark("f"))
    assert to_plain(expand(node, ENVIRON, Place("", report))) == {"$A": ["1", {"k": "x"}], "n": 5}
    assert report.problems == report.warnings == []


def test_problems_and_unset_variables_are_told_with_their_key():
    report = Report()
    node = from_data({"a": ["${X} ${X} ${Y}"], "b": {"c": "${A:=1}"}}, Mark("f"))
    expand(node, {}, Place("", report))
    assert [str(one) for one in report.warnings] == [
        "f: a[0]: the variable X is not set, so it is empty; ${X:-default} gives a default",
        "f: a[0]: the variable Y is not set, so it is empty; ${Y:-default} gives a default",
    ]
    assert [str(one) for one in report.problems] == [
        "f: b.c: ${A:=1}: only ${NAME} and ${NAME:-default} are known"
    ]
