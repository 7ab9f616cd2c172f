"""Differential fuzzing against h11 and httptools: every class of difference is listed here with its reason.

RR_FUZZ_REQUESTS sets how many streams are tried (100,000), RR_FUZZ_SEED the first seed (1). A difference that is
not listed fails, with the stream that shows it.
"""

from __future__ import annotations

import os

import pytest
from http1_fuzz import by_h11, by_httptools, compare, generate, ours

COUNT = int(os.environ.get("RR_FUZZ_REQUESTS", "100000"))
SEED = int(os.environ.get("RR_FUZZ_SEED", "1"))
PARTS = 10

BARE = "bare LF, bare CR or whatever else they end a line by is not CRLF"
#: ``(oracle, class, reason)``; a class ending in ``*`` is a prefix.
LISTED = (
    # -- both oracles
    ("*", "later: *", "a head is judged when it is complete, a size line when it ends; the oracle judges bytes"),
    ("*", "laxer: h11 no request line received", "RFC 9112 2.2: empty lines before a request line are skipped"),
    ("*", "stricter: 400 a header line without a colon", BARE + ": h11 skips such a line, and judges heads when complete"),
    ("*", "stricter: 400 a malformed request line", BARE + "; HTTP/0.9, which httptools takes; h11 judges it later"),
    ("*", "stricter: 400 a malformed protocol version", "RTSP and ICE, which httptools takes; bare LF; h11 judges it later"),
    ("*", "stricter: 400 a method that is no token", "httptools skips any CR and LF before a request; h11 judges it later"),
    ("*", "stricter: 400 a target in no known form", "RFC 9112 3.2 knows four forms; oracles do not look, or take any scheme"),
    ("*", "stricter: 400 an asterisk target for a method other than OPTIONS", "RFC 9112 3.2.4; oracles leave it to the application"),
    ("*", "stricter: 400 an invalid authority for CONNECT", "RFC 9110 9.3.6; oracles leave it to the application"),
    ("*", "stricter: 501 CONNECT is not offered", "so it is answered before the content is looked at"),
    ("*", "stricter: 400 an invalid authority in the target", "RFC 9110 4.2.1 and 4.2.4: empty hosts and userinfo are refused"),
    ("*", "stricter: 400 an invalid character in the target", "a fragment, or a byte above 127; h11 judges it later"),
    ("*", "stricter: 400 an invalid host", "RFC 9112 3.2; oracles leave it to the application"),
    ("*", "stricter: 400 no host", "RFC 9112 3.2; httptools leaves it to the application, h11 does in HTTP/1.2"),
    ("*", "stricter: 400 more than one host", "RFC 9112 3.2; httptools leaves it to the application, h11 judges it later"),
    ("*", "stricter: 400 transfer-encoding in HTTP/1.0", "RFC 9112 6.1: faulty framing; the oracles take it"),
    ("*", "stricter: 417 an unknown expectation", "RFC 9110 10.1.1; oracles leave it to the application"),
    ("*", "stricter: 505 a protocol version other than 1.x", "RFC 9110 2.5; oracles take HTTP/0.9, h11 any digit, or judge it later"),
    ("*", "stricter: 413 a content-length beyond all bounds", "18 digits are enough; h11 takes 20, httptools 64 bits"),
    ("*", "stricter: 400 a malformed chunk size", "blanks after a size, which h11 takes; more than 16 digits; a size of no digit"),
    ("*", "stricter: 400 malformed transfer-encoding", "an empty list member, which httptools takes; h11 judges it later"),
    ("*", "stricter: 501 a transfer coding other than chunked", "RFC 9112 6.1; httptools leaves what precedes chunked to the application"),
    # -- h11
    ("h11", "stricter: 400 a control character in a header value", "only NUL, LF, CR, FF, VT and blanks are refused by h11; " + BARE),
    ("h11", "stricter: 400 a control character in the framing of chunks", BARE),
    ("h11", "stricter: 400 a folded header line", "RFC 9112 5.2 leaves the choice: h11 unfolds"),
    ("h11", "stricter: 400 a header name that is no token", BARE + "; h11 judges it later"),
    ("h11", "stricter: 400 a header without a name", "h11 judges heads when they are complete"),
    ("h11", "stricter: 400 a blank before the colon", "h11 judges heads when they are complete"),
    ("*", "stricter: 400 a framing field among the trailers", "RFC 9110 6.5.1: the oracles hand them on"),
    ("h11", "stricter: 400 both transfer-encoding and content-length", "RFC 9112 6.3 leaves the choice: h11 drops content-length"),
    ("h11", "stricter: 400 a malformed content-length", "RFC 9112 6.3 leaves the choice: h11 takes a list of equal numbers"),
    ("h11", "stricter: 400 more than one content-length", "RFC 9112 6.3 leaves the choice: h11 takes equal ones"),
    ("h11", "stricter: 400 the final transfer coding is not chunked", "h11 judges heads when they are complete"),
    ("h11", "stricter: 400 no CRLF after a chunk", "h11 judges it later"),
    ("h11", "laxer: h11 illegal chunk header", "RFC 9112 7.1.1 has blanks before the semicolon of an extension, h11 not"),
    ("h11", "laxer: closed", "h11 does not keep HTTP/1.0 connections alive"),
    ("h11", "differs: case of a transfer coding", "h11 turns it into lower case"),
    # -- httptools
    ("httptools", "laxer: httptools HttpParserInvalidMethodError: *", "RFC 9110 9.1: any token is a method; httptools has a list"),
    ("httptools", "laxer: httptools HttpParserError: Expected HTTP/2 Connection Preface", "PRI is a token like any other, in HTTP/1.1"),
    ("httptools", "laxer: httptools HttpParserError: Invalid HTTP version", "RFC 9110 2.5: a higher minor version is taken as 1.1"),
    ("httptools", "laxer: httptools HttpParserError: Invalid character in chunk size", "RFC 9112 7.1.1 has blanks before an extension"),
    ("httptools", "laxer: httptools HttpParserError: Invalid character in chunk extensions*", "and around its equals sign"),
    ("httptools", "laxer: httptools HttpParserError: Request has invalid `Transfer-Encoding`", "RFC 9110 5.5: a tab after a value is no part of it"),
    ("httptools", "differs: blanks around a header value", "RFC 9112 5: blanks after a value are no part of it; httptools leaves them"),
    ("httptools", "stricter: closed", "RFC 9112 9.3: close wins over keep-alive; httptools lets keep-alive win in HTTP/1.0"),
)  # fmt: skip


