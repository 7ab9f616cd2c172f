"""Connections that write at once, on every reactor; TCP and unix."""

import os
import socket
import ssl
import struct

import pytest
from twisted.internet import ssl as twisted_ssl
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IFileDescriptorReceiver,
    IHalfCloseableProtocol,
    IPullProducer,
    IPushProducer,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from tests.net.conftest import spin, turn
from twisted_rr.net.ports import bind
from twisted_rr.net.transport import STALL


class Recorder(Protocol):
    def __init__(self):
        self.data = b""
        self.pieces = []
        self.lost = None

    def dataReceived(self, data):
        self.pieces.append(len(data))
        self.data += data

    def connectionLost(self, reason):
        self.lost = reason


@implementer(IHalfCloseableProtocol)
class HalfCloseable(Recorder):
    read_lost = write_lost = 0

    def readConnectionLost(self):
        self.read_lost += 1

    def writeConnectionLost(self):
        self.write_lost += 1


class Server:
    """A listening port, one client's blocking socket and the connection's two ends."""

    def __init__(self, reactor, address, protocol=Recorder, wrap=lambda factory: factory):
        self.reactor = reactor
        self.made = []
        server = self

        class Remember(Factory):
            noisy = False

            def buildProtocol(self, addr):
                built = protocol()
                server.made.append(built)
                return built

        self.port = bind(address)
        self.port.listen(wrap(Remember()), reactor)
        self.clients = []
        self.connect()

    def connect(self, receive_buffer=None):
        name = self.port._name
        family = socket.AF_UNIX if not isinstance(name, tuple) else self.port._socket.family
        client = socket.socket(family)
        if receive_buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.settimeout(10)
        client.connect(name)
        count = len(self.made)
        spin(self.reactor, lambda: len(self.made) > count)
        self.client, self.protocol = client, self.made[-1]
        self.transport = self.protocol.transport
        self.clients.append(client)

    def receive(self, count):
        self.client.setblocking(False)
        got = bytearray()

        def enough():
            try:
                data = self.client.recv(1 << 20)
            except BlockingIOError:
                return False
            got.extend(data)
            return len(got) >= count or not data

        spin(self.reactor, enough)
        return bytes(got)

    def done(self):
        self.port.close()
        for client in self.clients:
            client.close()
        spin(self.reactor, lambda: all(made.lost for made in self.made))


@pytest.fixture(params=["127.0.0.1:0", "[::1]:0", "unix"])
def address(request, tmp_path):
    return f"unix://{tmp_path}/s" if request.param == "unix" else request.param


@pytest.fixture
def server(reactor, address):
    made = Server(reactor, address)
    yield made
    made.done()


@pytest.fixture
def clocked(epoll):
    """An epoll reactor whose timers run when the test says so."""
    clock = Clock()
    epoll.callLater = clock.callLater
    epoll.clock = clock
    return epoll


BIG = bytes(range(256)) * 32768  # 8 MiB: Linux lets a send buffer grow to 4 MiB by itself


# ------------------------------------------------------------------------------------ writing


def test_a_write_is_with_the_client_before_the_reactor_turns(server):
    server.transport.write(b"now")
    assert server.client.recv(10) == b"now"
    assert server.transport not in server.reactor.getWriters()


def test_a_sequence_leaves_as_one_piece(server):
    server.transport.writeSequence([b"a", b"b", b"c"])
    assert server.client.recv(10) == b"abc"


def test_what_the_kernel_does_not_take_follows_in_order(server):
    server.transport.write(BIG)
    server.transport.write(b"the end")
    assert server.transport.buffered() > 0
    assert server.receive(len(BIG) + 7) == BIG + b"the end"
    assert server.transport.buffered() == 0
    server.transport.write(b"at once again")
    assert server.client.recv(20) == b"at once again"


def test_only_bytes_are_written(server):
    for wrong in ("text", bytearray(b"x"), None):
        with pytest.raises(TypeError):
            server.transport.write(wrong)


def test_an_error_of_a_write_is_reported_by_the_reactor_and_not_raised(server):
    server.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    server.client.close()
    server.transport.pauseProducing()
    for _ in range(3):
        server.transport.write(b"x")
    assert server.protocol.lost is None
    spin(server.reactor, lambda: server.protocol.lost)
    assert server.protocol.lost.check(ConnectionLost, ConnectionDone)
    server.transport.write(b"too late")


