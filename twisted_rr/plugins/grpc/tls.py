"""TLS for the gRPC port: certificates, which clients may come, and ALPN, which has to be ``h2``.

Files are read again when they have changed, as those that renew certificates expect. What wraps the connections is
Twisted's.
"""

from __future__ import annotations

import errno
import os
from typing import Any, Final

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from zope.interface import implementer

from twisted_rr.errors import ConfigError, ConfigProblem

from .config import TlsSettings

H2: Final = b"h2"

_ASK: Final = SSL.VERIFY_PEER
_DEMAND: Final = SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT
_MODES: Final = {
    "no_client_certs": SSL.VERIFY_NONE,
    "request_client_cert": _ASK,
    "require_any_client_cert": _DEMAND,
    "verify_client_cert_if_given": _ASK,
    "require_and_verify_client_cert": _DEMAND,
}
_UNVERIFIED: Final = frozenset(("request_client_cert", "require_any_client_cert"))


@implementer(IOpenSSLServerConnectionCreator)
class ServerTls:
    """Makes the TLS side of connections, out of ``grpc.tls``.

    :raises ConfigError: a file cannot be read or used.
    """

    def __init__(self, settings: TlsSettings, log: Any) -> None:
        self._settings = settings
        self._log = log
        self._read = self._stamp()
        try:
            self._context = make_context(settings)
        except (SSL.Error, OSError) as error:
            raise ConfigError([ConfigProblem("grpc.tls", _why(settings, error))]) from error

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:  # noqa: N802
        """See Twisted's interface."""
        return SSL.Connection(self._context, None)

    def look(self) -> None:
        """Take new files, if there are any; those that cannot be used are told of once, and the old ones stay."""
        stamp = self._stamp()
        if stamp == self._read:
            return
        self._read = stamp
        try:
            self._context = make_context(self._settings)
        except (SSL.Error, OSError) as error:
            self._log.error("the new TLS files cannot be used: {reason}", reason=_why(self._settings, error))
            return
        self._log.info("the TLS certificate was read again")

    def _stamp(self) -> list[tuple[int, int, int]]:
        found = []
        for path in (self._settings.cert, self._settings.private_key, self._settings.root_ca):
            try:
                stat = os.stat(path) if path else None
            except OSError:
                stat = None
            found.append((stat.st_ino, stat.st_mtime_ns, stat.st_size) if stat else (0, 0, 0))
        return found


def mode_of(settings: TlsSettings) -> str:
    """``client_auth_type``; by RoadRunner's default a ``root_ca`` asks for certificates that it signed."""
    if settings.client_auth_type:
        return settings.client_auth_type
    return "require_and_verify_client_cert" if settings.root_ca else "no_client_certs"


def make_context(settings: TlsSettings) -> SSL.Context:
    """:raises OSError, SSL.Error: a file cannot be read or used."""
    for path in (settings.cert, settings.private_key, settings.root_ca):
        if path:
            with open(path, "rb"):
                """OpenSSL does not say which file it could not open."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    # OpenSSL would ask for the passphrase of a key at the terminal, and the whole server would wait for it.
    context.set_passwd_cb(lambda length, again, data: b"")
    context.use_certificate_chain_file(settings.cert)
    context.use_privatekey_file(settings.private_key)
    context.check_privatekey()
    context.set_alpn_select_callback(_select)
    mode = mode_of(settings)
    if settings.root_ca:
        try:
            context.load_verify_locations(settings.root_ca)
            context.set_client_ca_list(_authorities(settings.root_ca))
        except (SSL.Error, ValueError) as error:
            raise OSError(errno.EINVAL, _text(error), settings.root_ca) from error
    trusts_all = mode in _UNVERIFIED
    context.set_verify(_MODES[mode], lambda connection, certificate, code, depth, ok: trusts_all or bool(ok))
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    # Clients keep tickets all the same, and OpenSSL refuses those of clients it has asked for a certificate without it.
    context.set_session_id(b"twisted_rr.grpc")
    return context


def _authorities(path: str) -> list[Any]:
    from cryptography.x509 import load_pem_x509_certificates
    from OpenSSL.crypto import X509

    with open(path, "rb") as file:
        return [X509.from_cryptography(one).get_subject() for one in load_pem_x509_certificates(file.read())]


def _select(connection: SSL.Connection, offered: list[bytes]) -> Any:
    # RFC 7301 3.2: who offers other protocols only is told so by an alert.
    return H2 if H2 in offered else b""


def _why(settings: TlsSettings, error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}"
    return f"{settings.cert}, {settings.private_key}: {_text(error)}"


def _text(error: Exception) -> str:
    reasons = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return "; ".join(str(reason[-1]) for reason in reasons) or "it cannot be used"
