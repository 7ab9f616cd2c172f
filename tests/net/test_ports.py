"""Bound first, listening later, closed in order."""

import errno
import os
import socket
import stat
import subprocess
import sys

import pytest
from twisted.internet.protocol import Factory, Protocol

from tests.net.conftest import fds, spin, turn
from twisted_rr.errors import ListenError
from twisted_rr.net import ports
from twisted_rr.net.ports import adopt, bind


class Greet(Protocol):
    def connectionMade(self):
        self.factory.made.append(self)
        self.transport.write(b"hi")

    def connectionLost(self, reason):
        self.factory.lost += 1


class Greeter(Factory):
    protocol = Greet
    noisy = False

    def __init__(self):
        self.made = []
        self.lost = 0
        self.started = self.stopped = 0

    def startFactory(self):
        self.started += 1

    def stopFactory(self):
        self.stopped += 1


def client_of(port, block=True):
    client = socket.socket(port._socket.family)
    client.setblocking(block)
    if block:
        client.settimeout(10)
    client.connect(port._name)
    return client


def end(reactor, port, factory):
    """Close everything and see that it closed."""
    port.close()
    for made in factory.made:
        made.transport.abortConnection()
    spin(reactor, lambda: factory.lost == len(factory.made))


@pytest.fixture(params=["127.0.0.1:0", "[::1]:0", ":0", "unix", "unix://@twisted_rr-test-port"])
def address(request, tmp_path):
    return f"unix://{tmp_path}/s" if request.param == "unix" else request.param


def test_a_bound_port_refuses_and_a_listening_one_serves(reactor, address):
    port, factory = bind(address), Greeter()
    with pytest.raises(ConnectionRefusedError):
        client_of(port)
    assert not port.listening
    port.listen(factory, reactor)
    assert port.listening
    with client_of(port) as client:
        spin(reactor, lambda: factory.made)
        assert client.recv(10) == b"hi"
        assert factory.started == 1
    end(reactor, port, factory)
    assert factory.stopped == 1


def test_a_closed_port_refuses(epoll, address):
    port, factory = bind(address), Greeter()
    name, family = port._name, port._socket.family
    port.listen(factory, epoll)
    port.close()
    port.close()
    assert port.fileno() == -1
    with socket.socket(family) as client, pytest.raises((ConnectionRefusedError, FileNotFoundError)):
        client.connect(name)
    assert port not in epoll.getReaders()


def test_connections_outlive_their_port(epoll, address):
    port, factory = bind(address), Greeter()
    port.listen(factory, epoll)
    with client_of(port) as client:
        spin(epoll, lambda: factory.made)
        port.close()
        assert client.recv(10) == b"hi"
        client.send(b"x")
        turn(epoll)
        assert factory.lost == 0
    end(epoll, port, factory)


def test_the_address_has_the_real_port_and_can_be_read_again():
    port = bind("127.0.0.1:0")
    host, _, number = port.address.rpartition(":")
    assert host == "127.0.0.1"
    assert int(number) > 0
    assert port.getHost().port == int(number)
    port.close()
    again = bind(port.address)
    assert again.address == port.address
    again.close()


def test_sockets_of_a_port_are_not_inherited(epoll, address):
    port, factory = bind(address), Greeter()
    assert not os.get_inheritable(port.fileno())
    port.listen(factory, epoll)
    with client_of(port):
        spin(epoll, lambda: factory.made)
        assert not os.get_inheritable(factory.made[0].transport.fileno())
    end(epoll, port, factory)


def test_an_empty_host_serves_ipv4_and_ipv6(epoll):
    port, factory = bind(":0"), Greeter()
    port.listen(factory, epoll)
    for host in ("127.0.0.1", "::1"):
        with socket.create_connection((host, port.getHost().port)) as client:
            spin(epoll, lambda: factory.made)
            assert client.recv(10) == b"hi"
            assert factory.made.pop().transport.getPeer().host == host
    spin(epoll, lambda: factory.lost == 2)
    port.close()