def is_listed(oracle: str, kind: str) -> bool:
    """Whether a difference is as it should be."""
    return any(
        name in ("*", oracle) and (kind == listed or (listed.endswith("*") and kind.startswith(listed[:-1])))
        for name, listed, _ in LISTED
    )


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_every_difference_from_the_oracles_is_listed(part: int) -> None:
    unlisted: dict[tuple[str, str], bytes] = {}
    accepted = 0
    for data in generate(SEED * PARTS + part, COUNT // PARTS):
        mine = ours(data)
        accepted += len(mine.requests)
        for oracle, other in (("h11", by_h11(data)), ("httptools", by_httptools(data))):
            kind = compare(mine, other)
            if kind is not None and not is_listed(oracle, kind):
                unlisted.setdefault((oracle, kind), data)
    assert not unlisted
    assert accepted > COUNT // PARTS // 5, "the streams are too broken to show anything"


def test_an_unlisted_difference_fails() -> None:
    data = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    lying = ours(data)._replace(requests=[])
    kind = compare(lying, by_h11(data))
    assert kind == "stricter: waits" and not is_listed("h11", kind)


def test_the_same_seed_gives_the_same_streams() -> None:
    assert list(generate(5, 100)) == list(generate(5, 100)) != list(generate(6, 100))
