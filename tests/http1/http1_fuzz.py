"""Differential fuzzing: streams of mutated requests, and what three parsers make of them.

`generate` is deterministic for a seed. `ours`, `by_h11` and `by_httptools` turn a stream into an `Outcome`;
`compare` names the class of a difference, None when there is none. Which classes are as they should be, and why,
is said in test_http1_fuzz.py.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import h11
import httptools

from twisted_rr.http1.request import Request
from twisted_rr.http1.response import render
from twisted_rr.http1.session import HEAD_BEGUN, Session
from twisted_rr.http1.settings import SessionSettings

# ------------------------------------------------------------------------------- the streams

METHODS = (
    b"GET",
    b"POST",
    b"HEAD",
    b"PUT",
    b"DELETE",
    b"OPTIONS",
    b"PATCH",
    b"TRACE",
    b"CONNECT",
    b"PURGE",
    b"get",
    b"X-Y",
    b"FOO",
    b"PRI",
)
TARGETS = (
    b"/", b"/a?b=c", b"/%41%zz", b"*", b"http://b/", b"http://b", b"HTTP://b:80/x?y", b"https://u@b/", b"http:///", b"b:80",
    b"/a#b", b"/\xc3\xa9", b"//x", b"/a|b{}", b"", b"a", b"ftp://b/", b"/\x7f", b"http://b?q", b"/\\", b'/"',
)  # fmt: skip
VERSIONS = (
    b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.0", b"HTTP/1.2", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.10", b"http/1.1", b"HTTP/1", b"",
    b"HTTP/ 1.1", b"HTTP/1.1 ", b"HTTP/11", b"RTSP/1.0",
)  # fmt: skip
HOSTS = (
    b"a",
    b"a:80",
    b"[::1]:80",
    b"",
    b"a b",
    b"a/b",
    b"u@a",
    b"a:b",
    b"[::1",
    b"caf\xc3\xa9",
    b"a,b",
    b"a:",
    b"1.2.3.4",
)
LENGTHS = (
    b"0",
    b"3",
    b"5",
    b"5 ",
    b"+5",
    b"-1",
    b"05",
    b"5,5",
    b"5, 5",
    b"5;",
    b"0x5",
    b"",
    b"5\x0b",
    b"99999999999999999999",
    b"1e1",
    b"\xb2",
)
CODINGS = (
    b"chunked",
    b"Chunked",
    b" chunked",
    b"chunked ",
    b"identity",
    b"gzip, chunked",
    b"chunked, gzip",
    b"chunked, chunked",
    b"gzip",
    b"",
    b"chunked;a=b",
    b"xchunked",
    b",chunked",
    b"chunked,",
    b"\x0bchunked",
    b'"chunked"',
    b"chun ked",
)
CONNECTIONS = (b"close", b"keep-alive", b"close, keep-alive", b"Close", b"x", b",close,", b"upgrade")
EXPECTS = (b"100-continue", b"100-Continue", b"x", b"")
NAMES = (
    b"X",
    b"X-Y",
    b"x_y",
    b"X ",
    b"",
    b" X",
    b"X\t",
    b"X\x00",
    b"X(",
    b"X\xe9",
    b"Content_Length",
    b"X\r",
    b"X\n",
)
VALUES = (
    b"1",
    b"",
    b"a b",
    b"a\tb",
    b"\xe9",
    b"a\x00b",
    b"a\x01b",
    b"a\x7fb",
    b"a\rb",
    b"a\nb",
    b"a\r\n b",
    b"\x0ba",
    b" a ",
    b"a:b",
    b"\x85",
)
ENDS = (b"\n", b"\r", b"\r\r\n", b"\n\n", b"\n\r\n", b" \r\n", b"\x00\r\n", b"\r\n ", b"\r\n\t")
SIZES = (
    b"3",
    b"03",
    b"0000000000000000003",
    b"3;a",
    b"3;a=b",
    b'3;a="b"',
    b"3 ;a",
    b"3 ",
    b" 3",
    b"+3",
    b"-3",
    b"0x3",
    b"g",
    b"",
    b"3;",
    b"3;a\x01",
    b"3;\n",
    b"3\n",
    b"ffffffffffffffff",
    b"fffffffffffffffff",
    b"3_",
    b"3;a=b;c",
    b"3;;",
)
NOISE = (
    b"\x00",
    b"\n",
    b"\r",
    b"\r\n",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"0",
    b"/",
    b"\x0b",
    b"\x0c",
    b"\x1b",
    b"A",
    b"\r\n\r\n",
)


def _weighted(rng: random.Random, usual: bytes, odd: tuple[bytes, ...], chance: float) -> bytes:
    return rng.choice(odd) if rng.random() < chance else usual


def _request(rng: random.Random) -> bytes:
    """One request, well-formed more often than not."""
    odd = rng.choice((0.0, 0.02, 0.1))
    end = b"\r\n"
    lines = [
        _weighted(rng, rng.choice(METHODS[:6]), METHODS, odd) + b" " + _weighted(rng, b"/p?q", TARGETS, odd) + b" " + _weighted(rng, b"HTTP/1.1", VERSIONS, odd + 0.03),
        b"Host: " + _weighted(rng, b"a.example", HOSTS, odd),
    ]  # fmt: skip
    content = b""
    kind = rng.random()
    if kind < 0.3:
        lines.append(b"Content-Length: " + _weighted(rng, b"5", LENGTHS, odd))
        content = b"hello"
    elif kind < 0.6:
        lines.append(b"Transfer-Encoding: " + _weighted(rng, b"chunked", CODINGS, odd))
        content = _chunks(rng, odd)
    if rng.random() < odd:
        lines.append(rng.choice((b"Content-Length: ", b"content-length:")) + rng.choice(LENGTHS))
    if rng.random() < odd:
        lines.append(rng.choice((b"Transfer-Encoding: ", b"transfer-encoding:")) + rng.choice(CODINGS))
    if rng.random() < 0.2:
        lines.append(b"Connection: " + rng.choice(CONNECTIONS))
    if rng.random() < odd:
        lines.append(b"Expect: " + rng.choice(EXPECTS))
    for _ in range(rng.randrange(3)):
        lines.append(
            _weighted(rng, b"X-A", NAMES, odd)
            + b":"
            + rng.choice((b" ", b"", b"\t", b"  "))
            + _weighted(rng, b"v", VALUES, odd)
        )
    if rng.random() < odd:
        del lines[1]
    if rng.random() < odd:
        lines.insert(rng.randrange(1, len(lines) + 1), rng.choice(lines))
    if rng.random() < odd:
        rng.shuffle(lines)
    ends = [_weighted(rng, end, ENDS, odd / 3) for _ in lines] + [_weighted(rng, end, ENDS, odd / 3)]
    head = b"".join(line + tail for line, tail in zip([*lines, b""], ends, strict=True))
    return _weighted(rng, b"", (b"\r\n", b"\n", b" ", b"\r\n\r\n", b"\x00", b"\r"), odd) + head + content


def _chunks(rng: random.Random, odd: float) -> bytes:
    parts = [
        _weighted(rng, b"3", SIZES, odd) + b"\r\n" + _weighted(rng, b"abc", (b"ab", b"abcd", b"a\r\n"), odd / 3) + _weighted(rng, b"\r\n", ENDS, odd / 3)
        for _ in range(rng.randrange(3))
    ]  # fmt: skip
    parts.append(_weighted(rng, b"0", (b"00", b"0;a", b"", b"0 "), odd) + b"\r\n")
    if rng.random() < 0.2:
        parts.append(_weighted(rng, b"X-T", NAMES, odd) + b": " + _weighted(rng, b"t", VALUES, odd) + b"\r\n")
    return b"".join(parts) + _weighted(rng, b"\r\n", ENDS, odd)


def _mutate(rng: random.Random, data: bytes) -> bytes:
    where = rng.randrange(len(data) + 1)
    kind = rng.randrange(6)
    if kind == 0:
        return data[:where] + rng.choice(NOISE) + data[where:]
    if kind == 1:
        return data[:where] + data[where + rng.randrange(1, 4) :]
    if kind == 2:
        return data[:where] + bytes([rng.randrange(256)]) + data[where + 1 :]
    if kind == 3:
        return data[:where]
    if kind == 4:
        other = rng.randrange(len(data) + 1)
        return data[:where] + data[min(where, other) : max(where, other)] + data[where:]
    return data.replace(b"\r\n", rng.choice(ENDS), 1) if rng.random() < 0.5 else data.replace(b"\r\n", b"\n")


def generate(seed: int, count: int) -> Iterator[bytes]:
    """*count* streams of one or two requests."""
    rng = random.Random(seed)
    for _ in range(count):
        data = _request(rng)
        if rng.random() < 0.3:
            data += _request(rng)
        for _ in range(rng.choice((0, 0, 0, 1, 1, 2, 3))):
            data = _mutate(rng, data)
        yield data or b"\r\n"


# ------------------------------------------------------------------------------- the parsers


class Parsed(NamedTuple):
    method: bytes
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    content: bytes


class Outcome(NamedTuple):
    """Complete requests, and why there are no more: ``""`` at the end of the bytes, ``closed``, or a reason.

    *partial*: another one has begun.
    """

    requests: list[Parsed]
    fault: str
    partial: bool = False


class _Sink:
    """As little of a front, a transport and an exchange as a session needs."""

    draining = False

    def __init__(self) -> None:
        self.requests: list[Parsed] = []
        self.fault = ""
        self.session: Any = None
        self.request: Any = None
        self.pieces: list[bytes] = []
        self.shut = False

    def begin(self, session: Session, request: Request) -> _Sink:
        self.request = request
        self.pieces = []
        if request.length == 0:
            self._done()
        return self

    def body(self, data: bytes, more: bool) -> bool:
        self.pieces.append(data)
        if not more:
            self._done()
        return True

    def _done(self) -> None:
        request = self.request
        self.requests.append(
            Parsed(request.method.encode(), request.target, tuple(request.headers), b"".join(self.pieces))
        )
        self.session.respond(HEAD)
        self.request = None

    def refused(self, session: Session, status: int, reason: str) -> None:
        self.fault = f"{status} {reason}"

    def nothing(self, *arguments: Any) -> None: ...

    closed = pause = resume = sent = lost = write = registerProducer = unregisterProducer = nothing
    pauseProducing = resumeProducing = nothing

    def buffered(self) -> int:
        return 0

    def close(self, *arguments: Any) -> None:
        self.shut = True

    close_lingering = loseConnection = abortConnection = close


HEAD = render(200, [])
SETTINGS = SessionSettings()


def _clock() -> float:
    return 0.0


def ours(data: bytes) -> Outcome:
    sink = _Sink()
    session: Any = Session(sink, sink, SETTINGS, _clock, "http", None, None)  # type: ignore[arg-type]
    sink.session = session
    session.data_received(data)
    fault = sink.fault or ("closed" if sink.shut else "")
    return Outcome(sink.requests, fault, session._phase == HEAD_BEGUN or sink.request is not None)


_RESPONSE = h11.Response(status_code=404, headers=[("content-length", "0")])
_END = h11.EndOfMessage()


def by_h11(data: bytes) -> Outcome:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    requests: list[Parsed] = []
    request: Any = None
    pieces: list[bytes] = []
    try:
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                return Outcome(requests, "", request is not None or bool(connection.trailing_data[0]))
            if event is h11.PAUSED:
                return Outcome(requests, "closed")
            if isinstance(event, h11.Request):
                request, pieces = event, []
            elif isinstance(event, h11.Data):
                pieces.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                headers = tuple((bytes(name), bytes(value)) for name, value in request.headers)
                requests.append(Parsed(request.method, request.target, headers, b"".join(pieces)))
                request = None
                connection.send(_RESPONSE)
                connection.send(_END)
                if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                    return Outcome(requests, "closed")
                connection.start_next_cycle()
    except h11.RemoteProtocolError as error:
        text = str(error).partition(":")[0].partition(" b'")[0].partition("bytearray")[0].strip()
        return Outcome(requests, f"h11 {text}")


class _Callbacks:
    def __init__(self) -> None:
        self.requests: list[Parsed] = []
        self.parser: Any = None
        self.open = False
        self.keep = True

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.pieces: list[bytes] = []
        self.open = True
        self.in_head = True

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.in_head:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.in_head = False

    def on_body(self, piece: bytes) -> None:
        self.pieces.append(piece)

    def on_message_complete(self) -> None:
        self.open = False
        self.requests.append(
            Parsed(self.parser.get_method(), self.url, tuple(self.headers), b"".join(self.pieces))
        )
        self.keep = self.parser.should_keep_alive()


def by_httptools(data: bytes) -> Outcome:
    callbacks = _Callbacks()
    parser = callbacks.parser = httptools.HttpRequestParser(callbacks)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        return Outcome(callbacks.requests, "closed")
    except httptools.HttpParserError as error:
        return Outcome(
            callbacks.requests, f"httptools {type(error).__name__}: {error.args[0] if error.args else ''}"
        )
    return Outcome(callbacks.requests, "", callbacks.open)


# ---------------------------------------------------------------------------- the comparison


def _origin_form(request: Parsed) -> Parsed:
    """An oracle's request with what we do to a target in absolute form."""
    target = request.target
    scheme, mark, rest = target.partition(b"://")
    if not mark or scheme.lower() not in (b"http", b"https"):
        return request
    cut = min((at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0), default=len(rest))
    authority, path = rest[:cut], rest[cut:]
    if path[:1] != b"/":
        path = b"*" if request.method == b"OPTIONS" and not path else b"/" + path
    headers = [(name, authority if name == b"host" else value) for name, value in request.headers]
    if not any(name == b"host" for name, _ in headers):
        headers.insert(0, (b"host", authority))
    return request._replace(target=path, headers=tuple(headers))


