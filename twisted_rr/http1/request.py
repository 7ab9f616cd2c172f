"""A request's head as a front gets it, made of its validated parts. Its content comes by ``Exchange.body``."""

from __future__ import annotations

from typing import Any, Final

from twisted_rr.http1.head import CLOSE, EXPECTS_OTHER, KEEP_ALIVE, UPGRADING, HeaderBlock, RequestLine
from twisted_rr.http1.refusal import Refused

_NONE: Final[list[tuple[bytes, bytes]]] = []


class Request:
    """A valid request head (RFC 9112 sections 3 and 5). Read-only for the front, `headers` included.

    :ivar method: any token, as received (methods are case-sensitive).
    :ivar target: origin form (``/path?query``), also when it came in absolute form; or ``*`` for OPTIONS.
    :ivar version: ``"1.1"`` or ``"1.0"``; `minor` is its last digit.
    :ivar headers: ``(name, value)`` in the order received, names in lower case. For a target in absolute form the
        ``host`` entry holds the target's authority (RFC 9112 section 3.2.2).
    :ivar length: the content's length, 0 for none, -1 when it is chunked.
    :ivar head: the validated block that `headers` belongs to. It is shared by all requests that repeat it on this
        connection: whatever a front derives from the header fields alone may be kept in ``head.derived``.
    :ivar host: the authority in force, ``b""`` when there is none.
    :ivar expect: True when the client waits for ``100 (Continue)`` before it sends its content; the front asks for
        the content with ``Session.expect_continue()``.
    :ivar persistent: the client lets the connection go on after the answer (RFC 9112 section 9.3).
    :ivar upgrade: the value of Upgrade when Connection names it too, else ``b""``. The session does not act on it.
    :ivar trailers: trailer fields of a chunked request, complete when the last piece of the body is handed over.
        Fields that may not come as trailers (RFC 9110 section 6.5.1) are left out.
    :ivar ordinary: nothing about its answer has to be decided: HTTP/1.1, persistent, not HEAD, without content.
    :ivar kept: for the front: whatever it computed from all of this; None at first. A request without content is
        shared by all of this connection that repeat it byte for byte.
    """

    __slots__ = (
        "method", "target", "minor", "headers", "length", "head", "expect", "trailers", "ordinary", "kept",
    )  # fmt: skip

    def __init__(self, line: RequestLine, head: HeaderBlock, expect: bool) -> None:
        length = head.length
        self.method = line.method
        self.target = line.target
        self.minor = line.minor
        self.headers = head.headers
        self.length = length
        self.head = head
        self.expect = expect
        self.trailers: list[tuple[bytes, bytes]] = [] if length else _NONE
        self.ordinary = False
        self.kept: Any = None

    @property
    def version(self) -> str:
        return "1.1" if self.minor else "1.0"

    @property
    def host(self) -> bytes:
        return self.head.host or b""

    @property
    def persistent(self) -> bool:
        options = self.head.options
        return not options & CLOSE if self.minor else options & (KEEP_ALIVE | CLOSE) == KEEP_ALIVE

    @property
    def upgrade(self) -> bytes:
        return self.head.upgrade if self.minor and self.head.options & UPGRADING else b""


def understand(line: RequestLine, head: HeaderBlock, max_size: int) -> Request:
    """What a request line and a header block mean together; *max_size* limits the content, 0 does not.

    :raises Refused: 400 for Host or framing that this version must or must not have, 413, 417.
    """
    minor = line.minor
    if head.simple and minor and line.authority is None:
        request = Request(line, head, False)
        request.ordinary = line.method != "HEAD"
        return request
    if minor:
        if head.host is None:
            raise Refused(400, "no host")
    elif head.length < 0:
        raise Refused(400, "transfer-encoding in HTTP/1.0")
    expecting = False
    if head.expect and minor:
        if head.expect & EXPECTS_OTHER:
            raise Refused(417, "an unknown expectation")
        expecting = head.length != 0
    if max_size and head.length > max_size:
        raise Refused(413, "the content is larger than allowed")
    if line.authority is not None:
        head = head.with_host(line.authority)
    request = Request(line, head, expecting)
    request.ordinary = request.persistent and not head.length and minor == 1 and line.method != "HEAD"
    return request
