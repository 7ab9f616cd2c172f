"""The limits and time-outs of an HTTP/1.1 session, with their defaults.

Where a value comes from (which key of which file) is not known here.
"""

from __future__ import annotations


class SessionSettings:
    """Numbers for one front; shared by its sessions and never changed while they run.

    Times are seconds, sizes bytes; a time of 0 means no limit.

    :ivar header_timeout: from the first byte of a request's head (or from the connect) to its last.
    :ivar body_timeout: without a byte of the body, while we are willing to read it.
    :ivar keep_alive_timeout: idle between two requests.
    :ivar write_timeout: without a byte taken by the client, while something is waiting for it.
    :ivar linger: how long a closing connection is still read, so that no reset overtakes the last answer.
    :ivar max_line: the request line, without its CRLF (RFC 9112 section 3 wants at least 8000).
    :ivar max_header_bytes: all field lines of a head together, with their CRLFs.
    :ivar max_fields: how many field lines a head or a trailer section may have.
    :ivar max_trailer_bytes: all field lines of a trailer section together.
    :ivar max_request_size: content of one request; 0 means no limit.
    :ivar max_discard: how much of a body nobody reads is taken off the connection to keep it open.
    :ivar read_ahead: how much is read beyond the request in hand before reading pauses.
    :ivar farewell: field lines, each with its CRLF, that answers carry once the front is draining.
    :ivar half_close: whether a client that shuts down its sending side still gets its answer.
    """

    __slots__ = (
        "header_timeout",
        "body_timeout",
        "keep_alive_timeout",
        "write_timeout",
        "linger",
        "max_line",
        "max_header_bytes",
        "max_fields",
        "max_trailer_bytes",
        "max_request_size",
        "max_discard",
        "read_ahead",
        "half_close",
        "farewell",
    )

    def __init__(
        self,
        *,
        header_timeout: float = 10.0,
        body_timeout: float = 30.0,
        keep_alive_timeout: float = 75.0,
        write_timeout: float = 30.0,
        linger: float = 2.0,
        max_line: int = 8192,
        max_header_bytes: int = 32768,
        max_fields: int = 100,
        max_trailer_bytes: int = 8192,
        max_request_size: int = 0,
        max_discard: int = 262144,
        read_ahead: int = 65536,
        half_close: bool = False,
        farewell: bytes = b"",
    ) -> None:
        self.header_timeout = header_timeout
        self.body_timeout = body_timeout
        self.keep_alive_timeout = keep_alive_timeout
        self.write_timeout = write_timeout
        self.linger = linger
        self.max_line = max_line
        self.max_header_bytes = max_header_bytes
        self.max_fields = max_fields
        self.max_trailer_bytes = max_trailer_bytes
        self.max_request_size = max_request_size
        self.max_discard = max_discard
        self.read_ahead = read_ahead
        self.half_close = half_close
        self.farewell = farewell
