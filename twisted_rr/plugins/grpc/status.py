"""What a call ends with: codes, their names, and what a failure of ours becomes (protocol.md 5.2, mux.md 5).

How a status is written into trailers is `answers`.
"""

from __future__ import annotations

from typing import Final

import attrs

from twisted_rr.errors import (
    ApplicationError,
    Cancelled,
    Draining,
    ExecTimeout,
    FrameError,
    NoFreeWorker,
    QueueFull,
    RRError,
    WorkerDied,
)
from twisted_rr.wire.grpc_status import DELIMITER, INTERNAL, UNKNOWN, decode_error_text, encode_status

OK: Final = 0
CANCELLED: Final = 1
DEADLINE_EXCEEDED: Final = 4
NOT_FOUND: Final = 5
RESOURCE_EXHAUSTED: Final = 8
UNIMPLEMENTED: Final = 12
UNAVAILABLE: Final = 14

# As Go's client library spells them, which is what RoadRunner's metrics are labelled with.
_NAMES: Final = (
    "OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists",
    "PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented",
    "Internal", "Unavailable", "DataLoss", "Unauthenticated",
)  # fmt: skip

#: What RoadRunner puts before the text of a worker's error.
SOFT: Final = "sync_worker_receive_frame: SoftJobError: "


#: Clients read a code as a number of 32 bits with a sign.
_LARGEST: Final = 0x7FFFFFFF


def sendable(code: int) -> int:
    """*code* of a worker's as it may be sent: what is none in any reading is UNKNOWN. That it is one of the known is
    not asked for: clients make UNKNOWN of others themselves."""
    return code if 0 <= code <= _LARGEST else UNKNOWN


def name(code: int) -> str:
    """``NotFound`` for 5; ``Code(99)`` for a code that is none."""
    return _NAMES[code] if 0 <= code < len(_NAMES) else f"Code({code})"


@attrs.frozen
class Status:
    """How a call ends.

    :ivar details: a serialised google.rpc.Status, None when there is no more to say than code and message.
    """

    code: int
    message: str = ""
    details: bytes | None = None


class Refusal(RRError):
    """A request that is not served: the client's fault.

    :ivar http: the answer's HTTP status; other than 200 where what came is no gRPC.
    """

    def __init__(self, code: int, message: str, http: int = 200) -> None:
        super().__init__(code, message, http)
        self.code = code
        self.message = message
        self.http = http

    def __str__(self) -> str:
        return self.message


class BadAnswer(RRError):
    """An answer of a one-call worker that cannot be sent: UNKNOWN with its text, as RoadRunner (protocol.md 5.2)."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


def of_failure(error: Exception, mux: bool, started: bool) -> Status:
    """The status for a call that *error* ended; *started*: a worker may have begun with it.

    RoadRunner answers INTERNAL to nearly all of these. Here UNAVAILABLE says that the call was not begun, so that it
    is safe to try again elsewhere.
    """
    if isinstance(error, ApplicationError):
        return Status(UNKNOWN, error.text) if mux else of_text(error.raw)
    if isinstance(error, NoFreeWorker | QueueFull | Draining):
        return Status(UNAVAILABLE, str(error))
    if isinstance(error, WorkerDied):
        return Status(INTERNAL if started else UNAVAILABLE, str(error))
    if isinstance(error, ExecTimeout):
        return Status(DEADLINE_EXCEEDED, f"{error} (pool.supervisor.exec_ttl)")
    if isinstance(error, BadAnswer | FrameError):
        return Status(UNKNOWN, str(error))
    if isinstance(error, Cancelled):
        return Status(UNAVAILABLE, str(error))
    return Status(INTERNAL, str(error))


def of_text(raw: bytes) -> Status:
    """The status that a one-call worker's error text tells: ``code|:|message|:|details``."""
    code, message, details = decode_error_text(raw)
    code = sendable(code)
    text = raw.decode("utf-8", "replace")
    if DELIMITER not in text or (code == UNKNOWN and message == text):
        message = SOFT + text
    return Status(code, message, encode_status(code, message, details) if details else None)
