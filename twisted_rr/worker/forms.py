"""Writes a parsed form back as the body that the application expects to parse itself.

A server of one call at a time hands urlencoded and multipart bodies over as trees (protocol.md
4.3-4.5). WSGI and ASGI frameworks want the body, so it is made again: the same names, values and
files. What the tree has not kept is lost: the order of different names, all but the last of a name
given twice without ``[]``, the part headers of plain fields, and the original charset (it is UTF-8
now). With ``http.raw_body: true`` the server parses nothing and this module is not used.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote_plus

import msgspec

_PIECE = 65536

URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"


class Upload:
    """One file of an upload tree: where the server has put it, and what the client called it."""

    __slots__ = ("mime", "name", "path", "size")

    def __init__(self, leaf: dict[str, Any]) -> None:
        self.name = str(leaf.get("name") or "")
        self.mime = str(leaf.get("mime") or "application/octet-stream")
        self.path = str(leaf.get("tmpName") or "")
        if leaf.get("error"):
            self.path = ""
        self.size = _size(self.path)
        if self.size < 0:
            self.path, self.size = "", 0


def _size(path: str) -> int:
    if not path:
        return 0
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


class FormBody:
    """A body made again, read piece by piece so that a large upload is never in memory.

    :ivar content_type: the header that fits it.
    :ivar length: its bytes in all.
    """

    __slots__ = ("_parts", "content_type", "length")

    def __init__(self, content_type: str, parts: list[bytes | Upload]) -> None:
        self.content_type = content_type
        self._parts = parts
        self.length = sum(part.size if isinstance(part, Upload) else len(part) for part in parts)

    def pieces(self) -> Iterator[bytes]:
        """The body in order, at most 64 KiB at a time where it comes from a file."""
        for part in self._parts:
            if isinstance(part, Upload):
                yield from _file_pieces(part)
            elif part:
                yield part


def _file_pieces(upload: Upload) -> Iterator[bytes]:
    left = upload.size
    if not left:
        return
    with open(upload.path, "rb") as file:
        while left and (piece := file.read(min(_PIECE, left))):
            left -= len(piece)
            yield piece
    if left:
        raise OSError(f"the uploaded file {upload.path} got shorter while it was read")


def rebuild(content_type: str, tree: bytes, uploads: Any, boundary: str = "") -> FormBody:
    """The body for *tree* (JSON) and *uploads* (JSON or already decoded, None for no multipart).

    *content_type* is the request's own header; *boundary* a fresh random one by default. Raises
    ValueError when the trees are no JSON objects.
    """
    fields = _decode(tree)
    if URLENCODED in content_type:
        return FormBody(URLENCODED, [_urlencoded(fields)])
    boundary = boundary or "twisted-rr-" + secrets.token_hex(16)
    files = _decode(uploads) if isinstance(uploads, (bytes, str)) else (uploads or {})
    return FormBody(f"{MULTIPART}; boundary={boundary}", list(_multipart(fields, files, boundary)))


def _decode(data: bytes | str) -> dict[str, Any]:
    if not data:
        return {}
    tree = msgspec.json.decode(data)
    if tree is None or tree == []:
        return {}
    if not isinstance(tree, dict):
        raise ValueError(f"a form tree should be an object, not {type(tree).__name__}")
    return tree


def _flatten(tree: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """``(name, leaf)`` pairs: ``{"a": {"k": ["x", "y"]}}`` is ``a[k][]`` twice (protocol.md 4.4)."""
    for name, node in tree.items():
        yield from _flatten_node(name, node)


def _flatten_node(name: str, node: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(node, list):
        for leaf in node:
            yield from _flatten_node(f"{name}[]", leaf)
    elif isinstance(node, dict) and not _is_upload(node):
        for key, below in node.items():
            yield from _flatten_node(f"{name}[{key}]", below)
    else:
        yield name, node


def _is_upload(node: dict[str, Any]) -> bool:
    return "tmpName" in node and "error" in node and not isinstance(node["tmpName"], dict)


def _urlencoded(fields: dict[str, Any]) -> bytes:
    pairs = (f"{quote_plus(name)}={quote_plus(_text(value))}" for name, value in _flatten(fields))
    return "&".join(pairs).encode("ascii")


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else msgspec.json.encode(value).decode()


def _multipart(fields: dict[str, Any], files: dict[str, Any], boundary: str) -> Iterator[bytes | Upload]:
    for name, value in _flatten(fields):
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(name)}"\r\n\r\n'
        yield f"{head}{_text(value)}\r\n".encode("utf-8", "surrogatepass")
    for name, leaf in _flatten(files):
        if isinstance(leaf, dict):
            upload = Upload(leaf)
            yield _file_head(name, upload, boundary)
            yield upload
            yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()


def _file_head(name: str, upload: Upload, boundary: str) -> bytes:
    mime = upload.mime.replace("\r", "").replace("\n", "")
    disposition = f'form-data; name="{_quoted(name)}"; filename="{_quoted(upload.name)}"'
    head = f"--{boundary}\r\nContent-Disposition: {disposition}\r\nContent-Type: {mime}\r\n\r\n"
    return head.encode("utf-8", "surrogatepass")


def _quoted(name: str) -> str:
    """As browsers write it (WHATWG HTML, multipart/form-data encoding)."""
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
