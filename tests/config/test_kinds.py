"""Every kind of value: what it takes, what it makes of it, and what it says about the rest."""

import json

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_rr.config import key, kinds
from twisted_rr.config.kinds.units import parse_duration
from twisted_rr.config.nodes import Entry, MapNode, Mark, Scalar
from twisted_rr.config.report import INVALID, Place, Report
from twisted_rr.config.source import read_yaml


def read(kind, text, expanded=False):
    """The value of *text* (YAML), the problems and the warnings."""
    report = Report()
    node = read_yaml(text, "f", report)
    if node is None:
        node = Scalar("", Mark("f", 1, 1))
    if expanded:
        node = attrs.evolve(node, expanded=True)
    value = kind.read(node, Place("k", report))
    return value, [one.reason for one in report.problems], [one.reason for one in report.warnings]


GOOD = [
    (kinds.boolean(), "true", True),
    (kinds.boolean(), "False", False),
    (kinds.integer(), "5", 5),
    (kinds.integer(), "010", 10),
    (kinds.integer(), "0x10", 16),
    (kinds.integer(min=-3, max=3), "-3", -3),
    (kinds.number(), "5", 5.0),
    (kinds.number(min=0), "0.5", 0.5),
    (kinds.string(), "text", "text"),
    (kinds.string(), "5", "5"),
    (kinds.string(), "true", "true"),
    (kinds.string(), "22:30", "22:30"),
    (kinds.string(), "''", ""),
    (kinds.string("three letters", "[a-z]{3}"), "abc", "abc"),
    (kinds.path(), "/a b/c", "/a b/c"),
    (kinds.choice("warn", "Error"), "ERROR", "Error"),
    (kinds.choice("auto", "true"), "true", "true"),
    (kinds.address(), "127.0.0.1:80", "127.0.0.1:80"),
    (kinds.address(), ":8080", ":8080"),
    (kinds.address(), "'[::1]:80'", "[::1]:80"),
    (kinds.address(), "tcp://host:0", "tcp://host:0"),
    (kinds.address(), "unix:///run/x.sock", "unix:///run/x.sock"),
    (kinds.address(), "unix://x.sock", "unix://x.sock"),
    (kinds.address("pipes"), "pipes", "pipes"),
    (kinds.duration(), "1h2m3s4ms", 3723.004),
    (kinds.duration(), "100ms", 0.1),
    (kinds.duration(), "1.5s", 1.5),
    (kinds.duration(), "7us", 7e-6),
    (kinds.duration(), "7µs", 7e-6),
    (kinds.duration(), "7ns", 7e-9),
    (kinds.duration(), "0", 0.0),
    (kinds.duration(), "0s", 0.0),
    (kinds.seconds(), "60", 60.0),
    (kinds.seconds(), "1m", 60.0),
    (kinds.size_mb(), "1", 1 << 20),
    (kinds.size_mb(), "0.5", 1 << 19),
    (kinds.size_mb(), "64MB", 64 << 20),
    (kinds.size_mb(), "64 MiB", 64 << 20),
    (kinds.size_mb(), "2g", 2 << 30),
    (kinds.size_mb(), "3k", 3 << 10),
    (kinds.size_mb(), "512b", 512),
    (kinds.file_mode(), "0755", 0o755),
    (kinds.file_mode(), "755", 0o755),
    (kinds.file_mode(), "0o644", 0o644),
    (kinds.any_value(), "{a: [1, x]}", {"a": [1, "x"]}),
    (kinds.list_of(kinds.integer()), "[1, 2]", (1, 2)),
    (kinds.list_of(kinds.string()), "a, b,", ("a", "b")),
    (kinds.list_of(kinds.path(), separator=None), ".a.yaml .b.yaml", (".a.yaml", ".b.yaml")),
    (kinds.list_of(kinds.integer()), "7", (7,)),
    (kinds.list_of(kinds.map_of(kinds.integer())), "[{a: 1}]", ({"a": 1},)),
    (kinds.list_of(kinds.string()), "[]", ()),
    (kinds.map_of(kinds.string()), "{a.b: 1, c: }", {"a.b": "1", "c": ""}),
    (kinds.map_of(kinds.map_of(kinds.integer())), "{a.b: 1, a: {c: 2}}", {"a": {"b": 1, "c": 2}}),
    (kinds.command(), "php worker.php  -x", ("php", "worker.php", "-x")),
    (kinds.command(), '["sh", "-c", "echo a b", 5]', ("sh", "-c", "echo a b", "5")),
    (kinds.command(), "['x', '']", ("x", "")),
    (kinds.environment(), "{a: 1, B_c: x, D: true, e: false, f: , g: 1.50}", None),
    (kinds.environment(), "[{a: 1}, {b: 2, a: 3}]", {"A": "3", "B": "2"}),
    (kinds.environment(), "{}", {}),
    (kinds.custom("an upper-case text", str.upper), "x", "X"),
]


