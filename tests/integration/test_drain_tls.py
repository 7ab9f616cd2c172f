"""A TLS handshake that is in progress when the server stops: served while it announces, then a FIN, never a reset (F48)."""

from __future__ import annotations

import socket
import ssl
import time
from pathlib import Path

import pytest
from grpc_rig import PROTO, grpc_server
from rig import RunningServer, until
from test_grpc_tls import Authority

from twisted_rr.http2 import frames

pytestmark = pytest.mark.integration

ANNOUNCE = {"announce": {"min": "1.5s", "max": "1.5s"}}


class Handshake:
    """A client that has sent the first half of its hello."""

    def __init__(self, port: int, authority: str) -> None:
        context = ssl.create_default_context(cafile=authority)
        context.set_alpn_protocols(["h2"])
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="127.0.0.1")
        self.socket = socket.create_connection(("127.0.0.1", port), 10)
        with pytest.raises(ssl.SSLWantReadError):
            self.tls.do_handshake()
        hello = self.outgoing.read()
        self.socket.sendall(hello[:100])
        self.rest = hello[100:]

    def complete(self) -> None:
        """The other half, and all that follows."""
        self.socket.sendall(self.rest)
        self._until(self.tls.do_handshake)

    def _until(self, step):
        while True:
            try:
                result = step()
                break
            except ssl.SSLWantReadError:
                self.socket.sendall(self.outgoing.read())
                data = self.socket.recv(65536)
                assert data, "the server closed"
                self.incoming.write(data)
        self.socket.sendall(self.outgoing.read())
        return result

    def ask(self) -> bytes:
        """What the server says first, to a client's preface."""
        self.tls.write(frames.PREFACE + frames.settings([]))
        return self._until(lambda: self.tls.read(9))

    def ending(self) -> str:
        """How the connection ends, for a client that answers the end of TLS."""
        try:
            while data := self.socket.recv(65536):
                self.incoming.write(data)
                try:
                    while self.tls.read(65536):
                        pass
                    self.tls.unwrap()
                except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
                    pass
                if said := self.outgoing.read():
                    self.socket.sendall(said)
        except (ConnectionResetError, BrokenPipeError):
            return "reset"
        finally:
            self.socket.close()
        return "fin"


@pytest.fixture
def tls_server(tmp_path: Path):
    authority = Authority(tmp_path)
    key, certificate = authority.issue("server")
    tls = {"key": key, "cert": certificate}
    with grpc_server(
        tmp_path, proto=[PROTO], tls=tls, endure={"grace_period": "8s"}, drain=ANNOUNCE
    ) as server:
        yield server, authority.path


def begun(server: RunningServer, authority: str) -> list[Handshake]:
    found = [Handshake(server.port, authority) for _ in range(5)]
    time.sleep(0.3)
    return found


@pytest.mark.proves("F48:running", "F48:announce")
def test_a_handshake_is_finished_and_served_while_the_server_announces(tls_server) -> None:
    server, authority = tls_server
    clients = begun(server, authority)
    server.signal()
    until(lambda: server.status("/ready")[0] == 503)
    for client in clients:
        client.complete()
        assert client.ask()[3] == frames.SETTINGS
    assert {client.ending() for client in clients} == {"fin"}
    assert server.wait(9) == 0


@pytest.mark.proves("F48:finish", "F48:stop")
def test_one_that_is_not_finished_ends_with_fin_and_holds_nothing(tls_server) -> None:
    server, authority = tls_server
    clients = begun(server, authority)
    signalled = server.signal()
    assert {client.ending() for client in clients} == {"fin"}
    assert server.wait(9) == 0
    assert time.monotonic() - signalled < 5
