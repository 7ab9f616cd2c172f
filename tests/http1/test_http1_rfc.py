"""Each rule of rfc_musts.py, by its vectors, with the bytes whole and one by one."""

from __future__ import annotations

import pytest
from http1_rig import Exchange, Front, answered, echo
from rfc_musts import RULES, Rule, Seen, Vector

CASES = [
    pytest.param(rule, vector, size, id=f"{rule.section}-{index}-{number}-{size or 'whole'}")
    for index, rule in enumerate(RULES)
    for number, vector in enumerate(rule.vectors)
    for size in (0, 1, 7)
]


def give(exchange: Exchange, vector: Vector) -> None:
    if vector.answer is None:
        echo(exchange)
        return
    status, headers, pieces = vector.answer
    head = answered(status, headers)
    if status < 200:
        exchange.session.interim(head)
        echo(exchange)
        return
    exchange.session.respond(head, pieces[0], len(pieces) > 1)
    for number, piece in enumerate(pieces[1:], 2):
        exchange.session.send(piece, number < len(pieces))


@pytest.mark.parametrize(("rule", "vector", "size"), CASES)
def test_the_server_does_what_the_rfc_demands(rule: Rule, vector: Vector, size: int) -> None:
    front = Front(answer=lambda exchange: give(exchange, vector))
    front.feed(vector.sent, size)
    if vector.fin:
        front.session.eof_received()
    assert tuple(front.statuses()) == vector.statuses, front.refusals
    complete = [exchange for exchange in front.exchanges if exchange.complete]
    assert tuple(Seen(e.request.method, e.request.target, e.content) for e in complete) == vector.seen
    assert bool(front.transport.closing) == vector.closed
    assert front.transport.closing != "abort"
    for part in vector.contains:
        assert part in front.transport.value()
    for part in vector.lacks:
        assert part not in front.transport.value()
    for field in vector.fields:
        assert field in front.last.request.headers
    order = [front.last.request.headers.index(field) for field in vector.fields]
    assert order == sorted(order)


def test_every_rule_says_where_it_comes_from_and_has_a_vector() -> None:
    for rule in RULES:
        assert rule.section.split()[0] in ("9110", "9112")
        assert rule.level in ("MUST", "SHOULD", "MAY")
        assert rule.vectors and rule.rule


def test_trailers_do_not_reach_the_header() -> None:
    front = Front()
    front.feed(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 1\r\nCookie: a=b\r\n\r\n"
    )
    assert front.last.request.trailers == [(b"x-sum", b"1")]
    assert b"x-sum" not in dict(front.last.request.headers)
