"""Multipart forms, parsed while they arrive (RFC 2046 5.1, RFC 7578), so that a file never sits in memory.

Left out: nested multiparts, content transfer encodings (RFC 7578 4.7 deprecates them), bare LF.
"""

from __future__ import annotations

import re
from typing import Protocol
from urllib.parse import unquote_to_bytes

from . import forms
from .forms import BadForm, FormTooLarge
from .uploads import UploadFile, UploadPolicy

MAX_PARTS = 1000
MAX_PART_HEAD = 16384
MAX_BOUNDARY = 200
"""RFC 2046 allows 70 characters; clients with longer ones exist."""

_FOLD = re.compile(rb"\r\n[ \t]+")
_PARAMETER = re.compile(rb';[ \t]*([^\s=;"]+)[ \t]*=[ \t]*("(?:[^"\\]|\\.)*"|[^;]*)', re.DOTALL)
_ESCAPED = re.compile(rb'\\([()<>@,;:\\"/\[\]?=])')


class PartSink(Protocol):
    """Takes the parts of a multipart body."""

    def begin(self, headers: list[tuple[bytes, bytes]]) -> None:
        """A part begins; names are in lower case."""

    def data(self, data: bytes) -> None:
        """A piece of its content."""

    def end(self) -> None:
        """The part is complete."""


def parameters(value: bytes) -> dict[bytes, bytes]:
    """The parameters of a header value such as Content-Disposition, names in lower case, quotes undone.

    A backslash only escapes what may need it, so that ``C:\\new`` keeps its own. The extended form
    (``filename*=``, RFC 8187) wins over the plain one.
    """
    found: dict[bytes, bytes] = {}
    for name, raw in _PARAMETER.findall(b";" + value.partition(b";")[2]):
        found.setdefault(name.lower(), _unquoted(raw))
    for name in [name for name in found if name.endswith(b"*")]:
        charset, _, rest = found[name].partition(b"'")
        encoded = rest.partition(b"'")[2]
        if charset.lower() in (b"utf-8", b"iso-8859-1", b"us-ascii"):
            decoded = unquote_to_bytes(encoded)
            latin = charset.lower() == b"iso-8859-1"
            found[name[:-1]] = decoded.decode("latin-1").encode() if latin else decoded
    return found


def _unquoted(raw: bytes) -> bytes:
    if raw[:1] == b'"' and raw[-1:] == b'"' and len(raw) > 1:
        return _ESCAPED.sub(rb"\1", raw[1:-1])
    return raw.strip(b" \t")


def boundary_of(content_type: bytes) -> bytes:
    """The boundary a Content-Type names.

    :raises BadForm: when it names none, or none that can be one.
    """
    boundary = parameters(content_type).get(b"boundary", b"")
    if not boundary or len(boundary) > MAX_BOUNDARY or b"\r" in boundary or b"\n" in boundary:
        raise BadForm("no multipart boundary param in Content-Type")
    return boundary


