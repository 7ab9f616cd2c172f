"""What a custom worker gets and gives: a context and a body, with the codec of the context."""

from __future__ import annotations

from typing import Any


class Payload:
    """One request or answer, or a piece of a streamed answer.

    :ivar body: the body's bytes.
    :ivar context: what goes before the body: for HTTP the request or the head (protocol.md 4.2, 4.6).
    :ivar codec: codec bits of the context (``wire.frame.CODEC_JSON`` ...), 0 when none was set; in an
        answer 0 means "as in the request".
    """

    __slots__ = ("body", "codec", "context")

    def __init__(self, body: bytes = b"", context: bytes = b"", codec: int = 0) -> None:
        self.body = body
        self.context = context
        self.codec = codec

    @classmethod
    def of(cls, answer: Any) -> Payload:
        """*answer* as a payload: one already, bytes, str (UTF-8) or None. Raises TypeError."""
        if isinstance(answer, cls):
            return answer
        if answer is None:
            return cls()
        if isinstance(answer, str):
            return cls(answer.encode())
        if isinstance(answer, (bytes, bytearray, memoryview)):
            return cls(bytes(answer))
        raise TypeError(f"an answer is a Payload, bytes, str or None, not {type(answer).__name__}")

    def __repr__(self) -> str:
        return f"<Payload context={len(self.context)} body={len(self.body)} bytes>"