def test_bytes_written_before_the_close_arrive_before_the_end(server):
    server.transport.write(BIG)
    server.transport.loseConnection()
    assert server.receive(len(BIG) + 1) == BIG
    spin(server.reactor, lambda: server.protocol.lost)
    assert server.protocol.lost.check(ConnectionDone)


def test_nothing_is_written_after_abort(server):
    server.transport.abortConnection()
    server.transport.write(b"x")
    server.transport.writeSequence([b"y"])
    spin(server.reactor, lambda: server.protocol.lost)
    assert server.protocol.lost.check(ConnectionAborted)
    with pytest.raises(ConnectionResetError) if server.client.family != socket.AF_UNIX else nothing():
        assert server.client.recv(10) == b""


class nothing:  # noqa: N801
    def __enter__(self):
        return self

    def __exit__(self, *error):
        return False


def test_a_client_of_a_tcp_port_has_no_nagle_delay(epoll):
    server = Server(epoll, "127.0.0.1:0")
    assert server.transport.getTcpNoDelay()
    server.done()


# ---------------------------------------------------------------------------------- producers


@implementer(IPushProducer)
class Push:
    def __init__(self):
        self.said = []

    def pauseProducing(self):
        self.said.append("pause")

    def resumeProducing(self):
        self.said.append("resume")

    def stopProducing(self):
        self.said.append("stop")


def test_a_streaming_producer_is_paused_when_the_client_lags_and_resumed(server):
    push = Push()
    server.transport.registerProducer(push, True)
    server.transport.write(b"small")
    assert push.said == []
    server.transport.write(BIG)
    assert push.said == ["pause"]
    server.receive(len(BIG) + 5)
    spin(server.reactor, lambda: push.said == ["pause", "resume"])
    server.transport.unregisterProducer()


def test_a_producer_is_stopped_when_the_connection_is_lost(server):
    push = Push()
    server.transport.registerProducer(push, True)
    server.client.close()
    spin(server.reactor, lambda: server.protocol.lost)
    assert push.said == ["stop"]


@implementer(IPullProducer)
class Pull:
    def __init__(self, transport, pieces):
        self.transport = transport
        self.pieces = pieces

    def resumeProducing(self):
        if self.pieces:
            self.transport.write(self.pieces.pop(0))
        else:
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def stopProducing(self):
        pass


def test_a_pull_producer_is_asked_until_it_ends(server):
    pieces = [bytes([number]) * 100000 for number in range(20)]
    expected = b"".join(pieces)
    server.transport.registerProducer(Pull(server.transport, list(pieces)), False)
    assert server.receive(len(expected) + 1) == expected


# ---------------------------------------------------------------------------------- on_flush


def test_on_flush_is_at_once_when_nothing_is_buffered(server):
    called = []
    server.transport.write(b"x")
    server.transport.on_flush(lambda: called.append(1))
    assert called == [1]


def test_on_flush_comes_once_when_the_kernel_has_taken_everything(server):
    called = []
    server.transport.write(BIG)
    server.transport.on_flush(lambda: called.append(server.transport.buffered()))
    turn(server.reactor)
    assert called == []
    server.receive(len(BIG))
    spin(server.reactor, lambda: called)
    server.transport.write(BIG)
    server.receive(len(BIG))
    assert called == [0]


def test_on_flush_comes_before_the_close_it_waited_with(server):
    said = []
    server.protocol.connectionLost = lambda reason: (
        said.append("lost") or setattr(server.protocol, "lost", reason)
    )
    server.transport.write(BIG)
    server.transport.on_flush(lambda: said.append("flushed"))
    server.transport.loseConnection()
    server.receive(len(BIG) + 1)
    spin(server.reactor, lambda: server.protocol.lost)
    assert said == ["flushed", "lost"]


def test_on_flush_is_forgotten_when_the_connection_is_lost(server):
    called = []
    server.transport.write(BIG)
    server.transport.on_flush(lambda: called.append(1))
    server.transport.abortConnection()
    spin(server.reactor, lambda: server.protocol.lost)
    assert called == []
    server.transport.on_flush(lambda: called.append(2))
    assert called in ([], [2])


# ------------------------------------------------------------------------------------ reading


def test_a_read_is_at_most_64_kib(server):
    server.client.setblocking(False)
    sent = server.client.send(bytes(200000))
    spin(server.reactor, lambda: len(server.protocol.data) == sent)
    assert max(server.protocol.pieces) <= 65536


def test_paused_reading_leaves_bytes_in_the_kernel(server):
    server.transport.pauseProducing()
    server.client.send(b"x")
    turn(server.reactor)
    assert server.protocol.data == b""
    server.transport.resumeProducing()
    spin(server.reactor, lambda: server.protocol.data == b"x")


