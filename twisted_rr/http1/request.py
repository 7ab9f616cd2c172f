"""A request's head as a front gets it, made of its validated parts. Its content comes by ``Exchange.body``."""

from __future__ import annotations

from twisted_rr.http1.head import CLOSE, EXPECTS_OTHER, KEEP_ALIVE, UPGRADING, HeaderBlock, RequestLine
from twisted_rr.http1.refusal import Refused


class Request:
    """A valid request head (RFC 9112 sections 3 and 5). Read-only for the front, `headers` included.

    :ivar method: any token, as received (methods are case-sensitive).
    :ivar target: origin form (``/path?query``), also when it came in absolute form; or ``*`` for OPTIONS.
    :ivar version: ``"1.1"`` or ``"1.0"``.
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
    """

    __slots__ = (
        "method", "target", "version", "headers", "length", "head", "host", "expect", "persistent", "upgrade", "trailers",
    )  # fmt: skip

    def __init__(
        self,
        method: str,
        target: bytes,
        version: str,
        head: HeaderBlock,
        length: int,
        host: bytes,
        expect: bool,
        upgrade: bytes,
        persistent: bool = True,
    ) -> None:
        self.method = method
        self.target = target
        self.version = version
        self.headers = head.headers
        self.length = length
        self.head = head
        self.host = host
        self.expect = expect
        self.persistent = persistent
        self.upgrade = upgrade
        self.trailers: list[tuple[bytes, bytes]] = []


def understand(line: RequestLine, head: HeaderBlock, max_size: int) -> Request:
    """What a request line and a header block mean together; *max_size* limits the content, 0 does not.

    :raises Refused: 400 for Host or framing that this version must or must not have, 413, 417.
    """
    options = head.options
    minor = line.minor
    if minor:
        if head.host is None:
            raise Refused(400, "no host")
        persistent = not options & CLOSE
    else:
        if head.length < 0:
            raise Refused(400, "transfer-encoding in HTTP/1.0")
        persistent = options & (KEEP_ALIVE | CLOSE) == KEEP_ALIVE
    expecting = False
    if head.expect and minor:
        if head.expect & EXPECTS_OTHER:
            raise Refused(417, "an unknown expectation")
        expecting = head.length != 0
    if max_size and head.length > max_size:
        raise Refused(413, "the content is larger than allowed")
    if line.authority is not None:
        head = head.with_host(line.authority)
    upgrade = head.upgrade if minor and options & UPGRADING else b""
    version = "1.1" if minor else "1.0"
    host = head.host or b""
    return Request(line.method, line.target, version, head, head.length, host, expecting, upgrade, persistent)