class MultipartParser:
    """Cuts a body into parts; any chunking gives the same parts. Keeps at most a delimiter or a part's head."""

    __slots__ = ("_buffer", "_delimiter", "_parts", "_sink", "_state")

    def __init__(self, boundary: bytes, sink: PartSink) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._sink = sink
        # The first delimiter may stand at the very start: as if a line had ended before it.
        self._buffer = b"\r\n"
        self._state = self._preamble
        self._parts = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes.

        :raises BadForm: when they are not multipart, or above a limit.
        """
        self._buffer = self._buffer + data if self._buffer else data
        while self._state():
            pass

    def finish(self) -> None:
        """The body is complete.

        :raises BadForm: when its last delimiter is missing.
        """
        if self._state != self._epilogue:
            raise BadForm("the multipart body ends before its last boundary")

    # Each state takes what it can from the buffer and answers whether another look is worth while.

    def _preamble(self) -> bool:
        at = self._buffer.find(self._delimiter)
        if at < 0:
            self._buffer = self._buffer[self._held() :]
            return False
        return self._delimited(at)

    def _content(self) -> bool:
        buffer = self._buffer
        at = buffer.find(self._delimiter)
        if at >= 0:
            if at:
                self._sink.data(buffer[:at])
            self._sink.end()
            return self._delimited(at)
        held = self._held()
        if held:
            self._sink.data(buffer[:held])
            self._buffer = buffer[held:]
        return False

    def _held(self) -> int:
        """Where a delimiter may begin that is not complete; it has one CR only, its first byte."""
        buffer = self._buffer
        at = buffer.rfind(b"\r", max(0, len(buffer) - len(self._delimiter) + 1))
        return at if at >= 0 and self._delimiter.startswith(buffer[at:]) else len(buffer)

    def _delimited(self, at: int) -> bool:
        self._buffer = self._buffer[at + len(self._delimiter) :]
        self._state = self._after_delimiter
        return True

    def _after_delimiter(self) -> bool:
        buffer = self._buffer = self._buffer.lstrip(b" \t")
        if len(buffer) < 2:
            return False
        if buffer.startswith(b"--"):
            self._state = self._epilogue
        elif buffer.startswith(b"\r\n"):
            self._state = self._head
        else:
            raise BadForm("a multipart boundary is followed by neither a line end nor --")
        return True

    def _head(self) -> bool:
        """The buffer begins with the line end after the delimiter, so an empty head needs no case of its own."""
        end = self._buffer.find(b"\r\n\r\n")
        if end > MAX_PART_HEAD or (end < 0 and len(self._buffer) > MAX_PART_HEAD):
            raise BadForm("the header of a multipart part is too large")
        if end < 0:
            return False
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise BadForm(f"more than {MAX_PARTS} parts in a multipart body")
        headers = _part_headers(self._buffer[2:end]) if end else []
        # The second line end stays: an empty part's delimiter begins with it.
        self._buffer = self._buffer[end + 2 :]
        self._sink.begin(headers)
        self._state = self._first
        return True

    def _first(self) -> bool:
        if len(self._buffer) < len(self._delimiter) and self._delimiter.startswith(self._buffer):
            return False
        if not self._buffer.startswith(self._delimiter):
            self._buffer = self._buffer[2:]
        self._state = self._content
        return True

    def _epilogue(self) -> bool:
        self._buffer = b""
        return False


def _part_headers(block: bytes) -> list[tuple[bytes, bytes]]:
    headers: list[tuple[bytes, bytes]] = []
    for line in _FOLD.sub(b" ", block).split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if not colon or not name.strip():
            raise BadForm("a malformed header in a multipart part")
        headers.append((name.strip().lower(), value.strip(b" \t")))
    return headers


class FormCollector:
    """The sink of a form: fields in memory, files on disk. Parts without a name are passed over."""

    __slots__ = ("_file", "_name", "_pieces", "_policy", "_size", "fields", "files")

    def __init__(self, policy: UploadPolicy) -> None:
        self.fields: list[tuple[str, str]] = []
        self.files: list[tuple[str, UploadFile]] = []
        self._policy = policy
        self._name: str | None = None
        self._pieces: list[bytes] = []
        self._file: UploadFile | None = None
        self._size = 0

    def begin(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Decide what the part is: with a file name, a file."""
        self._name = self._file = None
        named = dict(reversed(headers))
        disposition = named.get(b"content-disposition", b"")
        if disposition.partition(b";")[0].strip().lower() != b"form-data":
            return
        given = parameters(disposition)
        name = given.get(b"name")
        if not name:
            return
        self._name = forms.text(name)
        filename = forms.text(given.get(b"filename", b"")).rpartition("/")[2]
        if filename:
            mime = forms.text(named.get(b"content-type", b""))
            self._file = self._policy.open(filename, mime)
            self.files.append((self._name, self._file))

    def data(self, data: bytes) -> None:
        """A piece of the part.

        :raises FormTooLarge: when the fields together are above their limit.
        """
        if self._file is not None:
            self._file.write(data)
        elif self._name is not None:
            self._size += len(data)
            if self._size > forms.MAX_FORM:
                raise FormTooLarge(f"more than {forms.MAX_FORM} bytes of form fields")
            self._pieces.append(data)

    def end(self) -> None:
        """The part is complete."""
        if self._file is not None:
            self._file.close()
        elif self._name is not None:
            self.fields.append((self._name, forms.text(b"".join(self._pieces))))
            self._pieces.clear()

    def close(self) -> None:
        """Remove the files that are still there. Idempotent."""
        for _, upload in self.files:
            upload.remove()
