"""Makes the WSGI environ of a request (PEP 3333), from either kind of context.

The body's stream is made by `wsgi`; here are names and values only.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import unquote_to_bytes

Environ = dict[str, Any]

_NAMES: Final[dict[bytes, str]] = {b"content-type": "CONTENT_TYPE", b"content-length": "CONTENT_LENGTH"}
_MOST_NAMES: Final = 1024
_DEFAULT_PORTS: Final = {"https": "443", "wss": "443"}


class EnvironMaker:
    """Builds environs that share what does not change between requests.

    *multithread* tells the application whether it is called by several threads at a time.
    """

    __slots__ = ("_base",)

    def __init__(self, multithread: bool, extras: dict[str, Any] | None = None) -> None:
        self._base: Environ = {
            "wsgi.version": (1, 0),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": multithread,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
            "wsgi.input_terminated": True,
            "wsgi.file_wrapper": FileWrapper,
            "SERVER_SOFTWARE": "twisted_rr",
            "GATEWAY_INTERFACE": "CGI/1.1",
            "SCRIPT_NAME": "",
            **(extras or {}),
        }

    def make(
        self,
        method: str,
        target: bytes,
        version: str,
        scheme: str,
        client: Any,
        server: Any,
        headers: Iterable[tuple[bytes, bytes]],
        attributes: Any,
    ) -> Environ:
        """The environ of one request, without ``wsgi.input``; the arguments are those of mux.md 7."""
        environ = self._base.copy()
        path, _, query = target.partition(b"?")
        environ["REQUEST_METHOD"] = method
        environ["REQUEST_URI"] = environ["RAW_URI"] = target.decode("latin-1")
        environ["PATH_INFO"] = (unquote_to_bytes(path) if b"%" in path else path).decode("latin-1")
        environ["QUERY_STRING"] = query.decode("latin-1")
        environ["SERVER_PROTOCOL"] = f"HTTP/{version}"
        environ["wsgi.url_scheme"] = scheme
        environ["REMOTE_ADDR"] = client[0] if client else ""
        if client and client[1]:
            environ["REMOTE_PORT"] = str(client[1])
        if attributes:
            environ["twisted_rr.attributes"] = attributes
        add_headers(environ, headers)
        _set_server(environ, scheme, server)
        return environ


def add_headers(environ: Environ, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Add *headers* under their CGI names: repeated ones joined by a comma, cookies by a semicolon.

    A name with an underscore is left out, because it cannot be told from the one with a hyphen.
    """
    for name, value in headers:
        key = _NAMES.get(name)
        if key is None:
            key = _key(name)
        if not key:
            continue
        text = value.decode("latin-1")
        before = environ.get(key)
        if before is None:
            environ[key] = text
        else:
            environ[key] = f"{before}{'; ' if name == b'cookie' else ','}{text}"


def _key(name: bytes) -> str:
    key = "" if b"_" in name else "HTTP_" + name.decode("latin-1").upper().replace("-", "_")
    if len(_NAMES) < _MOST_NAMES:
        _NAMES[name] = key
    return key


def _set_server(environ: Environ, scheme: str, server: Any) -> None:
    """SERVER_NAME and SERVER_PORT must not be empty, also where the listener is a unix socket."""
    if server and server[0] and server[1]:
        environ["SERVER_NAME"] = server[0]
        environ["SERVER_PORT"] = str(server[1])
        return
    host, _, port = environ.get("HTTP_HOST", "").rpartition(":")
    if not port.isdigit():
        host, port = environ.get("HTTP_HOST", ""), ""
    environ["SERVER_NAME"] = host or "localhost"
    environ["SERVER_PORT"] = port or _DEFAULT_PORTS.get(scheme, "80")


class FileWrapper:
    """``wsgi.file_wrapper``: a file as an iterable of blocks (PEP 3333, "Optional Platform-Specific File Handling")."""

    __slots__ = ("block_size", "close", "filelike")

    def __init__(self, filelike: Any, block_size: int = 65536) -> None:
        self.filelike = filelike
        self.block_size = block_size
        self.close = getattr(filelike, "close", _nothing)

    def __iter__(self) -> FileWrapper:
        return self

    def __next__(self) -> bytes:
        data: bytes = self.filelike.read(self.block_size)
        if data:
            return data
        raise StopIteration


def _nothing() -> None:
    """What closing a file-like object without ``close`` does."""
