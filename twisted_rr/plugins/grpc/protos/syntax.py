"""What a .proto file says, as values. Names of types are as written; `descriptors` finds what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

Options = Mapping[str, Any]
"""Names to values: str for a name, bytes for a quoted text, int, float; those of the user's own are left out."""

OPTIONAL, REQUIRED, REPEATED = 1, 2, 3


@attrs.frozen(kw_only=True)
class Field:
    """A field of a message, or an extension.

    :ivar label: OPTIONAL, REQUIRED or REPEATED.
    :ivar type: the type's name as written.
    :ivar oneof: index of its oneof, None outside of one.
    :ivar presence: ``optional`` was written.
    :ivar extendee: of an extension, what it extends.
    :ivar group: its type is the group of this name, declared beside it.
    """

    name: str
    number: int
    type: str
    label: int = OPTIONAL
    oneof: int | None = None
    presence: bool = False
    extendee: str = ""
    group: bool = False
    options: Options = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class EnumValue:
    """One name of an enum."""

    name: str
    number: int
    options: Options = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Reserved:
    """What must not be used again: ranges, both ends included, and names."""

    ranges: list[tuple[int, int]] = attrs.field(factory=list)
    names: list[str] = attrs.field(factory=list)


@attrs.frozen(kw_only=True)
class Enum:
    """An enum."""

    name: str
    values: list[EnumValue] = attrs.field(factory=list)
    reserved: Reserved = attrs.field(factory=Reserved)
    options: dict[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Message:
    """A message.

    :ivar ranges: of extensions, both ends included.
    """

    name: str
    fields: list[Field] = attrs.field(factory=list)
    messages: list[Message] = attrs.field(factory=list)
    enums: list[Enum] = attrs.field(factory=list)
    extensions: list[Field] = attrs.field(factory=list)
    oneofs: list[str] = attrs.field(factory=list)
    ranges: list[tuple[int, int]] = attrs.field(factory=list)
    reserved: Reserved = attrs.field(factory=Reserved)
    options: dict[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Method:
    """A method of a service."""

    name: str
    input: str
    output: str
    client_streaming: bool = False
    server_streaming: bool = False
    options: dict[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Service:
    """A service."""

    name: str
    methods: list[Method] = attrs.field(factory=list)
    options: dict[str, Any] = attrs.field(factory=dict)


@attrs.frozen
class Import:
    """Another file. *kind* is ``public``, ``weak`` or empty."""

    path: str
    kind: str = ""


@attrs.frozen(kw_only=True)
class File:
    """One file.

    :ivar path: where it was read.
    :ivar syntax: ``proto2``, ``proto3`` or ``editions``.
    :ivar edition: such as ``2023``, where it is by editions.
    """

    path: str
    syntax: str = "proto2"
    edition: str = ""
    package: str = ""
    imports: list[Import] = attrs.field(factory=list)
    messages: list[Message] = attrs.field(factory=list)
    enums: list[Enum] = attrs.field(factory=list)
    services: list[Service] = attrs.field(factory=list)
    extensions: list[Field] = attrs.field(factory=list)
    options: dict[str, Any] = attrs.field(factory=dict)
