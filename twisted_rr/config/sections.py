"""The general sections, which belong to no plugin: version, endure, logs, compat, include, env.

Sections of plugins are declared beside their code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import attrs

from . import kinds
from .keys import key
from .kinds.base import ScalarKind
from .nodes import Scalar
from .report import Place

VERSION = "3"


class Version(ScalarKind):
    """The format's version: the text "3", and nothing like it."""

    expected = 'the text "3" in quotes'

    def parse(self, node: Scalar, at: Place) -> str:
        if node.text == VERSION and (node.quoted or node.expanded):
            return VERSION
        if re.fullmatch(r"[12](\..*)?", node.text):
            raise ValueError(
                f'this file is for RoadRunner {node.text[0]}; write version: "3" and check which of its keys differ'
            )
        raise ValueError

    def schema(self) -> dict[str, Any]:
        return {"const": VERSION}


def _ignored(kind: kinds.Kind, reason: str) -> Any:
    return key(kind, ignored=reason)


@attrs.frozen(kw_only=True)
class EndureSettings:
    """How the server as a whole stops. What grace_period is when it is absent depends on the platform."""

    grace_period: float | None = key(
        kinds.duration(),
        doc="The whole time a stop may take, from the signal to the exit (30s; 26s under Kubernetes).",
    )
    watchdog_sec: int | None = _ignored(kinds.integer(min=0), "the interval that systemd asks for is used")
    print_graph: bool | None = _ignored(
        kinds.boolean(), "the order of start and stop is fixed and documented"
    )
    log_level: str | None = _ignored(kinds.string(), "the level is logs.level")


MODES = ("development", "production", "raw", "none", "off")
LEVELS = ("debug", "info", "warn", "error", "panic")

_NO_TEMPLATES = "lines have one form for each mode"


def _mode() -> Any:
    return key(
        kinds.choice(*MODES),
        doc="development: text for people; production: JSON lines; raw: the message alone; none: nothing.",
    )


def _level() -> Any:
    return key(
        kinds.choice(*LEVELS), doc="The least level that is written: debug, info, warn, error or panic."
    )


def _output() -> Any:
    return key(
        kinds.list_of(kinds.file("stderr", "stdout")),
        doc="Where lines go: stderr, stdout or paths of files; several allowed.",
    )


def _line_ending() -> Any:
    return key(kinds.string(), doc="What each line ends with.")


def _file_logger_options() -> Any:
    return key(
        kinds.section(FileLoggerSettings), doc="A file that is rotated by size; it takes the place of output."
    )


@attrs.frozen(kw_only=True)
class FileLoggerSettings:
    """A log file with rotation; its lines are JSON."""

    log_output: str = key(kinds.file(), required=True, doc="The file's path.")
    max_size: int = key(
        kinds.integer(min=0), default=100, doc="Megabytes at which the file is rotated; 0: 100."
    )
    max_age: int = key(kinds.integer(min=0), default=24, doc="Days that rotated files are kept; 0: for ever.")
    max_backups: int = key(kinds.integer(min=0), default=10, doc="How many rotated files are kept; 0: all.")
    compress: bool = key(
        kinds.boolean(), default=False, doc="Whether rotated files are compressed with gzip."
    )


@attrs.frozen(kw_only=True)
class ChannelSettings:
    """One channel of the log; what is absent is as in ``logs``."""

    mode: str | None = _mode()
    level: str | None = _level()
    line_ending: str | None = _line_ending()
    output: tuple[str, ...] | None = _output()
    file_logger_options: FileLoggerSettings | None = _file_logger_options()
    encoding: str | None = _ignored(kinds.string(), "the mode decides between text and JSON")
    err_output: Any = _ignored(
        kinds.any_value(), "lines that cannot be written are counted, and told in the log itself"
    )
    format: str | None = _ignored(kinds.string(), _NO_TEMPLATES)
    time_format: str | None = _ignored(kinds.string(), _NO_TEMPLATES)
    skip_line_ending: bool | None = _ignored(kinds.boolean(), _NO_TEMPLATES)


@attrs.frozen(kw_only=True)
class LogSettings(ChannelSettings):
    """The server's log.

    Without a mode it is text on a terminal and JSON lines elsewhere; level info; on stderr.
    """

    channels: dict[str, ChannelSettings] = key(
        kinds.map_of(kinds.section(ChannelSettings)),
        factory=dict,
        doc="The same keys for single channels: http, server, status and so on.",
    )


@attrs.frozen(kw_only=True)
class CompatSettings:
    """How strictly a file made for RoadRunner is taken."""

    unserved: str = key(
        kinds.choice("error", "warn"),
        default="error",
        doc="What a section or key of RoadRunner that is not served here is: an error, or a warning.",
    )


#: Name, kind, value when absent, and one sentence for each general section.
GENERAL: Iterable[tuple[str, kinds.Kind, Any, str]] = (
    ("version", Version(), None, 'The format of this file, always "3".'),
    ("endure", kinds.section(EndureSettings), EndureSettings(), "How the server as a whole stops."),
    ("logs", kinds.section(LogSettings), LogSettings(), "The server's log."),
    ("compat", kinds.section(CompatSettings), CompatSettings(), "How a file made for RoadRunner is taken."),
    (
        "include",
        kinds.list_of(kinds.path(), separator=None),
        (),
        "More files; each of their sections replaces the one of this file.",
    ),
    ("envfile", kinds.path(), None, "A dotenv file beside this one; variables already set win over it."),
    ("env", kinds.environment(), {}, "Variables for the processes of all pools and services."),
)
