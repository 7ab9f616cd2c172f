"""A request's head as workers read it, made when the worker is known (mux.md 7, protocol.md 4.2).

Left out: bodies (`bodies`), and who may speak for the client (`forwarded`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_to_bytes

import msgspec
from zope.interface import classImplements

from twisted_rr.http1.head import FieldName
from twisted_rr.http1.request import Request
from twisted_rr.interfaces import ICallHead
from twisted_rr.wire.context import HttpRequest, encode_request, encode_single_request, pack_headers
from twisted_rr.wire.frame import CODEC_JSON, CODEC_MSGPACK, CODEC_PROTO
from twisted_rr.wire.single_context import (
    as_text,
    json_request,
    json_start,
    json_string,
    proto_header,
    proto_request,
    proto_start,
)

from . import bodies
from .forms import BAD_ESCAPE

if TYPE_CHECKING:
    from .service import HttpFront

Fields = Sequence[tuple[bytes, bytes]]
Address = tuple[str, int]
Start = tuple[str, str, str, str, bytes]
"""Client's address, version, method, scheme and host of a request."""

_dump: Final = msgspec.json.Encoder().encode

CODECS = {"json": CODEC_JSON, "proto": CODEC_PROTO}

# What a cookie's value may hold (RFC 6265 4.1.1, with the blank and the comma that Go lets through).
_COOKIE = bytes(byte for byte in range(0x20, 0x7F) if byte not in b'";\\')
_TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
# What a value may hold that needs neither unescaping nor a look at its ends.
_SIMPLE = bytes(byte for byte in _COOKIE if byte not in b" +%")


class Derived:
    """What a block of header fields comes to for its peer: kept with the block, so computed once while it repeats.

    :ivar client: ``(address, port)`` of the client, port 0 when a proxy did not tell it; None over a unix socket.
    :ivar scheme: ``http`` or ``https``, as the client used it.
    :ivar host: the authority the client asked for, where a trusted proxy says another than the request.
    :ivar headers: without names that hold ``_``: as CGI names they would pass for others.
    """

    __slots__ = ("_cookies", "_map", "_packed", "_used", "client", "headers", "host", "scheme")

    def __init__(self, client: Address | None, scheme: str, host: bytes | None, headers: Fields) -> None:
        self.client = client
        self.scheme = scheme
        self.host = host
        self.headers = headers
        self._used = False
        self._packed: Any = None
        self._map: dict[str, list[bytes]] | None = None
        self._cookies: dict[str, bytes] | None = None

    def packed(self) -> Any:
        """The fields for a msgpack context: encoded from the second time on, when it is clear that they repeat."""
        if self._packed is None:
            if not self._used:
                self._used = True
                return self.headers
            self._packed = pack_headers(self.headers)
        return self._packed

    def canonical_json(self) -> bytes:
        """The same as `canonical`, as JSON, put together from the fields that other requests had too."""
        headers = self.headers
        if len(dict(headers)) < len(headers):
            told = {name: [as_text(value) for value in values] for name, values in self.canonical().items()}
            return _dump(told)
        parts = list(map(_fragments.get, headers))
        if None in parts:
            for index, part in enumerate(parts):
                if part is None:
                    parts[index] = fragment(headers[index])
        return b"{%b}" % b",".join(filter(None, parts))

    def canonical_proto(self) -> bytes:
        """The same in protobuf."""
        headers = self.headers
        if len(dict(headers)) < len(headers):
            return b"".join([proto_header(name, values) for name, values in self.canonical().items()])
        parts = list(map(_proto_fragments.get, headers))
        if None in parts:
            for index, part in enumerate(parts):
                if part is None:
                    parts[index] = proto_fragment(headers[index])
        return b"".join(parts)  # type: ignore[arg-type]

    def cookies_json(self) -> bytes:
        """The same as `cookies`, as JSON; no dictionary is made of cookies that stand for themselves."""
        members: dict[bytes, bytes] = {}
        for field, value in self.headers:
            if field == b"cookie":
                for pair in value.split(b"; "):
                    name, _, raw = pair.partition(b"=")
                    if not (name.isalnum() and raw.isalnum()) and (
                        not name or name.translate(None, _TOKEN) or raw.translate(None, _SIMPLE)
                    ):
                        return _dump({name: as_text(value) for name, value in self.cookies().items()})
                    members[name] = b'"' + name + b'":"' + raw + b'"'
        return b"{" + b",".join(members.values()) + b"}" if members else b"{}"

    def canonical(self) -> dict[str, list[bytes]]:
        """The fields by their canonical names; Host is not among them (protocol.md 4.2, field 5)."""
        if self._map is None:
            self._map = {}
            for name, value in self.headers:
                if name != b"host":
                    self._map.setdefault(canonical_name(name), []).append(value)
        return self._map

    def cookies(self) -> dict[str, bytes]:
        """The cookies by name (protocol.md 4.2, field 6)."""
        if self._cookies is None:
            self._cookies = {}
            for name, value in self.headers:
                if name == b"cookie":
                    self._cookies.update(parse_cookies(value))
        return self._cookies