@pytest.mark.parametrize(("kind", "text", "value"), GOOD)
def test_what_a_kind_takes(kind, text, value):
    if value is None:
        value = {"A": "1", "B_C": "x", "D": "1", "E": "0", "F": "", "G": "1.50"}
    found, problems, warnings = read(kind, text)
    assert (problems, warnings) == ([], [])
    assert found == pytest.approx(value, rel=1e-12) if isinstance(value, float) else found == value
    assert type(found) is type(value)


ADDRESS = "expected host:port, :port, [ipv6]:port, tcp://host:port or unix://path, not "
BAD = [
    (kinds.boolean(), "yes", "expected true or false, not the text 'yes' (YAML 1.2 has no yes, no, on, off)"),
    (kinds.boolean(), "1", "expected true or false, not the number 1"),
    (kinds.boolean(), "[]", "expected true or false, not a list"),
    (kinds.boolean(), "maybe", "expected true or false, not the text 'maybe'"),
    (kinds.integer(), "many", "expected an integer, not the text 'many'"),
    (kinds.integer(), "1.5", "expected an integer, not the number 1.5"),
    (kinds.integer(), "true", "expected an integer, not the boolean true"),
    (kinds.integer(), "{}", "expected an integer, not a map"),
    (kinds.integer(min=0), "-1", "expected an integer of at least 0, not the number -1"),
    (kinds.integer(max=9), "10", "expected an integer of at most 9, not the number 10"),
    (kinds.integer(min=0, max=9), "10", "expected an integer from 0 to 9, not the number 10"),
    (kinds.number(), ".inf", "expected a number, not the number .inf"),
    (kinds.number(), ".nan", "expected a number, not the number .nan"),
    (kinds.string(), "[a]", "expected a text, not a list"),
    (kinds.string(), r'"\0"', "expected a text, not the text '\\x00' (it holds a NUL byte)"),
    (kinds.string("three letters", "[a-z]{3}"), "ab", "expected three letters, not the text 'ab'"),
    (kinds.path(), "''", "expected a path, not the text ''"),
    (kinds.choice("warn", "error"), "warning", "expected one of warn, error, not the text 'warning' (did you mean 'warn'?)"),
    (kinds.choice("warn", "error"), "zzz", "expected one of warn, error, not the text 'zzz'"),
    (kinds.address(), "localhost", ADDRESS + "the text 'localhost' (the port is missing)"),
    (kinds.address(), "8080", ADDRESS + "the number 8080 (the port is missing)"),
    (kinds.address(), ":70000", ADDRESS + "the text ':70000' (a port is a number from 0 to 65535)"),
    (kinds.address(), ":http", ADDRESS + "the text ':http' (a port is a number from 0 to 65535)"),
    (kinds.address(), "'::1:80'", ADDRESS + "the text '::1:80' (an IPv6 address stands in brackets)"),
    (kinds.address(), "a b:80", ADDRESS + "the text 'a b:80' (the host holds a space)"),
    (kinds.address(), "http://x:80", ADDRESS + "the text 'http://x:80' (only tcp:// and unix:// are known)"),
    (kinds.address(), "unix://", ADDRESS + "the text 'unix://' (the socket's path is missing)"),
    (kinds.address("pipes"), "pipe", "expected pipes, host:port, :port, [ipv6]:port, tcp://host:port or unix://path, not the text 'pipe' (the port is missing)"),
    (kinds.duration(), "soon", 'expected a duration such as "30s", "1m30s" or "100ms", not the text \'soon\''),
    (kinds.duration(), "-1", 'expected a duration such as "30s", "1m30s" or "100ms", not the number -1'),
    (kinds.duration(), "-1s", 'expected a duration such as "30s", "1m30s" or "100ms", not the text \'-1s\''),
    (kinds.duration(), "2d", 'expected a duration such as "30s", "1m30s" or "100ms", not the text \'2d\' (days are written in hours, 24h)'),
    (kinds.duration(), "true", 'expected a duration such as "30s", "1m30s" or "100ms", not the boolean true'),
    (kinds.size_mb(), "big", 'expected a size in megabytes, or with a unit such as "64MB" or "1GB", not the text \'big\''),
    (kinds.size_mb(), "-1", 'expected a size in megabytes, or with a unit such as "64MB" or "1GB", not the number -1'),
    (kinds.file_mode(), "0888", "expected permission bits in octal, such as 0644, not the number 0888"),
    (kinds.list_of(kinds.integer()), "{a: 1}", "expected a list, each of it an integer, not a map"),
    (kinds.list_of(kinds.map_of(kinds.integer())), "5", "expected a list, each of it a map of names, each with an integer, not the number 5"),
    (kinds.map_of(kinds.integer()), "[1]", "expected a map of names, each with an integer, not a list"),
    (kinds.map_of(kinds.integer(), names="[a-z]+"), "{A: 1}", "this name is not allowed here"),
    (kinds.command(), "{}", "expected a command line, or a list of its words, not a map"),
    (kinds.command(), "''", "the command is empty"),
    (kinds.command(), "[]", "the command is empty"),
    (kinds.command(), "['', x]", "the command is empty"),
    (kinds.command(), "[[x]]", "expected a word of the command, not a list"),
    (kinds.command(), r'"a\0b"', "the command holds a NUL byte"),
    (kinds.environment(), "x", "expected a map of variable names and values, not the text 'x'"),
    (kinds.environment(), "{a: [1]}", "expected a text, a number or a boolean, not a list"),
    (kinds.environment(), "[{a: 1}, {b: [1]}, {c: 1}]", "expected a text, a number or a boolean, not a list"),
    (kinds.environment(), r'{a: "\0"}', "expected a text, a number or a boolean, not the text '\\x00' (it holds a NUL byte)"),
    (kinds.environment(), "{a=b: 1}", "this name is not allowed here"),
    (kinds.custom("a bird", lambda text: [][0 if text else 1] if text != "x" else int(text)), "x", "expected a bird, not the text 'x' (invalid literal for int() with base 10: 'x')"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "text", "reason"), BAD)
