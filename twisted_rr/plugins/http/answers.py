"""What a worker's answer, or the lack of one, becomes for the client (protocol.md 4.6 to 4.8).

Heads are decoded and rendered once for equal contexts. Left out: sending (`exchange`).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from twisted_rr.errors import (
    ApplicationError,
    Cancelled,
    Draining,
    ExecTimeout,
    NoFreeWorker,
    QueueFull,
    RRError,
    WorkerDied,
)
from twisted_rr.http1.cache import Cache
from twisted_rr.http1.response import BadResponse, ResponseHead, render
from twisted_rr.wire import context as contexts
from twisted_rr.wire.frame import CODEC_JSON, CODEC_MSGPACK, CODEC_PROTO, CODEC_RAW

Fields = Sequence[tuple[bytes, bytes]]

RETRY_AFTER: Fields = ((b"retry-after", b"1"),)
NO_WORKERS: Fields = (*RETRY_AFTER, (b"no-workers", b"true"))

FAILED = (
    "the application failed\n"  # a person in front of an empty page would look for the fault in the network
)

_CREDENTIALS = (b"set-cookie", b"set-cookie2")


class BadAnswer(RRError):
    """An answer that cannot be sent: the application's fault, or its SDK's.

    :ivar body: what the client is told.
    """

    def __init__(self, reason: str, body: str = FAILED) -> None:
        super().__init__(reason, body)
        self.reason = reason
        self.body = body

    def __str__(self) -> str:
        return self.reason


def unknown_status(status: int) -> BadAnswer:
    """A status that is none, told in RoadRunner's words."""
    text = f"unknown status code from worker: {status}"
    return BadAnswer(text, text + "\n")


class Answer:
    """A decoded head, ready to send; shared by all answers with the same context.

    :ivar trailers: fields of a one-call answer that its ``Trailer`` header moves behind the body.
    """

    __slots__ = ("codec", "head", "status", "trailers")

    def __init__(self, codec: int, head: ResponseHead, trailers: Fields) -> None:
        self.codec = codec
        self.head = head
        self.status = head.status
        self.trailers = trailers


class Answers:
    """Contexts to heads, with those that repeat kept: 2048 of up to 2 KiB each, none with a cookie in it.

    :ivar cache: context to `Answer`; who finds one there has to compare the codec.
    """

    __slots__ = ("cache",)

    def __init__(self) -> None:
        self.cache = Cache(1024, 2048)

    def head(self, codec: int, context: bytes) -> Answer:
        """The head that *context* is.

        :raises BadAnswer: codec or content make no sense.
        """
        answer: Answer | None = self.cache.young.get(context)
        if answer is None:
            answer = self.cache.older(context)
        if answer is None or answer.codec != codec:
            answer = self._decode(codec, context)
        return answer

    def _decode(self, codec: int, context: bytes) -> Answer:
        status, headers = decode(codec, context)
        trailers: Fields = ()
        if not is_mux(codec, context):
            headers, trailers = split_trailers(headers)
        if not 100 <= status <= 599:
            raise unknown_status(status)
        try:
            answer = Answer(codec, render(status, headers), trailers)
        except BadResponse as error:
            raise BadAnswer(f"the answer's head cannot be sent: {error}") from error
        if not any(name.lower() in _CREDENTIALS for name, _ in headers):
            self.cache.put(context, answer)
        return answer


def is_mux(codec: int, context: bytes) -> bool:
    """Whether *context* is an array of mux.md 7 rather than an object of protocol.md 4.6."""
    return codec == CODEC_MSGPACK or (codec == CODEC_JSON and context[:1] == b"[")


def decode(codec: int, context: bytes) -> tuple[int, list[tuple[bytes, bytes]]]:
    """Status and header fields, whatever they are written in.

    :raises BadAnswer: for a codec that is none, or a context that is not what its codec says.
    """
    codec &= ~CODEC_RAW
    if not context:
        return 0, []
    try:
        if is_mux(codec, context):
            return contexts.decode_head(codec, context)
        if codec in (0, CODEC_JSON, CODEC_PROTO):
            return contexts.decode_single_response(codec, context)
    except (RRError, ValueError, TypeError, msgspec.MsgspecError) as error:
        raise BadAnswer(
            f"the answer's context cannot be read ({error}); it begins {context[:64]!r}"
        ) from error
    raise BadAnswer(f"the answer's context is in no known codec (flags {codec:#04x})")


def split_trailers(headers: list[tuple[bytes, bytes]]) -> tuple[list[tuple[bytes, bytes]], Fields]:
    """Move the fields that ``Trailer`` names (exactly this case) behind the body; the announcement stays."""
    announced = b",".join(value for name, value in headers if name == b"Trailer")
    if not announced:
        return headers, ()
    names = {name.strip().lower() for name in announced.split(b",")}
    kept = [field for field in headers if field[0].lower() not in names]
    return kept, [field for field in headers if field[0].lower() in names]


def refusal(error: Exception, internal: int, debug: bool) -> tuple[int, str, Fields]:
    """Status, body and header fields for a call that got no answer.

    *internal* is ``http.internal_error_code``. RoadRunner uses it for everything that goes wrong; here it stands for
    what 500 stands for, a failing application, while 502, 503 and 504 stay told apart. With *debug* the body is the
    error's text.
    """
    status, body, fields = _plain_refusal(error, internal)
    return status, f"{error}\n" if debug else body, fields


def _plain_refusal(error: Exception, internal: int) -> tuple[int, str, Fields]:
    if isinstance(error, ApplicationError):
        return internal, FAILED, ()
    if isinstance(error, WorkerDied):
        return 502, "the worker was lost\n", ()
    if isinstance(error, NoFreeWorker):
        return 503, "no worker is free\n", NO_WORKERS
    if isinstance(error, QueueFull):
        return 503, "too many requests are waiting\n", RETRY_AFTER
    late = isinstance(error, Cancelled) and error.reason == "timeout"
    if isinstance(error, ExecTimeout) or late:
        return 504, "no answer in time\n", ()
    if isinstance(error, Draining | Cancelled):
        return 503, "the server is stopping\n", RETRY_AFTER
    # What is left is the client's fault (a form), which it is told, or unheard of.
    status = getattr(error, "status", internal)
    return status, f"{error}\n" if status < 500 else FAILED, ()