def test_the_clients_fin_ends_the_connection(server):
    server.client.shutdown(socket.SHUT_WR)
    spin(server.reactor, lambda: server.protocol.lost)
    assert server.protocol.lost.check(ConnectionDone)


def test_a_half_closeable_protocol_may_answer_after_the_clients_fin(reactor, address):
    server = Server(reactor, address, HalfCloseable)
    server.client.send(b"question")
    server.client.shutdown(socket.SHUT_WR)
    spin(reactor, lambda: server.protocol.read_lost)
    assert server.protocol.data == b"question"
    server.transport.write(b"answer")
    server.transport.loseWriteConnection()
    assert server.receive(100) == b"answer"
    spin(reactor, lambda: server.protocol.write_lost)
    assert server.protocol.lost is None
    server.transport.loseConnection()
    server.done()


def test_writes_after_our_own_half_close_are_dropped(reactor, address):
    server = Server(reactor, address, HalfCloseable)
    server.transport.loseWriteConnection()
    spin(reactor, lambda: server.protocol.write_lost)
    server.transport.write(b"x")
    assert server.receive(1) == b""
    server.client.send(b"still heard")
    spin(reactor, lambda: server.protocol.data == b"still heard")
    server.transport.loseConnection()
    server.done()


def test_a_protocol_that_takes_descriptors_gets_them(epoll, tmp_path):
    @implementer(IFileDescriptorReceiver)
    class Takes(Recorder):
        fd = None

        def fileDescriptorReceived(self, fd):
            self.fd = fd

    server = Server(epoll, f"unix://{tmp_path}/s", Takes)
    with open("/dev/null") as file:
        socket.send_fds(server.client, [b"x"], [file.fileno()])
        spin(epoll, lambda: server.protocol.data)
    assert server.protocol.fd is not None
    os.close(server.protocol.fd)
    with open("/dev/null") as file:
        server.transport.sendFileDescriptor(file.fileno())
        server.transport.write(b"y")
        turn(epoll)
    data, received, _, _ = socket.recv_fds(server.client, 10, 5)
    assert data == b"y"
    os.close(received[0])
    server.done()


# -------------------------------------------------------------------------------- addresses


def test_addresses_of_an_ipv4_client_on_a_dual_stack_port_are_ipv4(epoll):
    server = Server(epoll, "127.0.0.1:0")
    server.done()
    port = bind(":0")
    seen = []

    class Remember(Factory):
        noisy = False

        def buildProtocol(self, addr):
            made = Recorder()
            seen.append((addr, made))
            return made

    port.listen(Remember(), epoll)
    with socket.create_connection(("127.0.0.1", port.getHost().port)) as client:
        spin(epoll, lambda: seen)
        addr, made = seen[0]
        assert (addr.host, addr.port) == client.getsockname()
        assert made.transport.getPeer() == addr
        host = made.transport.getHost()
        assert (host.host, host.port) == client.getpeername()
    spin(epoll, lambda: made.lost)
    port.close()


def test_addresses_of_an_ipv6_client(epoll):
    server = Server(epoll, "[::1]:0")
    assert server.transport.getPeer().host == "::1"
    assert server.transport.getPeer().port == server.client.getsockname()[1]
    assert server.transport.getHost().port == server.port.getHost().port
    assert "Recorder" in repr(server.transport)
    server.done()


# ----------------------------------------------------------------------------- lingering close


def test_a_lingering_close_saves_the_answer_though_bytes_are_unread(server):
    """drain.md R4: a plain close resets, and the client loses what was sent."""
    server.transport.pauseProducing()
    server.client.send(b"x" * 50000)
    turn(server.reactor)
    server.transport.write(b"answer")
    server.transport.close_lingering(5)
    assert server.receive(100) == b"answer"
    assert server.client.recv(10) == b""
    server.client.send(b"dropped")
    server.client.close()
    spin(server.reactor, lambda: server.protocol.lost)
    assert server.protocol.lost.check(ConnectionDone)
    assert server.protocol.data == b""


def test_a_lingering_close_flushes_first(server):
    server.transport.write(BIG)
    server.transport.close_lingering(5)
    assert server.receive(len(BIG) + 1) == BIG
    server.client.close()
    spin(server.reactor, lambda: server.protocol.lost)


