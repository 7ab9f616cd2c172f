"""What the server said when it began to drain: how long work may go on, and streams that have no end.

How an application finds it is `lifespan`'s and `wsgi_server`'s; what becomes of its streams `exchange`'s and `wsgi`'s.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, Final

#: Content of which every prefix is complete, and whose client asks again when it ends: it may be ended anywhere. An
#: export or a download may not: cut short, it must look cut.
ENDLESS: Final = (b"text/event-stream", b"multipart/x-mixed-replace")


def is_endless(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether an answer with these header fields is a stream without end of its own."""
    for name, value in headers:
        if len(name) == 12 and name.lower() == b"content-type":
            return value.lower().startswith(ENDLESS)
    return False


class Deadline:
    """Mixed into an Event that is set when the server begins to drain.

    :ivar deadline: when work is cut, in `time.monotonic` seconds; None before.
    :ivar streams_end: when endless streams are asked to end, likewise.
    """

    deadline: float | None = None
    streams_end: float | None = None

    def remaining(self) -> float | None:
        """Seconds until work is cut, never negative; None while the server does not drain."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def streams_over(self) -> bool:
        """Whether the time of endless streams is up."""
        return self.streams_end is not None and time.monotonic() >= self.streams_end

    def told(self, times: Any) -> None:
        """Take the server's word: the object under ``draining`` (mux.md 6). What cannot be read is passed over."""
        now = time.monotonic()
        self.deadline = _later(now, times, "deadline_ms")
        self.streams_end = _later(now, times, "stream_grace_ms")


def _later(now: float, times: Any, name: str) -> float | None:
    value = times.get(name) if isinstance(times, dict) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return now + max(0.0, value / 1000)
