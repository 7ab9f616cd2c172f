"""Each rule of rfc9113_rules.py, by its vectors, with the bytes whole and cut."""

from __future__ import annotations

import pytest
from http2_rig import (
    DATA,
    END_STREAM,
    GOAWAY,
    HEADERS,
    REQUEST,
    SETTINGS_ACKED,
    Front,
    code_of_goaway,
    content_of,
    data,
    echo,
    ended,
    head,
    number,
    resets_of,
)
from rfc9113_rules import RULES, Rule, Vector

CASES = [
    pytest.param(rule, vector, size, id=f"{rule.section}-{index}-{place}-{size or 'whole'}")
    for index, rule in enumerate(RULES)
    for place, vector in enumerate(rule.vectors)
    for size in (0, 1, 7)
]


@pytest.mark.parametrize(("rule", "vector", "size"), CASES)
def test_the_server_does_what_the_rfc_demands(rule: Rule, vector: Vector, size: int) -> None:
    front = Front(answer=echo if vector.answers else lambda exchange: None, greet=False, **vector.settings)
    front.consumes = "stream_window" not in vector.settings and "connection_window" not in vector.settings
    front.read()
    greeting = (
        vector.preface
        if vector.preface.startswith(b"GET")
        else vector.preface + SETTINGS_ACKED * (not vector.goaway)
    )
    found = front.feed(greeting) + front.feed(vector.sent, size)
    assert code_of_goaway(found) == vector.goaway, front.refusals
    assert bool(front.transport.closing) == (vector.goaway is not None)
    assert tuple(resets_of(found)) == vector.resets
    answered = [one.stream for one in found if one.flags & END_STREAM and one.kind in (DATA, HEADERS)]
    assert tuple(answered) == vector.answered, front.refusals
    if vector.heard is not None:
        heard = ["".join(exchange.calls) for exchange in front.exchanges[:1]]
        # What is taken back by the very read that brought it is never begun.
        assert heard == [vector.heard] or (not size and not heard)
    if vector.goaway is None:
        unharmed(front, max([1, *[exchange.stream.id for exchange in front.exchanges]]))
    else:
        assert found[-1].kind == GOAWAY and number(found[-1].payload) == front.session.intake.numbers.last
        assert front.refusals[-1][:2] == (0, vector.goaway)
        assert all(exchange.over for exchange in front.exchanges)
        assert not front.session.streams


def unharmed(front: Front, last: int) -> None:
    """Another stream works as if nothing had been."""
    for exchange in list(front.exchanges):
        if not exchange.over:
            exchange.stream.reset(8)
    front.answer = echo
    front.consumes = True
    if last < 2**31 - 100:
        stream = last + 50
        found = front.feed(head(stream, REQUEST) + data(stream, b"still here", True))
        assert ended(found, stream) and content_of(found, stream) == b"still here", front.refusals


def test_every_rule_says_where_it_comes_from_and_has_a_vector() -> None:
    for rule in RULES:
        assert rule.section.split()[0] in ("9113", "7540", "7541")
        assert rule.vectors and rule.rule


def test_a_cut_exchange_hears_nothing_more() -> None:
    front = Front(answer=lambda exchange: None)
    front.feed(head(1))
    front.last.stream.reset(8)
    assert resets_of(front.feed(data(1, b"x", True))) == [(1, 8)]
    assert front.last.calls == [] and front.last.pieces == []