def test_an_empty_host_is_ipv4_where_there_is_no_ipv6(monkeypatch):
    make = ports._tcp_socket

    def without(family, name):
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "no IPv6")
        return make(family, name)

    monkeypatch.setattr(ports, "_tcp_socket", without)
    port = bind(":0")
    assert port.address.startswith("0.0.0.0:")
    port.close()


def test_localhost_is_its_ipv4_address():
    port = bind("localhost:0")
    assert port.address.startswith("127.0.0.1:")
    port.close()


def test_an_address_in_use_is_told_in_words(epoll):
    port = bind("127.0.0.1:0")
    port.listen(Greeter(), epoll)
    with pytest.raises(ListenError) as caught:
        bind(port.address)
    assert caught.value.address == port.address
    assert caught.value.reason == "address already in use (EADDRINUSE)"
    port.close()


def test_two_bound_ports_of_one_address_differ_when_they_listen(epoll):
    """Linux lets both bind while neither listens; the second one is told then."""
    first = bind("127.0.0.1:0")
    second = bind(first.address)
    first.listen(Greeter(), epoll)
    with pytest.raises(ListenError, match="EADDRINUSE"):
        second.listen(Greeter(), epoll)
    first.close()
    second.close()


@pytest.mark.parametrize(
    ("address", "part"),
    [
        ("192.0.2.1:80", "EADDRNOTAVAIL"),
        ("no-such-host.invalid:80", "not a known host"),
        ("127.0.0..1:80", "a part of it is empty"),
        ("unix:///no/such/folder/s", "folder /no/such/folder does not exist"),
        ("unix://" + "x" * 200, "too long"),
        ("unix:///dev/null", "not a socket"),
    ],
)
def test_what_cannot_be_bound_is_told_in_words(address, part):
    before = fds()
    with pytest.raises(ListenError) as caught:
        bind(address)
    assert part in caught.value.reason
    assert caught.value.address == address
    assert fds() == before


def test_a_low_port_without_privileges_says_what_is_needed(monkeypatch):
    def refuse(family, name):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(ports, "_tcp_socket", refuse)
    with pytest.raises(ListenError, match="CAP_NET_BIND_SERVICE"):
        bind("127.0.0.1:80")


def test_a_port_listens_once(epoll):
    port = bind("127.0.0.1:0")
    port.listen(Greeter(), epoll)
    with pytest.raises(ListenError, match="already"):
        port.listen(Greeter(), epoll)
    port.close()
    with pytest.raises(ListenError, match="closed"):
        port.listen(Greeter(), epoll)


def user_timeout(connection):
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)


def test_connections_have_the_limit_of_silence_of_their_port(epoll):
    port, factory = bind("127.0.0.1:0"), Greeter()
    port.limit_silence(1.5)
    port.listen(factory, epoll)
    for number, (seconds, milliseconds) in enumerate(
        ((None, 1500), (30.0, 30000), (0.0, 0), (1e9, 2**31 - 1)), 1
    ):
        if seconds is not None:
            port.limit_silence(seconds)
        with client_of(port):
            spin(epoll, lambda number=number: len(factory.made) == number)
            assert user_timeout(factory.made[-1].transport.socket) == milliseconds
    end(epoll, port, factory)


def test_a_unix_port_has_no_limit_of_silence(tmp_path):
    port = bind(f"unix://{tmp_path}/s")
    port.limit_silence(1.0)
    port.close()
    port.limit_silence(1.0)


def test_a_closed_port_leaves_no_fd(epoll, address):
    ports.RESERVE.hold()
    before = fds()
    port = bind(address)
    port.listen(Greeter(), epoll)
    port.finish()
    assert fds() == before


def test_a_reactor_that_stops_closes_the_port(epoll):
    port = bind("127.0.0.1:0")
    port.listen(Greeter(), epoll)
    epoll.disconnectAll()
    assert port.fileno() == -1