def test_writes_after_a_lingering_close_are_dropped(server):
    server.transport.write(b"answer")
    server.transport.close_lingering(5)
    server.transport.write(b"more")
    server.transport.writeSequence([b"more"])
    assert server.receive(100) == b"answer"
    assert server.protocol.lost is None
    server.client.close()
    spin(server.reactor, lambda: server.protocol.lost)


def test_a_client_that_has_half_closed_gets_the_whole_answer(reactor, address):
    server = Server(reactor, address, HalfCloseable)
    server.client.shutdown(socket.SHUT_WR)
    spin(reactor, lambda: server.protocol.read_lost)
    server.transport.write(BIG)
    server.transport.close_lingering(5)
    assert server.receive(len(BIG) + 1) == BIG
    spin(reactor, lambda: server.protocol.lost)
    server.done()


def test_a_half_closeable_protocol_hears_nothing_while_lingering(reactor, address):
    server = Server(reactor, address, HalfCloseable)
    server.transport.close_lingering(5)
    server.client.close()
    spin(reactor, lambda: server.protocol.lost)
    assert server.protocol.read_lost == 0
    server.done()


def test_lingering_ends_when_its_time_is_over(clocked, address):
    server = Server(clocked, address)
    server.transport.close_lingering(2.0)
    clocked.clock.advance(1.9)
    turn(clocked)
    assert server.protocol.lost is None
    clocked.clock.advance(0.2)
    clocked.clock.advance(0)
    assert server.protocol.lost.check(ConnectionDone)
    assert server.client.recv(1) == b""
    assert not clocked.clock.getDelayedCalls()
    server.done()


