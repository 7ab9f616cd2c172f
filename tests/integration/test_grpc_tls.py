"""gRPC over TLS: ALPN, certificates of clients, and certificates that are renewed while it serves."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc_rig import PROTO, grpc_server, run
from OpenSSL import SSL
from rig import until

from twisted_rr.errors import ConfigError
from twisted_rr.plugins.grpc.config import TlsSettings
from twisted_rr.plugins.grpc.tls import ServerTls, make_context

pytestmark = pytest.mark.integration


class Authority:
    """Signs certificates, into files of *folder*."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
        self._certificate = self._signed(self._name, self._key, authority=True)
        self.path = str(folder / "ca.pem")
        Path(self.path).write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def _signed(self, name: x509.Name, key: Any, authority: bool = False) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )

    def issue(self, name: str) -> tuple[str, str]:
        """Paths of a key and a certificate."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._signed(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key)
        paths = (self.folder / f"{name}.key", self.folder / f"{name}.pem")
        for path, data in zip(
            paths,
            (
                key.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                ),
                certificate.public_bytes(serialization.Encoding.PEM),
            ),
            strict=True,
        ):
            path.with_suffix(".new").write_bytes(data)
            os.replace(path.with_suffix(".new"), path)
        return str(paths[0]), str(paths[1])


def test_calls_pass_over_tls_and_the_certificate_is_renewed(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    key, cert = authority.issue("server")
    cases = ("empty_unary", "large_unary:3000000,3000000", "ping_pong", "never_reads")
    with grpc_server(tmp_path, proto=[PROTO], tls={"key": key, "cert": cert}) as server:
        found = run(server, *cases, env={"ROOT_CA": authority.path})
        assert found == {
            "empty_unary": True, "large_unary": 3000000, "ping_pong": [31415, 9, 2653, 58979],
            "never_reads": [True, 1999],
        }  # fmt: skip
        before = serial(server.port)
        authority.issue("server")
        until(lambda: serial(server.port) != before, 25, 0.5, "the new certificate was not taken")
        assert "was read again" in server.log()


def serial(port: int) -> bytes:
    """What is served now."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with socket.create_connection(("127.0.0.1", port)) as plain, context.wrap_socket(plain) as secure:
        found = secure.getpeercert(binary_form=True)
        assert found is not None
        return found


def test_a_client_without_a_certificate_is_turned_away_where_one_is_needed(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    key, cert = authority.issue("server")
    client_key, client_cert = authority.issue("client")
    tls = {"key": key, "cert": cert, "root_ca": authority.path}
    with grpc_server(tmp_path, proto=[PROTO], tls=tls) as server:
        env = {"ROOT_CA": authority.path}
        assert run(server, "empty_unary", env=env)["empty_unary"]["failed"] == "UNAVAILABLE"
        env |= {"CLIENT_KEY": client_key, "CLIENT_CERT": client_cert}
        assert run(server, "empty_unary", env=env)["empty_unary"] is True


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    "mode", ["", "request_client_cert", "verify_client_cert_if_given", "no_client_certs"]
)
def test_a_session_is_resumed_where_clients_have_certificates_too(
    tmp_path: Path, mode: str, version: ssl.TLSVersion
) -> None:
    authority = Authority(tmp_path)
    key, cert = authority.issue("server")
    context = make_context(
        TlsSettings(cert=cert, private_key=key, root_ca=authority.path, client_auth_type=mode)
    )
    client = ssl.create_default_context(cafile=authority.path)
    client.minimum_version = client.maximum_version = version
    client.load_cert_chain(*reversed(authority.issue("client")))
    session = talked(client, context, None).session
    assert talked(client, context, session).session_reused


def talked(client: ssl.SSLContext, context: SSL.Context, session: Any) -> ssl.SSLObject:
    """A client that has shaken hands with a server of *context*, and has read what it says, in memory."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1", session=session)
    theirs = SSL.Connection(context, None)
    theirs.set_accept_state()
    for step in (ours.do_handshake, theirs.do_handshake) * 3:
        with contextlib.suppress(ssl.SSLWantReadError, SSL.WantReadError):
            step()
        if data := outgoing.read():
            theirs.bio_write(data)
        with contextlib.suppress(SSL.WantReadError):
            incoming.write(theirs.bio_read(65536))
    theirs.send(b"x")
    incoming.write(theirs.bio_read(65536))
    assert ours.read(1) == b"x"
    return ours


def test_a_client_that_does_not_offer_h2_is_closed(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    key, cert = authority.issue("server")
    with grpc_server(tmp_path, proto=[PROTO], tls={"key": key, "cert": cert}) as server:
        context = ssl.create_default_context(cafile=authority.path)
        with (
            socket.create_connection(("127.0.0.1", server.port)) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
        ):
            secure.settimeout(5)
            try:
                assert secure.recv(1) == b""
            except (ConnectionError, ssl.SSLError):
                """Closed without a word is fine too."""
        until(lambda: "did not agree on h2" in server.log(), why="nothing was logged")
        assert run(server, "empty_unary", env={"ROOT_CA": authority.path})["empty_unary"] is True


def test_a_file_that_cannot_be_used_fails_the_start_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "bad.pem").write_text("nothing")
    tls = {"key": str(tmp_path / "bad.pem"), "cert": str(tmp_path / "no.pem")}
    with pytest.raises(AssertionError, match="no.pem: No such file"), grpc_server(tmp_path, tls=tls):
        """It does not start."""


def test_a_file_of_authorities_that_cannot_be_used_is_the_one_that_is_named(tmp_path: Path) -> None:
    key, cert = Authority(tmp_path).issue("server")
    (tmp_path / "bad.pem").write_text("nothing")
    settings = TlsSettings(cert=cert, private_key=key, root_ca=str(tmp_path / "bad.pem"))
    with pytest.raises(ConfigError, match=r"grpc.tls: [^,]*/bad\.pem: no certificate"):
        ServerTls(settings, None)


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_it(tmp_path: Path) -> None:
    key, cert = Authority(tmp_path).issue("server")
    private = serialization.load_pem_private_key(Path(key).read_bytes(), None)
    Path(key).write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(ConfigError, match="bad decrypt"):  # else: "problems getting password"
        ServerTls(TlsSettings(cert=cert, private_key=key), None)