# ------------------------------------------------------------------------------------- accept


def test_a_flood_of_connects_is_taken_in_portions(epoll, monkeypatch):
    monkeypatch.setattr(ports, "ACCEPTS", 5)
    port, factory = bind("127.0.0.1:0"), Greeter()
    port.listen(factory, epoll)
    clients = [client_of(port) for _ in range(12)]
    epoll.iterate(0)
    assert len(factory.made) == 5
    spin(epoll, lambda: len(factory.made) == 12)
    for client in clients:
        client.close()
    end(epoll, port, factory)


class Breaking(Greet):
    def connectionMade(self):
        self.factory.broken -= 1
        if self.factory.broken >= 0:
            raise RuntimeError("not today")
        super().connectionMade()

    def dataReceived(self, data):
        self.transport.write(data.upper())

    def connectionLost(self, reason):
        if self in self.factory.made:
            super().connectionLost(reason)


def test_a_protocol_that_fails_leaves_nothing_to_the_connection_that_gets_its_number(reactor):
    port, factory = bind("127.0.0.1:0"), Greeter()
    factory.protocol, factory.broken = Breaking, 3
    port.listen(factory, reactor)
    for left in (2, 1, 0):
        with client_of(port):
            spin(reactor, lambda left=left: factory.broken == left)
            turn(reactor)
    with client_of(port) as client:
        client.sendall(b"you")
        client.setblocking(False)
        found = bytearray()
        spin(reactor, lambda: answered(client, found) == b"hiYOU")
    end(reactor, port, factory)


def answered(client, found):
    try:
        found += client.recv(10)
    except BlockingIOError:
        pass
    return found


def test_a_factory_that_fails_or_declines_costs_only_that_connection(epoll):
    port, factory = bind("127.0.0.1:0"), Greeter()
    build = factory.buildProtocol
    answers = [ValueError("told to"), None]

    def choose(addr):
        if answers:
            answer = answers.pop(0)
            if answer is None:
                return None
            raise answer
        return build(addr)

    factory.buildProtocol = choose
    port.listen(factory, epoll)
    bad, declined, good = client_of(port), client_of(port), client_of(port)
    spin(epoll, lambda: factory.made)
    assert bad.recv(10) == b""
    assert declined.recv(10) == b""
    assert good.recv(10) == b"hi"
    for client in (bad, declined, good):
        client.close()
    end(epoll, port, factory)


class Scarce:
    """A listening socket whose accept fails as told."""

    def __init__(self, real, errors):
        self.real = real
        self.errors = errors

    def accept(self):
        if self.errors:
            raise OSError(self.errors.pop(0), "told to")
        return self.real.accept()

    def __getattr__(self, name):
        return getattr(self.real, name)


@pytest.mark.parametrize("code", [errno.ECONNABORTED, errno.EPERM, errno.EPROTO])
def test_a_connection_that_died_in_the_queue_is_passed_over(epoll, code):
    port, factory = bind("127.0.0.1:0"), Greeter()
    port.listen(factory, epoll)
    port._socket = Scarce(port._socket, [code])
    with client_of(port):
        epoll.iterate(0.1)
        assert len(factory.made) == 1
    end(epoll, port, factory)


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE])
def test_without_fds_waiting_clients_are_refused_and_accepting_rests(epoll, code, monkeypatch):
    monkeypatch.setattr(ports, "PAUSE", 0.01)
    port, factory = bind("127.0.0.1:0"), Greeter()
    port.listen(factory, epoll)
    port._socket = Scarce(port._socket, [code])
    with client_of(port) as refused:
        epoll.iterate(0.1)
        assert refused.recv(10) == b""
        assert factory.made == []
        assert port not in epoll.getReaders()
    with client_of(port) as client:
        spin(epoll, lambda: factory.made)
        assert client.recv(10) == b"hi"
    end(epoll, port, factory)


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE])
def test_a_port_with_spare_fds_serves_as_many_clients_without_others(epoll, code, monkeypatch):
    monkeypatch.setattr(ports, "PAUSE", 0.01)
    ports.RESERVE.hold()
    before = len(fds())
    port, factory = bind("127.0.0.1:0"), Greeter()
    port.listen(factory, epoll, spare=2)
    for number in (1, 2):
        port._socket = Scarce(port._socket, [code])
        with client_of(port) as client:
            spin(epoll, lambda number=number: len(factory.made) == number)
            assert client.recv(10) == b"hi"
            assert len(fds()) == before + 4  # port, both ends of the connection, one spare left
        spin(epoll, lambda number=number: factory.lost == number)
        assert len(fds()) == before + 3
    port.close()
    assert len(fds()) == before


