"""The first two frames of a relay: the server's pid with its offer, the worker's pid with its answer.

The request is read before the application starts and answered after, since an answer means "ready".
"""

from __future__ import annotations

import os
import select
from collections.abc import Sequence

from twisted_rr.errors import FrameError, Truncated
from twisted_rr.wire import frame
from twisted_rr.wire.control import (
    MuxAnswer,
    MuxOffer,
    encode_pid_reply,
    parse_control,
    parse_pid_request,
    worker_settings,
)
from twisted_rr.wire.mux_settings import MuxSettings
from twisted_rr.wire.reader import FrameReader
from twisted_rr.worker.descriptors import Relay

_READ = 65536


class Hello:
    """What the server said first.

    :ivar offer: its mux offer, None when it has none.
    :ivar rest: bytes read beyond the frame.
    """

    __slots__ = ("offer", "rest")

    def __init__(self, offer: MuxOffer | None, rest: bytes) -> None:
        self.offer = offer
        self.rest = rest


def receive(relay: Relay) -> Hello | None:
    """Wait for the server's pid frame. None: it wants no worker any more (a stop, or the relay's end).

    Raises FrameError when the other side is no server of this protocol. SIGTERM ends the process
    here, as nothing has begun.
    """
    reader = FrameReader(frame.MAX_PAYLOAD)
    got = None
    while got is None:
        select.select([relay.reader], [], [])
        data = os.read(relay.reader, _READ)
        if not data:
            try:
                reader.eof()
            except Truncated:
                return None
            return None
        got = reader.first(data)
    if not got.flags & frame.CONTROL:
        raise FrameError("the server's first frame is no control frame", got.payload)
    message = parse_control(got.payload)
    if message.get("stop"):
        return None
    _, offer = parse_pid_request(message)
    return Hello(offer, reader.rest())


def answer(relay: Relay, hello: Hello, calls: int, services: Sequence[str] = ()) -> MuxSettings | None:
    """Say that the worker is ready for *calls* at once; 0 means one at a time, without mux.

    *services* are the gRPC services it has, told under mux only.

    Gives the agreement, None when there is no mux. Raises ConnectionError.
    """
    if hello.offer is None or calls < 1:
        _write(relay, encode_pid_reply(os.getpid()))
        return None
    mine = MuxAnswer(streams=calls, codec=hello.offer.codecs[0], services=services)
    _write(relay, encode_pid_reply(os.getpid(), mine))
    return worker_settings(hello.offer, mine)


def _write(relay: Relay, data: bytes) -> None:
    while data:
        data = data[os.write(relay.writer, data) :]