def test_what_a_kind_refuses_and_how_it_says_so(kind, text, reason):
    value, problems, _ = read(kind, text)
    assert value is INVALID
    assert problems == [reason]


@pytest.mark.parametrize(
    "kind", [*{type(one): one for one, *_ in GOOD}.values(), kinds.string("x", "x"), kinds.integer(max=1)]
)
def test_every_kind_has_a_schema_in_json(kind):
    assert isinstance(json.loads(json.dumps(kind.schema())), dict)


def test_what_is_no_value_says_so():
    assert repr(INVALID) == "INVALID"


def test_nothing_is_no_item_of_a_list():
    assert read(kinds.list_of(kinds.integer()), "[1, ]")[0] == (1,)
    assert read(kinds.list_of(kinds.integer()), "[~]")[1] == ["expected an integer, not nothing"]


def test_all_bad_items_of_a_list_are_told_with_their_place():
    report = Report()
    node = read_yaml("[1, x, 2,\n y]", "f", report)
    assert kinds.list_of(kinds.integer()).read(node, Place("k", report)) is INVALID
    assert [str(one) for one in report.problems] == [
        "f:1:5: k[1]: expected an integer, not the text 'x'",
        "f:2:2: k[3]: expected an integer, not the text 'y'",
    ]


def test_a_long_text_is_shortened_in_an_error():
    _, problems, _ = read(kinds.integer(), "x" * 100)
    assert problems == [f"expected an integer, not the text '{'x' * 57}...'"]


