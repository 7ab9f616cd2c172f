"""The client's SETTINGS (RFC 9113 section 6.5)."""

from __future__ import annotations

from twisted_rr.http2.codes import FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, PROTOCOL_ERROR, ConnectionFault
from twisted_rr.http2.frames import (
    ENABLE_PUSH,
    HEADER_TABLE_SIZE,
    INITIAL_WINDOW_SIZE,
    MAX_FRAME,
    MAX_FRAME_SIZE,
    MAX_HEADER_LIST_SIZE,
    SETTING,
)
from twisted_rr.http2.hpack import TABLE_SIZE
from twisted_rr.http2.settings import DEFAULT_WINDOW, MAX_WINDOW


class Peer:
    """What the client has said of itself so far.

    :ivar window: with which its streams begin.
    :ivar header_list: the largest head it wants, -1 for not said; advice only.
    :ivar small_table: whether it once allowed less than the default for the dynamic table of answers. Then the next
        header block must say so (RFC 9113 section 4.3.1), although we use none.
    """

    __slots__ = ("header_list", "small_table", "window")

    def __init__(self) -> None:
        self.window = DEFAULT_WINDOW
        self.header_list = -1
        self.small_table = False

    def read(self, payload: bytes) -> None:
        """A SETTINGS frame's *payload*; of a setting that comes twice, the last counts.

        :raises ConnectionFault: a length that is no multiple of 6, or a value out of bounds.
        """
        if len(payload) % SETTING.size:
            raise ConnectionFault(FRAME_SIZE_ERROR, "the length of SETTINGS")
        for key, value in SETTING.iter_unpack(payload):
            self._setting(key, value)

    def _setting(self, key: int, value: int) -> None:
        if key == INITIAL_WINDOW_SIZE:
            if value > MAX_WINDOW:
                raise ConnectionFault(FLOW_CONTROL_ERROR, "SETTINGS_INITIAL_WINDOW_SIZE out of bounds")
            self.window = value
        elif key == MAX_FRAME_SIZE:
            if not MAX_FRAME <= value < 2**24:
                raise ConnectionFault(PROTOCOL_ERROR, "SETTINGS_MAX_FRAME_SIZE out of bounds")
        elif key == ENABLE_PUSH:
            if value > 1:
                raise ConnectionFault(PROTOCOL_ERROR, "SETTINGS_ENABLE_PUSH out of bounds")
        elif key == HEADER_TABLE_SIZE:
            if value < TABLE_SIZE:
                self.small_table = True
        elif key == MAX_HEADER_LIST_SIZE:
            self.header_list = value
