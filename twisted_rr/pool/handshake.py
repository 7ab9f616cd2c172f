"""The first exchange on a relay, the server's side, without input or output (protocol.md 2.3, mux.md 1).

How long it may take, and what a wrong pid means, is decided by who runs it.
"""

from __future__ import annotations

from typing import Final

import attrs

from twisted_rr.wire.control import MuxOffer, encode_pid_request, parse_pid_reply, server_settings
from twisted_rr.wire.mux_settings import MuxSettings
from twisted_rr.wire.reader import FrameReader

LONGEST: Final = 65536  # an answer is one small JSON object


@attrs.frozen
class Answer:
    """What the worker said.

    :ivar pid: the pid it tells.
    :ivar mux: what was agreed, None for one call at a time.
    """

    pid: int
    mux: MuxSettings | None


class Handshake:
    """``request`` is to be sent; then `feed` what comes until it gives an `Answer`."""

    __slots__ = ("_offer", "_reader", "request")

    def __init__(self, pid: int, offer: MuxOffer | None = None) -> None:
        """*pid*: the server's own."""
        self._offer = MuxOffer() if offer is None else offer
        self._reader = FrameReader(LONGEST)
        self.request = encode_pid_request(pid, self._offer)

    def feed(self, data: bytes) -> Answer | None:
        """The worker's answer once it is complete. Raises FrameError: it is none."""
        frame = self._reader.first(data)
        if frame is None:
            return None
        pid, mux = parse_pid_reply(frame, self._offer)
        return Answer(pid, None if mux is None else server_settings(self._offer, mux))

    def rest(self) -> bytes:
        """What came behind the answer."""
        return self._reader.rest()
