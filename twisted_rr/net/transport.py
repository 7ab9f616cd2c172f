"""Server connections that write at once, know what is buffered, and close without losing an answer.

`tcp.Server` and `unix.Server` as Twisted has them, with three things added: ``write`` tries the socket
first (queueing costs two epoll_ctl and one more event an answer), ``buffered`` and ``on_flush`` say when
the kernel has taken everything, ``close_lingering`` reads on after the FIN, because a close with unread
bytes resets the connection and takes the answer with it. TLS and producers stay Twisted's; listening is
in ports.py.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, ClassVar, Final, cast

from twisted.internet import tcp, unix
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IFileDescriptorReceiver
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.python.failure import Failure

from twisted_rr.net.address import plain_name, twisted_address

TLSMemoryBIOProtocol: Any
try:
    from twisted.protocols.tls import TLSMemoryBIOProtocol
except ImportError:  # without pyOpenSSL no connection has a TLS layer
    TLSMemoryBIOProtocol = ()

READ: Final = 65536  # the largest recv that costs no mmap and munmap
STALL: Final = 30.0  # seconds without a byte taken, after which a closing connection is aborted

TLS_POLL: Final = 0.05  # seconds between looks at what a TLS layer holds back

OPEN, FLUSHING, FINISHED = 0, 1, 2  # of close_lingering: not called; output is left; FIN sent, reading to EOF


def tls_layer(protocol: Any) -> Any:
    """The TLS protocol among *protocol* and what it wraps, else None."""
    while protocol is not None:
        if isinstance(protocol, TLSMemoryBIOProtocol):
            return protocol
        protocol = getattr(protocol, "wrappedProtocol", None)
    return None


_Mixin: Any = object  # for the type checker: what the class beside it has


class _WriteAtOnce(_Mixin):
    """The additions, a mixin so that both of Twisted's classes keep their own order of bases."""

    rr_direct: ClassVar[bool] = True  # reactor.py

    _linger: int = OPEN
    _linger_seconds: float = 0.0
    _linger_timer: Any = None
    _left: int = 0  # buffered() at the last tick of the stall timer
    _eof: bool = False
    _tls: Any = None
    _tls_timer: Any = None
    _sendmsgQueue: Any = ()  # noqa: N815  unix.Server has one of its own
    dataBuffer: bytes  # noqa: N815  Twisted's, as are all attributes used here and not set here
    offset: int
    _tempDataLen: int  # noqa: N815
    _flush_callbacks: list[Callable[[], None]] | None = None

    on_closed: Callable[[], None] | None = None
    """Called when the descriptor is free again."""

    # ------------------------------------------------------------------------------ writing

    def write(self, data: bytes) -> None:
        """Send *data*, at once when nothing stands before it; what the kernel does not take is queued."""
        if (
            self.connected
            and type(data) is bytes
            and not self._tempDataLen
            and not self.dataBuffer
            and not self.disconnecting
            and not self._writeDisconnecting
            and not self.TLS
            and (self.producer is None or self.streamingProducer)
            and not self._aborting
            and not self._sendmsgQueue
            and not self._linger
        ):
            try:
                sent = self.socket.send(data)
            except OSError:
                sent = 0  # no room, or an error, which doRead and doWrite are there to report
            if sent == len(data):
                return
            rest = memoryview(data)[sent:]
            self._tempDataBuffer.append(cast(bytes, rest))
            self._tempDataLen = len(rest)
            self._maybePauseProducer()
            self.startWriting()
        elif not self._aborting and (not self._linger or self._tls is not None):
            super().write(data)

    def writeSequence(self, iovec: Any) -> None:
        """Send the pieces as one."""
        self.write(b"".join(iovec))

    def doWrite(self) -> Any:
        """As Twisted's; then tell whoever waits for the flush."""
        result = super().doWrite()
        # Waker of on_flush for what was queued here.
        if self._flush_callbacks is not None and not self._own_buffered():
            self._check_flush()
        return result

    def _own_buffered(self) -> int:
        return len(self.dataBuffer) - self.offset + self._tempDataLen

    def buffered(self) -> int:
        """Bytes written and not taken by the kernel yet, those inside a TLS layer included."""
        own = len(self.dataBuffer) - self.offset + self._tempDataLen
        return own if self._tls is None else own + tls_buffered(self._tls)

    def on_flush(self, callback: Callable[[], None]) -> None:
        """Call *callback* once, when `buffered` is 0: at once if it is now, never if the connection is lost before."""
        if not self.buffered():
            callback()
        elif self.connected:
            if self._flush_callbacks is None:
                self._flush_callbacks = []
            self._flush_callbacks.append(callback)
            if not self._own_buffered():
                self._poll_tls(0)

    def _check_flush(self) -> None:
        if self._tls is not None and tls_buffered(self._tls):
            self._poll_tls(0)
            return
        callbacks = self._flush_callbacks
        self._flush_callbacks = None
        for callback in callbacks or ():
            callback()

    def _poll_tls(self, delay: float) -> None:
        # Waker of on_flush for what the TLS layer holds: it gathers small writes until the next turn, and
        # everything until the handshake is done. It has no hook for either, and asking it to flush inside
        # one of its own calls would make it send twice.
        if self._tls_timer is None:
            self._tls_timer = self.reactor.callLater(delay, self._tls_polled)

    def _tls_polled(self) -> None:
        self._tls_timer = None
        if self._flush_callbacks is None or self._own_buffered():
            return  # doWrite is the waker now
        if tls_buffered(self._tls):
            self._poll_tls(TLS_POLL)
        else:
            self._check_flush()

    # ------------------------------------------------------------------------------ reading

    def doRead(self) -> Any:
        """Hand what is there, at most 64 KiB, to the protocol."""
        try:
            data = self.socket.recv(READ)
        except BlockingIOError:
            return None
        except OSError:
            return CONNECTION_LOST
        if not data:
            return CONNECTION_DONE
        if not self._linger or self._tls is not None:
            self.protocol.dataReceived(data)
        return None

    def pauseProducing(self) -> None:
        """Leave what comes in the kernel; not while lingering, when it is dropped anyway."""
        if not self._linger:
            super().pauseProducing()

    def readConnectionLost(self, reason: Failure) -> None:
        """The peer has sent its FIN."""
        if self._linger == FLUSHING and self._tls is None:
            self._eof = True  # it may still be reading
        elif self._linger:
            self.connectionLost(reason)
        else:
            super().readConnectionLost(reason)

    # ------------------------------------------------------------------------------ closing

    def close_lingering(self, seconds: float) -> None:
        """Send what is buffered, then FIN, then read and drop until the peer's FIN or *seconds*; then close.

        The protocol gets only connectionLost. Over TLS, which has no half-close, close_notify takes the
        place of FIN. A peer that takes no byte for `STALL` seconds while output is left is aborted.
        abortConnection and loseConnection may cut it short.
        """
        if not self.connected or self.disconnecting or self._aborting or self._linger:
            return
        self._linger = FLUSHING
        self._linger_seconds = seconds
        if self._tls is not None:
            self._tls.loseConnection()
            if not self.connected:
                return
        else:
            self.startReading()
        self._left = self.buffered()
        self._linger_timer = self.reactor.callLater(STALL, self._stalled)
        self.on_flush(self._flushed)

    def _stalled(self) -> None:
        left = self.buffered()
        if left == self._left:
            self._linger_timer = None
            self.abortConnection()
        else:
            self._left = left
            self._linger_timer = self.reactor.callLater(STALL, self._stalled)

    def _flushed(self) -> None:
        self._linger = FINISHED
        self._stop_linger_timer()
        if self._tls is None:
            if self._eof:
                self._close_now()
                return
            try:
                self.socket.shutdown(socket.SHUT_WR)
            except OSError:
                self._close_now()
                return
        self._linger_timer = self.reactor.callLater(self._linger_seconds, self._linger_over)

    def _linger_over(self) -> None:
        self._linger_timer = None
        self._close_now()

    def _close_now(self) -> None:
        # Everything is with the kernel, which goes on sending it after an orderly close; a reset would drop it.
        # Not in this stack: we may be inside the protocol's own call.
        if self.connected and not self._aborting:
            self.stopReading()
            self.stopWriting()
            self._linger_timer = self.reactor.callLater(0, self._lost)

    def _lost(self) -> None:
        self._linger_timer = None
        reason: Any = Failure
        self.connectionLost(reason(CONNECTION_DONE))

    def _stop_linger_timer(self) -> None:
        timer, self._linger_timer = self._linger_timer, None
        if timer is not None:
            timer.cancel()

    def connectionLost(self, reason: Failure) -> None:
        """As Twisted's; timers and callbacks end with the connection."""
        self._stop_linger_timer()
        timer, self._tls_timer = self._tls_timer, None
        if timer is not None:
            timer.cancel()
        self._flush_callbacks = None
        super().connectionLost(reason)
        self._tls = None
        if self.on_closed is not None:
            self.on_closed()

    def startTLS(self, context: Any, normal: bool = True) -> None:
        """As Twisted's."""
        super().startTLS(context, normal)
        self._tls = self.protocol


