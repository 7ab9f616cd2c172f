"""Makes the ASGI scope of a request, from either kind of context.

Decoding the context is `wire.context`'s; what happens with the scope is `exchange`'s.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import unquote, unquote_to_bytes

ASGI: Final[dict[str, str]] = {"version": "3.0", "spec_version": "2.3"}
"""2.3, because from 2.4 on ``send`` has to raise OSError once the client has gone. Frameworks read
this number: at 2.3 Starlette listens for ``http.disconnect`` during a stream, and ends it at once."""


def http_scope(fields: tuple[Any, ...], state: dict[str, Any], extensions: dict[str, Any]) -> dict[str, Any]:
    """The scope of one request (ASGI HTTP 2.3); *fields* are those of a request context (mux.md 7).

    *state* and *extensions* are given to the application as they are: the caller copies them.
    """
    method, target, version, scheme, client, server, headers, attributes = fields
    raw, _, query = target.partition(b"?")
    if attributes:
        extensions["twisted_rr.attributes"] = attributes
    return {
        "type": "http",
        "asgi": ASGI.copy(),
        "http_version": version,
        "method": method,
        "scheme": scheme,
        "path": path_of(raw),
        "raw_path": raw,
        "query_string": query,
        "root_path": "",
        "headers": headers,
        "client": client,
        "server": server,
        "state": state,
        "extensions": extensions,
    }


def path_of(raw: bytes) -> str:
    """*raw* percent-decoded and read as UTF-8; what is not UTF-8 becomes U+FFFD."""
    try:
        path = raw.decode()
    except UnicodeDecodeError:
        return unquote_to_bytes(raw).decode("utf-8", "replace")
    return unquote(path) if "%" in path else path
