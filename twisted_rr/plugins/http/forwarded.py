"""Who the client is when a proxy stands between: Forwarded (RFC 7239) and X-Forwarded-* of trusted peers.

Whoever is not trusted sets nothing. Lists are read from the right, where the nearest proxy wrote: what a client
puts into such a header itself stands left of what a trusted proxy adds, and is never reached.
Left out: the PROXY protocol.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from twisted_rr.http1.grammar import is_authority
from twisted_rr.http1.head import PROXY_FIELDS

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Headers = Sequence[tuple[bytes, bytes]]

LOOPBACK = ("127.0.0.0/8", "::1/128")
HEADERS = ("X-Forwarded-For", "Forwarded", "X-Real-IP")
"""Which headers name the client, the first that is there and makes sense wins."""

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PAIR = re.compile(rb"[ \t]*(" + _TOKEN + rb")=(" + _TOKEN + rb'|"(?:[^"\\]|\\.)*")[ \t]*')
_NOTHING = re.compile(rb"[ \t]*(?=[;,]|\Z)")
_MOST_TRIES = 16
"""Commas at which the sound part of a Forwarded header is looked for; proxies in a row are fewer."""
_ESCAPED = re.compile(rb"\\(.)")
_SCHEMES = {b"http": "http", b"https": "https", b"ws": "http", b"wss": "https"}


class Origin:
    """What trusted proxies say of a request; None where they say nothing usable.

    :ivar client: address and port (0 when unknown) of the client.
    :ivar scheme: ``http`` or ``https``.
    :ivar host: the authority the client asked for.
    """

    __slots__ = ("client", "host", "scheme")

    def __init__(self) -> None:
        self.client: tuple[str, int] | None = None
        self.scheme: str | None = None
        self.host: bytes | None = None


class Forwarding:
    """The rules of one front.

    *subnets* are networks in CIDR form, single addresses, or ``*`` for everybody; peers on a unix socket have no
    address and are trusted unless the list is empty. *headers* names the headers that tell the client, in order.

    :raises ValueError: for what is no network.
    :ivar names: the header fields that matter; a request without any of them has no `origin` to ask for.
    :ivar usual: there are no others among them than `PROXY_FIELDS`.
    """

    def __init__(self, subnets: Iterable[str] = LOOPBACK, headers: Sequence[str] = HEADERS) -> None:
        words = [word.strip() for word in subnets if word.strip()]
        self._everybody = "*" in words
        self._networks: list[Network] = [
            ip_network(word, strict=False) for word in words if word not in ("*", "unix")
        ]
        self._unix = bool(words)
        self._clients = [name.strip().lower().encode("latin-1") for name in headers]
        self.names = frozenset((*self._clients, b"x-forwarded-proto", b"x-forwarded-host"))
        self.usual = self.names <= PROXY_FIELDS

    def trusts(self, peer: str | None) -> bool:
        """Whether the peer at this address may speak for others; None is a peer on a unix socket."""
        if peer is None:
            return self._unix
        if self._everybody:
            return True
        address = _address(peer)
        return address is not None and self._covers(address)

    def _covers(self, address: Address) -> bool:
        return self._everybody or any(address in network for network in self._networks)

    def origin(self, headers: Headers) -> Origin:
        """What the header fields of a request from a trusted peer say. Malformed ones say nothing."""
        lists: dict[bytes, list[bytes]] = {}
        for name, value in headers:
            if name in self.names:
                lists.setdefault(name, []).append(value)
        origin = Origin()
        for name in self._clients:
            values = lists.get(name)
            if values and self._told_by(origin, name, b",".join(values), lists):
                return origin
        self._proxied(origin, lists, None, 0)
        return origin

    def _told_by(self, origin: Origin, name: bytes, value: bytes, lists: Mapping[bytes, list[bytes]]) -> bool:
        if name == b"forwarded":
            return self._standard(origin, value)
        nodes = [part.strip() for part in value.split(b",")]
        if name != b"x-forwarded-for":
            nodes = nodes[-1:]
        found = self._client(nodes)
        if found is None:
            return False
        index, origin.client = found
        self._proxied(origin, lists, index, len(nodes))
        return True

    def _client(self, nodes: Sequence[bytes]) -> tuple[int, tuple[str, int]] | None:
        """The rightmost address that is no trusted proxy; all of them are: the leftmost."""
        found: tuple[int, tuple[str, int]] | None = None
        for index in range(len(nodes) - 1, -1, -1):
            node = _node(nodes[index])
            if node is None:
                break
            found = index, (str(node[0]), node[1])
            if not self._covers(node[0]):
                break
        return found

    def _standard(self, origin: Origin, value: bytes) -> bool:
        elements = _sound_elements(value)
        found = self._client([element.get(b"for", b"") for element in elements])
        if found is None:
            return False
        index, origin.client = found
        origin.scheme = _SCHEMES.get(elements[index].get(b"proto", b"").lower())
        origin.host = _valid_host(elements[index].get(b"host", b""))
        return True

    def _proxied(
        self, origin: Origin, lists: Mapping[bytes, list[bytes]], index: int | None, hops: int
    ) -> None:
        """Scheme and host of the X-Forwarded family, of the same hop as the client where they are as many."""
        proto = _at(lists.get(b"x-forwarded-proto"), index, hops)
        origin.scheme = _SCHEMES.get(proto.lower())
        origin.host = _valid_host(_at(lists.get(b"x-forwarded-host"), index, hops))


def _at(values: list[bytes] | None, index: int | None, hops: int) -> bytes:
    if not values:
        return b""
    parts = b",".join(values).split(b",")
    return parts[index if index is not None and len(parts) == hops else -1].strip()


def _valid_host(host: bytes) -> bytes | None:
    return host if 0 < len(host) <= 255 and is_authority(host) else None


def _sound_elements(value: bytes) -> list[dict[bytes, bytes]]:
    """Those of a Forwarded header; of a malformed one, those of the longest part at its end that is sound.

    Or a client could keep its address from being seen by a header that spoils what its proxy adds.
    """
    elements = _elements(value)
    if elements is not None:
        return elements
    found: list[dict[bytes, bytes]] = []
    end = len(value)
    for _ in range(_MOST_TRIES):
        end = value.rfind(b",", 0, end)
        if end < 0:
            break
        found = _elements(value[end + 1 :]) or found
    return found


def _elements(value: bytes) -> list[dict[bytes, bytes]] | None:
    """The elements of a Forwarded header, None when it is malformed (RFC 7239 section 4); empty ones are passed over."""
    elements: list[dict[bytes, bytes]] = [{}]
    position = 0
    while True:
        pair = _PAIR.match(value, position)
        if pair is not None:
            name, raw = pair.group(1).lower(), pair.group(2)
            if name in elements[-1]:
                return None
            elements[-1][name] = _ESCAPED.sub(rb"\1", raw[1:-1]) if raw[:1] == b'"' else raw
        else:
            pair = _NOTHING.match(value, position)
            if pair is None:
                return None
        position = pair.end()
        if position == len(value):
            return [element for element in elements if element]
        separator = value[position : position + 1]
        if separator == b",":
            elements.append({})
        elif separator != b";":
            return None
        position += 1


def _node(raw: bytes) -> tuple[Address, int] | None:
    """An address with or without a port; None for ``unknown``, an obfuscated name (RFC 7239 6.3) and nonsense."""
    text = raw.decode("latin-1")
    host, port = text, ""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            return None
        port = rest[1:]
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    # A zone means something on the proxy only, and may be any text.
    address = _address(host.partition("%")[0])
    if address is None:
        return None
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0
    return address, number if number <= 65535 else 0


def _address(text: str) -> Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    # A peer of a dual-stack socket is the IPv4 peer it is.
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address