SINGLE: Final = -1
"""In the place of a codec: what is kept is for one-call workers."""

PLAIN: Final = "plain"
"""Stands for a `Derived` of a block seen once, which is made when it comes again: as a rule it does not."""


def derive(front: HttpFront, session: Any, headers: Fields) -> Derived:
    """Settle client, scheme and host: the connection's own, or what a trusted peer says of them."""
    # One pass in C answers both questions below.
    names = dict(headers)
    if b"_" in b"".join(names):
        headers = [field for field in headers if b"_" not in field[0]]
    peer, scheme = session.peer, session.scheme
    if front.forwarding.names.isdisjoint(names) or not front.trusts(peer):
        return Derived(peer, scheme, None, headers)
    origin = front.forwarding.origin(headers)
    host = origin.host
    if host is not None:
        headers = [field if field[0] != b"host" else (b"host", host) for field in headers]
    return Derived(origin.client or peer, origin.scheme or scheme, host, headers)


class RequestHead:
    """One request's head; makes the context for whichever worker takes the call. The base of `Exchange`.

    :ivar content: what collects the content for a one-call worker, made by `spool`, or set before by the exchange.
    :ivar spooled: the pool asked for the spool, so the pool closes it.
    """

    __slots__ = ("content", "front", "request", "session", "spooled")

    front: HttpFront
    session: Any
    request: Request
    content: bodies.Body | None
    spooled: bool

    def mux_context(self, codec: int) -> bytes:
        """The request array of mux.md 7; a request that its client repeats has it already."""
        kept: tuple[int, bytes] | None = self.request.kept
        if kept is not None and kept[0] == codec:
            return kept[1]
        context = self._mux_context(codec)
        self.request.kept = (codec, context)
        return context

    def _mux_context(self, codec: int) -> bytes:
        request = self.request
        session = self.session
        block = request.head
        headers: Any
        if block.derived is None and not block.odd and self.front.forwarding.usual:
            # Nobody speaks for this client, and the fields go on as they are.
            client, scheme, headers = session.peer, session.scheme, request.headers
            block.derived = PLAIN
        else:
            derived = self.derived()
            client, scheme = derived.client, derived.scheme
            headers = derived.packed() if codec == CODEC_MSGPACK else derived.headers
        return encode_request(
            codec,
            request.method,
            request.target,
            request.version,
            scheme,
            client,
            session.host,
            headers,
            None,
        )

    def derived(self) -> Derived:
        """What follows from the header fields."""
        block = self.request.head
        if block.derived is None or block.derived is PLAIN:
            if block.odd or not self.front.forwarding.usual:
                block.derived = derive(self.front, self.session, block.headers)
            else:
                session = self.session
                block.derived = Derived(session.peer, session.scheme, None, block.headers)
        derived: Derived = block.derived
        return derived

    def client(self) -> Address | None:
        """As `Derived.client`, which is not made for it where nobody else has asked: most blocks are seen once."""
        block = self.request.head
        if block.derived is PLAIN and not block.odd and self.front.forwarding.usual:
            peer: Address | None = self.session.peer
            return peer
        return self.derived().client

    def host(self) -> bytes:
        """The host that was asked for, as the client or a trusted proxy says; with its port."""
        return self.derived().host or self.request.host

    def spool(self) -> bodies.Body:
        """Where the content is collected for a one-call worker.

        :raises forms.BadForm: it is a form that can be seen to be broken already.
        """
        if self.content is None:
            self.content = bodies.make(self)
            if self.content.wanted:
                self.session.expect_continue()
        self.spooled = True
        return self.content

    def single_context(self, parsed: bool, uploads: bytes | None) -> tuple[int, bytes]:
        """Codec flags and context for a one-call worker (protocol.md 4.2); kept as `mux_context` is."""
        if parsed:
            return self._single_context(parsed, uploads)
        kept: tuple[int, Any] | None = self.request.kept
        if kept is not None and kept[0] == SINGLE:
            told: tuple[int, bytes] = kept[1]
            return told
        told = self._single_context(False, None)
        self.request.kept = (SINGLE, told)
        return told

    def _single_context(self, parsed: bool, uploads: bytes | None) -> tuple[int, bytes]:
        request = self.request
        derived = self.derived()
        host = derived.host or request.host
        codec = self.front.codec
        if codec == CODEC_JSON and not parsed:
            key = (
                derived.client[0] if derived.client else "",
                request.version,
                request.method,
                derived.scheme,
                host,
            )
            return codec, json_request(
                _starts.get(key) or start(key),
                request.target,
                derived.canonical_json(),
                derived.cookies_json(),
            )
        if codec == CODEC_PROTO and not parsed and (request.target + host).isascii():
            return codec, self._proto_context(derived, host)
        target = request.target.decode("latin-1")
        context = HttpRequest(
            derived.client[0] if derived.client else "",
            "HTTP/" + request.version,
            request.method,
            f"{derived.scheme}://{host.decode('latin-1')}{target}",
            derived.canonical(),
            derived.cookies(),
            target.partition("?")[2],
            parsed,
            uploads,
        )
        return codec, encode_single_request(codec, context)

    def _proto_context(self, derived: Derived, host: bytes) -> bytes:
        request = self.request
        target = request.target
        key = (derived.client[0] if derived.client else "", request.version, request.method)
        return proto_request(
            _proto_starts.get(key) or proto_beginning(key),
            derived.scheme.encode() + b"://" + host + target,
            derived.canonical_proto(),
            derived.cookies(),
            target.partition(b"?")[2],
        )

    def describe(self) -> str:
        """Method and path, without the query."""
        return f"{self.request.method} {path_of(self.request)}"

    def request_id(self) -> str:
        """What the client or a proxy calls this request (X-Request-Id), for logs; empty when nobody named it."""
        for name, value in self.request.headers:
            if name == b"x-request-id":
                return value[:128].decode("ascii", "backslashreplace")
        return ""


