"""Properties: how bytes arrive does not matter, and what is answered is what an HTTP client reads."""

from __future__ import annotations

import random
from typing import Any

import h11
from http1_fuzz import generate
from http1_rig import Exchange, Front, nothing
from hypothesis import given, settings
from hypothesis import strategies as st
from rfc_musts import RULES

from twisted_rr.http1.response import BadResponse, render
from twisted_rr.http1.settings import SessionSettings

SMALL = SessionSettings(
    max_line=60, max_header_bytes=120, max_fields=5, max_trailer_bytes=30, max_request_size=12, max_discard=20
)


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in zip(edges, edges[1:], strict=False) if a < b]


VECTORS = [vector.sent for rule in RULES for vector in rule.vectors if len(vector.sent) < 500]
streams = st.one_of(
    st.sampled_from(VECTORS),
    st.integers(0, 10**6).map(lambda seed: next(generate(seed, 1))),
    st.tuples(st.sampled_from(VECTORS), st.integers(0, 10**6)).map(
        lambda pair: pair[0] + next(generate(pair[1], 1))
    ),
)
limits = st.sampled_from([None, SMALL])


@settings(max_examples=600, deadline=None)
@given(streams, st.lists(st.integers(0, 1000), max_size=8), limits)
def test_any_chunking_gives_the_same_events(
    data: bytes, cuts: list[int], limit: SessionSettings | None
) -> None:
    whole = Front(limit).feed(data).events()
    assert Front(limit).feed_pieces(pieces_of(data, cuts)).events() == whole
    assert Front(limit).feed(data, 1).events() == whole


def test_any_chunking_gives_the_same_events_for_many_streams() -> None:
    rng = random.Random(11)
    for data in generate(2000, 4000):
        limit = rng.choice((None, SMALL))
        cuts = [rng.randrange(len(data) + 1) for _ in range(rng.randrange(5))]
        assert Front(limit).feed_pieces(pieces_of(data, cuts)).events() == Front(limit).feed(data).events(), (
            data
        )


# --------------------------------------------------------------------------- the response side

names = st.sampled_from(
    [b"X-A", b"x-b", b"Content-Type", b"Server", b"Connection", b"Transfer-Encoding", b"Keep-Alive"]
)
values = st.sampled_from([b"", b"a", b"close", b"chunked", b"caf\xc3\xa9", b"a, b"])
contents = st.lists(st.binary(max_size=20), min_size=1, max_size=4)
requests = st.sampled_from(
    [
        (b"GET", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (b"HEAD", b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (b"GET", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
        (b"POST", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab"),
    ]
)


def read_by_h11(method: bytes, wire: bytes, closed: bool) -> list[Any]:
    """What an HTTP client makes of an answer; raises if it is malformed."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target=b"/", headers=[(b"Host", b"a"), (b"Content-Length", b"0")]))
    client.send(h11.EndOfMessage())
    client.receive_data(wire)
    if closed:
        client.receive_data(b"")
    events: list[Any] = []
    while True:
        event = client.next_event()
        if event is h11.NEED_DATA or event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
            return events
        events.append(event)
        if isinstance(event, h11.EndOfMessage):
            return events


@settings(max_examples=500, deadline=None)
@given(
    requests,
    st.sampled_from([200, 201, 204, 205, 206, 301, 304, 404, 500, 599, 299]),
    st.lists(st.tuples(names, values), max_size=4),
    contents,
    st.booleans(),
    st.booleans(),
)
def test_a_client_reads_what_was_answered(
    request_: tuple[bytes, bytes],
    status: int,
    headers: list[tuple[bytes, bytes]],
    pieces: list[bytes],
    with_length: bool,
    early: bool,
) -> None:
    method, sent = request_
    content = b"".join(pieces)
    if with_length:
        headers = [*headers, (b"Content-Length", b"%d" % len(content))]
    front = Front(answer=nothing).feed(sent)
    session = front.session
    if early:
        session.interim(render(103, [(b"Link", b"x")]))
    session.respond(render(status, headers), pieces[0], len(pieces) > 1)
    for number, piece in enumerate(pieces[1:], 2):
        session.send(piece, number < len(pieces))
    assert front.last.calls == ["sent"]
    events = read_by_h11(method, front.transport.value(), bool(front.transport.closing))
    if early:
        assert events.pop(0).status_code == 103
    assert events[0].status_code == status and isinstance(events[-1], h11.EndOfMessage)
    received = b"".join(bytes(event.data) for event in events[1:-1])
    empty = method == b"HEAD" or status in (204, 205, 304)
    assert received == (b"" if empty else content)
    says_close = any(name == b"connection" and b"close" in value for name, value in events[0].headers)
    assert says_close == bool(front.transport.closing)
    kept = [
        (n.lower(), v)
        for n, v in headers
        if n.lower() not in (b"connection", b"transfer-encoding", b"keep-alive", b"content-length")
    ]
    got = [(bytes(n), bytes(v)) for n, v in events[0].headers]
    assert [pair for pair in got if pair in kept] == kept


@given(st.binary(max_size=12), st.binary(max_size=12))
def test_no_answer_can_inject_a_header(name: bytes, value: bytes) -> None:
    try:
        head = render(200, [(name, value)])
    except BadResponse:
        return
    assert head.head.count(b"\r\n") <= 2 and head.head.count(b"\n") == head.head.count(b"\r\n")
    assert b"\0" not in head.head and head.head.count(b"\r") == head.head.count(b"\r\n")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_each_exchange_ends_exactly_once_whatever_happens(data: st.DataObject) -> None:
    """Random steps of client, application, kernel and clock; the rig's exchange asserts that nothing follows its end."""
    front = Front(answer=nothing)
    steps = {
        "request": lambda: front.feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        "post": lambda: front.feed(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc"),
        "chunks": lambda: front.feed(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
        ),
        "content": lambda: front.feed(b"def"),
        "junk": lambda: front.feed(b"\r\nzz"),
        "answer": lambda: attempt(lambda: front.session.respond(OK, b"x", False)),
        "begin answer": lambda: attempt(lambda: front.session.respond(OK, b"x" * 70000, True)),
        "more": lambda: attempt(lambda: front.session.send(b"y", True)),
        "end": lambda: attempt(lambda: front.session.send(b"", False)),
        "cut": lambda: front.session.cut(),
        "simple": lambda: front.session.simple(503),
        "hold": lambda: front.transport.hold(3),
        "release": lambda: front.transport.release(),
        "hold content": lambda: setattr(front, "takes_more", False),
        "resume content": lambda: (setattr(front, "takes_more", True), front.session.resume_body()),
        "fin": lambda: front.session.eof_received(),
        "lost": lambda: front.session.connection_lost(),
        "idle": lambda: front.session.close_idle(),
        "drain": lambda: setattr(front, "draining", True),
        "wait": lambda: front.tick(40),
    }
    for name in data.draw(st.lists(st.sampled_from(sorted(steps)), max_size=25)):
        steps[name]()
        assert sum(not exchange.over for exchange in front.exchanges) <= 1
    front.session.connection_lost()
    assert all(ends(exchange) == 1 for exchange in front.exchanges)
    assert front.closings == 1


OK = render(200, [])


def attempt(step: Any) -> None:
    try:
        step()
    except BadResponse:
        return


def ends(exchange: Exchange) -> int:
    return sum(call == "sent" or call.startswith("lost") for call in exchange.calls)
