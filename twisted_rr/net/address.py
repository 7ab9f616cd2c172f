"""Addresses to listen on: text as people write it in a config, and back.

Leaves out sockets (ports.py) and addresses to connect to.
"""

from __future__ import annotations

import socket
from typing import Any

import attrs
from twisted.internet.address import IPv4Address, IPv6Address

from twisted_rr.errors import ListenError


@attrs.frozen
class TCPAddress:
    """A host and a port. An empty host means every interface, IPv6 and IPv4."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@attrs.frozen
class UnixAddress:
    """A path, or with ``@`` in front a name in Linux's abstract namespace."""

    path: str

    def __str__(self) -> str:
        return f"unix://{self.path}"

    @property
    def abstract(self) -> bool:
        """True when no file is made."""
        return self.path.startswith("@")

    @property
    def name(self) -> str:
        """What bind(2) takes."""
        return "\0" + self.path[1:] if self.abstract else self.path


def parse_address(text: str) -> TCPAddress | UnixAddress:
    """Read ``host:port``, ``:port``, ``[v6]:port``, ``tcp://...`` or ``unix://path``.

    :raises ListenError: the text is none of these; the reason says what was expected.
    """
    scheme, separator, rest = text.strip().partition("://")
    if not separator:
        scheme, rest = ("unix", text[5:]) if text.startswith("unix:") else ("tcp", text.strip())
    if scheme == "unix":
        return _parse_unix(text, rest)
    if scheme != "tcp":
        raise ListenError(text, f"scheme {scheme!r} is not served, expected tcp:// or unix://")
    return _parse_tcp(text, rest)


def _parse_unix(text: str, path: str) -> UnixAddress:
    if path in ("", "@") or "\0" in path:
        raise ListenError(text, "expected unix:// and the path of a socket")
    return UnixAddress(path)


def _parse_tcp(text: str, rest: str) -> TCPAddress:
    host, colon, port = rest.rpartition(":")
    if not colon:
        raise ListenError(text, "expected host:port, :port, [ipv6]:port, tcp://host:port or unix://path")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if ":" not in host:
            raise ListenError(text, "only an IPv6 address stands in brackets")
    elif ":" in host:
        raise ListenError(text, "an IPv6 address must stand in brackets, as in [::1]:8080")
    if not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ListenError(text, f"port {port!r} is not a number from 0 to 65535")
    return TCPAddress(host, int(port))


def plain_name(name: Any) -> Any:
    """A socket name as a person would write it: an IPv4 peer of a dual-stack socket is IPv4.

    Other IPv6 names stay 4-tuples; a link-local one gets its interface (``fe80::1%eth0``).
    """
    if len(name) == 2:
        return name
    host = name[0]
    if host.startswith("::ffff:") and "." in host:
        return (host[7:], name[1])
    if name[3] and "%" not in host:
        host = socket.getnameinfo(name, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0]
        return (host, *name[1:])
    return name


def twisted_address(name: Any) -> IPv4Address | IPv6Address:
    """Twisted's address object of a `plain_name`."""
    return IPv4Address("TCP", *name) if len(name) == 2 else IPv6Address("TCP", *name)
