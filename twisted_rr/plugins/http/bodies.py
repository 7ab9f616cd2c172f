"""A request's content for one-call workers: collected while it comes, as the body of one frame (protocol.md 4.3).

Left out: mux workers, which get the content as it arrives (`exchange`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from zope.interface import implementer

from twisted_rr.interfaces import IBodySpool
from twisted_rr.pool.spool import BodySpool

from . import forms
from .multipart import FormCollector, MultipartParser, boundary_of
from .uploads import UploadFile, tree_json

if TYPE_CHECKING:
    from .head import RequestHead

FORM_METHODS = frozenset(("POST", "PUT", "PATCH"))
"""Methods whose urlencoded body is read; other ones lose it, as in Go."""

Finished = tuple[int, bytes, "bytes | BinaryIO", int]


@implementer(IBodySpool)
class Body:
    """No content, or content that is not read.

    :ivar wanted: False: whatever the client sends is dropped.
    """

    wanted = False

    def __init__(self, head: RequestHead, parsed: bool = False) -> None:
        self._head = head
        self._parsed = parsed
        self._told: tuple[int, bytes] | None = None

    def write(self, data: bytes) -> None:
        """Take the next piece.

        :raises forms.BadForm: it is not what its content type says.
        :raises OSError: the disk is full.
        """

    def complete(self) -> None:
        """All of it has come. Idempotent.

        :raises forms.BadForm: it is not what its content type says.
        """

    def finish(self) -> Finished:
        """See `IBodySpool`."""
        self.complete()
        codec, context = self._context(None)
        tree = forms.EMPTY if self._parsed else b""
        return codec, context, tree, len(tree)

    def _context(self, uploads: bytes | None) -> tuple[int, bytes]:
        """Codec flags and context, made once: the pool asks when all is there, when it places the call, at a retry."""
        if self._told is None:
            self._told = self._head.single_context(self._parsed, uploads)
        return self._told

    def close(self) -> None:
        """Release everything. Idempotent."""


class RawBody(Body):
    """Content of any other type, as it came."""

    wanted = True

    def __init__(self, head: RequestHead) -> None:
        super().__init__(head)
        self._bytes = BodySpool(0, b"", directory=head.front.settings.uploads.dir or None)

    def write(self, data: bytes) -> None:
        """Take the next piece."""
        self._bytes.write(data)

    def finish(self) -> Finished:
        """See `IBodySpool`."""
        codec, context = self._context(None)
        _, _, body, length = self._bytes.finish()
        return codec, context, body, length

    def close(self) -> None:
        """Release everything."""
        self._bytes.close()


class FormBody(Body):
    """An urlencoded form: its tree."""

    wanted = True

    def __init__(self, head: RequestHead) -> None:
        super().__init__(head, True)
        self._pieces: list[bytes] = []
        self._size = 0
        self._tree: bytes | None = None

    def write(self, data: bytes) -> None:
        """Take the next piece."""
        self._size += len(data)
        if self._size > forms.MAX_FORM:
            raise forms.FormTooLarge(f"more than {forms.MAX_FORM} bytes of form fields")
        if data:
            self._pieces.append(data)

    def complete(self) -> None:
        """Read the form."""
        if self._tree is None:
            self._tree = forms.form_json(forms.pairs(b"".join(self._pieces)))
            self._pieces = []

    def finish(self) -> Finished:
        """See `IBodySpool`."""
        self.complete()
        codec, context = self._context(None)
        tree = self._tree or b""
        return codec, context, tree, len(tree)

    def close(self) -> None:
        """Release everything."""
        self._pieces = []


class MultipartBody(Body):
    """A multipart form, parsed as it comes: the tree of its fields, its files on disk."""

    wanted = True

    def __init__(self, head: RequestHead, content_type: bytes) -> None:
        super().__init__(head, True)
        self._form = FormCollector(head.front.uploads)
        self._parser = MultipartParser(boundary_of(content_type), self._form)
        self._trees: tuple[bytes, bytes] | None = None

    def write(self, data: bytes) -> None:
        """Take the next piece."""
        if data:
            self._parser.feed(data)

    def complete(self) -> None:
        """Make the trees of fields and files."""
        if self._trees is None:
            self._parser.finish()
            files: dict[str, list[UploadFile]] = forms.group(self._form.files)
            self._trees = forms.form_json(self._form.fields), tree_json(files)

    def finish(self) -> Finished:
        """See `IBodySpool`."""
        self.complete()
        assert self._trees is not None
        fields, files = self._trees
        codec, context = self._context(files)
        return codec, context, fields, len(fields)

    def close(self) -> None:
        """Remove the files."""
        self._form.close()


def make(head: RequestHead) -> Body:
    """What collects the content of this request: the first of protocol.md 4.3's rules that fits.

    :raises forms.BadForm: a form whose query or content type cannot be read.
    """
    request = head.request
    if request.method in ("HEAD", "OPTIONS"):
        return Body(head)
    content_type = _content_type(request.headers)
    if not head.front.settings.raw_body:
        low = content_type.lower()
        if b"application/x-www-form-urlencoded" in low:
            forms.check_query(request.target.partition(b"?")[2])
            return FormBody(head) if request.method in FORM_METHODS else Body(head, True)
        if b"multipart/form-data" in low:
            forms.check_query(request.target.partition(b"?")[2])
            return MultipartBody(head, content_type)
    return RawBody(head) if request.length else Body(head)


def _content_type(headers: list[tuple[bytes, bytes]]) -> bytes:
    for name, value in headers:
        if name == b"content-type":
            return value
    return b""
