"""What RFC 9113 and RFC 7541 demand of a server, as data: each rule with frames that show it, and the exact answer.

Rules for clients, proxies and senders are left out. Read by test_http2_rules.py, and by the documentation.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

from http2_rig import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    REQUEST,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    blocks,
    data,
    frame,
    head,
    request,
    rst_stream,
    settings,
    window_update,
)

from twisted_rr.http2.codes import (
    CANCEL,
    COMPRESSION_ERROR,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    NO_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    STREAM_CLOSED,
)
from twisted_rr.http2.frames import HAS_PRIORITY, PADDED, PRIORITY, PUSH_PROMISE


@dataclass(frozen=True)
class Vector:
    """What a client sends after its preface, and what must come of it.

    :ivar sent: the client's frames.
    :ivar goaway: the code that ends the connection, None when it goes on.
    :ivar resets: streams reset by the server, with their codes, in order.
    :ivar answered: streams that are answered to their end, in order.
    :ivar preface: what the client sends before.
    :ivar answers: whether the front answers complete requests.
    :ivar settings: of the session.
    :ivar heard: of the first exchange: how it ended, ``""`` for not at all.
    """

    sent: bytes
    goaway: int | None = None
    resets: tuple[tuple[int, int], ...] = ()
    answered: tuple[int, ...] = ()
    preface: bytes = PREFACE + settings([])
    answers: bool = True
    settings: dict[str, Any] = field(default_factory=dict)
    heard: str | None = None


@dataclass(frozen=True)
class Rule:
    """One requirement: *section* as "9113 5.1", *rule* in our own words."""

    section: str
    rule: str
    vectors: tuple[Vector, ...]


def dies(sent: bytes, code: int, **more: Any) -> Vector:
    """Ends the connection."""
    return Vector(sent, code, **more)


def refused(sent: bytes, code: int, stream: int = 1, **more: Any) -> Vector:
    """Ends one stream; others are unharmed."""
    return Vector(sent, None, ((stream, code),), **more)


def malformed(*fields: tuple[bytes, bytes]) -> Vector:
    """A request with these fields is malformed."""
    return refused(head(1, fields, True), PROTOCOL_ERROR)


def with_field(name: bytes, value: bytes) -> Vector:
    return malformed(*REQUEST, (name, value))


def setting(key: int, value: int) -> bytes:
    return frame(SETTINGS, 0, 0, struct.pack(">HI", key, value))


def u32(value: int) -> bytes:
    return struct.pack(">I", value)


BLOCK = blocks.encode(REQUEST)
OPEN = head(1)
DONE = head(1, REQUEST, True)
SILENT: dict[str, Any] = {"answers": False}
PRIORITY_OF_0 = u32(0) + b"\x10"
METHOD, SCHEME, PATH, AUTHORITY = REQUEST[:4]
PLAIN = (METHOD, SCHEME, PATH, AUTHORITY)
LENGTH_3 = (*REQUEST, (b"content-length", b"3"))

CONNECTION = (
    Rule("9113 3.4", "a connection begins with the preface and SETTINGS", (
        dies(b"", PROTOCOL_ERROR, preface=b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        dies(b"", PROTOCOL_ERROR, preface=PREFACE[:18] + b"XX\r\n\r\n"),
        dies(OPEN, PROTOCOL_ERROR, preface=PREFACE),
        dies(frame(PING, 0, 0, bytes(8)), PROTOCOL_ERROR, preface=PREFACE),
        dies(b"", PROTOCOL_ERROR, preface=PREFACE + frame(SETTINGS, 1, 0, b"")),
        Vector(request(1), answered=(1,)),
    )),
    Rule("9113 4.1", "flags and types without meaning are ignored, and so is the reserved bit", (
        Vector(frame(0x16, 0xFF, 0, b"unknown") + frame(0x16, 0, 77, b"") + request(1), answered=(1,)),
        Vector(frame(PING, 0xFE, 0, bytes(8)) + request(1), answered=(1,)),
        Vector(request(1)[:5] + b"\x80" + request(1)[6:], answered=(1,)),
        Vector(frame(HEADERS, END_HEADERS | END_STREAM | 0xD2, 1, BLOCK), answered=(1,)),
    )),
    Rule("9113 4.2", "a frame larger than the setting ends the connection", (
        dies(OPEN + frame(DATA, 0, 1, bytes(16385)), FRAME_SIZE_ERROR),
        dies(b"\xff\xff\xff\x16\0\0\0\0\0", FRAME_SIZE_ERROR),
        dies(frame(HEADERS, END_HEADERS, 1, bytes(16385)), FRAME_SIZE_ERROR),
        Vector(OPEN + frame(DATA, END_STREAM, 1, bytes(16384)), answered=(1,)),
    )),
    Rule("9113 4.3", "a header block that cannot be decoded ends the connection, whatever it is for", (
        dies(frame(HEADERS, END_HEADERS, 1, b"\x80"), COMPRESSION_ERROR),
        dies(frame(HEADERS, END_HEADERS, 1, b"\xbe"), COMPRESSION_ERROR),
        dies(DONE + frame(HEADERS, END_HEADERS, 1, b"\xbe"), COMPRESSION_ERROR, **SILENT),
        dies(OPEN + frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\xff"), COMPRESSION_ERROR),
        dies(frame(HEADERS, 0, 1, BLOCK) + frame(CONTINUATION, END_HEADERS, 1, b"\x40"), COMPRESSION_ERROR),
    )),
    Rule("9113 5.1.1", "numbers of streams are odd and go up", (
        dies(head(2), PROTOCOL_ERROR),
        dies(head(0), PROTOCOL_ERROR),
        dies(head(5) + head(3), PROTOCOL_ERROR),
        dies(request(1) + request(7) + head(5), PROTOCOL_ERROR, answered=(1, 7)),
        Vector(request(5) + request(9), answered=(5, 9)),
        Vector(request(2**31 - 3), answered=(2**31 - 3,)),
    )),
)  # fmt: skip

STATES = (
    Rule("9113 5.1", "idle: nothing but HEADERS and PRIORITY", (
        dies(data(1, b"x"), PROTOCOL_ERROR),
        dies(data(0, b"x"), PROTOCOL_ERROR),
        dies(data(2, b"x"), PROTOCOL_ERROR),
        dies(request(1) + data(3, b"x"), PROTOCOL_ERROR, answered=(1,)),
        dies(window_update(1, 1), PROTOCOL_ERROR),
        dies(window_update(2, 1), PROTOCOL_ERROR),
        dies(rst_stream(1, CANCEL), PROTOCOL_ERROR),
        dies(rst_stream(2, CANCEL), PROTOCOL_ERROR),
        Vector(frame(PRIORITY, 0, 1, PRIORITY_OF_0) + frame(PRIORITY, 0, 8, PRIORITY_OF_0) + request(1), answered=(1,)),
    )),
    Rule("9113 5.1", "half-closed: nothing but WINDOW_UPDATE, PRIORITY and RST_STREAM", (
        refused(DONE + data(1, b"x"), STREAM_CLOSED, heard="reset 5", **SILENT),
        refused(DONE + data(1, b"", True), STREAM_CLOSED, **SILENT),
        refused(DONE + head(1, (), True), STREAM_CLOSED, **SILENT),
        refused(request(1, b"abc") + data(1, b"x"), STREAM_CLOSED, **SILENT),
        Vector(DONE + window_update(1, 1) + frame(PRIORITY, 0, 1, PRIORITY_OF_0), heard="", **SILENT),
        Vector(DONE + rst_stream(1, CANCEL), heard="reset 8", **SILENT),
    )),
    Rule("9113 5.1", "closed by both ends: DATA and HEADERS are errors, the rest may come late", (
        refused(request(1) + data(1, b"x"), STREAM_CLOSED, answered=(1,), heard="closed"),
        dies(request(1) + head(1), STREAM_CLOSED, answered=(1,)),
        dies(request(1) + request(3) + head(1), STREAM_CLOSED, answered=(1, 3)),
        Vector(request(1) + window_update(1, 9) + rst_stream(1, CANCEL) + rst_stream(1, CANCEL), answered=(1,), heard="closed"),
        Vector(request(1) + frame(PRIORITY, 0, 1, PRIORITY_OF_0), answered=(1,)),
    )),
    Rule("9113 5.1", "closed by the client's RST_STREAM: nothing follows but PRIORITY, and what crossed", (
        refused(OPEN + rst_stream(1, CANCEL) + data(1, b"x"), STREAM_CLOSED, heard="reset 8"),
        dies(OPEN + rst_stream(1, CANCEL) + head(1, (), True), STREAM_CLOSED),
        Vector(OPEN + rst_stream(1, 99) + window_update(1, 5) + rst_stream(1, 99), heard="reset 99"),
    )),
    Rule("9113 5.1", "closed by our RST_STREAM: what crosses it is ignored", (
        refused(head(1, ((b":method", b"GET"),)) + data(1, b"x") + data(1, b"", True), PROTOCOL_ERROR),
        refused(head(1, ((b":method", b"GET"),)) + head(1, ((b"x", b"y"),), True), PROTOCOL_ERROR),
        refused(head(1, ((b":method", b"GET"),)) + window_update(1, 5) + rst_stream(1, CANCEL), PROTOCOL_ERROR),
    )),
    Rule("9113 5.1.1", "numbers that were skipped are closed", (
        refused(request(5) + data(3, b"x"), STREAM_CLOSED, stream=3, answered=(5,)),
        Vector(request(5) + window_update(3, 5) + rst_stream(1, CANCEL), answered=(5,)),
    )),
    Rule("9113 5.1.2", "more streams than allowed are refused", (
        refused(head(1) + head(3) + data(1, b"", True), REFUSED_STREAM, stream=3, answered=(1,), settings={"max_streams": 1}),
        refused(head(1) + head(3) + data(3, b"late", True) + data(1, b"", True), REFUSED_STREAM, stream=3, answered=(1,), settings={"max_streams": 1}),
        Vector(request(1) + request(3) + request(5), answered=(1, 3, 5), settings={"max_streams": 1}),
    )),
)  # fmt: skip

FRAMES = (
    Rule("9113 6.1", "padding must be smaller than the payload of DATA", (
        dies(OPEN + frame(DATA, PADDED, 1, b"\x05abcd"), PROTOCOL_ERROR),
        dies(OPEN + frame(DATA, PADDED, 1, b"\x01"), PROTOCOL_ERROR),
        dies(OPEN + frame(DATA, PADDED, 1, b""), PROTOCOL_ERROR),
        Vector(OPEN + frame(DATA, PADDED | END_STREAM, 1, b"\x03a\0\0\0"), answered=(1,)),
        Vector(OPEN + frame(DATA, PADDED | END_STREAM, 1, b"\x00"), answered=(1,)),
    )),
    Rule("9113 6.2", "padding and priority must fit into HEADERS", (
        dies(frame(HEADERS, END_HEADERS | PADDED, 1, b"\xff" + BLOCK), PROTOCOL_ERROR),
        dies(frame(HEADERS, END_HEADERS | PADDED, 1, b""), PROTOCOL_ERROR),
        dies(frame(HEADERS, END_HEADERS | HAS_PRIORITY, 1, b"abcd"), FRAME_SIZE_ERROR),
        dies(frame(HEADERS, END_HEADERS | HAS_PRIORITY | PADDED, 1, b"\x01abcd\0"), FRAME_SIZE_ERROR),
        Vector(frame(HEADERS, END_HEADERS | END_STREAM | HAS_PRIORITY | PADDED, 1, b"\x02" + PRIORITY_OF_0 + BLOCK + b"\0\0"), answered=(1,)),
    )),
    Rule("7540 5.3.1", "a stream cannot depend on itself", (
        refused(frame(HEADERS, END_HEADERS | END_STREAM | HAS_PRIORITY, 1, u32(1) + b"\x10" + BLOCK), PROTOCOL_ERROR),
        refused(frame(HEADERS, END_STREAM | HAS_PRIORITY, 1, u32(1) + b"\x10" + BLOCK) + frame(CONTINUATION, END_HEADERS, 1, b""), PROTOCOL_ERROR),
        refused(OPEN + frame(PRIORITY, 0, 1, u32(1) + b"\x10"), PROTOCOL_ERROR),
        dies(frame(PRIORITY, 0, 1, u32(1) + b"\x10"), PROTOCOL_ERROR),
        Vector(request(1) + frame(PRIORITY, 0, 1, u32(1) + b"\x10"), answered=(1,)),
    )),
    Rule("9113 6.3", "PRIORITY has 5 octets and a stream", (
        dies(frame(PRIORITY, 0, 0, PRIORITY_OF_0), PROTOCOL_ERROR),
        refused(OPEN + frame(PRIORITY, 0, 1, b"abcd"), FRAME_SIZE_ERROR),
        dies(frame(PRIORITY, 0, 1, b"abcd"), FRAME_SIZE_ERROR),
        dies(request(1) + frame(PRIORITY, 0, 1, b"abcd"), FRAME_SIZE_ERROR, answered=(1,)),
    )),
    Rule("9113 6.4", "RST_STREAM has 4 octets", (
        dies(OPEN + frame(RST_STREAM, 0, 1, b"abc"), FRAME_SIZE_ERROR),
        dies(OPEN + frame(RST_STREAM, 0, 1, b"abcde"), FRAME_SIZE_ERROR),
        dies(frame(RST_STREAM, 0, 0, u32(8)), PROTOCOL_ERROR),
    )),
    Rule("9113 6.5", "SETTINGS are about the connection, in pieces of 6 octets", (
        dies(frame(SETTINGS, 0, 1, b""), PROTOCOL_ERROR),
        dies(frame(SETTINGS, 0, 0, b"12345"), FRAME_SIZE_ERROR),
        dies(frame(SETTINGS, 1, 0, b"123456"), FRAME_SIZE_ERROR),
        dies(frame(SETTINGS, 1, 1, b""), PROTOCOL_ERROR),
        dies(b"", FRAME_SIZE_ERROR, preface=PREFACE + frame(SETTINGS, 0, 0, b"1")),
    )),
    Rule("9113 6.5.2", "values of SETTINGS have bounds; unknown ones are ignored", (
        dies(setting(2, 2), PROTOCOL_ERROR),
        dies(setting(4, 2**31), FLOW_CONTROL_ERROR),
        dies(setting(5, 16383), PROTOCOL_ERROR),
        dies(setting(5, 2**24), PROTOCOL_ERROR),
        Vector(setting(2, 1) + setting(4, 2**31 - 1) + setting(5, 2**24 - 1) + setting(1, 0) + setting(0x99, 7) + request(1), answered=(1,)),
    )),
    Rule("9113 6.6", "a client cannot push", (
        dies(frame(PUSH_PROMISE, END_HEADERS, 1, u32(2) + BLOCK), PROTOCOL_ERROR),
        dies(OPEN + frame(PUSH_PROMISE, END_HEADERS, 1, u32(2) + BLOCK), PROTOCOL_ERROR),
    )),
    Rule("9113 6.7", "PING has 8 octets and no stream", (
        dies(frame(PING, 0, 0, bytes(7)), FRAME_SIZE_ERROR),
        dies(frame(PING, 1, 0, bytes(9)), FRAME_SIZE_ERROR),
        dies(frame(PING, 0, 1, bytes(8)), PROTOCOL_ERROR),
        Vector(frame(PING, 1, 0, bytes(8)) + request(1), answered=(1,)),
    )),
    Rule("9113 6.8", "GOAWAY has no stream and at least 8 octets", (
        dies(frame(GOAWAY, 0, 1, bytes(8)), PROTOCOL_ERROR),
        dies(frame(GOAWAY, 0, 0, bytes(7)), FRAME_SIZE_ERROR),
    )),
    Rule("9113 6.9", "WINDOW_UPDATE has 4 octets and is by at least 1", (
        dies(frame(WINDOW_UPDATE, 0, 0, b"abc"), FRAME_SIZE_ERROR),
        dies(OPEN + frame(WINDOW_UPDATE, 0, 1, b"abcde"), FRAME_SIZE_ERROR),
        dies(window_update(0, 0), PROTOCOL_ERROR),
        refused(OPEN + window_update(1, 0), PROTOCOL_ERROR, heard="reset 1"),
        refused(OPEN + window_update(1, 2**31), PROTOCOL_ERROR),
    )),
    Rule("9113 6.9.1", "no window is larger than 2^31-1", (
        dies(window_update(0, 2**31 - 1), FLOW_CONTROL_ERROR),
        refused(OPEN + window_update(1, 2**31 - 1), FLOW_CONTROL_ERROR, heard="reset 3"),
        Vector(window_update(0, 2**31 - 1 - 65535) + OPEN + window_update(1, 2**31 - 1 - 65535) + data(1, b"", True), answered=(1,)),
    )),
    Rule("9113 6.9.2", "SETTINGS may not let the window of an open stream overflow", (
        dies(OPEN + window_update(1, 2**31 - 1 - 65535) + setting(4, 65536), FLOW_CONTROL_ERROR),
    )),
    Rule("9113 6.10", "a header block is not interrupted", (
        dies(frame(HEADERS, 0, 1, BLOCK) + data(1), PROTOCOL_ERROR),
        dies(frame(HEADERS, 0, 1, BLOCK) + frame(CONTINUATION, END_HEADERS, 3, b""), PROTOCOL_ERROR),
        dies(frame(HEADERS, 0, 1, BLOCK) + head(3), PROTOCOL_ERROR),
        dies(frame(HEADERS, 0, 1, BLOCK) + frame(PING, 0, 0, bytes(8)), PROTOCOL_ERROR),
        dies(frame(HEADERS, 0, 1, BLOCK) + frame(0x16, 0, 1, b""), PROTOCOL_ERROR),
        dies(frame(CONTINUATION, END_HEADERS, 1, BLOCK), PROTOCOL_ERROR),
        dies(request(1) + frame(CONTINUATION, END_HEADERS, 1, b""), PROTOCOL_ERROR, answered=(1,)),
        Vector(frame(HEADERS, END_STREAM, 1, BLOCK[:3]) + frame(CONTINUATION, 0, 1, BLOCK[3:5]) + frame(CONTINUATION, 0, 1, b"") + frame(CONTINUATION, END_HEADERS, 1, BLOCK[5:]), answered=(1,)),
        Vector(frame(HEADERS, END_STREAM, 1, b"") + frame(CONTINUATION, END_HEADERS, 1, BLOCK), answered=(1,)),
    )),
)  # fmt: skip

MESSAGES = (
    Rule("9113 8.1", "trailers end the request", (
        Vector(OPEN + data(1, b"abc") + head(1, ((b"x-sum", b"1"),), True), answered=(1,)),
        refused(OPEN + head(1, ((b"x-sum", b"1"),)), PROTOCOL_ERROR, heard="reset 1"),
        refused(OPEN + head(1, ((b":path", b"/"),), True), PROTOCOL_ERROR),
        refused(OPEN + head(1, ((b"Upper", b"1"),), True), PROTOCOL_ERROR),
        refused(OPEN + head(1, ((b"content-length", b"0"),), True), PROTOCOL_ERROR),
    )),
    Rule("9113 8.1.1", "content is as long as its content-length", (
        refused(head(1, LENGTH_3, True), PROTOCOL_ERROR),
        refused(head(1, LENGTH_3) + data(1, b"ab", True), PROTOCOL_ERROR, heard="reset 1"),
        refused(head(1, LENGTH_3) + data(1, b"abcd"), PROTOCOL_ERROR),
        refused(head(1, LENGTH_3) + data(1, b"ab") + data(1, b"cd", True), PROTOCOL_ERROR),
        refused(head(1, LENGTH_3) + data(1, b"ab") + head(1, (), True), PROTOCOL_ERROR),
        Vector(head(1, LENGTH_3) + data(1, b"ab") + data(1, b"c") + head(1, (), True), answered=(1,)),
        Vector(head(1, LENGTH_3) + frame(DATA, PADDED, 1, b"\x02abc\0\0") + data(1, b"", True), answered=(1,)),
        Vector(head(1, (*REQUEST, (b"content-length", b"0")), True), answered=(1,)),
        with_field(b"content-length", b"x"), with_field(b"content-length", b"-1"), with_field(b"content-length", b""),
        with_field(b"content-length", b"1" * 19),
        malformed(*LENGTH_3, (b"content-length", b"4")),
        malformed(*LENGTH_3, (b"content-length", b"3")),
    )),
    Rule("9113 8.2", "names are tokens in lower case", (
        with_field(b"Upper", b"1"), with_field(b"a b", b"1"), with_field(b"", b"1"), with_field(b"a\x7f", b"1"),
        with_field(b"a\x80", b"1"), with_field(b"a:b", b"1"), with_field(b"a\0", b"1"),
    )),
    Rule("9113 8.2.1", "values have no control characters and no blanks at their ends", (
        with_field(b"x", b"a\r\nb"), with_field(b"x", b"a\nb"), with_field(b"x", b"a\0"), with_field(b"x", b"a\x01"),
        with_field(b"x", b" a"), with_field(b"x", b"a\t"), with_field(b"x", b"a\x7f"), with_field(b"cookie", b"a\n"),
        Vector(head(1, (*REQUEST, (b"x", b"a\tb c\xff"), (b"y", b"")), True), answered=(1,)),
    )),
    Rule("9113 8.2.2", "connection-specific fields are malformed, and TE but for trailers", (
        with_field(b"connection", b"close"), with_field(b"keep-alive", b"1"), with_field(b"proxy-connection", b"x"),
        with_field(b"transfer-encoding", b"chunked"), with_field(b"upgrade", b"h2c"), with_field(b"te", b"gzip"),
        with_field(b"te", b"trailers, deflate"),
        Vector(head(1, (*PLAIN, (b"te", b"Trailers")), True), answered=(1,)),
    )),
    Rule("9113 8.3", "pseudo-header fields come first and are known", (
        malformed((b"a", b"b"), *PLAIN),
        malformed(METHOD, SCHEME, (b"a", b"b"), PATH, AUTHORITY),
        with_field(b":path", b"/"), with_field(b":unknown", b"1"), with_field(b":status", b"200"),
        with_field(b":protocol", b"websocket"),
        malformed((b":status", b"200"), *PLAIN),
    )),
    Rule("9113 8.3.1", "method, scheme and path are there, once, and sound", (
        malformed(SCHEME, PATH, AUTHORITY), malformed(METHOD, PATH, AUTHORITY), malformed(METHOD, SCHEME, AUTHORITY),
        malformed(METHOD, METHOD, SCHEME, PATH, AUTHORITY),
        malformed(METHOD, SCHEME, PATH, PATH, AUTHORITY),
        malformed(METHOD, SCHEME, (b":path", b""), AUTHORITY),
        malformed(METHOD, SCHEME, (b":path", b"a"), AUTHORITY),
        malformed(METHOD, SCHEME, (b":path", b"/a b"), AUTHORITY),
        malformed(METHOD, SCHEME, (b":path", b"/a#b"), AUTHORITY),
        malformed(METHOD, SCHEME, (b":path", b"*"), AUTHORITY),
        malformed((b":method", b"P OST"), SCHEME, PATH, AUTHORITY),
        malformed((b":method", b""), SCHEME, PATH, AUTHORITY),
        malformed(METHOD, (b":scheme", b"1"), PATH, AUTHORITY),
        Vector(head(1, ((b":method", b"OPTIONS"), SCHEME, (b":path", b"*"), AUTHORITY), True), answered=(1,)),
        Vector(head(1, (AUTHORITY, PATH, METHOD, SCHEME), True), answered=(1,)),
    )),
    Rule("9113 8.3.1", "an authority or a host is there, they agree, and have no userinfo", (
        malformed(METHOD, SCHEME, PATH),
        malformed(METHOD, SCHEME, PATH, (b":authority", b"")),
        malformed(METHOD, SCHEME, PATH, (b":authority", b"u@a")),
        malformed(METHOD, SCHEME, PATH, (b"host", b"")),
        malformed(*PLAIN, (b"host", b"b.example")),
        malformed(METHOD, SCHEME, PATH, (b"host", b"a"), (b"host", b"a")),
        Vector(head(1, (*PLAIN, (b"host", b"A.example")), True), answered=(1,)),
        Vector(head(1, (METHOD, SCHEME, PATH, (b"host", b"a.example")), True), answered=(1,)),
    )),
    Rule("9113 8.5", "CONNECT has neither scheme nor path, but an authority", (
        malformed((b":method", b"CONNECT"), SCHEME, PATH, AUTHORITY),
        malformed((b":method", b"CONNECT"), (b"host", b"a")),
        Vector(head(1, ((b":method", b"CONNECT"), AUTHORITY), True), answered=(1,)),
    )),
)  # fmt: skip

RAPID = b"".join(head(2 * i + 1) + rst_stream(2 * i + 1, CANCEL) for i in range(40))
LIMITED: dict[str, Any] = {"settings": {"max_glitches": 50, "max_resets": 20, "max_continuations": 8}}
MUCH = tuple((b"x-%d" % i, b"v" * 1000) for i in range(5))

LIMITS = (
    Rule("9113 10.5", "streams opened and reset without end", (
        dies(RAPID, ENHANCE_YOUR_CALM, **LIMITED),
        dies(b"".join(head(2 * i + 1) + window_update(2 * i + 1, 0) for i in range(40)), ENHANCE_YOUR_CALM, resets=tuple((2 * i + 1, 1) for i in range(21)), **LIMITED),
        dies(b"".join(head(2 * i + 1, (METHOD,)) for i in range(40)), ENHANCE_YOUR_CALM, resets=tuple((2 * i + 1, 1) for i in range(21)), **LIMITED),
    )),
    Rule("9113 10.5", "frames that bring nothing, without end", (
        dies(frame(PING, 0, 0, bytes(8)) * 60, ENHANCE_YOUR_CALM, **LIMITED),
        dies(frame(SETTINGS, 0, 0, b"") * 60, ENHANCE_YOUR_CALM, **LIMITED),
        dies(OPEN + data(1) * 60, ENHANCE_YOUR_CALM, **LIMITED),
        dies(OPEN + frame(DATA, PADDED, 1, b"\x02\0\0") * 60, ENHANCE_YOUR_CALM, **LIMITED),
        dies(frame(PRIORITY, 0, 1, PRIORITY_OF_0) * 60, ENHANCE_YOUR_CALM, **LIMITED),
        dies(frame(0x16, 0, 0, b"") * 60, ENHANCE_YOUR_CALM, **LIMITED),
        dies(request(1) + window_update(1, 0) * 60, ENHANCE_YOUR_CALM, answered=(1,), **LIMITED),
    )),
    Rule("9113 10.5.1", "a header block in too many frames", (
        dies(frame(HEADERS, 0, 1, BLOCK) + frame(CONTINUATION, 0, 1, b"") * 9, ENHANCE_YOUR_CALM, **LIMITED),
        dies(frame(HEADERS, 0, 1, BLOCK) + frame(CONTINUATION, 0, 1, bytes(16384)) * 3, ENHANCE_YOUR_CALM),
    )),
    Rule("9113 10.5.1", "a head that is too large is answered 431, or reset where no status is wanted", (
        Vector(head(1, REQUEST + MUCH, True), answered=(1,), settings={"max_header_list": 4096}),
        refused(head(1, REQUEST + MUCH), NO_ERROR, answered=(1,), settings={"max_header_list": 4096}),
        refused(head(1, REQUEST + MUCH, True), ENHANCE_YOUR_CALM, settings={"max_header_list": 4096, "oversized_status": 0}),
        refused(OPEN + head(1, MUCH, True), ENHANCE_YOUR_CALM, settings={"max_header_list": 4096}),
    )),
    Rule("9113 6.9.1", "a client that sends more than a window allows", (
        refused(OPEN + data(1, bytes(16384)) * 5, FLOW_CONTROL_ERROR, settings={"stream_window": 65535}, heard="reset 3"),
        dies(head(1) + head(3) + (data(1, bytes(16384)) + data(3, bytes(16384))) * 3, FLOW_CONTROL_ERROR, settings={"connection_window": 65535}),
    )),
)  # fmt: skip

RULES = CONNECTION + STATES + FRAMES + MESSAGES + LIMITS
