"""Runs one request through a WSGI application (PEP 3333).

Where the request comes from and how the answer's bytes leave is the `Channel`'s affair; threads are
`threads`' and `blocking`'s. Content-Length and chunking are left to the server.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from twisted_rr.worker import forks
from twisted_rr.worker.draining import is_endless
from twisted_rr.worker.environ import Environ
from twisted_rr.worker.report import tell_failure

Headers = list[tuple[bytes, bytes]]
EncodeHead = Callable[[int, Headers], bytes]
Application = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


class Disconnected(ConnectionError):
    """The caller has gone: what the application reads or sends has no other end."""


class Channel(Protocol):
    """The server's side of one call, as a thread sees it: every method may block."""

    @property
    def gone(self) -> bool:
        """True once nobody waits for the answer."""

    @property
    def ending(self) -> bool:
        """True when the server stops and streams without end have to end."""

    def send(self, context: bytes, data: bytes, more: bool) -> None:
        """Send a part of the answer; returns when there is room for the next. Once gone, the last part is a `stop`."""

    def read(self) -> bytes:
        """The next piece of the request's body, empty at its end. Raises Disconnected."""

    def error(self, text: str) -> None:
        """End the call: the application failed."""

    def stop(self) -> None:
        """End the call after its caller has gone."""


class Heads:
    """Makes the contexts of answers; the last one is kept, because answers repeat each other's heads.

    May be shared by threads.
    """

    __slots__ = ("_encode", "_last")

    def __init__(self, encode: EncodeHead) -> None:
        self._encode = encode
        self._last: tuple[Any, Any, tuple[bytes, Headers, int]] = (None, None, (b"", [], -1))

    def make(self, status: str, headers: list[tuple[str, str]]) -> tuple[bytes, Headers, int]:
        """``(context, encoded headers, content-length or -1)`` of an answer. Raises RuntimeError."""
        last_status, last_headers, made = self._last
        if headers != last_headers or status != last_status:
            if isinstance(headers, Iterator):
                headers = list(headers)  # it can be read once, and they are kept
            encoded = encode_headers(headers)
            made = (self._encode(parse_status(status), encoded), encoded, _content_length(encoded))
            self._last = (status, list(headers), made)
        return made


def run(application: Application, environ: Environ, channel: Channel, heads: Heads) -> None:
    """Call *application* and send its answer. Never raises what the application raises.

    An exception ends the call with an error and is printed with its traceback, unless it came of
    the caller's leaving. SystemExit and the like (asyncio.CancelledError) are such exceptions too: a handler must not
    end its worker, and in a thread nobody else would answer the call.
    """
    response = Response(channel, heads)
    try:
        result = application(environ, response.start)
        try:
            response.send_all(result)
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()
    except BaseException as error:
        _failed(environ, channel, response, error)
        return
    if forks.child:
        forks.end_child()
    if channel.gone and not response.ended:
        channel.stop()


def _failed(environ: Environ, channel: Channel, response: Response, error: BaseException) -> None:
    if forks.child:
        forks.end_child(error, _headline(environ))
    if channel.gone:
        if not isinstance(error, Disconnected):
            report(environ, error)
        if not response.ended:
            channel.stop()
        return
    report(environ, error)
    if not response.ended:
        channel.error(f"{type(error).__name__}: {error}")


def report(environ: Environ, error: BaseException) -> None:
    """Print the application's traceback to the server's log."""
    tell_failure(_headline(environ), error)


def _headline(environ: Environ) -> str:
    where = f"{environ.get('REQUEST_METHOD')} {environ.get('PATH_INFO')}"
    return f"The WSGI application failed in {ascii(where)[1:-1]}"


