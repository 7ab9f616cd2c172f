"""Control frames and the mux handshake in them (protocol.md 2.3, mux.md 1 and 6).

Sending them in time, and what follows, is the business of pool and SDK.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from twisted_rr.errors import FrameError
from twisted_rr.wire.frame import CODEC_JSON, CONTROL, encode
from twisted_rr.wire.mux_settings import (
    CODEC_NAMES,
    MAX_FRAME,
    MAX_MESSAGE,
    OUR_FRAME,
    OUR_WINDOW,
    STREAMS,
    VERSION,
    WINDOW,
    MuxSettings,
)
from twisted_rr.wire.reader import Frame

_RANGES: Final = {
    "streams": (1, 65535, STREAMS),
    "window": (16384, 16777216, WINDOW),
    "max_frame": (4096, 1048576, MAX_FRAME),
}


class MuxOffer:
    """What the server offers in its pid frame.

    :ivar codecs: names in order of preference, ``msgpack`` or ``json``.
    """

    __slots__ = ("streams", "window", "max_frame", "codecs")

    def __init__(
        self,
        streams: int = STREAMS,
        window: int = OUR_WINDOW,
        max_frame: int = OUR_FRAME,
        codecs: Sequence[str] = ("msgpack", "json"),
    ) -> None:
        self.streams = streams
        self.window = window
        self.max_frame = max_frame
        self.codecs = tuple(codecs)


class MuxAnswer:
    """What the worker answers: its own numbers, the codec it chose, and what it can.

    :ivar services: names of the gRPC services that it has. Optional, and not part of the agreement: a
        server that was given proto files needs none.
    """

    __slots__ = ("streams", "window", "max_frame", "codec", "caps", "services")

    def __init__(
        self,
        streams: int = STREAMS,
        window: int = OUR_WINDOW,
        max_frame: int = OUR_FRAME,
        codec: str = "msgpack",
        caps: Iterable[str] = ("heartbeat", "draining"),
        services: Iterable[str] = (),
    ) -> None:
        self.streams = streams
        self.window = window
        self.max_frame = max_frame
        self.codec = codec
        self.caps = tuple(caps)
        self.services = tuple(services)


def encode_control(message: dict[str, Any]) -> bytes:
    """A control frame, ``{"stop": True}`` for example, for either kind of worker."""
    return encode(CONTROL | CODEC_JSON, 0, (), msgspec.json.encode(message))


def parse_control(payload: bytes) -> dict[str, Any]:
    """The object in a control frame.

    :raises FrameError: it is not a JSON object.
    """
    try:
        message = msgspec.json.decode(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        raise FrameError("a control frame that is not a JSON object", payload)
    return message


STOP_COMMAND: Final = encode_control({"stop": True})


def draining(deadline_ms: int, stream_grace_ms: int | None = None) -> dict[str, Any]:
    """The server drains: finish within *deadline_ms* milliseconds, endless streams within *stream_grace_ms*
    (cap ``draining``). Sent again when the deadline moves."""
    times = {"deadline_ms": deadline_ms}
    if stream_grace_ms is not None:
        times["stream_grace_ms"] = stream_grace_ms
    return {"draining": times}


def encode_pid_request(pid: int, offer: MuxOffer | None = None) -> bytes:
    """The server's first frame: its own pid, and with *offer* that it can mux."""
    message: dict[str, Any] = {"pid": pid}
    if offer is not None:
        message["mux"] = {
            "v": VERSION,
            "streams": offer.streams,
            "window": offer.window,
            "max_frame": offer.max_frame,
            "codecs": list(offer.codecs),
        }
    return encode_control(message)


