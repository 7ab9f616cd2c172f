"""The limits and time-outs of an HTTP/2 session, with their defaults.

Where a value comes from (which key of which file) is not known here.
"""

from __future__ import annotations

#: A window of any kind has this size until something else is said (RFC 9113 section 6.9.2).
DEFAULT_WINDOW = 65535
MAX_WINDOW = 2**31 - 1


class SessionSettings:
    """Numbers for one front; shared by its sessions and never changed while they run.

    Times are seconds, sizes bytes; a time of 0 means no limit.

    :ivar preface_timeout: from the connect to the end of the client's preface, its first SETTINGS included.
    :ivar settings_timeout: until our SETTINGS are acknowledged.
    :ivar header_timeout: from the first byte of a header block to its last.
    :ivar body_timeout: without a byte of a request's content while we are willing to take it. Streams of calls may
        be silent for hours: a front for such has none.
    :ivar write_timeout: without a byte taken by the client, while something is waiting in the transport.
    :ivar window_timeout: without a byte of window granted to a stream whose answer waits for it.
    :ivar idle_timeout: without a stream; then the client is told to go (GOAWAY), and the connection closes.
    :ivar keepalive_time: of silence, after which the client is asked for a sign of life (PING).
    :ivar keepalive_timeout: how long that sign may take.
    :ivar max_age: of a connection, after which the client is told to go.
    :ivar max_age_grace: how long streams may go on after that.
    :ivar drain_ping: how long the client may take to acknowledge the first GOAWAY before the last one is sent.
    :ivar linger: how long a closing connection is still read, so that no reset overtakes the last frame.
    :ivar max_streams: open at the same time; more are refused (REFUSED_STREAM), which clients retry.
    :ivar stream_window: how much of one request's content may be sent beyond what is consumed.
    :ivar connection_window: the same for all streams together.
    :ivar max_header_list: all fields of a head, each with 32 bytes on top (RFC 9113 section 6.5.2).
    :ivar oversized_status: what a head beyond that is answered; 0 resets the stream with ENHANCE_YOUR_CALM.
    :ivar max_continuations: frames that a header block may have after its first.
    :ivar max_queued: of one answer; above it ``Stream.send`` answers False, below half of it ``writable`` is called.
    :ivar max_write: handed to the transport at a time; the next is handed over when the kernel has taken it all.
    :ivar max_unread: answers to control frames that wait for a client which does not read, before it is cut off.
    :ivar resets_per_second: streams that the client resets, or has us reset, in the long run.
    :ivar max_resets: the same at once.
    :ivar glitches_per_second: frames that make work and bring nothing, in the long run.
    :ivar max_glitches: the same at once.
    :ivar ping_interval: the least time between two PINGs of the client; 0 leaves them to the limit on glitches.
    :ivar ping_without_streams: whether it may send them at that pace while no stream is open, else every two hours.
    :ivar ping_strikes: how many PINGs may come too early before the connection ends (ENHANCE_YOUR_CALM). An answer
        sent in between starts the count anew.
    """

    __slots__ = (
        "preface_timeout", "settings_timeout", "header_timeout", "body_timeout", "write_timeout", "window_timeout",
        "idle_timeout", "keepalive_time", "keepalive_timeout", "max_age", "max_age_grace", "drain_ping", "linger",
        "max_streams", "stream_window", "connection_window", "max_header_list", "oversized_status",
        "max_continuations", "max_queued", "max_write", "max_unread",
        "resets_per_second", "max_resets", "glitches_per_second", "max_glitches",
        "ping_interval", "ping_without_streams", "ping_strikes",
    )  # fmt: skip

    def __init__(
        self,
        *,
        preface_timeout: float = 10.0,
        settings_timeout: float = 10.0,
        header_timeout: float = 10.0,
        body_timeout: float = 0.0,
        write_timeout: float = 30.0,
        window_timeout: float = 0.0,
        idle_timeout: float = 0.0,
        keepalive_time: float = 7200.0,
        keepalive_timeout: float = 20.0,
        max_age: float = 0.0,
        max_age_grace: float = 0.0,
        drain_ping: float = 1.0,
        linger: float = 2.0,
        max_streams: int = 100,
        stream_window: int = 262144,
        connection_window: int = 4194304,
        max_header_list: int = 32768,
        oversized_status: int = 431,
        max_continuations: int = 32,
        max_queued: int = 65536,
        max_write: int = 262144,
        max_unread: int = 65536,
        resets_per_second: float = 200.0,
        max_resets: int = 1000,
        glitches_per_second: float = 330.0,
        max_glitches: int = 10000,
        ping_interval: float = 0.0,
        ping_without_streams: bool = True,
        ping_strikes: int = 2,
    ) -> None:
        """:raises ValueError: a window below 65535, which every client may use before it has read our SETTINGS."""
        for window in (stream_window, connection_window):
            if not DEFAULT_WINDOW <= window <= MAX_WINDOW:
                raise ValueError(f"a window of {window} bytes is not in {DEFAULT_WINDOW}..{MAX_WINDOW}")
        self.preface_timeout = preface_timeout
        self.settings_timeout = settings_timeout
        self.header_timeout = header_timeout
        self.body_timeout = body_timeout
        self.write_timeout = write_timeout
        self.window_timeout = window_timeout
        self.idle_timeout = idle_timeout
        self.keepalive_time = keepalive_time
        self.keepalive_timeout = keepalive_timeout
        self.max_age = max_age
        self.max_age_grace = max_age_grace
        self.drain_ping = drain_ping
        self.linger = linger
        self.max_streams = max_streams
        self.stream_window = stream_window
        self.connection_window = connection_window
        self.max_header_list = max_header_list
        self.oversized_status = oversized_status
        self.max_continuations = max_continuations
        self.max_queued = max_queued
        self.max_write = max_write
        self.max_unread = max_unread
        self.resets_per_second = resets_per_second
        self.max_resets = max_resets
        self.glitches_per_second = glitches_per_second
        self.max_glitches = max_glitches
        self.ping_interval = ping_interval
        self.ping_without_streams = ping_without_streams
        self.ping_strikes = ping_strikes