classImplements(RequestHead, ICallHead)  # by name: a decorated class cannot be compiled to a quick one


def path_of(request: Request) -> str:
    """The target without its query: that may hold secrets."""
    return request.target.partition(b"?")[0].decode("latin-1")


_shareable: dict[bytes, bool] = {}


def shareable(name: bytes) -> bool:
    """Whether the values of this field may be kept for other clients' requests: none that may be a secret."""
    known = _shareable.get(name)
    if known is None:
        known = FieldName(name).cacheable
        if len(_shareable) < 1024 and len(name) <= 64:
            _shareable[name] = known
    return known


_canonical: dict[bytes, str] = {}
_fragments: dict[tuple[bytes, bytes], bytes] = {}
"""Header fields to members of a JSON object; none that may hold a secret."""


_names: dict[bytes, bytes] = {}
"""Field names to what stands before their values in JSON."""
_starts: dict[Start, bytes] = {}
"""What a client's requests begin with in JSON."""


def start(key: Start) -> bytes:
    """The beginning of a request's JSON, up to its target."""
    client, version, method, scheme, host = key
    made = json_start(client, "HTTP/" + version, method, f"{scheme}://{host.decode('latin-1')}")
    if len(made) <= 320:
        if len(_starts) >= 1024:
            _starts.clear()
        _starts[key] = made
    return made


def fragment(field: tuple[bytes, bytes]) -> bytes:
    """One field as a member of a JSON object; Host is none (protocol.md 4.2, field 5)."""
    name, value = field
    made = b"" if name == b"host" else (_names.get(name) or _name(name)) + json_string(value) + b"]"
    if len(made) <= 320 and shareable(name):
        if len(_fragments) >= 2048:
            _fragments.clear()
        _fragments[field] = made
    return made


_proto_fragments: dict[tuple[bytes, bytes], bytes] = {}
_proto_starts: dict[tuple[str, str, str], bytes] = {}
"""The same in protobuf."""


def proto_fragment(field: tuple[bytes, bytes]) -> bytes:
    """One field as a header of http.v1.Request."""
    name, value = field
    made = b"" if name == b"host" else proto_header(canonical_name(name), (value,))
    if len(made) <= 320 and shareable(name):
        if len(_proto_fragments) >= 2048:
            _proto_fragments.clear()
        _proto_fragments[field] = made
    return made


def proto_beginning(key: tuple[str, str, str]) -> bytes:
    """The fields before the URI: client's address, version, method."""
    made = proto_start(key[0], "HTTP/" + key[1], key[2])
    if len(made) <= 320:
        if len(_proto_starts) >= 1024:
            _proto_starts.clear()
        _proto_starts[key] = made
    return made


def _name(name: bytes) -> bytes:
    made = b"%b:[" % _dump(canonical_name(name))
    if len(name) <= 64:
        if len(_names) >= 1024:
            _names.clear()
        _names[name] = made
    return made


def canonical_name(name: bytes) -> str:
    """``x-forwarded-for`` as ``X-Forwarded-For``."""
    found = _canonical.get(name)
    if found is None:
        found = "-".join(word.capitalize() for word in name.decode("latin-1").split("-"))
        if len(_canonical) >= 1024:
            _canonical.clear()
        if len(name) <= 64:
            _canonical[name] = found
    return found


def parse_cookies(value: bytes) -> dict[str, bytes]:
    """The cookies of one Cookie field: values unescaped; what makes no sense is dropped, the last one wins."""
    cookies: dict[str, bytes] = {}
    for pair in value.split(b";"):
        name, _, raw = pair.strip().partition(b"=")
        if (
            name.isalnum() and raw.isalnum()
        ):  # ASCII letters and digits: nothing to check, nothing to unescape
            cookies[name.decode("ascii")] = raw
            continue
        name = name.strip()
        if len(raw) > 1 and raw[:1] == raw[-1:] == b'"':
            raw = raw[1:-1]
        if not name or name.translate(None, _TOKEN) or raw.translate(None, _COOKIE) or BAD_ESCAPE.search(raw):
            continue
        cookies[name.decode("ascii")] = unquote_to_bytes(raw.replace(b"+", b" "))
    return cookies