def tls_buffered(tls: Any) -> int:
    """Bytes of the application that a TLS layer has not encrypted yet: it gathers small writes, and handshakes."""
    size = sum(map(len, getattr(tls, "_appSendBuffer", ())))
    return size + sum(map(len, getattr(getattr(tls, "_aggregator", None), "_buffer", ())))


class TCPTransport(_WriteAtOnce, tcp.Server):
    """A TCP connection of a client. TCP_NODELAY is set; an IPv4 peer of a dual-stack port is shown as IPv4."""

    def __init__(
        self, sock: socket.socket, protocol: Any, client: Any, server: Any, sessionno: int, reactor: Any
    ) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        tcp.Server.__init__(self, sock, protocol, client, server, sessionno, reactor)
        self._tls = tls_layer(protocol)

    def getHost(self) -> IPv4Address | IPv6Address:
        """Our address of this connection."""
        return twisted_address(plain_name(self.socket.getsockname()))

    def getPeer(self) -> IPv4Address | IPv6Address:
        """The client's."""
        return twisted_address(self.client)


class UNIXTransport(_WriteAtOnce, unix.Server):
    """A connection over a unix socket. File descriptors pass if the protocol is an `IFileDescriptorReceiver`."""

    def __init__(
        self, sock: socket.socket, protocol: Any, client: Any, server: Any, sessionno: int, reactor: Any
    ) -> None:
        unix.Server.__init__(self, sock, protocol, client, server, sessionno, reactor)
        self._tls = tls_layer(protocol)
        self._takes_fds = bool(IFileDescriptorReceiver.providedBy(protocol))

    def doRead(self) -> Any:
        """recvmsg only for protocols that take file descriptors: it costs more."""
        if self._takes_fds and not self._linger:
            return unix.Server.doRead(self)
        return _WriteAtOnce.doRead(self)
