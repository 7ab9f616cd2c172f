"""The small parts of http1: grammar, caches, dates, heads of answers."""

from __future__ import annotations

import pytest
from http1_rig import Front, serve

from twisted_rr.http1 import head as head_module
from twisted_rr.http1.cache import Cache
from twisted_rr.http1.date import DateLine, format_date
from twisted_rr.http1.grammar import is_authority, is_chunk_extension, is_number, is_token, members, port_of
from twisted_rr.http1.reasons import status_line
from twisted_rr.http1.refusal import refusal_answer
from twisted_rr.http1.response import BadResponse, render
from twisted_rr.http1.stall import Stall

# -------------------------------------------------------------------------------- grammar


def test_tokens() -> None:
    assert is_token(b"X-Y_z!#$%&'*+.^`|~09")
    for text in (b"", b"a b", b"a:", b"\xe9", b"a\x00", b"(", b'"', b"a\n"):
        assert not is_token(text)


def test_numbers_are_ascii_digits() -> None:
    assert is_number(b"0123456789")
    for text in (b"", b"+1", b"1 ", b"\xb2", b"1_0"):
        assert not is_number(text)


@pytest.mark.parametrize(
    "text", [b"[::]", b"[1:2:3:4:5:6:7:8]", b"[::ffff:1.2.3.4]:1", b"a_b", b"1.2.3.4:65535", b"A", b":80"]
)
def test_valid_authorities(text: bytes) -> None:
    assert is_authority(text)


@pytest.mark.parametrize(
    "text",
    [
        b"[fe80::1%25eth0]",
        b"[v1.x]",
        b"[]",
        b"[1:2]",
        b"[12345::]",
        b"[:::]",
        b"::1",
        b"a:65536",
        b"a:-1",
        b"%4",
        b"%",
        b"[::1]:x",
        b"a]b",
    ],
)
def test_invalid_authorities(text: bytes) -> None:
    assert not is_authority(text)


def test_ports() -> None:
    assert [port_of(text) for text in (b"a", b"a:", b"a:80", b"[::1]:443", b"[::1]")] == [-1, -1, 80, 443, -1]


def test_list_members() -> None:
    assert members(b" A ,, b\t,") == [b"a", b"b"]


def test_chunk_extensions_are_scanned_in_linear_time() -> None:
    assert is_chunk_extension(b";a" * 500)
    assert not is_chunk_extension(b';a="' + b"\\" * 999)


# --------------------------------------------------------------------------------- caches


def test_a_cache_holds_at_most_two_generations() -> None:
    cache = Cache(3, 8)
    for number in range(100):
        cache.put(b"%d" % number, number)
    assert len(cache.young) + len(cache.old) <= 6


def test_a_cache_whose_older_half_nobody_asks_for_has_none() -> None:
    cache = Cache(3, 8, forgets=True)
    for number in range(4):
        cache.put(b"%d" % number, number)
    assert (cache.young, cache.old) == ({b"3": 3}, {})


def test_what_is_used_survives_a_generation() -> None:
    cache = Cache(3, 8)
    cache.put(b"used", 1)
    for number in range(20):
        cache.put(b"%d" % number, number)
        assert (cache.young.get(b"used") or cache.older(b"used")) == 1


def test_long_keys_are_not_kept() -> None:
    cache = Cache(3, 8)
    cache.put(b"x" * 9, 1)
    assert not cache.young


@pytest.mark.parametrize(
    "name",
    [b"Cookie", b"AUTHORIZATION", b"Proxy-Authorization", b"X-Api-Key", b"X-Auth-Token", b"X-CSRF-Token"],
)
def test_credentials_are_in_no_shared_cache(name: bytes) -> None:
    secret = b"s3cr3t-" + name.lower()
    serve(
        b"GET /?q="
        + secret
        + b" HTTP/1.1\r\nHost: a\r\n"
        + name
        + b": "
        + secret
        + b"\r\nX-Plain: kept\r\n\r\n"
    )
    caches = [value for value in vars(head_module).values() if isinstance(value, Cache)]
    keys = [key for cache in caches for key in (*cache.young, *cache.old)]
    assert len(caches) == 4 and b"X-Plain: kept" in keys
    assert not any(secret in key for key in keys)


# ---------------------------------------------------------------------------------- dates


def test_dates_are_imf_fixdate() -> None:
    assert format_date(784111777) == b"Sun, 06 Nov 1994 08:49:37 GMT"


