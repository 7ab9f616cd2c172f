"""A .proto file's words to `syntax.File`: proto2, proto3 and editions.

Left out: what names mean, and whether numbers are free: that is the business of the compiler that made the classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import attrs

from .syntax import (
    OPTIONAL,
    REPEATED,
    REQUIRED,
    Enum,
    EnumValue,
    Field,
    File,
    Import,
    Message,
    Method,
    Reserved,
    Service,
)
from .tokens import END, NUMBER, SIGN, TEXT, WORD, ProtoError, Token, place, tokens, unquote

MAX_FIELD: Final = 2**29 - 1
MAX_ENUM: Final = 2**31 - 1
DEEPEST: Final = 64
_LABELS: Final = {"optional": OPTIONAL, "required": REQUIRED, "repeated": REPEATED}


def parse(path: str, source: str) -> File:
    """What *source* says; *path* is for errors.

    :raises ProtoError: with file, line and column.
    """
    return _Parser(path, source).file()


class _Parser:
    """Goes through the words once; one method a production."""

    def __init__(self, path: str, source: str) -> None:
        self._path = path
        self._source = source = source.removeprefix("\ufeff")  # editors of Windows put it there
        self._tokens = list(tokens(path, source))
        self._at = 0
        self._depth = 0
        self._syntax = "proto2"

    # ------------------------------------------------------------------------------- words

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    def _ahead(self, text: str, distance: int = 1) -> bool:
        at = min(self._at + distance, len(self._tokens) - 1)
        return self._tokens[at].text == text and self._tokens[at].kind != TEXT

    def _take(self) -> Token:
        token = self._next
        if token.kind != END:
            self._at += 1
        return token

    def _wrong(self, expected: str, token: Token | None = None) -> ProtoError:
        token = token or self._next
        found = repr(token.text) if token.kind != END else "the end of the file"
        return self._error(f"expected {expected}, not {found}", token)

    def _error(self, reason: str, token: Token) -> ProtoError:
        return ProtoError(place(self._path, self._source, token.at), reason)

    def _is(self, text: str) -> bool:
        return self._ahead(text, 0)

    def _accept(self, text: str) -> bool:
        if self._is(text):
            self._at += 1
            return True
        return False

    def _expect(self, text: str) -> Token:
        if not self._is(text):
            raise self._wrong(repr(text))
        return self._take()

    def _name(self, what: str = "a name") -> str:
        if self._next.kind != WORD:
            raise self._wrong(what)
        return self._take().text

    def _dotted(self, what: str = "a name") -> str:
        name = "." if self._accept(".") else ""
        name += self._name(what)
        while self._accept("."):
            name += "." + self._name(what)
        return name

    def _text(self, what: str = "a text in quotes") -> bytes:
        if self._next.kind != TEXT:
            raise self._wrong(what)
        value = b""
        while self._next.kind == TEXT:
            value += unquote(self._take().text)
        return value

    def _integer(self, low: int, high: int, what: str = "a number") -> int:
        negative = self._accept("-")
        token = self._next
        if token.kind != NUMBER:
            raise self._wrong(what)
        try:
            number = _whole(token.text) * (-1 if negative else 1)
        except ValueError:
            raise self._wrong(what) from None
        if not low <= number <= high:
            raise self._error(f"expected {what} from {low} to {high}, not {number}", token)
        self._take()
        return number

    # -------------------------------------------------------------------------------- file

    def file(self) -> File:
        file = File(path=self._path)
        edition = ""
        if self._is("syntax") or self._is("edition"):
            edition = self._declared_syntax()
        package = ""
        while self._next.kind != END:
            if self._is("package") and not self._ahead("="):
                self._take()
                package = self._dotted("the package")
                self._expect(";")
            else:
                self._statement(file)
        return attrs.evolve(file, syntax=self._syntax, edition=edition, package=package)

    def _declared_syntax(self) -> str:
        word = self._take().text
        self._expect("=")
        token = self._next
        value = self._text().decode("utf-8", "replace")
        if word == "syntax" and value not in ("proto2", "proto3"):
            raise self._error(f"syntax {value!r} is neither proto2 nor proto3", token)
        self._expect(";")
        self._syntax = value if word == "syntax" else "editions"
        return "" if word == "syntax" else value

    def _statement(self, file: File) -> None:
        word = self._next.text if self._next.kind == WORD else ""
        if self._accept(";"):
            return
        word = self._past_visibility(word)
        if word == "import":
            file.imports.append(self._import())
        elif word == "option":
            self._option(file.options)
        elif word == "message":
            file.messages.append(self._message())
        elif word == "enum":
            file.enums.append(self._enum())
        elif word == "service":
            file.services.append(self._service())
        elif word == "extend":
            self._extend(file.extensions, file.messages)
        else:
            raise self._wrong("message, enum, service, import, option, package or extend")

    def _import(self) -> Import:
        self._expect("import")
        kind = self._take().text if self._is("public") or self._is("weak") or self._is("option") else ""
        path = self._text("the imported file's path in quotes").decode("utf-8", "replace")
        self._expect(";")
        return Import(path, kind)

    # ----------------------------------------------------------------------------- options

    def _option(self, into: dict[str, Any]) -> None:
        self._expect("option")
        self._assign(into)
        self._expect(";")

    def _assign(self, into: dict[str, Any]) -> None:
        """``name = value``; one of the user's own, ``(name).x``, is read and left out."""
        custom = self._is("(")
        name = self._option_name()
        self._expect("=")
        value = self._value()
        if not custom and value is not None:
            into[name] = value

    def _option_name(self) -> str:
        name = self._option_part()
        while self._accept("."):
            name += "." + self._option_part()
        return name

    def _option_part(self) -> str:
        if self._accept("("):
            name = self._dotted()
            self._expect(")")
            return f"({name})"
        return self._name("an option's name")

    def _value(self) -> Any:
        """A constant; None for a message in braces, which is skipped."""
        token = self._next
        if token.kind == TEXT:
            return self._text()
        if token.kind == SIGN and token.text in "{<[":
            self._skip_nested()
            return None
        negative = self._accept("-")
        if not negative:
            self._accept("+")
        if self._next.kind == NUMBER:
            value = _number(self._take().text)
            return -value if negative else value
        if self._next.kind == WORD:
            word = self._dotted()
            return f"-{word}" if negative else word
        raise self._wrong("a value")

    def _skip_nested(self) -> None:
        pairs = {"{": "}", "<": ">", "[": "]"}
        first = self._take()
        stack = [pairs[first.text]]
        while stack:
            token = self._take()
            if token.kind == END:
                raise self._error(f"{first.text!r} without {pairs[first.text]!r}", first)
            if token.kind != SIGN:
                continue
            if token.text in pairs:
                stack.append(pairs[token.text])
            elif token.text in pairs.values() and token.text != stack.pop():
                raise self._error(f"unexpected {token.text!r}", token)

    def _field_options(self) -> dict[str, Any]:
        options: dict[str, Any] = {}
        if self._accept("["):
            self._assign(options)
            while self._accept(","):
                self._assign(options)
            self._expect("]")
        return options

    # ---------------------------------------------------------------------------- messages

    def _block(self, statement: Callable[[], None]) -> None:
        """*statement* for everything between braces."""
        opening = self._expect("{")
        self._depth += 1
        if self._depth > DEEPEST:
            raise self._error(f"nested deeper than {DEEPEST}", opening)
        while not self._accept("}"):
            if self._next.kind == END:
                raise self._error("'{' without '}'", opening)
            if not self._accept(";"):
                statement()
        self._depth -= 1

    def _message(self) -> Message:
        self._expect("message")
        message = Message(name=self._name("the message's name"))
        self._message_body(message)
        return message

    def _message_body(self, message: Message) -> None:
        self._block(lambda: self._member(message))

    def _past_visibility(self, word: str) -> str:
        """The next word after ``export`` or ``local`` (edition 2024) of a message or an enum, which mean nothing here."""
        declares = self._ahead("message") or self._ahead("enum")
        if word in ("export", "local") and declares and self._ahead("{", 3):
            self._take()
            return self._next.text
        return word

    def _member(self, message: Message) -> None:
        word = self._past_visibility(self._next.text if self._next.kind == WORD else "")
        if word == "message" and self._ahead("{", 2):
            message.messages.append(self._message())
        elif word == "enum" and self._ahead("{", 2):
            message.enums.append(self._enum())
        elif word == "oneof" and self._ahead("{", 2):
            self._oneof(message)
        elif word == "extend":
            self._extend(message.extensions, message.messages)
        elif word == "extensions":
            self._extensions(message)
        elif word == "reserved":
            self._reserved(message.reserved, 1, MAX_FIELD)
        elif word == "option":
            self._option(message.options)
        elif word == "map" and self._ahead("<"):
            self._map(message, None)
        else:
            message.fields.append(self._field(message.messages))

    def _field(self, messages: list[Message], oneof: int | None = None, extendee: str = "") -> Field:
        """A field; the message of a group is added to *messages*."""
        label = OPTIONAL
        presence = False
        if self._next.text in _LABELS and self._next.kind == WORD and oneof is None:
            presence = self._is("optional")
            label = _LABELS[self._take().text]
        group = self._is("group") and self._ahead("=", 2)
        kind = self._take().text if group else self._dotted("a field, or what else a message may hold")
        name = self._name("the field's name")
        self._expect("=")
        # Extensions of a message set, which looks like any other message here, go on beyond.
        number = self._integer(1, MAX_ENUM if extendee else MAX_FIELD, "a field's number")
        options = self._field_options()
        if group:
            made = Message(name=name)
            self._message_body(made)
            messages.append(made)
            kind, name = name, name.lower()
        else:
            self._expect(";")
        return Field(
            name=name, number=number, type=kind, label=label, oneof=oneof, presence=presence,
            extendee=extendee, group=group, options=options,
        )  # fmt: skip

    def _map(self, message: Message, oneof: int | None) -> None:
        """A map is a repeated message of key and value, named after the field."""
        self._expect("map")
        self._expect("<")
        key = self._name("the key's type")
        self._expect(",")
        value = self._dotted("the value's type")
        self._expect(">")
        name = self._name("the field's name")
        self._expect("=")
        number = self._integer(1, MAX_FIELD, "a field's number")
        options = self._field_options()
        self._expect(";")
        entry = "".join(word[:1].upper() + word[1:] for word in name.split("_")) + "Entry"
        fields = [Field(name="key", number=1, type=key), Field(name="value", number=2, type=value)]
        message.messages.append(Message(name=entry, fields=fields, options={"map_entry": "true"}))
        message.fields.append(
            Field(name=name, number=number, type=entry, label=REPEATED, oneof=oneof, options=options)
        )

    def _oneof(self, message: Message) -> None:
        self._expect("oneof")
        index = len(message.oneofs)
        message.oneofs.append(self._name("the oneof's name"))

        def member() -> None:
            if self._is("option"):
                self._option({})
            else:
                message.fields.append(self._field(message.messages, oneof=index))

        self._block(member)

    def _extend(self, into: list[Field], messages: list[Message]) -> None:
        self._expect("extend")
        extendee = self._dotted("what is extended")
        self._block(lambda: into.append(self._field(messages, extendee=extendee)))

    def _extensions(self, message: Message) -> None:
        self._expect("extensions")
        message.ranges.extend(self._ranges(1, MAX_FIELD))
        self._field_options()
        self._expect(";")

    def _reserved(self, into: Reserved, low: int, high: int) -> None:
        self._expect("reserved")
        if self._next.kind in (TEXT, WORD):
            while True:
                is_text = self._next.kind == TEXT
                into.names.append(self._text().decode("utf-8", "replace") if is_text else self._name())
                if not self._accept(","):
                    break
        else:
            into.ranges.extend(self._ranges(low, high))
        self._expect(";")

    def _ranges(self, low: int, high: int) -> list[tuple[int, int]]:
        found = []
        while True:
            first = last = self._integer(low, high)
            if self._accept("to"):
                last = high if self._accept("max") else self._integer(first, high)
            found.append((first, last))
            if not self._accept(","):
                return found

    def _enum(self) -> Enum:
        self._expect("enum")
        enum = Enum(name=self._name("the enum's name"))

        def value() -> None:
            if self._is("option") and not self._ahead("="):
                self._option(enum.options)
            elif self._is("reserved") and not self._ahead("="):
                self._reserved(enum.reserved, -MAX_ENUM - 1, MAX_ENUM)
            else:
                enum.values.append(self._enum_value())

        self._block(value)
        return enum

    def _enum_value(self) -> EnumValue:
        name = self._name("a value of the enum")
        self._expect("=")
        number = self._integer(-MAX_ENUM - 1, MAX_ENUM)
        options = self._field_options()
        self._expect(";")
        return EnumValue(name=name, number=number, options=options)

    # ---------------------------------------------------------------------------- services

    def _service(self) -> Service:
        self._expect("service")
        service = Service(name=self._name("the service's name"))

        def member() -> None:
            if self._is("option"):
                self._option(service.options)
            else:
                service.methods.append(self._method(service))

        self._block(member)
        return service

    def _method(self, service: Service) -> Method:
        if not self._is("rpc"):
            raise self._wrong("rpc or option")
        self._take()
        token = self._next
        name = self._name("the method's name")
        if any(method.name == name for method in service.methods):
            raise self._error(f"{service.name} has two methods {name}", token)
        client_streaming, request = self._parameter()
        self._expect("returns")
        server_streaming, answer = self._parameter()
        options: dict[str, Any] = {}
        if self._is("{"):
            self._block(lambda: self._option(options))
        else:
            self._expect(";")
        return Method(
            name=name, input=request, output=answer, client_streaming=client_streaming,
            server_streaming=server_streaming, options=options,
        )  # fmt: skip

    def _parameter(self) -> tuple[bool, str]:
        self._expect("(")
        streaming = self._is("stream") and not self._ahead(")")
        if streaming:
            self._take()
        kind = self._dotted("a message's name")
        self._expect(")")
        return streaming, kind


def _whole(text: str) -> int:
    """An integer as the language writes it: decimal, 0x, or octal with a leading 0."""
    if text[:2] in ("0x", "0X"):
        return int(text, 16)
    return int(text, 8) if len(text) > 1 and text[0] == "0" else int(text)


def _number(text: str) -> int | float:
    try:
        return _whole(text)
    except ValueError:
        return float(text.rstrip("fF"))
