"""Dotenv files: what a line can be, and that nothing set is overridden."""

import pytest

from twisted_rr.config.dotenv import read_dotenv
from twisted_rr.config.report import Report


def read(text, environ=None):
    report = Report()
    return read_dotenv(text, ".env", environ or {}, report), [str(one) for one in report.problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A=1", "1"),
        ("A=1\r\n", "1"),
        ("export A=1", "1"),
        ("A: 1", "1"),
        ("  A = 1  ", "1"),
        ("A=", ""),
        ("A=# nothing", ""),
        ("A=a b # comment", "a b"),
        ("A=a#b", "a#b"),
        ("A='a # b' # comment", "a # b"),
        ("A='$B \\n'", "$B \\n"),
        ('A="a\\nb"', "a\nb"),
        ('A="say \\"hi\\" \\\\ \\$B"', 'say "hi" \\ $B'),
        ('A="two\nlines"', "two\nlines"),
        ("A=${B}/x", "b/x"),
        ('A="${B}/${C:-c}"', "b/c"),
        ("# comment\n\n   # more\nA=1\n", "1"),
    ],
)
def test_values(text, value):
    added, problems = read(text, {"B": "b"})
    assert problems == []
    assert added == {"A": value}


def test_variables_that_are_set_already_win_and_later_lines_see_that():
    added, _ = read("A=file\nB=$A\nC=${B}!", {"A": "process"})
    assert added == {"B": "process", "C": "process!"}


def test_every_bad_line_is_told_and_the_good_ones_are_read():
    added, problems = read('A=1\nnonsense\nB=\'open\nC="x" y\nD=${X:=1}\nE=2')
    assert added == {"A": "1", "E": "2"}
    assert problems == [
        ".env:2:1: expected NAME=value",
        ".env:3:1: the closing quote is missing",
        ".env:4:1: only a comment may follow the closing quote",
        ".env:5:1: ${X:=1}: only ${NAME} and ${NAME:-default} are known",
    ]


def test_a_bad_last_line_ends_the_reading():
    assert read("nonsense") == ({}, [".env:1:1: expected NAME=value"])


def test_variables_that_double_with_each_line_come_to_an_end():
    lines = ["A0=ten letters", *(f"A{number}=$A{number - 1}$A{number - 1}" for number in range(1, 60))]
    values, problems = read("\n".join(lines))
    assert problems[0] == ".env:18:1: its variables are more than 1048576 characters"
    assert max(map(len, values.values())) <= 1 << 20
