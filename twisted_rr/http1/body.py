"""The content of a request taken off the connection: by its length, or chunk by chunk with its trailers.

A decoder is fed what was read, returns the content in it and keeps what belongs to the next request in `rest`.
When to read, and what becomes of the content, is the session's.
"""

from __future__ import annotations

from typing import Final

from twisted_rr.http1.grammar import FIELD, HEX, is_chunk_extension
from twisted_rr.http1.head import parse_line
from twisted_rr.http1.refusal import Refused
from twisted_rr.http1.settings import SessionSettings

#: A size line with its extensions; and all extensions of one request together (RFC 9112 section 7.1.1 asks for it).
MAX_SIZE_LINE: Final = 1024
MAX_EXTENSIONS: Final = 16384
#: Leading zeros included; more hex digits than any size has.
MAX_SIZE_DIGITS: Final = 16

#: What must not come as a trailer (RFC 9110 section 6.5.1): framing, routing, modifiers, authentication, and what
#: says how the content is to be read. They are dropped; the first four could be meant to smuggle and are refused.
FRAMING_TRAILERS: Final = frozenset([b"transfer-encoding", b"content-length", b"host", b"connection"])
FORBIDDEN_TRAILERS: Final = FRAMING_TRAILERS | frozenset(
    b"keep-alive proxy-connection te trailer upgrade cache-control expect max-forwards pragma range if-match "
    b"if-none-match if-modified-since if-unmodified-since if-range authorization proxy-authorization cookie "
    b"set-cookie www-authenticate proxy-authenticate content-encoding content-type content-range content-location "
    b"forwarded x-forwarded-for x-forwarded-host x-forwarded-proto x-real-ip".split()
)

#: What a chunked body continues with: a size line, content, the CRLF after content, a trailer line.
SIZE: Final = 0
CONTENT: Final = 1
AFTER: Final = 2
TRAILER: Final = 3


class Body:
    """Decodes one request's content, by length or chunked.

    :ivar done: the content is complete; `rest` then holds what followed it.
    :ivar fault: why the rest of the content cannot be read, None while all is well.
    :ivar left: how much content is still to come, -1 when nobody knows.
    :ivar trailers: valid and allowed trailer fields, complete when `done`.
    """

    __slots__ = (
        "done", "fault", "left", "rest", "trailers", "_settings", "_chunk", "_state", "_taken", "_extensions",
        "_trailer_bytes", "_trailer_count",
    )  # fmt: skip

    def __init__(self, length: int, settings: SessionSettings) -> None:
        self.done = False
        self.fault: Refused | None = None
        self.left = length
        self.rest = b""
        self.trailers: list[tuple[bytes, bytes]] = []
        self._settings = settings
        self._chunk = 0
        self._state = SIZE
        self._taken = 0
        self._extensions = 0
        self._trailer_bytes = 0
        self._trailer_count = 0

    def feed(self, data: bytes) -> bytes:
        """The content in *data*; look at `fault` and `done` afterwards."""
        if self.left < 0:
            return self._feed_chunked(data)
        size = len(data)
        if size < self.left:
            self.left -= size
            return data
        size = self.left
        self.left = 0
        self.done = True
        if size == len(data):
            return data
        self.rest = data[size:]
        return data[:size]

    def _feed_chunked(self, data: bytes) -> bytes:
        if self.rest:
            data = self.rest + data
            self.rest = b""
        pieces: list[bytes] = []
        position = 0
        try:
            while not self.done:
                if self._state == CONTENT:
                    piece = data[position : position + self._chunk]
                    if not piece:
                        break
                    pieces.append(piece)
                    position += len(piece)
                    self._chunk -= len(piece)
                    if not self._chunk:
                        self._state = AFTER
                    continue
                end = data.find(b"\r\n", position)
                if end < 0 or end - position > self._limit():
                    self._check_partial(data[position:])
                    break
                self._take_line(data[position:end])
                position = end + 2
        except Refused as refused:
            self.fault = refused
            return b"".join(pieces)
        if position < len(data):
            self.rest = data[position:]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _limit(self) -> int:
        """How long the next line may be."""
        if self._state == TRAILER:
            return self._settings.max_trailer_bytes - self._trailer_bytes
        return MAX_SIZE_LINE if self._state == SIZE else 0

    def _check_partial(self, line: bytes) -> None:
        """A line that has not ended yet, or is too long: refuse what no continuation can make valid."""
        limit = self._limit()
        start = line.removesuffix(b"\r")[: limit + 1]
        if self._state == AFTER and start:
            raise Refused(400, "no CRLF after a chunk")
        if start.translate(None, FIELD):
            raise Refused(400, "a control character in the framing of chunks")
        if len(start) > limit:
            raise Refused(431 if self._state == TRAILER else 400, "an overlong line in the framing of chunks")

    def _take_line(self, line: bytes) -> None:
        if self._state == AFTER:
            if line:
                raise Refused(400, "no CRLF after a chunk")
            self._state = SIZE
        elif self._state == SIZE:
            self._take_size(line)
        elif line:
            self._take_trailer(line)
        else:
            self.done = True

    def _take_size(self, line: bytes) -> None:
        """``chunk-size [ chunk-ext ]``"""
        digits = line
        if line.translate(None, HEX):
            digits = line[: len(line) - len(line.lstrip(HEX))]
            self._take_extension(line[len(digits) :])
        if not digits or len(digits) > MAX_SIZE_DIGITS:
            raise Refused(400, "a malformed chunk size")
        self._chunk = int(digits, 16)
        self._taken += self._chunk
        limit = self._settings.max_request_size
        if limit and self._taken > limit:
            raise Refused(413, "the content is larger than allowed")
        self._state = CONTENT if self._chunk else TRAILER

    def _take_extension(self, extension: bytes) -> None:
        """Extensions mean nothing to us (RFC 9112 section 7.1.1), but must be well-formed, and few."""
        if not is_chunk_extension(extension):
            raise Refused(400, "a malformed chunk size")
        self._extensions += len(extension)
        if self._extensions > MAX_EXTENSIONS:
            raise Refused(400, "too many chunk extensions")

    def _take_trailer(self, line: bytes) -> None:
        self._trailer_bytes += len(line) + 2
        self._trailer_count += 1
        field, value = parse_line(line)
        if field.name in FRAMING_TRAILERS:
            raise Refused(400, "a framing field among the trailers")
        if (
            self._trailer_count > self._settings.max_fields
            or self._trailer_bytes > self._settings.max_trailer_bytes
        ):
            raise Refused(431, "too many trailer fields")
        if field.name not in FORBIDDEN_TRAILERS:
            self.trailers.append((field.name, value))
