"""The forms of a log line: text for people, JSON for machines, the message alone.

A form takes an event of ``twisted.logger`` and gives the bytes of a whole line. None can be made to
look like two, or to carry a field it does not have: in text the fields stand before the message,
because whatever follows the message could be part of it.
"""

from __future__ import annotations

import functools
import json
import math
import re
import string
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias

import attrs
from twisted.logger import formatEvent
from twisted.python.failure import Failure

from .escape import MAX_LINE, capped, escaped, escaped_json, text_of

Event: TypeAlias = Mapping[str, Any]
Form: TypeAlias = Callable[[Event], bytes]

# What twisted.python.log puts into an event besides the fields of the caller.
_LEGACY = frozenset(
    ("channel", "format", "time", "system", "message", "isError", "failure", "why", "printed", "debugInfo")
)
_RESERVED = frozenset(("time", "level", "logger", "msg", "traceback"))
_LEVELS = {"critical": "error"}  # RoadRunner's readers know debug, info, warn and error
_COLOURS = {"debug": "2", "info": "32", "warn": "33", "error": "31"}
_PLAIN = re.compile(r"[A-Za-z0-9_./:@+-]{1,64}")
_MAX_TRACEBACK_LINES = 200
CONSOLE_ROOM = MAX_LINE - 128
"""Bytes for the fields and the message of a line of text."""


@attrs.frozen
class _Names:
    """What stands in a format's braces; *plain* when all of them are names and nothing else."""

    names: frozenset[str]
    plain: bool


@functools.lru_cache(maxsize=512)
def _names(format: str) -> _Names:
    try:
        fields = [name for _, name, _, _ in string.Formatter().parse(format) if name is not None]
    except ValueError:
        return _Names(frozenset(), False)
    names = frozenset(re.split(r"[.\[(]", name)[0] for name in fields)
    return _Names(names, all(name.isidentifier() for name in fields))


def level_of(event: Event) -> str:
    """``debug``, ``info``, ``warn`` or ``error``."""
    level = event.get("log_level")
    name = "info" if level is None else str(level.name)
    return _LEVELS.get(name, name)


def channel_of(event: Event) -> str:
    """The channel; for events of other people's loggers the first part of their namespace."""
    channel = event.get("channel")
    if channel is not None:
        return str(channel)
    namespace = str(event.get("log_namespace", "-")).partition(".")[0]
    return "twisted" if namespace == "log_legacy" else namespace  # twisted.python.log, twistd's own words


def message_of(event: Event) -> str:
    """The formatted message, or what a failure says when there is no message."""
    format = event.get("log_format")
    text = "" if format is None else _formatted(format, event)
    failure = event.get("log_failure")
    return _summary(failure) if not text and isinstance(failure, Failure) else text


def _formatted(format: Any, event: Event) -> str:
    """As ``formatEvent``; by ``str.format``, five times as fast, when only plain names are in braces."""
    if isinstance(format, str) and _names(format).plain:
        try:
            return format.format_map(event)
        except Exception:
            pass  # formatEvent tells what is wrong in the line itself
    return formatEvent(dict(event))


def _summary(failure: Failure) -> str:
    return f"{getattr(failure.type, '__name__', failure.type)}: {text_of(failure.value)}"


def traceback_of(event: Event) -> str:
    """The traceback of a failure, empty without one."""
    failure = event.get("log_failure")
    return failure.getTraceback().rstrip() if isinstance(failure, Failure) else ""


def fields_of(event: Event) -> dict[str, Any]:
    """What the caller said besides the message."""
    return {name: value for name, value in event.items() if is_field(name)}


def is_field(name: str) -> bool:
    """Whether it is the caller's, and no part of the event itself."""
    return not name.startswith("log_") and name not in _LEGACY


# ------------------------------------------------------------------------------- JSON


@attrs.frozen
class JsonForm:
    """JSON lines as RoadRunner's production mode: time (UTC, RFC 3339), level, logger, msg, then fields.

    A line that would be too long has its texts cut, the longest share kept by the traceback's end.
    """

    ending: str = "\n"

    def __call__(self, event: Event) -> bytes:
        return (_json_line(event) + self.ending).encode("utf-8", "replace")


def json_head(level: str, channel: str) -> str:
    """What stands between the time and the value of ``msg``."""
    return f',"level":{_dump(level)},"logger":{_dump(capped(channel, 64))},"msg":'


def json_name(name: str) -> str:
    """A field's name as its line has it, in quotes."""
    return _dump(name + "_" if name in _RESERVED else name)


def _json_line(event: Event) -> str:
    for limit in (MAX_LINE, 2048, 512, 96):
        line = _dump(_record(event, limit))
        if len(line) * 4 <= MAX_LINE or len(line.encode("utf-8", "replace")) <= MAX_LINE:
            return line
    head = {
        name: value
        for name, value in _record(event, 512).items()
        if name in ("time", "level", "logger", "msg")
    }
    return _dump({**head, "truncated": True})


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def _dump(record: dict[str, Any] | str) -> str:
    return escaped_json(_ENCODER.encode(record))