def test_more_clients_than_spare_fds_are_refused(epoll):
    port, factory = bind("127.0.0.1:0"), Greeter()
    port.listen(factory, epoll, spare=1)
    port._socket = Scarce(port._socket, [errno.EMFILE, errno.EMFILE])
    with client_of(port) as refused:
        epoll.iterate(0.1)
        assert refused.recv(10) == b"" and factory.made == []
    end(epoll, port, factory)


@pytest.mark.parametrize("code", [errno.ENOMEM, errno.ENOBUFS, errno.EINVAL])
def test_other_shortages_let_accepting_rest_and_keep_the_clients(epoll, code, monkeypatch):
    monkeypatch.setattr(ports, "PAUSE", 0.01)
    port, factory = bind("127.0.0.1:0"), Greeter()
    port.listen(factory, epoll)
    port._socket = Scarce(port._socket, [code])
    with client_of(port) as client:
        epoll.iterate(0.1)
        assert port not in epoll.getReaders()
        spin(epoll, lambda: factory.made)
        assert client.recv(10) == b"hi"
    end(epoll, port, factory)


def test_a_port_closed_while_accepting_rests_stays_closed(epoll):
    port, factory = bind("127.0.0.1:0"), Greeter()
    port.listen(factory, epoll)
    port._socket = Scarce(port._socket, [errno.ENOMEM])
    with client_of(port):
        epoll.iterate(0.1)
        port.close()
    assert not epoll.getDelayedCalls()
    turn(epoll)


REAL_SHORTAGE = """
import resource, socket, sys
from tests.net.conftest import MAKERS, spin
from tests.net.test_ports import Greeter
from twisted_rr.net.ports import bind
reactor = MAKERS[sys.argv[1]]()
port, factory = bind("127.0.0.1:0"), Greeter()
port.listen(factory, reactor)
clients = [socket.socket() for _ in range(40)]
limit = max(map(int, __import__("os").listdir("/proc/self/fd"))) + 11
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
for client in clients:
    client.connect(port._name)
spin(reactor, lambda: port not in reactor.getReaders())
turns = 0
def rested():
    global turns
    turns += 1
    return port in reactor.getReaders()
spin(reactor, rested)
assert turns < 100, turns
served = [c for c in clients if c.recv(10) == b"hi"]
assert 5 <= len(served) <= 11, len(served)
for c in clients:
    c.close()
spin(reactor, lambda: factory.lost == len(served))
again = socket.create_connection(port._name)
spin(reactor, lambda: len(factory.made) > len(served))
assert again.recv(10) == b"hi"
print("ok")
"""


@pytest.mark.parametrize("kind", ["rr", "select"])
def test_a_process_that_runs_out_of_fds_serves_again_when_there_are_some(kind):
    result = subprocess.run(
        [sys.executable, "-c", REAL_SHORTAGE, kind], capture_output=True, text=True, timeout=60
    )
    assert result.stdout == "ok\n", result.stderr


# ------------------------------------------------------------------------------------- finish


