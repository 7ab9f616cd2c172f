"""Heads of answers, validated and rendered once, sent often; and the framing of the content behind them.

Pure functions: which answer is sent when, and what becomes of the connection, is the session's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from twisted_rr.errors import RRError
from twisted_rr.http1.cache import Cache
from twisted_rr.http1.grammar import is_field_value, is_number, is_token, members
from twisted_rr.http1.head import MAX_LENGTH_DIGITS
from twisted_rr.http1.reasons import status_line

#: Fields about one connection (RFC 9110 section 7.6.1): the server speaks for itself there.
HOP_BY_HOP: Final = frozenset(
    [b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade"]
)

#: How the content that is still to come is framed; 0 and above: so much of it is left.
CHUNKED: Final = -1
NO_CONTENT: Final = -2
UNTIL_CLOSE: Final = -3


class BadResponse(RRError):
    """An answer that must not be sent: the application's fault.

    :ivar reason: which rule it breaks.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class ResponseHead:
    """A validated head, immutable: it can be kept and sent on any session, for any request.

    :ivar status: 100 to 599, never 101.
    :ivar length: what content-length says, -1 when there is none.
    :ivar close: the application asked for ``connection: close``.
    :ivar trailer: trailers were announced by ``trailer:``.
    :ivar head: status line and field lines, without what is added when it is sent.
    :ivar dated: it brings its own Date.
    :ivar content: False when its status never has content (1xx, 204, 205, 304).
    :ivar plain: it says its length and brings nothing else that `open_answer` would have to look at.
    """

    __slots__ = ("status", "length", "close", "trailer", "head", "dated", "content", "plain")

    def __init__(self, status: int) -> None:
        self.status = status
        self.length = -1
        self.close = False
        self.trailer = False
        self.head = b""
        self.dated = False
        self.content = status >= 200 and status not in (204, 205, 304)
        self.plain = False


#: Valid response names as given -> lower case.
_names: Final = Cache(1024, 64, forgets=True)


def _lower(name: bytes) -> bytes:
    known: bytes | None = _names.young.get(name)
    if known is None:
        if not is_token(name):
            raise BadResponse("a header name that is no token")
        known = name.lower()
        _names.put(name, known)
    return known


def render(status: int, headers: Iterable[tuple[bytes, bytes]]) -> ResponseHead:
    """Validate and render the head of an answer.

    Names may be in any case and are sent as given; hop-by-hop fields are dropped, those that Connection names too
    (``connection: close`` is kept as `ResponseHead.close`). Framing, ``date`` and ``connection`` are added when it
    is sent. Content-length is dropped where RFC 9110 section 8.6 forbids it (1xx, 204), and is 0 for 205.

    :raises BadResponse: status outside 100..599, or 101 (nothing is upgraded here); a name that is no token; CR,
        LF, NUL or another control byte in a value; content-length malformed or twice.
    """
    if not 100 <= status <= 599 or status == 101:
        raise BadResponse("unknown status code from worker: %d" % status)
    result = ResponseHead(status)
    lines: list[tuple[bytes, bytes, bytes]] = []
    named: list[bytes] = []
    for name, value in headers:
        lower = _lower(name)
        if not is_field_value(value):
            raise BadResponse("a control character in the value of header %s" % lower.decode("ascii"))
        if lower in HOP_BY_HOP:
            if lower == b"connection":
                named += members(value)
        elif lower != b"content-length" or _takes_length(result, value):
            lines.append((lower, name, value))
    result.close = b"close" in named
    if named:
        lines = [line for line in lines if line[0] not in named or line[0] == b"content-length"]
    _finish(result, lines)
    return result


def _takes_length(head: ResponseHead, value: bytes) -> bool:
    """Note the content-length; whether it may be sent."""
    if not is_number(value) or len(value) > MAX_LENGTH_DIGITS:
        raise BadResponse("a malformed content-length")
    if head.length >= 0:
        raise BadResponse("more than one content-length")
    head.length = int(value)
    return head.content or head.status == 304


def _finish(head: ResponseHead, lines: list[tuple[bytes, bytes, bytes]]) -> None:
    parts = [status_line(head.status)]
    for lower, name, value in lines:
        parts.append(b"%b: %b\r\n" % (name, value))
        if lower == b"date":
            head.dated = True
        elif lower == b"trailer":
            head.trailer = True
    if head.status == 205:
        parts.append(b"content-length: 0\r\n")
    head.head = b"".join(parts)
    head.plain = head.content and head.length >= 0 and not head.dated and not head.close


def with_fields(head: ResponseHead, lines: bytes) -> ResponseHead:
    """*head* with more field *lines*, each with its CRLF; they must need no framing of their own."""
    result = ResponseHead(head.status)
    result.length = head.length
    result.close = head.close
    result.trailer = head.trailer
    result.dated = head.dated
    result.head = head.head + lines
    return result


def open_answer(
    head: ResponseHead, body: bytes, more: bool, is_head: bool, minor: int, close: bool, date: bytes
) -> tuple[bytes, int]:
    """The bytes of a final head with its first piece of content, and how the rest is framed (RFC 9112 section 6).

    *close*: the connection ends after it, for a reason other than its framing. *date* is a line with its CRLF.

    :raises BadResponse: *body* contradicts the content-length.
    """
    fields = head.head
    if is_head or not head.content:
        left = NO_CONTENT
        if is_head and head.content and head.length < 0 and not more and body:
            fields += b"content-length: %d\r\n" % len(body)
        body = b""
    elif head.length >= 0:
        left = head.length - len(body)
        if left < 0 or (left and not more):
            raise BadResponse("%d bytes of content for a content-length of %d" % (len(body), head.length))
    elif not more:
        left = 0
        fields += b"content-length: %d\r\n" % len(body)
    elif minor:
        left = CHUNKED
        fields += b"transfer-encoding: chunked\r\n"
        if body:
            body = b"%x\r\n%b\r\n" % (len(body), body)
    else:
        left = UNTIL_CLOSE
        close = True
    if close:
        fields += b"connection: close\r\n"
    elif not minor:
        fields += b"connection: keep-alive\r\n"
    if head.dated:
        date = b""
    return b"%b%b\r\n%b" % (fields, date, body), left


def frame_piece(left: int, body: bytes, more: bool) -> tuple[bytes, int]:
    """The bytes of a further piece of content, and what *left* is then.

    :raises BadResponse: it contradicts the content-length.
    """
    if left == CHUNKED:
        if not body:
            return b"" if more else b"0\r\n\r\n", left
        return (b"%x\r\n%b\r\n" if more else b"%x\r\n%b\r\n0\r\n\r\n") % (len(body), body), left
    if left == NO_CONTENT:
        return b"", left
    if left >= 0:
        left -= len(body)
        if left < 0 or (left and not more):
            raise BadResponse("the content contradicts its content-length by %d bytes" % abs(left))
    return body, left


def frame_trailers(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The last chunk and the trailer section.

    :raises BadResponse: a name or value that must not be sent, or a field that must not be a trailer
        (RFC 9110 section 6.5.1).
    """
    parts = [b"0\r\n"]
    for name, value in headers:
        lower = _lower(name)
        if not is_field_value(value):
            raise BadResponse("a control character in the value of trailer %s" % lower.decode("ascii"))
        if lower in HOP_BY_HOP or lower in (b"content-length", b"host", b"trailer", b"set-cookie"):
            raise BadResponse("%s cannot be a trailer" % lower.decode("ascii"))
        parts.append(b"%b: %b\r\n" % (name, value))
    parts.append(b"\r\n")
    return b"".join(parts)