def _record(event: Event, limit: int) -> dict[str, Any]:
    record: dict[str, Any] = {
        "time": rfc3339(event.get("log_time", 0.0)),
        "level": level_of(event),
        "logger": capped(channel_of(event), 64),
        "msg": capped(message_of(event), limit),
    }
    for name, value in fields_of(event).items():
        record[name + "_" if name in _RESERVED else name] = _json_value(value, limit, 3)
    traceback = traceback_of(event)
    if traceback:
        record["traceback"] = _end_of(traceback, limit * 2)
    return record


def _json_value(value: Any, limit: int, depth: int) -> Any:
    if isinstance(value, str):
        return capped(value, limit)
    if value is None or isinstance(value, bool | int):
        return value if not isinstance(value, int) or abs(value) < 1 << 64 else str(value)[:limit]
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if depth and isinstance(value, Mapping):
        return {capped(text_of(key), 64): _json_value(one, limit, depth - 1) for key, one in value.items()}
    if depth and isinstance(value, list | tuple | set | frozenset):
        return [_json_value(one, limit, depth - 1) for one in value]
    return capped(text_of(value), limit)


def _end_of(traceback: str, limit: int) -> str:
    """The last lines of *traceback*: they name the exception."""
    return traceback if len(traceback) <= limit else "..." + traceback[-limit:]


_utc: tuple[int, str] = (
    0,
    "1970-01-01T00:00:00.",
)  # the last second's beginning in microseconds, and its text


def rfc3339(moment: float) -> str:
    """*moment*, seconds of the epoch, in UTC with microseconds."""
    global _utc
    micros = round(moment * 1_000_000)
    beginning, text = _utc  # read and set as one: threads log too
    if not 0 <= micros - beginning < 1_000_000:
        second, rest = divmod(micros, 1_000_000)
        text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
        if micros < 1_000_000:
            return f"{text}{rest:06d}Z"
        _utc = (micros - rest, text)
    return f"{text}{str(micros)[-6:]}Z"


# ------------------------------------------------------------------------------- text


@attrs.frozen
class ConsoleForm:
    """Text for people: local time, level, channel, fields, message; a traceback on lines of its own."""

    colour: bool
    ending: str = "\n"

    def __call__(self, event: Event) -> bytes:
        lines = [_console_line(event, self.colour), *_traceback_lines(event)]
        return "".join(line + self.ending for line in lines).encode("utf-8", "replace")


def console_head(level: str, channel: str, colour: bool) -> tuple[Callable[[float], str], str]:
    """What makes the time's text, and what stands between that and the message."""
    shown, name = f"{level:<5}", escaped(capped(channel, 64))
    if colour:
        shown = f"\x1b[{_COLOURS[level]}m{shown}\x1b[0m"
    return _dimmed if colour else _local, f" {shown} {name:<8} "


def _dimmed(moment: float) -> str:
    return f"\x1b[2m{_local(moment)}\x1b[0m"


def _console_line(event: Event, colour: bool) -> str:
    stamp, head = console_head(level_of(event), channel_of(event), colour)
    said = " ".join(f"{name}={_quoted(value)}" for name, value in _unsaid(event))
    body = escaped(f"[{said}] {message_of(event)}" if said else message_of(event))
    return stamp(event.get("log_time", 0.0)) + head + capped(body, CONSOLE_ROOM)


def _unsaid(event: Event) -> Iterable[tuple[str, Any]]:
    """The fields that the message does not show already. ``event`` and nested values are for programs."""
    said = _names(str(event.get("log_format") or "")).names
    return (
        (name, value)
        for name, value in fields_of(event).items()
        if name not in said and name != "event" and not isinstance(value, list | dict)
    )


def _quoted(value: Any) -> str:
    text = capped(text_of(value), 256)
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def _traceback_lines(event: Event) -> Iterable[str]:
    lines = traceback_of(event).splitlines()
    if len(lines) > _MAX_TRACEBACK_LINES:
        lines = ["...", *lines[-_MAX_TRACEBACK_LINES:]]
    return ("    | " + capped(escaped(line), 1024) for line in lines)


def _local(moment: float) -> str:
    return f"{_local_second(int(moment))}.{int(moment % 1 * 1000):03d}"


@functools.lru_cache(maxsize=4)
def _local_second(second: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))


@attrs.frozen
class RawForm:
    """The message alone; of a failure also what it says."""

    ending: str = "\n"

    def __call__(self, event: Event) -> bytes:
        text = message_of(event)
        failure = event.get("log_failure")
        if isinstance(failure, Failure) and text != _summary(failure):
            text = f"{text}: {_summary(failure)}"
        return (capped(escaped(text)) + self.ending).encode("utf-8", "replace")