def test_finish_serves_who_is_in_the_queue_before_it_closes(reactor, address):
    """drain.md R2: closing alone resets them."""
    port, factory = bind(address), Greeter()
    port.listen(factory, reactor)
    name, family = port._name, port._socket.family
    clients = [client_of(port) for _ in range(20)]
    assert port.finish() == 20
    for client in clients:
        assert client.recv(10) == b"hi"
    with socket.socket(family) as late, pytest.raises((ConnectionRefusedError, FileNotFoundError)):
        late.connect(name)
    for client in clients:
        client.close()
    end(reactor, port, factory)
    assert factory.stopped == 1


def test_finish_of_a_port_that_never_listened_closes_it(address):
    port = bind(address)
    assert port.finish() == 0
    assert port.fileno() == -1


def test_finish_after_close_does_nothing(epoll):
    port, factory = bind("127.0.0.1:0"), Greeter()
    port.listen(factory, epoll)
    port.close()
    assert port.finish() == 0
    assert factory.stopped == 1


def test_finish_without_fds_ends_and_closes(epoll):
    port, factory = bind("127.0.0.1:0"), Greeter()
    port.listen(factory, epoll)
    port._socket = Scarce(port._socket, [errno.EMFILE])
    with client_of(port) as client:
        port.finish()
        assert client.recv(10) == b""
    assert port.fileno() == -1
    assert not epoll.getDelayedCalls()


# --------------------------------------------------------------------------------------- unix


def test_a_socket_file_nobody_listens_on_is_replaced(epoll, tmp_path):
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    port, factory = bind(f"unix://{path}"), Greeter()
    port.listen(factory, epoll)
    with client_of(port) as client:
        spin(epoll, lambda: factory.made)
        assert client.recv(10) == b"hi"
    end(epoll, port, factory)
    assert not path.exists()


def test_a_live_socket_file_is_left_alone(tmp_path):
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as live:
        live.bind(str(path))
        live.listen()
        with pytest.raises(ListenError, match="already in use"):
            bind(f"unix://{path}")
        assert path.exists()


def test_a_live_socket_whose_queue_is_full_is_left_alone(tmp_path):
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as live:
        live.bind(str(path))
        live.listen(0)
        waiting = []
        for _ in range(5):
            client = socket.socket(socket.AF_UNIX)
            client.setblocking(False)
            waiting.append(client)
            try:
                client.connect(str(path))
            except BlockingIOError:
                break
        with pytest.raises(ListenError, match="already in use"):
            bind(f"unix://{path}")
        for client in waiting:
            client.close()


def test_the_mode_is_set_before_anybody_can_connect(tmp_path):
    port = bind(f"unix://{tmp_path}/s", mode=0o600)
    assert stat.S_IMODE(os.stat(tmp_path / "s").st_mode) == 0o600
    port.close()


def test_without_a_mode_the_umask_decides(tmp_path):
    old = os.umask(0o027)
    try:
        port = bind(f"unix://{tmp_path}/s")
    finally:
        os.umask(old)
    assert stat.S_IMODE(os.stat(tmp_path / "s").st_mode) == 0o750
    port.close()


def test_a_file_of_another_at_our_path_is_not_removed(tmp_path):
    path = tmp_path / "s"
    port = bind(f"unix://{path}")
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        port.close()
        assert path.exists()


def test_the_file_is_removed_though_the_process_changed_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    port = bind("unix://s")
    assert (tmp_path / "s").exists()
    monkeypatch.chdir("/")
    port.close()
    assert not (tmp_path / "s").exists()


def test_a_file_that_is_gone_is_no_trouble(tmp_path):
    port = bind(f"unix://{tmp_path}/s")
    (tmp_path / "s").unlink()
    port.close()


# -------------------------------------------------------------------------------------- adopt


