"""grpc.reflection.v1 and v1alpha: which services there are, and the descriptors of their files.

Where the descriptors come from is `protos.descriptors`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from twisted_rr.errors import FrameError
from twisted_rr.wire.grpc_status import INVALID_ARGUMENT
from twisted_rr.wire.protobuf import BYTES, VARINT, fields, varint

from .local import LocalExchange
from .own import SOURCES
from .protos.descriptors import Descriptors, data, number, text
from .protos.files import ProtoFile, ProtoSet
from .protos.parser import parse
from .status import NOT_FOUND, Refusal, Status

SERVICES: Final = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")

# Fields of a request and of a response.
_BY_NAME, _BY_SYMBOL, _BY_EXTENSION, _EXTENSIONS_OF, _LIST = 3, 4, 5, 6, 7
_FILES, _NUMBERS, _SERVICES, _ERROR = 4, 5, 6, 7


class Reflection:
    """What the .proto files declare, for whoever asks."""

    def __init__(self, protos: ProtoSet, own: Sequence[str]) -> None:
        """*own*: the services that the server answers itself."""
        taken = {one.name for one in protos.files}
        files = [
            ProtoFile(name, parse(name, source), ()) for name, source in SOURCES.items() if name not in taken
        ]
        self.descriptors = Descriptors([*protos.files, *files])
        self._services = sorted({*protos.services, *own})

    def methods(self) -> dict[str, Any]:
        """The methods of each of the two services, by name."""
        return {"ServerReflectionInfo": self._info}

    def _info(self, exchange: LocalExchange) -> _Info:
        return _Info(self, exchange)

    def answer(self, request: bytes, sent: set[str]) -> bytes:
        """A ServerReflectionResponse; *sent* has the names of files that this client has already.

        :raises Refusal: what came is no ServerReflectionRequest.
        """
        host, kind, value = _read(request)
        try:
            found = self._found(kind, value, sent)
        except _Missing as missing:
            found = data(_ERROR, number(1, NOT_FOUND) + text(2, missing.args[0]))
        return b"".join((data(1, host), data(2, request), found))

    def _found(self, kind: int, value: bytes, sent: set[str]) -> bytes:
        if kind == _LIST:
            return data(_SERVICES, b"".join(data(1, text(1, name)) for name in self._services))
        if kind == _BY_EXTENSION:
            return self._files(self._of_extension(value), sent)
        name = value.decode("utf-8", "replace")
        if kind == _BY_NAME:
            return self._files(name, sent)
        if kind == _BY_SYMBOL:
            return self._files(self._of_symbol(name.removeprefix(".")), sent)
        return self._extensions_of(name)

    def _of_symbol(self, name: str) -> str:
        found = self.descriptors.symbols.get(name)
        if found is None:
            raise _Missing(f"Symbol not found: {name}")
        return found

    def _of_extension(self, value: bytes) -> str:
        extended, wanted = "", 0
        for field, kind, part in _fields(value):
            if field == 1 and kind == BYTES:
                extended = part.decode("utf-8", "replace")
            elif field == 2 and kind == VARINT:
                wanted = part
        found = self.descriptors.extensions.get((extended, wanted))
        if found is None:
            raise _Missing(f"Extension not found: {wanted} of {extended}")
        return found

    def _extensions_of(self, name: str) -> bytes:
        if name not in self.descriptors.symbols:
            raise _Missing(f"Type not found: {name}")
        numbers = sorted(found for extended, found in self.descriptors.extensions if extended == name)
        packed = b"".join(varint(one) for one in numbers)
        return data(_NUMBERS, text(1, name) + (data(2, packed) if packed else b""))

    def _files(self, name: str, sent: set[str]) -> bytes:
        """The file, and all it needs that were not sent yet."""
        if name not in self.descriptors.files:
            raise _Missing(f"File not found: {name}")
        wanted = [name]
        for one in wanted:
            wanted += [
                more for more in self.descriptors.imports[one] if more not in wanted and more not in sent
            ]
        sent.update(wanted)
        return data(_FILES, b"".join(data(1, self.descriptors.files[one]) for one in wanted))


class _Missing(Exception):
    """What was asked for is not there."""


class _Info:
    """One call; a `local.Handler`."""

    lasting = True

    def __init__(self, reflection: Reflection, exchange: LocalExchange) -> None:
        self._reflection = reflection
        self._exchange = exchange
        self._sent: set[str] = set()

    def message(self, data: bytes) -> None:
        """A question."""
        self._exchange.reply(self._reflection.answer(data, self._sent))

    def done(self) -> None:
        """That was the last."""
        self._exchange.finish(Status(0))

    def gone(self) -> None:
        """Nothing is kept."""


def _read(request: bytes) -> tuple[bytes, int, bytes]:
    """Host, kind of the question, and what is asked for; the last of several counts."""
    host, kind, value = b"", 0, b""
    for field, wire, part in _fields(request):
        if wire != BYTES:
            continue
        if field == 1:
            host = part
        elif _BY_NAME <= field <= _LIST:
            kind, value = field, part
    if not kind:
        raise Refusal(INVALID_ARGUMENT, "a ServerReflectionRequest that asks nothing")
    return host, kind, value


def _fields(message: bytes) -> list[tuple[int, int, Any]]:
    try:
        return fields(message, 0, len(message))
    except FrameError:
        raise Refusal(INVALID_ARGUMENT, "no ServerReflectionRequest") from None
