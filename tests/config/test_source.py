"""YAML text to nodes: places, YAML 1.2's types, aliases, merges, and every way to be no YAML."""

import pytest
import yaml

from twisted_rr.config.nodes import Mark, resolve, to_plain
from twisted_rr.config.report import Report
from twisted_rr.config.source import MAX_DEPTH, MAX_NODES, from_data, read_yaml

LOADERS = [yaml.SafeLoader] + ([yaml.CSafeLoader] if hasattr(yaml, "CSafeLoader") else [])


@pytest.fixture(params=LOADERS, ids=lambda loader: loader.__name__)
def read(request):
    def read(text):
        report = Report()
        node = read_yaml(text, "f", report, request.param)
        return node, [str(problem) for problem in report.problems]

    return read


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("False", False),
        ("on", "on"),
        ("yes", "yes"),
        ("off", "off"),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("22:30", "22:30"),
        ("1_000", "1_000"),
        ("-7", -7),
        ("+7", 7),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        (".inf", float("inf")),
        ("-.Inf", float("-inf")),
        ("null", None),
        ("~", None),
        ("", None),
        ("2001-01-01", "2001-01-01"),
        ("0b1", "0b1"),
        ("9" * 50, "9" * 50),
        ("text", "text"),
    ],
)
def test_plain_scalars_follow_the_core_schema_of_yaml_1_2(text, value):
    found = resolve(text)
    assert found == value
    assert type(found) is type(value)


def test_nan_is_the_float_that_equals_nothing():
    assert resolve(".NaN") != resolve(".NaN")


def test_every_node_knows_its_place(read):
    node, _ = read("a:\n  - x\n  - {b: y}\n")
    entry = node.entries["a"]
    assert (entry.mark, entry.node.mark) == (Mark("f", 1, 1), Mark("f", 2, 3))
    inner = entry.node.items[1].entries["b"]
    assert (inner.mark, inner.node.mark) == (Mark("f", 3, 6), Mark("f", 3, 9))


def test_quotes_blocks_and_tags_decide_what_is_text(read):
    text = 'a: "5"\nb: \'5\'\nc: |\n  5\nd: !!str 5\ne: ! 5\nf: !!int "5"\ng: 5\n'
    node, problems = read(text)
    assert problems == []
    assert to_plain(node) == {"a": "5", "b": "5", "c": "5\n", "d": "5", "e": "5", "f": 5, "g": 5}


def test_aliases_stand_for_their_anchor_and_merges_for_defaults(read):
    node, problems = read(
        "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\n"
        "one: {<<: *a, y: 9}\nmany: {<<: [*a, *b], w: 3}\nsame: *a\nquoted: {'<<': 1}\n"
    )
    assert problems == []
    plain = to_plain(node)
    assert plain["one"] == {"x": 1, "y": 9}
    assert plain["many"] == {"x": 1, "y": 1, "z": 2, "w": 3}
    assert plain["same"] == {"x": 1, "y": 1}
    assert plain["quoted"] == {"<<": 1}


def test_a_duplicate_key_is_refused_at_every_depth_and_reading_goes_on(read):
    node, problems = read("a: 1\na: 2\nb:\n  - {c: 1, c: 2}\n")
    assert problems == [
        "f:2:1: a: is set twice, first in line 1",
        "f:4:12: b[0].c: is set twice, first in line 4",
    ]
    assert to_plain(node) == {"a": 1, "b": [{"c": 1}]}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a:\n\tb: 1\n", "f:2:1: not YAML: indentation is made of spaces, not tabs"),
        ("a: @x\n", "f:1:4: not YAML: a value that begins with '@' must be in quotes"),
        ("a: `x\n", "f:1:4: not YAML: a value that begins with '`' must be in quotes"),
        ('a: "x\nb: 2\n', "f:1:4: not YAML: found unexpected end of stream while scanning a quoted scalar"),
        ("a: 1\nb\n", "f:2:1: not YAML: could not find expected ':' while scanning a simple key"),
        (
            "a: {b: ${X}}\n",
            "f:1:9: not YAML: did not find expected ',' or '}' while parsing a flow mapping"
            "; inside {} and [] a ${NAME} must be in quotes",
        ),
        ("a: 1\n---\nb: 2\n", "f:2:1: a second document begins; one file is one document"),
        ("a: *b\n", "f:1:4: a: the alias *b has no anchor before it"),
        ("a: &a [*a]\n", "f:1:8: a[0]: the alias *a stands inside its own anchor"),
        ("a: !env X\n", "f:1:4: a: the tag !env is not known"),
        ("a: !!set {x}\n", "f:1:4: a: the tag !!set is not known"),
        ("[1]: 2\n", "f:1:1: a key must be a text, and not empty"),
        ('x: {"": 1}\n', "f:1:5: x: a key must be a text, and not empty"),
        ("a: {<<: 1}\n", "f:1:9: a: << needs a map or a list of maps"),
        ("[" * (MAX_DEPTH + 1), f"f:1:{MAX_DEPTH + 1}: nested more than {MAX_DEPTH} deep"),
    ],
)
def test_what_is_wrong_with_a_text_is_told_with_line_and_column(read, text, problem):
    node, problems = read(text)
    assert node is None
    # The two scanners of PyYAML word one of them differently.
    assert [
        one.replace("expected ',' or '}', but got '{'", "did not find expected ',' or '}'")
        for one in problems
    ] == [problem]


def test_control_characters_are_refused_where_they_stand(read):
    _, problems = read("a: 1\nb: \x01\n")
    assert problems[0].startswith("f:2:4: not YAML: ")


def test_nesting_deep_enough_to_end_a_recursive_reader_is_an_error(read):
    assert read("[" * 20_000)[0] is None


def test_aliases_of_aliases_cannot_explode(read):
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    node, problems = read("\n".join(lines))
    assert node is None
    assert problems[0].endswith(f"more than {MAX_NODES} values, aliases counted in full")


def test_aliases_of_a_long_text_cannot_explode_when_its_variables_are_replaced(read):
    text = f"a: &a '$A {'x' * 100_000}'\nb: [{', '.join(['*a'] * 300)}]\n"
    _, problems = read(text)
    assert problems == [f"f:1:4: more than {MAX_NODES} values, aliases counted in full"]
    assert read(f"a: '{'x' * 1_000_000}'\nb: [{', '.join(['1'] * 90_000)}]\n")[1] == []


@pytest.mark.parametrize("text", ["", "# only a comment\n", "\n\n"])
def test_a_text_without_a_document_gives_nothing(read, text):
    assert read(text) == (None, [])


def test_a_parser_error_without_a_place_still_names_the_file(monkeypatch):
    def broken(text, Loader):
        raise yaml.MarkedYAMLError(problem="odd")
        yield

    monkeypatch.setattr(yaml, "parse", broken)
    report = Report()
    assert read_yaml("a", "f", report) is None
    assert [str(problem) for problem in report.problems] == ["f: not YAML: odd"]


def test_data_in_memory_keeps_its_types():
    data = {"a": "5", "b": 5, "c": [True, None, 1.5], "d": ("x",), "e": {}}
    node = from_data(data, Mark("<memory>"))
    assert to_plain(node) == {"a": "5", "b": 5, "c": [True, None, 1.5], "d": ["x"], "e": {}}


@pytest.mark.parametrize("bad", [b"x", object()])
def test_data_that_no_configuration_can_hold_is_a_type_error(bad):
    with pytest.raises(TypeError, match="a configuration cannot hold"):
        from_data({"a": bad}, Mark("<memory>"))
