"""Request heads: the request line and the block of field lines, validated line by line.

Finding where a head begins and ends in a stream, and what a valid head means for the connection, is the session's.
Lines are remembered once they are valid, in caches all sessions share; never those that may hold credentials.
"""

from __future__ import annotations

from typing import Any, Final

from twisted_rr.http1.cache import Cache
from twisted_rr.http1.grammar import (
    FIELD,
    TARGET,
    TOKEN,
    is_authority,
    is_number,
    is_token,
    members,
    port_of,
)
from twisted_rr.http1.refusal import Refused

PLAIN: Final = 0
HOST: Final = 1
LENGTH: Final = 2
CODING: Final = 3
CONNECTION: Final = 4
EXPECT: Final = 5
UPGRADE: Final = 6
#: Of no concern to the session, but perhaps to its front: see `HeaderBlock.odd`.
ODD: Final = 7

#: Fields the session itself must look at.
KINDS: Final[dict[bytes, int]] = {
    b"host": HOST,
    b"content-length": LENGTH,
    b"transfer-encoding": CODING,
    b"connection": CONNECTION,
    b"expect": EXPECT,
    b"upgrade": UPGRADE,
}
#: Fields by which a proxy speaks for its client.
PROXY_FIELDS: Final = frozenset(
    [b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip"]
)
#: Parts of names whose values are secrets: their lines are never kept in a cache that clients share. Cookie,
#: Authorization and Proxy-Authorization are among them.
SECRET_PARTS: Final = (
    b"auth",
    b"cookie",
    b"token",
    b"secret",
    b"key",
    b"session",
    b"password",
    b"csrf",
    b"xsrf",
)

CLOSE: Final = 1
KEEP_ALIVE: Final = 2
UPGRADING: Final = 4
CONNECTION_OPTIONS: Final[dict[bytes, int]] = {
    b"close": CLOSE,
    b"keep-alive": KEEP_ALIVE,
    b"upgrade": UPGRADING,
}

EXPECTS_CONTINUE: Final = 1
EXPECTS_OTHER: Final = 2

#: Methods that need no look at their letters; any other token is as good.
METHODS: Final[dict[bytes, str]] = {
    name.encode("ascii"): name
    for name in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "QUERY")
}
#: A method longer than any that is implemented is answered 501 (RFC 9112 section 3.1).
MAX_METHOD: Final = 64
#: More digits than any content has; Python would parse them all, at quadratic cost.
MAX_LENGTH_DIGITS: Final = 18


class FieldName:
    """A valid field name: lower case, what it means to the session, whether its lines may be remembered."""

    __slots__ = ("name", "kind", "cacheable")

    def __init__(self, name: bytes) -> None:
        self.name = name
        kind = KINDS.get(name, PLAIN)
        if not kind and (name in PROXY_FIELDS or b"_" in name):
            kind = ODD
        self.kind = kind
        self.cacheable = not any(part in name for part in SECRET_PARTS)


class FieldLine:
    """A valid line of a field the session acts on, or an odd one. *number* is its meaning where that is a number or a set of bits."""

    __slots__ = ("kind", "pair", "number")

    def __init__(self, kind: int, pair: tuple[bytes, bytes], number: int) -> None:
        self.kind = kind
        self.pair = pair
        self.number = number


class RequestLine:
    """A valid request line. *authority* is None but for the absolute form."""

    __slots__ = ("method", "target", "minor", "authority")

    def __init__(self, method: str, target: bytes, minor: int, authority: bytes | None) -> None:
        self.method = method
        self.target = target
        self.minor = minor
        self.authority = authority


_names: Final = Cache(1024, 64)
_plain: Final = Cache(2048, 256, forgets=True)
_special: Final = Cache(512, 256, forgets=True)
_request_lines: Final = Cache(1024, 256, forgets=True)


