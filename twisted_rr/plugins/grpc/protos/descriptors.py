"""Parsed files as serialised ``google.protobuf.FileDescriptorProto``, which is what reflection hands out.

Written without a protobuf library: the numbers are those of ``descriptor.proto``. Left out: comments, options of the
user's own, the features of editions, and what refers to a type whose file is missing (`Descriptors.dropped`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from twisted_rr.wire.protobuf import BYTES, VARINT, tag, varint

from .files import ProtoFile
from .syntax import REPEATED, Enum, Field, File, Message, Method, Service

_SCALARS: Final = {
    "double": 1, "float": 2, "int64": 3, "uint64": 4, "int32": 5, "fixed64": 6, "fixed32": 7, "bool": 8,
    "string": 9, "bytes": 12, "uint32": 13, "sfixed32": 15, "sfixed64": 16, "sint32": 17, "sint64": 18,
}  # fmt: skip
_GROUP, _MESSAGE, _ENUM = 10, 11, 14
_EDITIONS: Final = {"2023": 1000, "2024": 1001}

# Options by name: their number, and for those that are enums what their names stand for.
_FILE: Final[dict[str, Any]] = {
    "java_package": 1, "java_outer_classname": 8, "java_multiple_files": 10, "go_package": 11,
    "optimize_for": (9, {"SPEED": 1, "CODE_SIZE": 2, "LITE_RUNTIME": 3}), "deprecated": 23,
    "java_string_check_utf8": 27, "cc_enable_arenas": 31, "objc_class_prefix": 36, "csharp_namespace": 37,
    "swift_prefix": 39, "php_class_prefix": 40, "php_namespace": 41, "php_metadata_namespace": 44,
    "ruby_package": 45,
}  # fmt: skip
_OF_MESSAGE: Final[dict[str, Any]] = {"deprecated": 3, "map_entry": 7}
_OF_FIELD: Final[dict[str, Any]] = {
    "ctype": (1, {"STRING": 0, "CORD": 1, "STRING_PIECE": 2}), "packed": 2, "deprecated": 3, "lazy": 5,
    "jstype": (6, {"JS_NORMAL": 0, "JS_STRING": 1, "JS_NUMBER": 2}),
}  # fmt: skip
_OF_ENUM: Final[dict[str, Any]] = {"allow_alias": 2, "deprecated": 3}
_OF_VALUE: Final[dict[str, Any]] = {"deprecated": 1}
_OF_SERVICE: Final[dict[str, Any]] = {"deprecated": 33}
_OF_METHOD: Final[dict[str, Any]] = {
    "deprecated": 33,
    "idempotency_level": (34, {"IDEMPOTENCY_UNKNOWN": 0, "NO_SIDE_EFFECTS": 1, "IDEMPOTENT": 2}),
}


def number(field: int, value: int) -> bytes:
    """A numeric field."""
    return tag(field, VARINT) + varint(value)


def data(field: int, value: bytes) -> bytes:
    """A length-delimited field."""
    return tag(field, BYTES) + varint(len(value)) + value


def text(field: int, value: str) -> bytes:
    """A string field."""
    return data(field, value.encode())


def _joined(*parts: Iterable[bytes]) -> bytes:
    return b"".join(piece for part in parts for piece in part)


def _options(field: int, options: Any, known: dict[str, Any]) -> list[bytes]:
    """The options message, if it has anything in it."""
    encoded = []
    for name, value in options.items():
        entry = known.get(name)
        if isinstance(entry, tuple):
            value = entry[1].get(value)
            entry = entry[0]
        if entry is None or value is None:
            continue
        if isinstance(value, bytes):
            encoded.append(data(entry, value))
        elif value in ("true", "false"):
            encoded.append(number(entry, int(value == "true")))
        elif isinstance(value, int):
            encoded.append(number(entry, value))
    return [data(field, b"".join(encoded))] if encoded else []


class Descriptors:
    """All files of a set, encoded; and where which symbol is declared.

    :ivar files: name to serialised FileDescriptorProto.
    :ivar symbols: full name of everything that is declared to the name of its file.
    :ivar extensions: ``(extended message, field number)`` to the name of the file.
    :ivar imports: name to the names of the files it imports.
    :ivar dropped: what is left out, because a type it refers to is in no file.
    """

    def __init__(self, files: Sequence[ProtoFile]) -> None:
        self.files: dict[str, bytes] = {}
        self.symbols: dict[str, str] = {}
        self.extensions: dict[tuple[str, int], str] = {}
        self.imports = {one.name: one.imports for one in files}
        self.dropped: list[str] = []
        self._kinds: dict[str, int] = {}
        for one in files:
            self._declare(one.name, one.file)
        for one in files:
            self.files[one.name] = _Encoder(self, one).file()

    def resolve(self, name: str, scope: str) -> tuple[str, int]:
        """Full name and kind of the type that *name* means within *scope*, innermost first; kind 0: in no file."""
        if name.startswith("."):
            return name, self._kinds.get(name[1:], 0)
        while True:
            full = f"{scope}.{name}" if scope else name
            kind = self._kinds.get(full, 0)
            if kind or not scope:
                return "." + full, kind
            scope = scope.rpartition(".")[0]

    def _declare(self, name: str, file: File) -> None:
        for message in file.messages:
            self._declare_message(name, message, file.package)
        for enum in file.enums:
            self._declare_enum(name, enum, file.package)
        for service in file.services:
            full = _under(file.package, service.name)
            self.symbols[full] = name
            self.symbols.update((f"{full}.{method.name}", name) for method in service.methods)
        for field in file.extensions:
            self.symbols[_under(file.package, field.name)] = name

    def _declare_message(self, name: str, message: Message, scope: str) -> None:
        full = _under(scope, message.name)
        self._kinds[full] = _MESSAGE
        self.symbols[full] = name
        self.symbols.update((f"{full}.{field.name}", name) for field in message.fields)
        self.symbols.update((f"{full}.{field.name}", name) for field in message.extensions)
        self.symbols.update((f"{full}.{oneof}", name) for oneof in message.oneofs)
        for inner in message.messages:
            self._declare_message(name, inner, full)
        for enum in message.enums:
            self._declare_enum(name, enum, full)

    def _declare_enum(self, name: str, enum: Enum, scope: str) -> None:
        full = _under(scope, enum.name)
        self._kinds[full] = _ENUM
        self.symbols[full] = name
        # The values of an enum stand beside it, not in it.
        self.symbols.update((_under(scope, value.name), name) for value in enum.values)


def _under(scope: str, name: str) -> str:
    return f"{scope}.{name}" if scope else name


class _Encoder:
    """Writes one file."""

    def __init__(self, all_files: Descriptors, one: ProtoFile) -> None:
        self._all = all_files
        self._one = one
        self._syntax = one.file.syntax

    def file(self) -> bytes:
        file = self._one.file
        return _joined(
            [text(1, self._one.name)],
            [text(2, file.package)] if file.package else [],
            [text(3, name) for name in self._one.imports],
            [data(4, self._message(message, file.package)) for message in file.messages],
            [data(5, self._enum(enum)) for enum in file.enums],
            [data(6, self._service(service, file.package)) for service in file.services],
            self._extensions(7, file.extensions, file.package),
            _options(8, file.options, _FILE),
            self._public(file),
            [text(12, file.syntax)] if file.syntax != "proto2" else [],
            [number(14, _EDITIONS[file.edition])] if file.edition in _EDITIONS else [],
        )

    def _public(self, file: File) -> list[bytes]:
        public = {one.path for one in file.imports if one.kind == "public"}
        return [number(10, index) for index, name in enumerate(self._one.imports) if name in public]

    def _message(self, message: Message, scope: str) -> bytes:
        full = _under(scope, message.name)
        maps = self._maps_of_nothing(message, full)
        fields = [one for one in message.fields if one.type not in maps and self._known(one, full)]
        # Nor may there be a oneof without a field.
        used = sorted({field.oneof for field in fields if field.oneof is not None})
        oneofs = [message.oneofs[index] for index in used]
        places = {index: place for place, index in enumerate(used)}
        encoded = [self._field(field, full, oneofs, places=places) for field in fields]
        return _joined(
            [text(1, message.name)],
            [data(2, field) for field in encoded],
            [data(3, self._message(inner, full)) for inner in message.messages if inner.name not in maps],
            [data(4, self._enum(enum)) for enum in message.enums],
            [data(5, number(1, first) + number(2, last + 1)) for first, last in message.ranges],
            self._extensions(6, message.extensions, full),
            _options(7, message.options, _OF_MESSAGE),
            [data(8, text(1, name)) for name in oneofs],
            [data(9, number(1, first) + number(2, last + 1)) for first, last in message.reserved.ranges],
            [text(10, name) for name in message.reserved.names],
        )

    def _maps_of_nothing(self, message: Message, scope: str) -> set[str]:
        """The entries of maps to a type that is in no file: without a value they would spoil their whole file."""
        entries = [inner for inner in message.messages if "map_entry" in inner.options]
        return {
            inner.name
            for inner in entries
            if not all(self._known(field, _under(scope, inner.name)) for field in inner.fields)
        }

    def _known(self, field: Field, scope: str) -> bool:
        """Whether the field's type is in some file."""
        if field.type in _SCALARS or self._all.resolve(field.type, scope)[1]:
            return True
        self._all.dropped.append(f"the field {_under(scope, field.name)} of type {field.type}")
        return False

    def _extensions(self, number_of: int, extensions: list[Field], scope: str) -> list[bytes]:
        encoded = []
        for field in extensions:
            extendee, kind = self._all.resolve(field.extendee, scope)
            if not kind:
                self._all.dropped.append(f"the extension {_under(scope, field.name)} of {field.extendee}")
                continue
            if self._known(field, scope):
                self._all.extensions[(extendee[1:], field.number)] = self._one.name
                encoded.append(data(number_of, self._field(field, scope, [], extendee)))
        return encoded

    def _field(
        self, field: Field, scope: str, oneofs: list[str], extendee: str = "", places: Mapping[int, int] = {}
    ) -> bytes:
        """The field, whose type is `_known`; *places*: of the oneofs as written among *oneofs*.

        ``optional`` of proto3 adds to *oneofs* (its own one).
        """
        kind = _SCALARS.get(field.type, 0)
        name = ""
        if not kind:
            name, kind = self._all.resolve(field.type, scope)
            if field.group:
                kind = _GROUP
        oneof = None if field.oneof is None else places[field.oneof]
        optional = field.presence and self._syntax == "proto3"
        if optional and not extendee:
            oneof = len(oneofs)
            oneofs.append(f"_{field.name}")
        return _joined(
            [text(1, field.name)],
            [text(2, extendee)] if extendee else [],
            [number(3, field.number), number(4, field.label), number(5, kind)],
            [text(6, name)] if name else [],
            [text(7, _default(field))] if "default" in field.options else [],
            _options(8, field.options, _OF_FIELD),
            [number(9, oneof)] if oneof is not None else [],
            [text(10, _json_name(field))],
            [number(17, 1)] if optional else [],
        )

    def _enum(self, enum: Enum) -> bytes:
        return _joined(
            [text(1, enum.name)],
            [
                data(
                    2,
                    _joined(
                        [text(1, value.name), number(2, value.number)],
                        _options(3, value.options, _OF_VALUE),
                    ),
                )
                for value in enum.values
            ],
            _options(3, enum.options, _OF_ENUM),
            [data(4, number(1, first) + number(2, last)) for first, last in enum.reserved.ranges],
            [text(5, name) for name in enum.reserved.names],
        )

    def _service(self, service: Service, scope: str) -> bytes:
        methods = [self._method(method, _under(scope, service.name)) for method in service.methods]
        return _joined(
            [text(1, service.name)],
            [data(2, method) for method in methods if method],
            _options(3, service.options, _OF_SERVICE),
        )

    def _method(self, method: Method, scope: str) -> bytes:
        names = []
        for name in (method.input, method.output):
            full, kind = self._all.resolve(name, scope)
            if not kind:
                self._all.dropped.append(f"the method {scope}.{method.name} with {name}")
                return b""
            names.append(full)
        return _joined(
            [text(1, method.name), text(2, names[0]), text(3, names[1])],
            _options(4, method.options, _OF_METHOD),
            [number(5, 1)] if method.client_streaming else [],
            [number(6, 1)] if method.server_streaming else [],
        )


def _json_name(field: Field) -> str:
    given = field.options.get("json_name")
    if isinstance(given, bytes):
        return given.decode("utf-8", "replace")
    first, *others = field.name.split("_")
    return first + "".join(word[:1].upper() + word[1:] for word in others)


def _default(field: Field) -> str:
    value = field.options["default"]
    if not isinstance(value, bytes):
        return str(value).removesuffix(".0")
    if field.type == "bytes":
        return "".join(chr(octet) if 32 <= octet < 127 else f"\\{octet:03o}" for octet in value)
    return value.decode("utf-8", "replace")


assert REPEATED == 3  # labels are written as they are
