"""Lines that come by the thousand and always look the same, such as those of the access log: their short way.

A `Shape` knows a format and its fields beforehand, so that all but the values is prepared once. What is made here
is, byte for byte, what the form in `lines` makes of the event; values that need escaping, cutting or anything else
out of the ordinary are left to it.
"""

from __future__ import annotations

import operator
import re
import string
from collections.abc import Callable
from json.encoder import encode_basestring_ascii as in_quotes
from typing import Any, Final, TypeAlias

from twisted.logger import LogLevel

from .escape import MAX_LINE
from .lines import (
    CONSOLE_ROOM,
    ConsoleForm,
    Event,
    Form,
    JsonForm,
    RawForm,
    console_head,
    is_field,
    json_head,
    json_name,
    rfc3339,
)

ShortForm: TypeAlias = Callable[[float, tuple[Any, ...]], bytes | None]
"""Gives a line from its moment and its values, or None: then the form itself has to."""

_FIXED = re.compile(r"\.\d+f")
_HUGE: Final = 1 << 53  # beyond, JSON has other rules for numbers; a NaN is not within either


class Shape:
    """A format whose braces hold plain names, each once, with the type of each.

    A value of another type (a subclass too) is no error: its line goes the long way.

    :ivar format: as for any logger.
    :ivar names: of the fields, in the format's order; values are given in this order.
    :ivar types: of the values.
    :ivar message: the format for ``%``.
    :ivar numbers: gives those of the values that are numbers.
    """

    __slots__ = ("format", "message", "names", "numbers", "types")

    def __init__(self, format: str, **types: type) -> None:
        self.format = format
        self.types = list(types.values())
        parts = list(string.Formatter().parse(format))
        self.names = tuple(name for _, name, _, _ in parts if name is not None)
        if self.names != tuple(types) or not all(map(is_field, self.names)):
            raise ValueError("a shape names the fields of its format, in their order, and each once")
        self.numbers = _numbers([at for at, kind in enumerate(self.types) if kind is not str])
        self.message = "".join(
            text.replace("%", "%%") + ("" if name is None else _percent(types[name], spec or "", conversion))
            for text, name, spec, conversion in parts
        )

    def fields(self, values: tuple[Any, ...]) -> dict[str, Any]:
        """The fields of an event."""
        return dict(zip(self.names, values, strict=True))

    def event(self, channel: str, moment: float, values: tuple[Any, ...]) -> Event:
        """What a form has to know."""
        fields = self.fields(values)
        fields.update(channel=channel, log_format=self.format, log_level=LogLevel.info, log_time=moment)
        return fields


def _numbers(places: list[int]) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    if len(places) < 2:
        return lambda values: tuple(values[at] for at in places)
    pick: Callable[[tuple[Any, ...]], tuple[Any, ...]] = operator.itemgetter(*places)
    return pick


def _percent(kind: type, spec: str, conversion: str | None) -> str:
    if (
        conversion
        or kind not in (str, int, float)
        or (spec and (kind is not float or not _FIXED.fullmatch(spec)))
    ):
        raise ValueError("a shape's fields are text, whole numbers, or floats with so many places")
    return "%" + spec if spec else "%s"


def short_form(form: Form, shape: Shape, channel: str) -> ShortForm:
    """The short way to what *form* makes of lines of *shape* on *channel*."""
    if isinstance(form, JsonForm):
        return _json(form, shape, channel)
    if isinstance(form, ConsoleForm):
        return _console(form, shape, channel)
    if isinstance(form, RawForm):
        return _raw(form, shape)
    return _unknown


def _unknown(moment: float, values: tuple[Any, ...]) -> None:
    return None


def _json(form: JsonForm, shape: Shape, channel: str) -> ShortForm:
    message = shape.message
    numbers = shape.numbers
    head = json_head("info", channel)
    tail = "".join(map(_json_field, shape.names, shape.types)) + "}"
    room = MAX_LINE + len(form.ending.encode("utf-8", "replace"))
    ending = form.ending

    def short(moment: float, values: tuple[Any, ...]) -> bytes | None:
        for number in numbers(values):
            if not -_HUGE < number < _HUGE:
                return None
        text = message % values
        quoted = in_quotes(text)
        if len(quoted) != len(text) + 2:
            return None  # something had to be escaped
        line = f'{{"time":"{rfc3339(moment)}"{head}{quoted}{tail % values}{ending}'.encode("utf-8", "replace")
        return line if len(line) <= room else None

    return short


def _json_field(name: str, kind: type) -> str:
    value = '"%s"' if kind is str else "%r"
    return f",{json_name(name).replace('%', '%%')}:{value}"


def _console(form: ConsoleForm, shape: Shape, channel: str) -> ShortForm:
    message, ending = shape.message, form.ending
    stamp, head = console_head("info", channel, form.colour)

    def short(moment: float, values: tuple[Any, ...]) -> bytes | None:
        text = message % values
        if not _plain(text) or len(text) > CONSOLE_ROOM:
            return None
        return f"{stamp(moment)}{head}{text}{ending}".encode("utf-8", "replace")

    return short


def _raw(form: RawForm, shape: Shape) -> ShortForm:
    message, ending = shape.message, form.ending

    def short(moment: float, values: tuple[Any, ...]) -> bytes | None:
        text = message % values
        if not _plain(text) or len(text) > MAX_LINE:
            return None
        return (text + ending).encode("utf-8", "replace")

    return short


def _plain(text: str) -> bool:
    """Whether it is printable ASCII, which nothing has to be written out of."""
    return text.isascii() and text.isprintable()