@pytest.mark.parametrize("listening", [True, False])
def test_an_inherited_tcp_socket_is_served(epoll, listening):
    given = socket.socket()
    given.bind(("127.0.0.1", 0))
    if listening:
        given.listen()
    given.set_inheritable(True)
    port, factory = adopt(given.detach()), Greeter()
    assert port.inherited
    assert port.address.startswith("127.0.0.1:")
    assert not os.get_inheritable(port.fileno())
    port.listen(factory, epoll)
    with client_of(port) as client:
        spin(epoll, lambda: factory.made)
        assert client.recv(10) == b"hi"
        assert factory.made[0].transport.getTcpNoDelay()
    end(epoll, port, factory)


def test_the_file_of_an_inherited_unix_socket_is_neither_changed_nor_removed(epoll, tmp_path):
    path = tmp_path / "s"
    given = socket.socket(socket.AF_UNIX)
    given.bind(str(path))
    os.chmod(path, 0o640)
    given.listen()
    port, factory = adopt(given.detach()), Greeter()
    assert port.address == f"unix://{path}"
    port.listen(factory, epoll)
    port.finish()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o640


def test_who_else_holds_an_inherited_socket_keeps_its_queue(epoll):
    """Socket activation: connects between two servers wait for the next one."""
    holder = socket.socket()
    holder.bind(("127.0.0.1", 0))
    holder.listen(16)
    port = adopt(os.dup(holder.fileno()))
    port.listen(Greeter(), epoll, 16)
    name = port._name
    port.finish()
    waiting = [socket.create_connection(name, timeout=5) for _ in range(8)]
    for client in waiting:
        holder.accept()[0].close()
        client.close()
    holder.close()


def test_who_waits_in_an_inherited_queue_at_the_end_is_served_by_the_next(epoll):
    holder = socket.socket()
    holder.bind(("127.0.0.1", 0))
    holder.listen(16)
    port, factory = adopt(os.dup(holder.fileno())), Greeter()
    port.listen(factory, epoll)
    with socket.create_connection(holder.getsockname(), timeout=5) as waiting:
        assert port.finish() == 0
        assert factory.made == []
        following, next_factory = adopt(os.dup(holder.fileno())), Greeter()
        following.listen(next_factory, epoll)
        spin(epoll, lambda: next_factory.made)
        assert waiting.recv(10) == b"hi"
    end(epoll, following, next_factory)
    holder.close()


def test_a_queue_that_somebody_else_opened_keeps_its_length(epoll):
    holder = socket.socket()
    holder.bind(("127.0.0.1", 0))
    holder.listen(0)
    port = adopt(os.dup(holder.fileno()))
    port.listen(Greeter(), epoll, 100)
    clients = [socket.socket() for _ in range(8)]
    for client in clients:
        client.setblocking(False)
        client.connect_ex(holder.getsockname())
    connected = [client for client in clients if _connected(client)]
    assert 0 < len(connected) < 8
    for client in clients:
        client.close()
    port.close()
    holder.close()


def _connected(client):
    try:
        client.getpeername()
    except OSError:
        return False
    return True


def test_a_connection_is_not_adopted():
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(ListenError, match="not a connection"):
        adopt(ours.fileno())


def test_what_is_no_stream_socket_is_not_adopted():
    read_end, write_end = os.pipe()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        for fd in (read_end, datagrams.fileno()):
            with pytest.raises(ListenError, match=f"fd {fd}"):
                adopt(fd)
            os.fstat(fd)  # and it is still open
    os.close(read_end)
    os.close(write_end)


# ------------------------------------------------------------------------------------ Twisted


def test_a_port_is_what_twisted_calls_a_listening_port(epoll):
    from twisted.internet.interfaces import IListeningPort
    from zope.interface.verify import verifyObject

    port = bind("127.0.0.1:0")
    assert verifyObject(IListeningPort, port)
    port.listen(Greeter(), epoll)
    assert "listening" in repr(port)
    done = []
    port.stopListening().addCallback(done.append)
    assert done == [None]
    assert "closed" in repr(port)