def parse_pid_request(message: dict[str, Any]) -> tuple[int, MuxOffer | None]:
    """The server's pid and offer, from `parse_control`'s object. An offer of another version, or of codecs
    we do not know, is None: answer without mux.

    :raises FrameError: no pid, or a number out of range.
    """
    pid = _pid(message)
    mux = message.get("mux")
    if not isinstance(mux, dict) or mux.get("v") != VERSION:
        return pid, None
    listed = mux.get("codecs")
    codecs = (
        [name for name in listed if isinstance(name, str) and name in CODEC_NAMES]
        if isinstance(listed, list)
        else []
    )
    if not codecs:
        return pid, None
    return pid, MuxOffer(_number(mux, "streams"), _number(mux, "window"), _number(mux, "max_frame"), codecs)


def encode_pid_reply(pid: int, answer: MuxAnswer | None = None) -> bytes:
    """The worker's first frame. Without *answer* it is the PHP SDK's, byte for byte."""
    message: dict[str, Any] = {"pid": pid}
    if answer is None:
        return encode(CONTROL, 0, (), msgspec.json.encode(message))
    message["mux"] = {
        "v": VERSION,
        "streams": answer.streams,
        "window": answer.window,
        "max_frame": answer.max_frame,
        "codec": answer.codec,
        "caps": list(answer.caps),
    }
    if answer.services:
        message["mux"]["services"] = list(answer.services)
    return encode_control(message)


def parse_pid_reply(frame: Frame, offer: MuxOffer | None) -> tuple[int, MuxAnswer | None]:
    """The worker's pid and answer to *offer*; the answer is None for a one-call worker.

    :raises FrameError: no control frame, no pid, an answer without an offer, or one out of range.
    """
    if not frame.flags & CONTROL:
        raise FrameError("no CONTROL flag on the answer to the pid frame", frame.payload)
    message = parse_control(frame.payload)
    pid = _pid(message)
    mux = message.get("mux")
    if mux is None:
        return pid, None
    try:
        return pid, _answer(mux, offer)
    except FrameError as error:
        error.first = frame.payload[:128]
        raise


def server_settings(offer: MuxOffer, answer: MuxAnswer, max_message: int = MAX_MESSAGE) -> MuxSettings:
    """The agreement as the server's end sees it."""
    return _settings(offer, answer, offer.window, answer.window, max_message)


def worker_settings(offer: MuxOffer, answer: MuxAnswer, max_message: int = MAX_MESSAGE) -> MuxSettings:
    """The agreement as the worker's end sees it."""
    return _settings(offer, answer, answer.window, offer.window, max_message)


def _settings(
    offer: MuxOffer, answer: MuxAnswer, window: int, peer_window: int, max_message: int
) -> MuxSettings:
    return MuxSettings(
        streams=min(offer.streams, answer.streams),
        window=window,
        peer_window=peer_window,
        max_frame=min(offer.max_frame, answer.max_frame),
        codec=CODEC_NAMES[answer.codec],
        caps=answer.caps,
        max_message=max_message,
        capacity=answer.streams,
    )


def _answer(mux: Any, offer: MuxOffer | None) -> MuxAnswer:
    if offer is None:
        raise FrameError("the worker answers with mux, which was not offered")
    if not isinstance(mux, dict) or mux.get("v") != VERSION:
        raise FrameError(f"mux in the worker's answer is not of version {VERSION}")
    codec = mux.get("codec")
    if codec not in offer.codecs:
        raise FrameError(f"mux.codec is {codec!r}, offered were {', '.join(offer.codecs)}")
    return MuxAnswer(
        _number(mux, "streams"),
        _number(mux, "window"),
        _number(mux, "max_frame"),
        str(codec),
        _names(mux, "caps"),
        _names(mux, "services"),
    )


def _names(mux: dict[str, Any], name: str) -> list[str]:
    value = mux.get(name)
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _number(mux: dict[str, Any], name: str) -> int:
    low, high, default = _RANGES[name]
    value = mux.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise FrameError(f"mux.{name} is {value!r}, allowed are {low} to {high}")
    return value


def _pid(message: dict[str, Any]) -> int:
    pid = message.get("pid")
    if isinstance(pid, bool) or not isinstance(pid, int) or pid < 1:
        raise FrameError(f"pid is {pid!r}, an integer above 0 is due")
    return pid
