"""Forms as trees: the vectors of protocol.md 4.4, and how Go writes JSON."""

from __future__ import annotations

import json

import pytest

from twisted_rr.plugins.http import forms
from twisted_rr.plugins.http.forms import BadForm

VECTORS = [
    (b"a=1&a=2", '{"a":"2"}'),
    (b"a[]=1&a[]=2", '{"a":["1","2"]}'),
    (b"a[0]=x&a[1]=y", '{"a":{"0":"x","1":"y"}}'),
    (b"a[k][]=x&a[k][]=y", '{"a":{"k":["x","y"]}}'),
    (b"a[][k]=v&a[][k]=w", '{"a":{"":{"k":"w"}}}'),
    (b"a+b=1", '{"ab":"1"}'),
    (b"a=", '{"a":""}'),
    (b"=v", '{"":"v"}'),
    (b"a[b=1", '{"a":{"b":"1"}}'),
    (b"a]b=1", '{"a":{"b":"1"}}'),
    (b"a[b]c=1", '{"a":{"b":{"c":"1"}}}'),
    (b"a[[b]]=1", '{"a":{"b":"1"}}'),
    (b"a.b=1", '{"a.b":"1"}'),
    (b"options=&options[0][id]=5", '{"options":{"0":{"id":"5"}}}'),
    (b"options[0][id]=5&options=", '{"options":{"0":{"id":"5"}}}'),
    (b"[]=1", '{"":["1"]}'),
    (b"a", '{"a":""}'),
    (b"&&a=1&&", '{"a":"1"}'),
    (b"z=1&a=2&M=3", '{"M":"3","a":"2","z":"1"}'),
    (b"a=1&a=", '{"a":""}'),
    (b"a[]=1&a=2", '{"a":"2"}'),
    (b"a=2&a[]=1", '{"a":["1"]}'),
    (b"a=2&a[]=", '{"a":"2"}'),
    (b"%61%5B%5D=%31", '{"a":["1"]}'),
]


@pytest.mark.parametrize(("form", "tree"), VECTORS)
def test_a_form_becomes_this_tree(form: bytes, tree: str) -> None:
    assert forms.form_json(forms.pairs(form)).decode() == tree


def test_an_empty_tree_is_one_that_php_can_decode() -> None:
    assert forms.form_json(forms.pairs(b"")) == b"{}"


@pytest.mark.parametrize("form", [b"a=1&a[b]=2", b"a[b]=2&a=1", b"a[]=1&a[b]=2", b"a=1&a[][b]=2"])
def test_a_name_that_is_value_and_level_at_once_is_refused(form: bytes) -> None:
    with pytest.raises(BadForm, match="invalid multiple values to key 'a' in tree"):
        forms.form_json(forms.pairs(form))


@pytest.mark.parametrize("form", [b"a=%zz", b"a=%1", b"%=1", b"a=1;b=2"])
def test_what_does_not_parse_is_refused(form: bytes) -> None:
    with pytest.raises(BadForm):
        forms.pairs(form)


def test_a_name_of_127_levels_counts_and_a_deeper_one_is_dropped() -> None:
    name = "a" + "[b]" * 126
    assert len(forms.split_name(name)) == 127
    assert forms.form_json([(name, "1")])
    assert forms.form_json([(name + "[c]", "1"), ("x", "2")]) == b'{"x":"2"}'


def test_a_name_of_a_million_levels_costs_no_more_than_it_must() -> None:
    assert forms.form_json([("a[b]" * 1_000_000, "1")]) == b"{}"


def test_a_name_of_megabytes_costs_no_more_than_it_must() -> None:
    name = "a" * 4_000_000
    assert forms.split_name(name) == [name]
    assert forms.split_name(f"x[{name}]") == ["x", name]


def test_a_name_of_megabytes_of_brackets_costs_no_more_than_it_must() -> None:
    assert forms.split_name("[" * 4_000_000) == [""]
    assert forms.split_name("a" + "]" * 4_000_000) == ["a"]
    assert len(forms.split_name("[]" * 4_000_000)) == forms.MAX_LEVEL + 1


@pytest.mark.parametrize(
    ("name", "levels"),
    [
        ("a [ b ]", ["a", "b"]),
        ("a[[b]]", ["a", "b"]),
        ("a[b]c", ["a", "b", "c"]),
        ("a[]b", ["a", "", "b"]),
        ("a]b", ["a", "b"]),
        ("a[", ["a"]),
        ("a][", ["a"]),
        ("a[]]", ["a", ""]),
        ("[a", ["", "a"]),
        (" ", [""]),
    ],
)
def test_brackets_that_do_not_match_are_read_like_this(name: str, levels: list[str]) -> None:
    assert forms.split_name(name) == levels


def test_too_many_fields_are_refused() -> None:
    with pytest.raises(BadForm, match="fields"):
        forms.pairs(b"a&" * forms.MAX_FIELDS)


@pytest.mark.parametrize("name", ["{}" + "[b" * 126, "{}" + "[b" * 500])
def test_too_many_levels_of_all_names_together_are_refused(name: str) -> None:
    enough = forms.MAX_LEVELS // (forms.MAX_LEVEL + 1)
    assert forms.form_json([(name.format(number), "1") for number in range(enough)])
    with pytest.raises(BadForm, match="levels together"):
        forms.form_json([(name.format(number), "1") for number in range(enough + 10)])


def test_json_is_escaped_as_go_does() -> None:
    tree = forms.form_json([("k", '<&>\u2028\u2029\x00\x1f"\\/\x7fé\U0001f600')])
    assert tree.decode() == (
        '{"k":"\\u003c\\u0026\\u003e\\u2028\\u2029\\u0000\\u001f\\"\\\\/\x7fé\U0001f600"}'
    )
    assert json.loads(tree)["k"] == '<&>\u2028\u2029\x00\x1f"\\/\x7fé\U0001f600'


def test_each_byte_that_is_no_utf8_becomes_one_replacement_character() -> None:
    assert forms.text(b"a\xff\xe2\x82b\xc3") == "a\ufffd\ufffd\ufffdb\ufffd"
    assert json.loads(forms.form_json(forms.pairs(b"a=%FF%E2%82"))) == {"a": "\ufffd" * 3}


@pytest.mark.parametrize("query", [b"a=%zz", b"a=1;b"])
def test_a_query_that_does_not_parse_fails_the_form(query: bytes) -> None:
    with pytest.raises(BadForm):
        forms.check_query(query)


def test_an_ordinary_query_is_fine() -> None:
    forms.check_query(b"a=%20&b=+")
    forms.check_query(b"")