class HeaderBlock:
    """A valid block of field lines and what they say about the message; shared by all requests that repeat it.

    :ivar headers: ``(lower-case name, value)`` in order.
    :ivar derived: for the front: whatever it computed from `headers` alone; None at first.
    :ivar host: the value of Host, None when there is none.
    :ivar length: of the content: 0 none, -1 chunked.
    :ivar options: connection options: `CLOSE`, `KEEP_ALIVE`, `UPGRADING` or-ed.
    :ivar expect: 0, `EXPECTS_CONTINUE` or `EXPECTS_OTHER`.
    :ivar upgrade: the value of Upgrade.
    :ivar odd: a name holds an underscore, or is one of `PROXY_FIELDS`: a front that cares may look at `headers`
        then, and need not otherwise.
    :ivar simple: in HTTP/1.1 it says that there is no content, and nothing else that the session would act on.
    """

    __slots__ = (
        "headers", "derived", "host", "length", "options", "expect", "upgrade", "odd", "simple", "_codings",
    )  # fmt: skip

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.derived: Any = None
        self.host: bytes | None = None
        self.length = -2
        self.options = 0
        self.expect = 0
        self.upgrade = b""
        self.odd = False
        self.simple = False
        self._codings: list[bytes] | None = None

    def note(self, line: FieldLine) -> None:
        """Take in what one special line says."""
        kind = line.kind
        if kind == HOST:
            if self.host is not None:
                raise Refused(400, "more than one host")
            self.host = line.pair[1]
        elif kind == CONNECTION:
            self.options |= line.number
        elif kind == LENGTH:
            if self.length != -2:
                raise Refused(400, "more than one content-length")
            self.length = line.number
        elif kind == CODING:
            self._codings = (self._codings or []) + line.pair[1].lower().split(b",")
        elif kind == EXPECT:
            self.expect |= line.number
        elif kind == ODD:
            self.odd = True
        else:
            value = line.pair[1]
            self.upgrade = self.upgrade + b", " + value if self.upgrade else value

    def conclude(self) -> None:
        """All lines are in: settle the framing (RFC 9112 section 6.3)."""
        if self._codings is not None:
            if self.length != -2:
                raise Refused(400, "both transfer-encoding and content-length")
            _check_codings(self._codings)
            self.length = -1
        elif self.length == -2:
            self.length = 0

    def with_host(self, host: bytes) -> HeaderBlock:
        """A copy in which *host* stands for the Host field (RFC 9112 section 3.2.2)."""
        copy = HeaderBlock()
        kept = [(name, host if name == b"host" else value) for name, value in self.headers]
        copy.headers = kept if self.host is not None else [(b"host", host), *kept]
        copy.host = host
        copy.length = self.length
        copy.options = self.options
        copy.expect = self.expect
        copy.upgrade = self.upgrade
        copy.odd = self.odd
        return copy


def _check_codings(codings: list[bytes]) -> None:
    """Only ``chunked``, once. Empty members are refused: peers that skip or stop at them frame differently."""
    names = [coding.strip(b" \t") for coding in codings]
    if names[-1] != b"chunked":
        raise Refused(400, "the final transfer coding is not chunked")
    if b"chunked" in names[:-1] or b"" in names:
        raise Refused(400, "malformed transfer-encoding")
    if len(names) > 1:
        raise Refused(501, "a transfer coding other than chunked")


def parse_block(block: bytes, max_fields: int) -> HeaderBlock:
    """Validate a block of field lines, each with its CRLF; the empty line is not part of it.

    :raises Refused: by the first line that breaks a rule, then by what contradicts another line.
    """
    result = HeaderBlock()
    if not block:
        result.conclude()
        return result
    lines = block.split(b"\r\n")
    lines.pop()
    excess = len(lines) > max_fields
    if excess:
        del lines[max_fields:]
    # One pass in C over the lines all clients repeat; what it leaves is Host, Connection, credentials and news.
    pairs: list[Any] = list(map(_plain.young.get, lines))
    for index, pair in enumerate(pairs):
        if pair is None:
            pairs[index] = take_line(result, lines[index])
    if excess:
        raise Refused(431, "too many header fields")
    result.headers = pairs
    if result.length >= 0 or result._codings is not None:
        result.conclude()
    else:
        result.length = 0
        result.simple = result.host is not None and not (result.options or result.expect or result.upgrade)
    return result


def take_line(block: HeaderBlock, line: bytes) -> tuple[bytes, bytes]:
    """One line of *block* that is not among the young plain ones: validate it, and note what it says."""
    special: FieldLine | None = _special.young.get(line)
    if special is None:
        # The older generations are not asked: that costs each line with a secret more than it saves the others.
        field, value = parse_line(line)
        pair = (field.name, value)
        if not field.kind:
            if field.cacheable:
                _plain.put(line, pair)
            return pair
        special = FieldLine(field.kind, pair, _meaning(field.kind, value))
        if field.cacheable:
            _special.put(line, special)
    if special.kind == HOST and block.host is None:
        block.host = special.pair[1]
    else:
        block.note(special)
    return special.pair


def parse_line(line: bytes) -> tuple[FieldName, bytes]:
    """One field line without its CRLF (RFC 9112 section 5).

    :raises Refused: no colon, a name that is no token (blanks before the colon and folded lines among them), a
        control byte in the value.
    """
    colon = line.find(b":")
    if colon < 0:
        raise Refused(400, "a header line without a colon")
    raw = line[:colon]
    field: FieldName | None = _names.young.get(raw)
    if field is None:
        field = _names.older(raw)
        if field is None:
            field = _new_name(raw)
    value = line[colon + 1 :].strip(b" \t")
    # The first question is the cheaper one, and enough for nearly every value.
    if not value.decode("latin-1").isprintable() and value.translate(None, FIELD):
        raise Refused(400, "a control character in a header value")
    return field, value


