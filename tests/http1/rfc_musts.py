"""What RFC 9110 and RFC 9112 demand of a server, as data: each rule with bytes that show it.

Rules for clients, proxies and caches are left out, and those about the meaning of single methods and fields,
which are the application's. Read by test_http1_rfc.py, and by the documentation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Seen(NamedTuple):
    """A request as it reached the front."""

    method: str
    target: bytes
    content: bytes = b""


@dataclass(frozen=True)
class Vector:
    """What a client sends and what must come of it.

    :ivar sent: the client's bytes.
    :ivar statuses: of all answers, interim ones too.
    :ivar seen: the requests that reached the front with all their content.
    :ivar closed: whether the server closes the connection after it.
    :ivar answer: status, header fields and content pieces of the application's answer; None for an ordinary 200.
    :ivar contains: what is found in the server's bytes.
    :ivar lacks: what is not.
    :ivar fields: what is found among the header fields of the last request seen.
    :ivar fin: the client's FIN follows.
    """

    sent: bytes
    statuses: tuple[int, ...] = (200,)
    seen: tuple[Seen, ...] = ()
    closed: bool = False
    answer: tuple[int, tuple[tuple[bytes, bytes], ...], tuple[bytes, ...]] | None = None
    contains: tuple[bytes, ...] = ()
    lacks: tuple[bytes, ...] = ()
    fields: tuple[tuple[bytes, bytes], ...] = ()
    fin: bool = False


@dataclass(frozen=True)
class Rule:
    """One requirement: *section* as "9112 5.1", *level* MUST or SHOULD, *rule* in our own words."""

    section: str
    rule: str
    vectors: tuple[Vector, ...]
    level: str = "MUST"


HOST = b"Host: a.example\r\n"


def get(fields: bytes = b"", line: bytes = b"GET / HTTP/1.1", host: bytes = HOST) -> bytes:
    """A request without content."""
    return line + b"\r\n" + host + fields + b"\r\n"


def post(fields: bytes, content: bytes, version: bytes = b"HTTP/1.1") -> bytes:
    """A request with content."""
    return b"POST / " + version + b"\r\n" + HOST + fields + b"\r\n" + content


def refused(sent: bytes, status: int = 400) -> Vector:
    """Answered *status* and closed; no request reaches the front."""
    return Vector(sent, (status,), (), True)


def served(
    sent: bytes, *seen: Seen, closed: bool = False, fields: tuple[tuple[bytes, bytes], ...] = ()
) -> Vector:
    """Served as the requests *seen*."""
    return Vector(sent, (200,) * len(seen), seen, closed, fields=fields)


GET = Seen("GET", b"/")
CHUNKED = b"Transfer-Encoding: chunked\r\n"
LAST = b"0\r\n\r\n"
AGAIN = get()

RULES: tuple[Rule, ...] = (
    # ------------------------------------------------------------------------------- RFC 9112
    Rule(
        "9112 2.2",
        "A message is parsed as octets; bytes above 127 in field values pass unchanged",
        (served(get(b"X-Name: caf\xc3\xa9 \xff\r\n"), GET, fields=((b"x-name", b"caf\xc3\xa9 \xff"),)),),
    ),
    Rule(
        "9112 2.2",
        "A CR that is not followed by LF makes the element it is in invalid",
        (
            refused(get(b"X: a\rb\r\n")),
            refused(get(b"X\r: a\r\n")),
            refused(b"GET /\r HTTP/1.1\r\n" + HOST + b"\r\n"),
            refused(b"GET / HTTP/1.1\r" + HOST + b"\r\n"),
            refused(post(CHUNKED, b"5\rx\r\nhello\r\n" + LAST)),
        ),
    ),
    Rule(
        "9112 2.2",
        "A line that ends by LF alone may be accepted; here it is refused",
        (
            refused(b"GET / HTTP/1.1\nHost: a.example\n\n"),
            refused(b"GET / HTTP/1.1\r\nHost: a.example\n\r\n"),
            refused(b"GET / HTTP/1.1\r\nHost: a.example\r\n\n"),
            refused(b"\nGET / HTTP/1.1\r\nHost: a.example\r\n\r\n"),
        ),
        "MAY",
    ),
    Rule(
        "9112 2.2",
        "At least one empty line before a request line is ignored",
        (
            served(b"\r\n" + get(), GET),
            served(b"\r\n\r\n" + get(), GET),
            served(post(b"Content-Length: 2\r\n", b"ab\r\n") + get(), Seen("POST", b"/", b"ab"), GET),
            refused(b"\r\n" * 9 + get()),
        ),
        "SHOULD",
    ),
    Rule(
        "9112 2.2",
        "Whitespace between the request line and the first field is refused",
        (
            refused(b"GET / HTTP/1.1\r\n Host: a.example\r\n\r\n"),
            refused(b"GET / HTTP/1.1\r\n\t\r\n" + HOST + b"\r\n"),
        ),
    ),
    Rule(
        "9112 2.2",
        "What is no HTTP message is answered 400 and the connection closed",
        (
            refused(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
            refused(b"hello\r\n"),
            refused(b"GET /\r\n"),
            refused(b" GET / HTTP/1.1\r\n" + HOST + b"\r\n"),
            refused(b"GET / HTTP/1.1\r\nno colon\r\n\r\n"),
        ),
        "SHOULD",
    ),
    Rule(
        "9112 2.3",
        "A version is HTTP, slash, digit, dot, digit, in this case",
        (
            refused(b"GET / http/1.1\r\n" + HOST + b"\r\n"),
            refused(b"GET / HTTP/1\r\n" + HOST + b"\r\n"),
            refused(b"GET / HTTP/1.10\r\n" + HOST + b"\r\n"),
            refused(b"GET / HTTP/01.1\r\n" + HOST + b"\r\n"),
            refused(b"GET / HTTP/+1.1\r\n" + HOST + b"\r\n"),
            refused(b"GET / ICAP/1.1\r\n" + HOST + b"\r\n"),
        ),
    ),
    Rule(
        "9112 3",
        "Single spaces separate the parts of a request line; anything else is invalid",
        (
            refused(b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n"),
            refused(b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n"),
            refused(b"GET\t/ HTTP/1.1\r\n" + HOST + b"\r\n"),
            refused(b"GET / HTTP/1.1 \r\n" + HOST + b"\r\n"),
        ),
    ),
    Rule(
        "9112 3",
        "A target longer than is parsed is answered 414",
        (refused(get(line=b"GET /" + b"a" * 8200 + b" HTTP/1.1"), 414),),
    ),
    Rule(
        "9112 3",
        "Request lines of 8000 bytes are supported",
        (served(get(line=b"GET /" + b"a" * 7986 + b" HTTP/1.1"), Seen("GET", b"/" + b"a" * 7986)),),
        "SHOULD",
    ),
    Rule(
        "9112 3",
        "A method longer than any known one is answered 501",
        (refused(get(line=b"G" * 65 + b" / HTTP/1.1"), 501), refused(b"G" * 9000, 501)),
        "SHOULD",
    ),
    Rule(
        "9112 3.1",
        "Methods are case-sensitive tokens",
        (served(get(line=b"get / HTTP/1.1"), Seen("get", b"/")), refused(get(line=b"G@T / HTTP/1.1"))),
    ),
    Rule(
        "9112 3.2",
        "An HTTP/1.1 request without Host is answered 400",
        (refused(get(host=b"")), refused(get(host=b"", line=b"GET http://a.example/ HTTP/1.1"))),
    ),
    Rule(
        "9112 3.2",
        "More than one Host line is answered 400, in HTTP/1.0 too",
        (
            refused(get(HOST)),
            refused(get(b"host: b.example\r\n")),
            refused(get(HOST, line=b"GET / HTTP/1.0")),
        ),
    ),
    Rule(
        "9112 3.2",
        "A Host with an invalid value is answered 400",
        tuple(
            refused(get(host=b"Host: " + value + b"\r\n"))
            for value in (
                b"a b",
                b"a/b",
                b"user@a",
                b"a:b",
                b"a:99999",
                b"a:1:2",
                b"[::1",
                b"[zz::1]",
                b"[::1]x",
                b"a?b",
                b"a#b",
                b"a\\b",
                b"http://a",
                b"caf\xc3\xa9",
                b"%zz",
                b"a, b",
            )
        ),
    ),
    Rule(
        "9112 3.2",
        "Every valid Host is taken, an empty one too",
        tuple(
            served(get(host=b"Host: " + value + b"\r\n"), GET, fields=((b"host", value),))
            for value in (
                b"a",
                b"a.example:8080",
                b"a:",
                b"127.0.0.1",
                b"[::1]",
                b"[2001:db8::1]:80",
                b"a%20b",
                b"",
            )
        ),
    ),
    Rule(
        "9112 3.2.2",
        "The absolute form is accepted; its authority replaces what Host says",
        (
            served(
                get(line=b"GET http://b.example:81/p?q HTTP/1.1"),
                Seen("GET", b"/p?q"),
                fields=((b"host", b"b.example:81"),),
            ),
            served(get(line=b"GET HTTP://b.example HTTP/1.1"), GET, fields=((b"host", b"b.example"),)),
            served(
                get(line=b"GET https://b.example?q HTTP/1.1"),
                Seen("GET", b"/?q"),
                fields=((b"host", b"b.example"),),
            ),
            served(get(line=b"OPTIONS http://b.example HTTP/1.1"), Seen("OPTIONS", b"*")),
            served(
                get(line=b"GET http://b.example/ HTTP/1.0", host=b""),
                GET,
                closed=True,
                fields=((b"host", b"b.example"),),
            ),
        ),
    ),
    Rule(
        "9110 4.2.1",
        "An http URI with an empty host is rejected",
        (refused(get(line=b"GET http:/// HTTP/1.1")), refused(get(line=b"GET http://:80/ HTTP/1.1"))),
    ),
    Rule(
        "9110 4.2.4",
        "Userinfo in a target is an error",
        (refused(get(line=b"GET http://u:p@b.example/ HTTP/1.1")),),
        "SHOULD",
    ),
    Rule(
        "9112 3.2",
        "A target in no known form is refused",
        (refused(get(line=b"GET ftp://b.example/ HTTP/1.1")), refused(get(line=b"GET index.html HTTP/1.1"))),
    ),
    Rule("9110 7.1", "A fragment is not part of a target", (refused(get(line=b"GET /a#b HTTP/1.1")),)),
    Rule(
        "9112 3.2.3",
        "The authority form is for CONNECT alone, and CONNECT has no other",
        (refused(get(line=b"GET a.example:80 HTTP/1.1")), refused(get(line=b"CONNECT / HTTP/1.1"))),
    ),
    Rule(
        "9110 9.3.6",
        "CONNECT to an empty or invalid port is rejected; otherwise it is not implemented",
        (
            refused(get(line=b"CONNECT a.example HTTP/1.1")),
            refused(get(line=b"CONNECT a.example: HTTP/1.1")),
            refused(get(line=b"CONNECT a.example:0 HTTP/1.1")),
            refused(get(line=b"CONNECT a.example:99999 HTTP/1.1")),
            refused(get(line=b"CONNECT a.example:443 HTTP/1.1"), 501),
        ),
    ),
    Rule(
        "9112 3.2.4",
        "The asterisk form is for OPTIONS alone",
        (
            served(get(line=b"OPTIONS * HTTP/1.1"), Seen("OPTIONS", b"*")),
            refused(get(line=b"GET * HTTP/1.1")),
        ),
    ),
    Rule(
        "9112 5",
        "Blanks around a value are no part of it",
        (
            served(get(b"X: \t a b\t \r\n"), GET, fields=((b"x", b"a b"),)),
            served(get(b"X:\r\n"), GET, fields=((b"x", b""),)),
        ),
    ),
    Rule(
        "9112 5.1",
        "Whitespace between a field name and the colon is answered 400",
        (
            refused(get(b"X : a\r\n")),
            refused(get(b"X\t: a\r\n")),
            refused(get(b"Content-Length : 3\r\n") + b"abc"),
        ),
    ),
    Rule(
        "9112 5.2",
        "A folded line is refused",
        (refused(get(b"X: a\r\n b\r\n")), refused(get(b"X: a\r\n\tb\r\n"))),
    ),
    Rule(
        "9112 6",
        "Content is signalled by content-length or transfer-encoding, whatever the method",
        (
            served(get(b"Content-Length: 3\r\n") + b"abc" + AGAIN, Seen("GET", b"/", b"abc"), GET),
            served(get(line=b"POST / HTTP/1.1") + AGAIN, Seen("POST", b"/"), GET),
        ),
    ),
    Rule(
        "9112 6.1",
        "Transfer-encoding in HTTP/1.0 is faulty framing, with content-length too: the connection is closed",
        (
            refused(post(CHUNKED, LAST, b"HTTP/1.0")),
            refused(post(CHUNKED + b"Content-Length: 5\r\n", LAST, b"HTTP/1.0")),
        ),
    ),
    Rule(
        "9112 6.1",
        "Transfer-encoding together with content-length ends the connection; here it is also refused",
        (
            refused(post(CHUNKED + b"Content-Length: 5\r\n", LAST + AGAIN)),
            refused(post(b"Content-Length: 5\r\n" + CHUNKED, LAST)),
        ),
    ),
    Rule(
        "9112 6.1",
        "A transfer coding that is not understood is answered 501",
        (refused(post(b"Transfer-Encoding: gzip, chunked\r\n", LAST), 501),),
        "SHOULD",
    ),
    Rule(
        "9112 6.1",
        "A response to HTTP/1.0 has no transfer-encoding",
        (
            Vector(
                get(line=b"GET / HTTP/1.0"),
                (200,),
                (GET,),
                True,
                (200, (), (b"a", b"b")),
                contains=(b"\r\n\r\nab",),
                lacks=(b"ransfer-",),
            ),
        ),
    ),
    Rule(
        "9112 6.1",
        "A 204 has no transfer-encoding",
        (Vector(get(), (204,), (GET,), False, (204, (), (b"", b"")), lacks=(b"ransfer-",)),),
    ),
    Rule(
        "9112 6.3",
        "When chunked is not the final coding the request is answered 400 and the connection closed",
        (
            refused(post(b"Transfer-Encoding: gzip\r\n", LAST)),
            refused(post(b"Transfer-Encoding: chunked, gzip\r\n", LAST)),
            refused(post(b"Transfer-Encoding: identity\r\n", LAST)),
            refused(post(b"Transfer-Encoding: xchunked\r\n", LAST)),
            refused(post(b"Transfer-Encoding: \r\n", LAST)),
            refused(post(CHUNKED + b"Transfer-Encoding: x\r\n", LAST)),
        ),
    ),
    Rule(
        "9112 6.1",
        "Chunked is applied once, and without parameters",
        (
            refused(post(b"Transfer-Encoding: chunked, chunked\r\n", LAST)),
            refused(post(CHUNKED + CHUNKED, LAST)),
            refused(post(b"Transfer-Encoding: chunked;a=b\r\n", LAST)),
            refused(post(b"Transfer-Encoding: \x0bchunked\r\n", LAST)),
            refused(post(b"Transfer-Encoding: chunked,\r\n", LAST)),
        ),
    ),
    Rule(
        "9112 6.3",
        "An invalid content-length is answered 400 and the connection closed",
        tuple(
            refused(post(b"Content-Length: " + value + b"\r\n", b"abc"))
            for value in (
                b"",
                b"+3",
                b"-3",
                b"3a",
                b"0x3",
                b"3.0",
                b"3 3",
                b"3;",
                b"\xb2",
                b"3, 4",
                b"3_0",
                b"3, 3",
            )
        ),
    ),
    Rule(
        "9112 6.3",
        "Differing content-lengths are answered 400; equal ones are refused here too",
        (
            refused(post(b"Content-Length: 3\r\nContent-Length: 4\r\n", b"abcd")),
            refused(post(b"Content-Length: 3\r\nContent-Length: 3\r\n", b"abc")),
        ),
    ),
    Rule(
        "9112 6.3",
        "A request cut short is incomplete: it is not served, and the connection closed",
        (
            Vector(post(b"Content-Length: 5\r\n", b"abc"), (), (), True, fin=True),
            Vector(post(CHUNKED, b"3\r\nabc\r\n"), (), (), True, fin=True),
            Vector(b"GET / HT", (), (), True, fin=True),
        ),
    ),
    Rule(
        "9112 7",
        "Names of transfer codings are case-insensitive",
        (
            served(
                post(b"Transfer-Encoding: CHUNKed\r\n", b"3\r\nabc\r\n" + LAST), Seen("POST", b"/", b"abc")
            ),
        ),
    ),
    Rule(
        "9112 7.1",
        "The chunked coding is decoded",
        (
            served(
                post(CHUNKED, b"3\r\nabc\r\n0A\r\n0123456789\r\n" + LAST) + AGAIN,
                Seen("POST", b"/", b"abc0123456789"),
                GET,
            ),
            served(post(CHUNKED, LAST) + AGAIN, Seen("POST", b"/"), GET),
            served(post(CHUNKED, b"0003\r\nabc\r\n000\r\n\r\n"), Seen("POST", b"/", b"abc")),
        ),
    ),
    Rule(
        "9112 7.1",
        "Malformed chunks end the connection",
        tuple(
            refused(post(CHUNKED, content))
            for content in (
                b"\r\nabc\r\n",
                b"x\r\nabc\r\n",
                b"-3\r\nabc\r\n",
                b"+3\r\nabc\r\n",
                b"0x3\r\nabc\r\n",
                b" 3\r\nabc\r\n",
                b"3 \r\nabc\r\n",
                b"3\nabc\r\n",
                b"3\r\nabcd\r\n",
                b"3\r\nabc\n0\r\n\r\n",
                b"3\r\nabcx",
                b"3_0\r\nabc",
            )
        ),
    ),
    Rule(
        "9112 7.1",
        "Large chunk sizes neither overflow nor wrap around",
        (
            refused(post(CHUNKED, b"10000000000000003\r\nabc\r\n" + LAST)),
            refused(post(CHUNKED, b"f" * 100 + b"\r\nabc\r\n" + LAST)),
            Vector(post(CHUNKED, b"8000000000000003\r\nabc"), (), (), True, fin=True),
        ),
    ),
    Rule(
        "9112 7.1.1",
        "Unrecognized chunk extensions are ignored",
        tuple(
            served(post(CHUNKED, b"3" + extension + b"\r\nabc\r\n" + LAST), Seen("POST", b"/", b"abc"))
            for extension in (b";a", b";a=b", b' ; a = "b;\\"c" ;d', b";a;b=c", b';a=""')
        ),
    ),
    Rule(
        "9112 7.1.1",
        "The length of chunk extensions is limited; malformed ones are refused",
        tuple(
            refused(post(CHUNKED, b"3" + extension + b"\r\nabc\r\n" + LAST))
            for extension in (
                b";" + b"a" * 2000,
                b";",
                b";=",
                b";a=",
                b';a="',
                b";a=b ",
                b" a",
                b";a\x00",
                b";a\nb",
            )
        ),
        "SHOULD",
    ),
    Rule(
        "9112 7.1.2",
        "Trailer fields are parsed, and never merged into the header",
        (
            served(
                post(CHUNKED, b"3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n") + AGAIN, Seen("POST", b"/", b"abc"), GET
            ),
            refused(post(CHUNKED, b"0\r\nX : 1\r\n\r\n")),
            refused(post(CHUNKED, b"0\r\nX: a\r\n b\r\n\r\n")),
            refused(post(CHUNKED, b"0\r\nContent-Length: 5\r\n\r\n")),
            refused(post(CHUNKED, b"0\r\nX: " + b"a" * 9000 + b"\r\n\r\n"), 431),
        ),
    ),
    Rule(
        "9112 9.3",
        "HTTP/1.1 connections persist unless close was said; HTTP/1.0 ones only with keep-alive",
        (
            served(get() + get(), GET, GET),
            served(get(line=b"GET / HTTP/1.0") + get(), GET, closed=True),
            Vector(
                get(b"Connection: keep-alive\r\n", line=b"GET / HTTP/1.0") * 2,
                (200, 200),
                (GET, GET),
                False,
                contains=(b"connection: keep-alive\r\n",),
            ),
            served(get(b"Connection: keep-alive, close\r\n", line=b"GET / HTTP/1.0"), GET, closed=True),
        ),
    ),
    Rule(
        "9112 9.3.2",
        "Pipelined requests are answered in the order they came",
        (
            served(
                b"".join(get(line=b"GET /%d HTTP/1.1" % n) for n in range(5)),
                *[Seen("GET", b"/%d" % n) for n in range(5)],
            ),
        ),
    ),
    Rule(
        "9112 9.6",
        "After a request with close the connection is closed; what follows is not processed",
        (
            Vector(
                get(b"Connection: close\r\n") + get(),
                (200,),
                (GET,),
                True,
                contains=(b"connection: close\r\n",),
            ),
            served(get(b"Connection: x, CLOSE\r\n") + get(), GET, closed=True),
            served(get(b"Connection: x\r\nConnection: close\r\n") + get(), GET, closed=True),
        ),
    ),
    Rule(
        "9112 9.6",
        "After an answer with close the connection is closed; what follows is not processed",
        (
            Vector(
                get() + get(),
                (200,),
                (GET,),
                True,
                (200, ((b"Connection", b"close"),), (b"a",)),
                contains=(b"connection: close\r\n",),
            ),
        ),
    ),
    # ------------------------------------------------------------------------------- RFC 9110
    Rule(
        "9110 2.5",
        "A higher minor version is treated as the highest known one; an unknown major version is answered 505",
        (
            served(get(line=b"GET / HTTP/1.2") + get(line=b"GET / HTTP/1.9"), GET, GET),
            refused(get(line=b"GET / HTTP/2.0"), 505),
            refused(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
            refused(get(line=b"GET / HTTP/0.9"), 505),
            refused(get(line=b"GET / HTTP/3.0"), 505),
        ),
    ),
    Rule(
        "9110 5.1",
        "Field names are case-insensitive tokens",
        (
            served(post(b"CONTENT-length: 3\r\n", b"abc"), Seen("POST", b"/", b"abc")),
            refused(get(b": a\r\n")),
            refused(get(b"X(: a\r\n")),
            refused(get(b"X\x00: a\r\n")),
            refused(get(b"X\xe9: a\r\n")),
        ),
    ),
    Rule(
        "9110 5.3",
        "Field lines keep their order, repeated ones too",
        (served(get(b"A: 1\r\nB: 2\r\nA: 3\r\n"), GET, fields=((b"a", b"1"), (b"b", b"2"), (b"a", b"3"))),),
    ),
    Rule(
        "9110 5.4",
        "Fields larger than is processed are answered with a 4xx",
        (
            refused(get(b"X: " + b"a" * 33000 + b"\r\n"), 431),
            refused(get(b"X: a\r\n" * 100), 431),
            served(get(b"X: " + b"a" * 30000 + b"\r\n"), GET),
            served(get(b"X: a\r\n" * 99), GET),
        ),
    ),
    Rule(
        "9110 5.5",
        "CR, LF, NUL and the other control characters in a value are refused",
        tuple(
            refused(get(b"X: a" + bytes([byte]) + b"b\r\n"))
            for byte in (0, 1, 8, 10, 11, 12, 13, 27, 31, 127)
        ),
    ),
    Rule(
        "9110 5.6.1",
        "Empty members of a list are ignored",
        (
            served(get(b"Connection: ,, close ,\r\n") + get(), GET, closed=True),
            served(get(b"Connection: ,\r\n"), GET),
        ),
    ),
    Rule(
        "9110 6.5.1",
        "Fields that must not be trailers are not taken as such",
        (
            refused(post(CHUNKED, b"0\r\nTransfer-Encoding: x\r\n\r\n")),
            refused(post(CHUNKED, b"0\r\nHost: b\r\n\r\n")),
        ),
    ),
    Rule(
        "9110 6.6.1",
        "An answer has a Date",
        (
            Vector(get(), (200,), (GET,), contains=(b"date: ",)),
            Vector(b"x\r\n", (400,), (), True, contains=(b"date: ",)),
        ),
    ),
    Rule(
        "9110 7.8",
        "An Upgrade need not be followed, and is ignored in HTTP/1.0",
        (
            served(get(b"Connection: Upgrade\r\nUpgrade: websocket\r\n"), GET),
            served(get(b"Connection: Upgrade\r\nUpgrade: h2c\r\n", line=b"GET / HTTP/1.0"), GET, closed=True),
        ),
    ),
    Rule(
        "9110 8.6",
        "Large content-lengths neither overflow nor wrap around",
        (
            refused(post(b"Content-Length: 18446744073709551619\r\n", b"abc"), 413),
            refused(post(b"Content-Length: " + b"9" * 5000 + b"\r\n", b"abc"), 413),
            served(post(b"Content-Length: " + b"0" * 30 + b"3\r\n", b"abc"), Seen("POST", b"/", b"abc")),
        ),
    ),
    Rule(
        "9110 8.6",
        "There is no content-length in a 1xx or 204",
        (
            Vector(
                get(), (204,), (GET,), False, (204, ((b"Content-Length", b"0"),), (b"",)), lacks=(b"ontent-",)
            ),
        ),
    ),
    Rule(
        "9110 9.3.2",
        "An answer to HEAD has no content, an error neither",
        (
            Vector(
                get(line=b"HEAD / HTTP/1.1"),
                (200,),
                (Seen("HEAD", b"/"),),
                False,
                (200, (), (b"secret",)),
                lacks=(b"secret",),
            ),
            Vector(
                get(line=b"HEAD / HTTP/1.1"),
                (200,),
                (Seen("HEAD", b"/"),),
                False,
                (200, (), (b"secret", b"secret")),
                lacks=(b"secret",),
            ),
            Vector(get(line=b"HEAD / HTTP/1.1", host=b""), (400,), (), True, lacks=(b"\r\n\r\n400",)),
        ),
    ),
    Rule(
        "9110 10.1.1",
        "A 100-continue is answered 100 at once, or by a final status, without waiting for the content",
        (
            Vector(post(b"Expect: 100-continue\r\nContent-Length: 3\r\n", b""), (100,)),
            Vector(post(b"Expect: 100-CONTINUE\r\nContent-Length: 3\r\n", b""), (100,)),
            Vector(
                post(b"Expect: 100-continue\r\nContent-Length: 3\r\n", b"abc"),
                (100, 200),
                (Seen("POST", b"/", b"abc"),),
            ),
            served(get(b"Expect: 100-continue\r\n"), GET),
        ),
    ),
    Rule(
        "9110 10.1.1",
        "A 100-continue in HTTP/1.0 is ignored",
        (
            Vector(
                post(b"Expect: 100-continue\r\nContent-Length: 3\r\n", b"abc", b"HTTP/1.0"),
                (200,),
                (Seen("POST", b"/", b"abc"),),
                True,
            ),
        ),
    ),
    Rule(
        "9110 10.1.1",
        "An unknown expectation may be answered 417",
        (
            refused(get(b"Expect: x\r\n"), 417),
            refused(post(b"Expect: 100-continue, x\r\nContent-Length: 3\r\n", b""), 417),
        ),
        "MAY",
    ),
    Rule(
        "9110 15.2",
        "No 1xx is sent to HTTP/1.0",
        (
            Vector(get(line=b"GET / HTTP/1.0"), (200,), (GET,), True, (103, (), ())),
            Vector(get(), (103, 200), (GET,), False, (103, (), ())),
        ),
    ),
    Rule(
        "9110 15.3.6",
        "A 205 has no content",
        (
            Vector(
                get(),
                (205,),
                (GET,),
                False,
                (205, (), (b"secret",)),
                contains=(b"content-length: 0\r\n",),
                lacks=(b"secret",),
            ),
        ),
    ),
    Rule(
        "9110 15.4.5",
        "A 304 has no content, but may say how long the content would be",
        (
            Vector(
                get(),
                (304,),
                (GET,),
                False,
                (304, ((b"content-length", b"6"),), (b"secret",)),
                contains=(b"content-length: 6\r\n",),
                lacks=(b"secret",),
            ),
        ),
    ),
)