def _header_difference(left: Parsed, right: Parsed) -> str:
    coding = b"transfer-encoding"
    if [name for name, _ in left.headers] != [name for name, _ in right.headers]:
        return "header names"
    pairs = [(name, a, b) for (name, a), (_, b) in zip(left.headers, right.headers, strict=True) if a != b]
    if all(a == b.strip(b" \t") for _, a, b in pairs):
        return "blanks around a header value"
    if all(name == coding and a.lower() == b for name, a, b in pairs):
        return "case of a transfer coding"
    return "header values"


def compare(mine: Outcome, other: Outcome) -> str | None:
    """The class of the first difference.

    ``stricter: REASON`` we refuse what the oracle takes, or has not refused yet; ``laxer: REASON`` the other way
    round; ``later: REASON`` the oracle refuses what we are still reading; ``differs: WHAT`` both take a request and
    see another one in it.
    """
    for left, raw in zip(mine.requests, other.requests, strict=False):
        right = _origin_form(raw)
        for field in Parsed._fields:
            if getattr(left, field) != getattr(right, field):
                return f"differs: {_header_difference(left, right) if field == 'headers' else field}"
    if len(mine.requests) < len(other.requests):
        return f"stricter: {mine.fault or 'waits'}"
    if len(mine.requests) > len(other.requests):
        return f"laxer: {other.fault or 'waits'}"
    if mine.fault and not other.fault:
        return None if mine.fault == "closed" and not other.partial else f"stricter: {mine.fault}"
    if other.fault and not mine.fault:
        return f"later: {other.fault}" if mine.partial else None
    return None
