"""Listening sockets that a service manager made and passed on (systemd's sd_listen_fds(3)): who gets which.

They are marked close-on-exec and their variables removed before anything else is started. How such a
socket is served and closed is ports.py's subject.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Collection, MutableMapping, Sequence
from typing import Final

import attrs

from twisted_rr.log import logger
from twisted_rr.net.address import TCPAddress, UnixAddress, parse_address, plain_name
from twisted_rr.net.ports import BoundPort, adopt, in_words

FIRST: Final = 3  # SD_LISTEN_FDS_START
VARIABLES: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")
SOLE: Final = "http"  # the section that gets the only socket when it has no name
EVERYWHERE: Final = ("", "::", "0.0.0.0")

log: Final = logger("net")


@attrs.frozen
class Passed:
    """One descriptor as it was passed; *name* is its FileDescriptorName, empty when it has none."""

    fd: int
    name: str

    def __str__(self) -> str:
        return f"fd {self.fd} ({self.name})" if self.name else f"fd {self.fd}"


class Inherited:
    """The passed descriptors that nobody took yet.

    A listener asks with `take`; what is left when all have asked is closed by `close_rest`, with a warning
    each: clients would wait in its queue for nobody.
    """

    def __init__(self, passed: Sequence[Passed] = (), trouble: str = "") -> None:
        """*trouble*: why the descriptors that were announced are not used; told by `close_rest`."""
        self._left = list(passed)
        self._count = len(self._left)
        self._trouble = trouble

    def __bool__(self) -> bool:
        return bool(self._left or self._trouble)

    def take(
        self, section: str, address: str, key: str = "address", sections: Collection[str] = ()
    ) -> BoundPort | None:
        """The socket for ``<section>.<key>``, which is configured as *address*; None when none was passed.

        By name (``section.key``, and the section's own for its key ``address``), else by the address it is
        bound to. A socket named after another of *sections* is never taken by its address. The only socket of
        all may have any other name, such as that of its unit: then it is for section http.

        :raises ListenError: what has the name is no listening stream socket.
        """
        found = self._by_name(section, key, address) or self._by_address(address, sections)
        if found is None and section == SOLE and key == "address" and self._count == 1:
            found = next((one for one in self._left if not _named(one, sections)), None)
        if found is None:
            return None
        port = adopt(found.fd)  # left where it is if that fails: `close_rest` closes it
        self._left.remove(found)
        log.info(
            "{section}.{key} is served on {address}, passed as {descriptor}",
            section=section,
            key=key,
            address=port.address,
            descriptor=str(found),
        )
        return port

    def close_rest(self) -> None:
        """Close what nobody took."""
        if self._trouble:
            log.warn("{trouble}", trouble=self._trouble)
        self._trouble = ""
        left, self._left = self._left, []
        for one in left:
            log.warn(
                "{descriptor}, bound to {address}, was passed and is closed: no listener has its name or address",
                descriptor=str(one),
                address=_shown(one.fd),
            )
            _close(one.fd)

    def _by_name(self, section: str, key: str, address: str) -> Passed | None:
        names = (section, f"{section}.{key}") if key == "address" else (f"{section}.{key}",)
        named = [one for one in self._left if one.name in names]
        # A unit with several addresses gives all of them one name.
        fits = [one for one in named if _is_bound_to(one.fd, address)]
        return next(iter(fits or named), None)

    def _by_address(self, address: str, sections: Collection[str]) -> Passed | None:
        free = (one for one in self._left if not _named(one, sections))
        return next((one for one in free if _is_bound_to(one.fd, address)), None)


def claim(environ: MutableMapping[str, str], getpid: Callable[[], int] = os.getpid) -> Inherited:
    """Take what ``LISTEN_FDS`` announces out of *environ*, once; nothing when it is for another process.

    Called before anything is started or read. No other program gets the descriptors or the variables.
    """
    pid, count, names, _ = (environ.pop(name, "") for name in VARIABLES)
    if not count:
        return Inherited()
    if not (count.isascii() and count.isdigit()):
        return Inherited(trouble=f"LISTEN_FDS is {count!r}, expected a number: no passed socket is used")
    if pid != str(getpid()):
        # A shell between the service manager and us; the descriptors may be anybody's.
        trouble = f"LISTEN_PID is {pid or 'not set'} and this is process {getpid()}: no passed socket is used"
        return Inherited(trouble=trouble)
    return Inherited(_passed(int(count), names.split(":") if names else []))


def _passed(count: int, names: Sequence[str]) -> list[Passed]:
    passed = []
    for number in range(count):
        fd = FIRST + number
        try:
            os.set_inheritable(fd, False)
        except OSError as error:
            log.warn("LISTEN_FDS counts fd {fd}, which is not open: {reason}", fd=fd, reason=in_words(error))
            continue
        name = names[number] if number < len(names) else ""
        passed.append(Passed(fd, "" if name == "unknown" else name))
    return passed


def _named(one: Passed, sections: Collection[str]) -> bool:
    """Whether its name is that of a section, or of a key of one."""
    return one.name.partition(".")[0] in sections


def _is_bound_to(fd: int, address: str) -> bool:
    bound = _name_of(fd)
    wanted = parse_address(address)
    if isinstance(wanted, UnixAddress):
        return isinstance(bound, UnixAddress) and _place(bound) == _place(wanted)
    return isinstance(bound, TCPAddress) and bound.port == wanted.port and _same_host(bound.host, wanted)


def _place(address: UnixAddress) -> str:
    return address.path if address.abstract else os.path.realpath(address.path)


def _same_host(bound: str, wanted: TCPAddress) -> bool:
    if bound == wanted.host or (bound in EVERYWHERE and wanted.host in EVERYWHERE):
        return True
    try:
        found = socket.getaddrinfo(wanted.host, wanted.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return bound in [item[4][0] for item in found]


def _name_of(fd: int) -> TCPAddress | UnixAddress | None:
    """Where a descriptor is bound; None when it is no stream socket, or bound to nothing."""
    try:
        sock = socket.socket(fileno=fd)
    except OSError:
        return None
    try:
        if sock.type != socket.SOCK_STREAM:
            return None
        name = sock.getsockname()
    finally:
        sock.detach()
    if sock.family == socket.AF_UNIX:
        path = os.fsdecode(name)
        return UnixAddress("@" + path[1:] if path.startswith("\0") else path)
    return TCPAddress(*plain_name(name)[:2])


def _shown(fd: int) -> str:
    return str(_name_of(fd) or "nothing that can be served")


def _close(fd: int) -> None:
    try:
        os.close(fd)
    except OSError as error:
        log.debug("fd {fd} could not be closed: {reason}", fd=fd, reason=in_words(error))