class Response:
    """One answer: start_response, write, and the iteration of the result.

    :ivar ended: the last byte of the answer was handed over.
    """

    __slots__ = ("_channel", "_heads", "_head", "_headers", "_left", "_sent_head", "ended")

    def __init__(self, channel: Channel, heads: Heads) -> None:
        self._channel = channel
        self._heads = heads
        self._head: bytes | None = None
        self._headers: Headers = []
        self._left = -1  # bytes still to come by Content-Length, -1 when it is not given
        self._sent_head = False
        self.ended = False

    def start(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        """start_response: may be called again only with *exc_info*, and only before the head has left."""
        if exc_info:
            try:
                if self._sent_head:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # breaks the cycle with this frame
        elif self._head is not None:
            raise RuntimeError("start_response was called twice, the second time without exc_info")
        self._head, self._headers, self._left = self._heads.make(status, headers)
        return self.write

    def write(self, data: bytes) -> None:
        """The callable that start_response returns: *data* leaves at once."""
        if not isinstance(data, bytes):
            raise TypeError(f"a WSGI body is bytes, not {type(data).__name__}")
        if data:
            self._send(data, True)

    def send_all(self, result: Iterable[bytes]) -> None:
        """Send what the application returned, each piece before the next is asked for.

        A list is sent as one piece. The piece that completes Content-Length ends the answer, so
        that an answer in one piece costs one frame however the framework wraps it; the rest of the
        iterator still runs, for what it does besides.
        """
        if isinstance(result, (list, tuple)):
            self._finish(result[0] if len(result) == 1 else b"".join(result))
            return
        iterator = iter(result)
        for data in iterator:
            if not isinstance(data, bytes):
                raise TypeError(f"a WSGI body is bytes, not {type(data).__name__}")
            if self._channel.gone:
                return
            if data:
                complete = len(data) == self._left
                self._send(data, not complete)
                if complete:
                    _exhaust(iterator)
                    return
                if self._channel.ending and is_endless(self._headers):
                    break  # its close() follows, as for a client that has gone; ours gets a proper end
        self._finish(b"")

    def _finish(self, data: bytes) -> None:
        if not isinstance(data, bytes):
            raise TypeError(f"a WSGI body is bytes, not {type(data).__name__}")
        if not self.ended:
            self._send(data, False)

    def _send(self, data: bytes, more: bool) -> None:
        if self.ended:
            return
        if self._head is None:
            raise RuntimeError("the application sent a body before it called start_response")
        context = b"" if self._sent_head else self._head
        self._sent_head = True
        if self._left >= 0:
            self._left -= len(data)
        if not more:
            self.ended = True
        self._channel.send(context, data, more)


def _exhaust(iterator: Iterator[bytes]) -> None:
    for data in iterator:
        if data:
            return  # more than was announced: the server would cut it


def parse_status(status: str) -> int:
    """The code of ``"404 Not Found"``. Raises RuntimeError."""
    if not isinstance(status, str):
        raise RuntimeError(f"the status should be a str such as '200 OK', not {type(status).__name__}")
    code = status[:3]
    if (
        len(code) != 3
        or not code.isascii()
        or not code.isdigit()
        or status[3:4] not in ("", " ")
        or not "200" <= code <= "599"
    ):
        raise RuntimeError(f"the status should be a str such as '200 OK', 200 to 599, not {status!r}")
    return int(code)


def encode_headers(headers: list[tuple[str, str]]) -> Headers:
    """Header names and values as bytes. Raises RuntimeError for anything but latin-1 text."""
    try:
        return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    except (AttributeError, TypeError, ValueError) as error:
        raise RuntimeError(f"response headers should be a list of (str, str) in latin-1: {error}") from None


def _content_length(headers: Headers) -> int:
    for name, value in headers:
        if len(name) == 14 and name.lower() == b"content-length":
            return int(value) if value.isdigit() else -1
    return -1


class BodyReader(io.RawIOBase):
    """A body that comes in pieces, as a raw stream for io.BufferedReader."""

    def __init__(self, read: Callable[[], bytes]) -> None:
        self._read = read
        self._rest = memoryview(b"")
        self._over = False

    def readable(self) -> bool:
        """True: for io.BufferedReader."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill *buffer* with what is there, waiting for a piece when nothing is; 0 at the end."""
        if not self._rest and not self._over:
            piece = self._read()
            self._over = not piece
            self._rest = memoryview(piece)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def input_stream(body: bytes, read: Callable[[], bytes] | None) -> io.BufferedIOBase:
    """``wsgi.input``: *body* is what came already, *read* gives the rest (None when that is all)."""
    if read is None:
        return io.BytesIO(body)
    pieces = [body] if body else []

    def take() -> bytes:
        return pieces.pop() if pieces else read()

    return io.BufferedReader(BodyReader(take), 65536)