def test_a_socket_path_must_fit_into_sun_path():
    assert read(kinds.address(), "unix://" + "x" * 107)[1] == []
    assert "longer than 107 bytes" in read(kinds.address(), "unix://" + "x" * 108)[1][0]


@pytest.mark.parametrize(
    ("kind", "text", "value"), [(kinds.integer(), "'4'", 4), (kinds.boolean(), '"true"', True)]
)
def test_a_quoted_number_or_boolean_is_used_with_a_warning(kind, text, value):
    found, problems, warnings = read(kind, text)
    assert (found, problems) == (value, [])
    assert warnings == ["it is in quotes, which makes it a text; it is used all the same, as RoadRunner does"]


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (kinds.integer(), "'4'", 4),
        (kinds.boolean(), "'1'", True),
        (kinds.boolean(), "'0'", False),
        (kinds.boolean(), "T", True),
        (kinds.boolean(), "'false'", False),
        (kinds.duration(), "'5s'", 5.0),
        (kinds.size_mb(), "'5'", 5 << 20),
        (kinds.list_of(kinds.string()), "'a,b'", ("a", "b")),
    ],
)
def test_what_came_from_a_variable_has_the_type_the_kind_wants(kind, text, value):
    assert read(kind, text, expanded=True) == (value, [], [])


def test_a_boolean_word_from_a_variable_reaches_an_environment_as_it_is():
    node = MapNode({"A": Entry(Mark("f"), Scalar("true", Mark("f"), expanded=True))}, Mark("f"))
    assert kinds.environment().read(node, Place("k", Report())) == {"A": "true"}


def test_a_bare_duration_is_seconds_with_a_warning_that_rr_means_nanoseconds():
    value, problems, warnings = read(kinds.duration(), "30")
    assert (value, problems) == (30.0, [])
    assert warnings == ["a bare number is seconds here, but RoadRunner reads it as nanoseconds; write 30s"]


@given(st.text(alphabet="0123456789.hmsnuµ-", max_size=12))
def test_any_text_is_a_duration_or_a_value_error(text):
    try:
        assert parse_duration(text) >= 0
    except ValueError:
        pass