def test_the_time_counts_from_the_flush_so_that_a_slow_download_is_not_cut(clocked, address):
    server = Server(clocked, address)
    server.transport.write(BIG * 4)
    server.transport.close_lingering(2.0)
    got = 0
    for _ in range(5):
        clocked.clock.advance(STALL - 1)
        got += len(server.receive(len(BIG) // 2))
    assert server.transport.buffered() > 0
    assert server.protocol.lost is None
    server.receive(len(BIG) * 4 - got + 1)
    server.client.close()
    spin(clocked, lambda: server.protocol.lost)
    assert not clocked.clock.getDelayedCalls()
    server.done()


def test_a_client_that_takes_nothing_is_aborted_in_the_end(clocked, address):
    server = Server(clocked, address)
    server.transport.write(BIG)
    server.transport.close_lingering(2.0)
    turn(clocked)
    clocked.clock.advance(STALL)
    turn(clocked)
    clocked.clock.advance(STALL)
    clocked.clock.advance(0)
    assert server.protocol.lost.check(ConnectionAborted)
    assert not clocked.clock.getDelayedCalls()
    server.done()


def test_abort_cuts_a_lingering_close_short(clocked, address):
    server = Server(clocked, address)
    server.transport.close_lingering(2.0)
    server.transport.abortConnection()
    clocked.clock.advance(0)
    assert server.protocol.lost.check(ConnectionAborted)
    assert not clocked.clock.getDelayedCalls()
    server.done()


def test_lingering_twice_is_the_same_as_once(clocked, address):
    server = Server(clocked, address)
    server.transport.close_lingering(2.0)
    server.transport.close_lingering(100.0)
    assert [call.getTime() for call in clocked.clock.getDelayedCalls()] == [2.0]
    clocked.clock.advance(2)
    clocked.clock.advance(0)
    server.transport.close_lingering(1.0)
    server.done()


def test_a_stopped_reader_cannot_hold_a_lingering_close(server):
    server.transport.pauseProducing()
    server.transport.close_lingering(5)
    server.transport.pauseProducing()
    server.client.close()
    spin(server.reactor, lambda: server.protocol.lost)


def test_a_reset_while_lingering_ends_it(server):
    server.transport.close_lingering(5)
    server.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    server.client.close()
    spin(server.reactor, lambda: server.protocol.lost)


# ---------------------------------------------------------------------------------------- TLS


pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Twisted's way with pyOpenSSL


@pytest.fixture(scope="module")
def certificate():
    key = twisted_ssl.KeyPair.generate(size=2048)
    return twisted_ssl.PrivateCertificate.fromCertificateAndKeyPair(
        key.selfSignedCert(1, CN="localhost"), key
    )


class TLSServer(Server):
    """The same with TLS: by a wrapping factory, or by startTLS on the connection."""

    def __init__(self, reactor, address, certificate, start, protocol=Recorder):
        context = certificate.options()
        wrap = (
            (lambda factory: factory)
            if start
            else (lambda factory: TLSMemoryBIOFactory(context, False, factory, clock=reactor))
        )
        super().__init__(reactor, address, protocol, wrap)
        if start:
            self.transport.startTLS(context)
        trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trust.check_hostname = False
        trust.verify_mode = ssl.CERT_NONE
        self.client.setblocking(False)
        self.raw = self.client
        self.client = trust.wrap_socket(self.client, do_handshake_on_connect=False)
        self.clients.append(self.client)

    def handshake(self):
        self.tls(self.client.do_handshake)

    def tls(self, call, *arguments):
        result = []

        def done():
            try:
                result.append(call(*arguments))
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return False
            return True

        spin(self.reactor, done)
        return result[0]

    def receive(self, count):
        got = bytearray()
        while len(got) < count:
            data = self.tls(self.client.recv, 65536)
            if not data:
                break
            got += data
        return bytes(got)


@pytest.fixture(params=["wrapped", "startTLS"])
def tls(request, reactor, certificate, monkeypatch):
    # Twisted's startTLS has no argument for the clock; in a server the global reactor is the one that runs.
    monkeypatch.setattr("twisted.protocols.tls._get_default_clock", lambda: reactor)
    made = TLSServer(reactor, "127.0.0.1:0", certificate, request.param == "startTLS")
    yield made
    made.done()


def test_tls_carries_bytes_both_ways(tls):
    tls.handshake()
    tls.client.send(b"question")
    spin(tls.reactor, lambda: tls.protocol.data == b"question")
    tls.transport.write(b"answer")
    assert tls.receive(6) == b"answer"


def test_tls_tells_when_everything_was_taken(tls):
    tls.handshake()
    called = []
    tls.transport.write(BIG)
    assert tls.transport.buffered() > 0
    tls.transport.on_flush(lambda: called.append(tls.transport.buffered()))
    turn(tls.reactor)
    assert called == []
    assert tls.receive(len(BIG)) == BIG
    spin(tls.reactor, lambda: called)
    assert called == [0]


def test_what_waits_for_the_handshake_counts_as_buffered(tls):
    called = []
    tls.transport.write(b"early")
    assert tls.transport.buffered() == 5
    tls.transport.on_flush(lambda: called.append(1))
    turn(tls.reactor)
    assert called == []
    tls.handshake()
    assert tls.receive(5) == b"early"
    spin(tls.reactor, lambda: called)


def test_waiting_for_the_flush_while_being_paused_sends_nothing_twice(tls):
    """The TLS layer would send what it is just sending again, if it were asked to flush in between."""
    tls.handshake()
    push = Push()
    called = []
    push.pauseProducing = lambda: tls.transport.on_flush(lambda: called.append(1))
    tls.transport.registerProducer(push, True)
    tls.transport.write(BIG)
    tls.transport.write(b"the end")
    assert tls.receive(len(BIG) + 7) == BIG + b"the end"
    spin(tls.reactor, lambda: called)
    tls.transport.unregisterProducer()


def test_a_connection_lost_while_tls_holds_bytes_leaves_no_timer(clocked, certificate):
    tls = TLSServer(clocked, "127.0.0.1:0", certificate, False)
    tls.transport.write(b"early")
    tls.transport.on_flush(lambda: None)
    tls.transport.on_flush(lambda: None)
    clocked.clock.advance(0)
    assert len(clocked.clock.getDelayedCalls()) == 1
    tls.client.close()
    spin(clocked, lambda: tls.protocol.lost)
    assert not clocked.clock.getDelayedCalls()
    tls.done()


def test_a_lingering_close_over_tls_sends_everything_and_close_notify(tls):
    tls.handshake()
    tls.transport.write(BIG)
    tls.transport.close_lingering(5)
    assert tls.receive(len(BIG) + 1) == BIG  # an end without close_notify would raise SSLEOFError
    tls.client.close()
    spin(tls.reactor, lambda: tls.protocol.lost)


def test_a_client_that_never_answers_close_notify_is_closed_when_the_time_is_over(clocked, certificate):
    tls = TLSServer(clocked, "127.0.0.1:0", certificate, False)
    tls.handshake()
    tls.transport.write(b"answer")
    tls.transport.close_lingering(2.0)
    turn(clocked)
    assert tls.receive(100) == b"answer"
    assert tls.protocol.lost is None
    clocked.clock.advance(2.0)
    clocked.clock.advance(0)
    assert tls.protocol.lost
    assert not clocked.clock.getDelayedCalls()
    tls.done()