def _new_name(raw: bytes) -> FieldName:
    if not raw:
        raise Refused(400, "a header without a name")
    if raw.translate(None, TOKEN):
        if raw[:1] in (b" ", b"\t"):
            raise Refused(400, "a folded header line")
        if raw[-1:] in (b" ", b"\t"):
            raise Refused(400, "a blank before the colon")
        raise Refused(400, "a header name that is no token")
    field = FieldName(raw.lower())
    _names.put(raw, field)
    return field


def _meaning(kind: int, value: bytes) -> int:
    """What a special field's value says, as a number; the text itself is kept with the line."""
    if kind == HOST:
        if not is_authority(value):
            raise Refused(400, "an invalid host")
    elif kind == LENGTH:
        return _content_length(value)
    elif kind == CONNECTION:
        options = 0
        for member in members(value):
            options |= CONNECTION_OPTIONS.get(member, 0)
        return options
    elif kind == EXPECT:
        found = members(value)
        if found and found != [b"100-continue"]:
            return EXPECTS_OTHER
        return EXPECTS_CONTINUE if found else 0
    return 0


def _content_length(value: bytes) -> int:
    """1*DIGIT and nothing else: a list, even of equal numbers, is refused (RFC 9112 section 6.3 allows both)."""
    if not is_number(value):
        raise Refused(400, "a malformed content-length")
    if len(value) > MAX_LENGTH_DIGITS:
        value = value.lstrip(b"0")
        if len(value) > MAX_LENGTH_DIGITS:
            raise Refused(413, "a content-length beyond all bounds")
    return int(value or b"0")


def parse_request_line(line: bytes) -> RequestLine:
    """The request line without its CRLF (RFC 9112 section 3).

    :raises Refused: 400 malformed, 501 CONNECT or an overlong method, 505 a major version other than 1.
    """
    known: RequestLine | None = _request_lines.young.get(line)
    if known is not None:
        return known
    parts = line.split(b" ")
    if len(parts) != 3:
        raise Refused(400, "a malformed request line")
    method, target, version = parts
    name = METHODS.get(method)
    if (
        name is not None
        and version == b"HTTP/1.1"
        and target[:1] == b"/"
        and not target.translate(None, TARGET)
    ):
        result = RequestLine(name, target, 1, None)
        # A query may hold secrets and seldom comes again.
        if b"?" not in target:
            _request_lines.put(line, result)
        return result
    if name is None:
        name = _method_name(method)
    if not target or target.translate(None, TARGET):
        raise Refused(400, "an invalid character in the target")
    minor = 1 if version == b"HTTP/1.1" else _minor_version(version)
    if len(method) > MAX_METHOD:
        raise Refused(501, "a method longer than any known one")
    if target[0] == 0x2F and name != "CONNECT":
        return RequestLine(name, target, minor, None)
    return _other_form(name, target, minor)


def _method_name(method: bytes) -> str:
    if not is_token(method):
        raise Refused(400, "a method that is no token")
    return method.decode("ascii")


def _minor_version(version: bytes) -> int:
    """0 for 1.0, 1 for any higher 1.x (RFC 9110 section 2.5)."""
    if (
        len(version) != 8
        or version[:5] != b"HTTP/"
        or version[6:7] != b"."
        or not is_number(version[5:6] + version[7:])
    ):
        raise Refused(400, "a malformed protocol version")
    if version[5:6] != b"1":
        raise Refused(505, "a protocol version other than 1.x")
    return 0 if version[7:] == b"0" else 1


def _other_form(method: str, target: bytes, minor: int) -> RequestLine:
    """Asterisk, authority and absolute form (RFC 9112 sections 3.2.2 to 3.2.4)."""
    if method == "CONNECT":
        if not is_authority(target) or port_of(target) < 1 or target[:1] == b":":
            raise Refused(400, "an invalid authority for CONNECT")
        raise Refused(501, "CONNECT is not offered")
    if target == b"*":
        if method != "OPTIONS":
            raise Refused(400, "an asterisk target for a method other than OPTIONS")
        return RequestLine(method, target, minor, None)
    scheme, mark, rest = target.partition(b"://")
    if not mark or scheme.lower() not in (b"http", b"https"):
        raise Refused(400, "a target in no known form")
    end = min(position for position in (rest.find(b"/"), rest.find(b"?"), len(rest)) if position >= 0)
    authority, path = rest[:end], rest[end:]
    if not is_authority(authority) or authority[:1] in (b"", b":"):
        raise Refused(400, "an invalid authority in the target")
    if path[:1] != b"/":
        path = b"*" if method == "OPTIONS" and not path else b"/" + path
    return RequestLine(method, path, minor, authority)