@given(
    st.lists(
        st.tuples(st.integers(0, 999), st.sampled_from(["h", "m", "s", "ms", "us", "ns"])),
        min_size=1,
        max_size=6,
    )
)
def test_a_duration_is_the_sum_of_its_parts(parts):
    units = {"h": 3600, "m": 60, "s": 1, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
    text = "".join(f"{amount}{unit}" for amount, unit in parts)
    assert parse_duration(text) == pytest.approx(sum(amount * units[unit] for amount, unit in parts))


@pytest.mark.parametrize(("kind", "unit"), [(kinds.duration(), "s"), (kinds.size_mb(), "MB")])
def test_more_than_any_number_is_none(kind, unit):
    value, problems, _ = read(kind, "9" * 400 + unit)
    assert value is INVALID and len(problems) == 1


def test_a_kind_of_ones_own_has_a_schema_and_no_keys():
    own = kinds.custom("x", str, {"type": "string"})
    assert own.schema() == {"type": "string"}
    assert own.child("a") is None
    assert kinds.custom("x", str).schema() == {"type": ["string", "number", "boolean"]}


@attrs.frozen(kw_only=True)
class Inner:
    size: int = key(kinds.integer(), default=1)
    debug: bool = key(kinds.boolean(), default=False)


@attrs.frozen(kw_only=True)
class Outer:
    name: str = key(kinds.string(), required=True)
    inner: Inner = key(kinds.section(Inner), factory=Inner)
    named: dict = key(kinds.map_of(kinds.section(Inner)), factory=dict)
    old: int = key(kinds.integer(), default=7, ignored="it was never read")
    klass: str = key(kinds.string(), default="", name="class")
    made: int = attrs.field(default=3)

    def __attrs_post_init__(self):
        if self.name == "forbidden":
            raise ValueError("this name is taken")

    def problems(self):
        if self.inner.debug and self.inner.size > 1:
            yield "inner.size", "must be 1 with debug"
        if self.klass == "odd":
            yield "", "is odd as a whole"


def outer(text):
    report = Report()
    value = kinds.section(Outer).read(read_yaml(text, "f", report), Place("o", report))
    return value, [str(one) for one in report.problems], [str(one) for one in report.warnings]


def test_a_section_reads_to_its_class_with_defaults():
    value, problems, warnings = outer("name: n\ninner: {size: 5}\nclass: c\n")
    assert value == Outer(name="n", inner=Inner(size=5), klass="c")
    assert (problems, warnings) == ([], [])


@pytest.mark.parametrize(
    "text",
    [
        "name: n\ninner.size: 5\ninner.debug: false\n",
        "name: n\ninner.size: 5\ninner: {debug: false}\n",
        "name: n\ninner: {debug: false}\ninner.size: 5\n",
        "NAME: n\nInner: {SIZE: 5}\n",
    ],
)
def test_dotted_keys_and_other_case_are_the_same_section(text):
    assert outer(text)[0] == Outer(name="n", inner=Inner(size=5))


def test_keys_in_other_case_are_warned_about():
    assert outer("Name: n\n")[2] == ["f:1:1: o.Name: keys are written in lower case: name"]


def test_dotted_keys_reach_into_maps_of_sections():
    assert outer("name: n\nnamed.a.size: 2\nnamed: {b.size: 3}\n")[0].named == {
        "a": Inner(size=2),
        "b": Inner(size=3),
    }


def test_empty_keys_count_as_absent():
    assert outer("name: n\ninner:\nclass: ~\n")[0] == Outer(name="n")


def test_an_ignored_key_is_accepted_whatever_it_holds_with_a_warning():
    value, problems, warnings = outer("name: n\nold: [not, a, number]\n")
    assert (value.old, problems) == (7, [])
    assert warnings == ["f:2:1: o.old: has no effect: it was never read"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[]", ["f:1:1: o: expected a section of keys and values, not a list"]),
        ("inner: {}\n", ["f:1:1: o.name: is required: a text"]),
        ("name:\n", ["f:1:1: o.name: is empty, expected a text"]),
        ("name: n\nnme: x\n", ["f:2:1: o.nme: unknown key; did you mean 'name'?"]),
        ("name: n\nsize: x\n", ["f:2:1: o.size: unknown key; did you mean 'o.inner.size'?"]),
        ("name: n\nqqq: x\n", ["f:2:1: o.qqq: unknown key; known here: class, inner, name, named, old"]),
        ("name: n\ninner.: 1\n", ["f:2:1: o.inner.: a key must not begin or end with a dot"]),
        ("name: n\n.inner: 1\n", ["f:2:1: o..inner: a key must not begin or end with a dot"]),
        ("name: n\nNAME: m\n", ["f:2:1: o.name: is set twice, first at f:1:1"]),
        ("name: n\ninner: {size: 1}\ninner.size: 2\n", ["f:3:1: o.inner.size: is set twice, first at f:2:9"]),
        ("name: n\ninner: {size: 2, debug: true}\n", ["f:2:1: o.inner.size: must be 1 with debug"]),
        ("name: n\nclass: odd\n", ["f:1:1: o: is odd as a whole"]),
        ("name: forbidden\n", ["f:1:1: o: this name is taken"]),
        (
            "inner: {size: x, debug: y}\nzzzz: 1\n",
            [
                "f:1:15: o.inner.size: expected an integer, not the text 'x'",
                "f:1:25: o.inner.debug: expected true or false, not the text 'y' (YAML 1.2 has no yes, no, on, off)",
                "f:2:1: o.zzzz: unknown key; known here: class, inner, name, named, old",
                "f:1:1: o.name: is required: a text",
            ],
        ),
    ],
)
def test_a_section_tells_all_its_problems(text, expected):
    value, problems, _ = outer(text)
    assert value is INVALID
    assert problems == expected


@attrs.frozen(kw_only=True)
class Wide:
    a: int = key(kinds.integer(), default=0)


def test_a_name_with_nothing_near_among_many_gets_no_hint():
    wide = attrs.make_class(
        "Wide", {f"option{n}": key(kinds.integer(), default=0) for n in range(20)}, frozen=True, kw_only=True
    )
    report = Report()
    kinds.section(wide).read(read_yaml("zzz: 1", "f", report), Place("w", report))
    assert [one.reason for one in report.problems] == ["unknown key"]