def test_the_date_line_changes_with_the_wall_clocks_second() -> None:
    wall = [100.75]
    line = DateLine(lambda: wall[0])
    first = line.at(5.0)
    wall[0] = 101.0
    assert line.at(5.24) is first
    assert line.at(5.25) == b"date: Thu, 01 Jan 1970 00:01:41 GMT\r\n"


def test_the_date_line_stands_another_clock() -> None:
    wall = [100.0]
    line = DateLine(lambda: wall[0])
    line.at(1000.0)
    wall[0] = 500.0
    assert line.at(1.0) == b"date: Thu, 01 Jan 1970 00:08:20 GMT\r\n"


def test_every_answer_has_one_date_and_an_applications_own_is_kept() -> None:
    front = Front(answer=lambda exchange: exchange.session.respond(render(200, [(b"Date", b"mine")]), b""))
    front.feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert front.transport.value().lower().count(b"date:") == 1
    assert serve(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").transport.value().count(b"date: ") == 1


# ------------------------------------------------------------------------- heads of answers


def test_a_head_is_rendered_as_given() -> None:
    head = render(404, [(b"X-A", b"1"), (b"x-a", b"caf\xc3\xa9")])
    assert head.head == b"HTTP/1.1 404 Not Found\r\nX-A: 1\r\nx-a: caf\xc3\xa9\r\n"
    assert (head.status, head.length, head.close, head.content) == (404, -1, False, True)


def test_hop_by_hop_fields_are_dropped_and_close_is_understood() -> None:
    fields = [
        (b"Connection", b"close, X-Hop"),
        (b"X-Hop", b"1"),
        (b"Keep-Alive", b"1"),
        (b"Transfer-Encoding", b"chunked"),
    ]
    head = render(200, [*fields, (b"Upgrade", b"x"), (b"TE", b"x"), (b"Content-Length", b"3")])
    assert head.head == b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n" and head.close


def test_connection_cannot_take_the_content_length_away() -> None:
    head = render(200, [(b"Connection", b"content-length"), (b"Content-Length", b"3")])
    assert head.length == 3 and b"Content-Length: 3" in head.head


@pytest.mark.parametrize("status", [-1, 0, 99, 101, 600, 999, 2000])
def test_impossible_statuses_are_refused(status: int) -> None:
    with pytest.raises(BadResponse, match=f"unknown status code from worker: {status}"):
        render(status, [])


@pytest.mark.parametrize(
    "field",
    [
        (b"X\r\nY", b"1"), (b"X", b"1\r\nY: 2"), (b"X", b"1\n"), (b"X", b"1\r"), (b"X", b"\x00"), (b"", b"1"), (b"X:", b"1"), (b"X ", b"1"), (b"\xe9", b"1"), (b"X", b"\x1b"),
        (b"Content-Length", b"x"), (b"Content-Length", b"-1"), (b"Content-Length", b""), (b"Content-Length", b"1, 1"), (b"Content-Length", b"9" * 19),
    ],
)  # fmt: skip
def test_fields_that_could_inject_or_mislead_are_refused(field: tuple[bytes, bytes]) -> None:
    with pytest.raises(BadResponse):
        render(200, [field])


def test_two_content_lengths_are_refused() -> None:
    with pytest.raises(BadResponse):
        render(200, [(b"Content-Length", b"1"), (b"content-length", b"1")])


def test_an_unknown_status_has_an_empty_phrase() -> None:
    assert status_line(299) == b"HTTP/1.1 299 \r\n"


def test_refusals_to_head_have_no_content() -> None:
    assert refusal_answer(400, "x", b"date: d\r\n", True).endswith(b"date: d\r\n\r\n")
    assert refusal_answer(400, "x", b"date: d\r\n", False).endswith(b"\r\n\r\n400 Bad Request: x\n")


# ---------------------------------------------------------------------------------- stall


def test_only_bytes_taken_count_as_progress() -> None:
    stall = Stall()
    assert stall.seconds(0.0, 100, 50) == 0.0
    assert stall.seconds(10.0, 200, 150) == 10.0  # more was written, nothing taken
    assert stall.seconds(20.0, 300, 249) == 0.0  # one byte was
    assert stall.seconds(30.0, 300, 0) == 0.0
    assert stall.seconds(99.0, 400, 100) == 0.0
