"""Loggers by channel, and the server's log as its configuration describes it; the one importer of txaio.

Importing this, or taking a logger, starts no logging: an application that embeds the server has its own.
`begin` does, once, for who owns the process. Forms of lines and sinks are in `logs`.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import txaio
from twisted.internet.interfaces import IReactorTime
from twisted.logger import (
    ILogObserver,
    LogBeginner,
    Logger,
    LogLevel,
    LogPublisher,
    globalLogBeginner,
    globalLogPublisher,
)
from twisted.python.components import Componentized

from .config.sections import ChannelSettings, FileLoggerSettings, LogSettings
from .errors import ConfigError, ConfigProblem
from .logs.lines import ConsoleForm, Form, JsonForm, RawForm
from .logs.outlet import Outlet, Route, Way
from .logs.rotation import RotatingSink
from .logs.shape import Shape
from .logs.sinks import FileSink, Sink, StreamSink

txaio.use_twisted()
_make_logger: Callable[..., Any] = vars(txaio)["make_logger"]  # which use_twisted() has put there

_MEGABYTE = 1 << 20
_RETRY = 0.1  # seconds until a stalled sink is tried again
_STREAMS = {"stderr": 2, "stdout": 1, "/dev/stderr": 2, "/dev/stdout": 1}


# ------------------------------------------------------------------------------- loggers


class _Emitter(Logger):
    """Puts the channel into every event."""

    def __init__(self, channel: str) -> None:
        super().__init__(f"twisted_rr.{channel}", None, globalLogPublisher)
        self.channel = channel

    def emit(self, level: Any, format: str | None = None, **fields: object) -> None:
        fields["channel"] = self.channel
        super().emit(level, format, **fields)


class ChannelLogger:
    """A logger of one channel. A level that is off costs one call of an empty function.

    ``debug``, ``info``, ``warn``, ``error``, ``critical`` take ``(format, **fields)``, ``failure`` takes
    ``(format, failure=None, **fields)`` and adds the traceback.

    :ivar debug_enabled: whether ``debug`` does anything; look at it before making costly fields.
    :ivar info_enabled: the same for ``info``.
    """

    __slots__ = (
        *("channel", "critical", "debug", "debug_enabled", "error", "failure"),
        *("info", "info_enabled", "level", "warn", "_inner"),
    )
    debug: Callable[..., None]
    info: Callable[..., None]
    warn: Callable[..., None]
    error: Callable[..., None]
    critical: Callable[..., None]
    failure: Callable[..., None]

    def __init__(self, channel: str, level: str) -> None:
        self.channel = channel
        self._inner = _make_logger(logger=lambda observer, namespace: _Emitter(channel))
        self.set_level(level)

    def set_level(self, level: str) -> None:
        """Let through *level* and above: debug, info, warn, error, critical, or none."""
        self._inner.set_log_level(level)
        for name in ("debug", "info", "warn", "error", "critical", "failure"):
            setattr(self, name, getattr(self._inner, name))
        self.level = level
        self.debug_enabled = level == "debug"
        self.info_enabled = level in ("debug", "info")


class Lines:
    """Lines of one shape, at info: they come out as ``log.info(shape.format, ...)`` would write them.

    Where the server's log is the only observer there is, an event is not even made.
    """

    __slots__ = ("_log", "_routes", "_shape", "_types", "_ways")

    def __init__(self, log: Any, shape: Shape) -> None:
        """*log* is a `ChannelLogger`, or anything that has its ``info``."""
        self._log = log
        self._shape = shape
        # What is of no channel of ours goes the long way, as do values of other types.
        self._types = shape.types if isinstance(log, ChannelLogger) else None
        self._routes: object = None
        self._ways: tuple[Way, ...] = ()

    def write(self, *values: Any) -> None:
        """One line; *values* in the order of the shape's format."""
        log = self._log
        observers: Any = getattr(globalLogPublisher, "_observers", ())
        if len(observers) != 1 or observers[0].__class__ is not Outlet or [*map(type, values)] != self._types:
            log.info(self._shape.format, **self._shape.fields(values))
        elif log.info_enabled:
            outlet: Outlet = observers[0]
            if outlet.routes is not self._routes:
                self._ways = outlet.ways(log.channel, self._shape)
                self._routes = outlet.routes
            outlet.write(self._ways, time.time(), values)


_loggers: dict[str, ChannelLogger] = {}
_levels: dict[str, str] = {}
_default_level = "info"


def logger(channel: str) -> ChannelLogger:
    """The logger of *channel*: http, server, status and so on; one for each channel."""
    found = _loggers.get(channel)
    if found is None:
        found = _loggers[channel] = ChannelLogger(channel, _levels.get(channel, _default_level))
    return found


def set_levels(default: str, channels: Mapping[str, str]) -> None:
    """Set the level of every logger, made or yet to be made: debug, info, warn, error, critical, none."""
    global _default_level
    _default_level = default
    _levels.clear()
    _levels.update(channels)
    for channel, known in _loggers.items():
        known.set_level(channels.get(channel, default))


# ---------------------------------------------------------------------------- server's log


class ServerLog:
    """The log of a process that this server owns.

    :ivar observer: takes events; given to ``globalLogBeginner`` by `install`, or by who else begins logging
        (under twistd: ``application.setComponent(ILogObserver, log.observer)``).
    """

    def __init__(
        self,
        settings: LogSettings,
        *,
        clock: IReactorTime | None = None,
        environ: Mapping[str, str] | None = None,
        streams: Mapping[str, int] | None = None,
        default_output: str = "stderr",
    ) -> None:
        """Open the sinks; raises ConfigError when a file cannot be opened.

        :param clock: where a retry of a stalled sink is scheduled; without one it waits for the next line.
        :param environ: for NO_COLOR and TERM.
        :param streams: descriptors of ``stdout`` and ``stderr``.
        :param default_output: where lines go when the settings name no output (a daemon's log file).
        """
        self._default_output = default_output
        self._clock = clock
        turn = getattr(clock, "rr_turn", None)
        # A timer, which is what other reactors have for it, may not come any more when the reactor stops.
        self._turn = turn if turn is not None and turn.driven else None
        self._environ = environ or {}
        self._numbers = {**_STREAMS, **(streams or {})}
        self._sinks: dict[str, Sink] = {}
        self._retry: Any = None
        self._lost = 0
        self._publisher: LogPublisher | None = None
        self._levels_before: tuple[str, dict[str, str]] | None = None
        default, channels = self._routes(settings)
        self.observer = Outlet(default, channels)
        self._levels = _effective_levels(default, channels)

    # ------------------------------------------------------------- life

    def install(
        self,
        beginner: LogBeginner = globalLogBeginner,
        publisher: LogPublisher = globalLogPublisher,
    ) -> None:
        """Begin logging, or join in where somebody has begun it already."""
        self.use_levels()
        self._publisher = publisher
        begun = vars(beginner).get("_temporaryObserver") is None
        if begun:
            publisher.addObserver(self.observer)
        else:
            beginner.beginLoggingTo([self.observer], redirectStandardIO=False)

    def use_levels(self) -> None:
        """Let the loggers follow these settings' levels; `install` does it."""
        if self._levels_before is None:
            self._levels_before = (_default_level, dict(_levels))
        set_levels(*self._levels)

    def apply(self, settings: LogSettings) -> None:
        """Go on with other settings; raises ConfigError, and then nothing has changed."""
        before, self._sinks = self._sinks, {}
        try:
            default, channels = self._routes(settings)
        except ConfigError:
            self._sinks = before
            raise
        self.observer.route(default, channels)
        self._levels = _effective_levels(default, channels)
        self.use_levels()
        for sink in before.values():
            sink.flush()
        self._lost += sum(sink.dropped for sink in before.values())
        _close(before)

    def reopen(self) -> None:
        """Open files and streams again, after they were moved away or this process was daemonized."""
        for sink in self._sinks.values():
            sink.reopen()

    def stop(self, patience: float = 1.0) -> None:
        """End it: at most *patience* seconds for what waits, then close. Levels are as before."""
        if self._publisher is not None:
            self._publisher.removeObserver(self.observer)
            self._publisher = None
        self._clock = None
        if self._retry is not None and self._retry.active():
            self._retry.cancel()
        if self._levels_before is not None:
            set_levels(*self._levels_before)
            self._levels_before = None
        for sink in self._sinks.values():
            sink.drain(patience)
        _close(self._sinks)
        self._lost += sum(sink.dropped for sink in self._sinks.values())
        self._sinks = {}

    def flush(self) -> None:
        """Try to write what waits for stalled sinks."""
        for sink in self._sinks.values():
            sink.flush()

    @property
    def dropped(self) -> int:
        """Lines that were lost because a sink failed or stalled, and events that could not be written."""
        return self._lost + self.observer.failed + sum(sink.dropped for sink in self._sinks.values())

    # ----------------------------------------------------------- routes

    def _routes(self, settings: LogSettings) -> tuple[Route, dict[str, Route]]:
        problems: list[ConfigProblem] = []
        default = self._route(settings, "logs", problems)
        channels = {
            name: self._route(_inherited(one, settings), f"logs.channels.{name}", problems)
            for name, one in settings.channels.items()
        }
        if problems:
            _close(self._sinks)
            raise ConfigError(problems)
        return default, channels

    def _route(self, settings: ChannelSettings, path: str, problems: list[ConfigProblem]) -> Route:
        if settings.mode in ("none", "off"):
            return Route("none", ())
        level = settings.level or "info"
        targets = []
        for name in self._outputs(settings):
            try:
                sink = self._sink(name, settings.file_logger_options)
            except OSError as error:
                problems.append(ConfigProblem(f"{path}.output", f"cannot open {name}: {error.strerror}"))
                continue
            targets.append((form := self._form(settings, sink), sink))
            sink.note = functools.partial(_lost, form)
        return Route("critical" if level == "panic" else level, tuple(targets))

    def _outputs(self, settings: ChannelSettings) -> tuple[str, ...]:
        if settings.file_logger_options is not None:
            return (settings.file_logger_options.log_output,)
        return settings.output or (self._default_output,)

    def _sink(self, name: str, options: FileLoggerSettings | None) -> Sink:
        """The sink called *name*, opened once however many channels share it."""
        known = self._sinks.get(name)
        if known is None:
            known = self._sinks[name] = self._opened(name, options)
            known.stalled = self._retry_later
            known.turn = self._turn
        return known

    def _opened(self, name: str, options: FileLoggerSettings | None) -> Sink:
        if options is not None:
            size = (options.max_size or 100) * _MEGABYTE
            return RotatingSink(name, size, options.max_backups, options.max_age, options.compress)
        number = self._numbers.get(name)
        return FileSink(name) if number is None else StreamSink(name, number)

    def _retry_later(self) -> None:
        if self._clock is not None and (self._retry is None or not self._retry.active()):
            self._retry = self._clock.callLater(_RETRY, self.flush)

    def _form(self, settings: ChannelSettings, sink: Sink) -> Form:
        ending = "\n" if settings.line_ending is None else settings.line_ending.replace("\\n", "\n")
        terminal = isinstance(sink, StreamSink) and sink.is_terminal
        if settings.file_logger_options is not None or settings.mode == "production":
            return JsonForm(ending)
        if settings.mode == "raw":
            return RawForm(ending)
        if settings.mode == "development" or terminal:
            return ConsoleForm(terminal and self._wants_colour(), ending)
        return JsonForm(ending)

    def _wants_colour(self) -> bool:
        return not self._environ.get("NO_COLOR") and self._environ.get("TERM") != "dumb"


def _inherited(one: ChannelSettings, main: LogSettings) -> ChannelSettings:
    """A channel's settings, completed by those of the whole log."""
    own_output = one.output is not None or one.file_logger_options is not None
    return attrs.evolve(
        one,
        mode=one.mode or main.mode,
        level=one.level or main.level,
        line_ending=main.line_ending if one.line_ending is None else one.line_ending,
        output=one.output if own_output else main.output,
        file_logger_options=one.file_logger_options if own_output else main.file_logger_options,
    )


def _effective_levels(default: Route, channels: Mapping[str, Route]) -> tuple[str, dict[str, str]]:
    return default.level, {name: route.level for name, route in channels.items()}


def _close(sinks: Mapping[str, Sink]) -> None:
    for sink in sinks.values():
        sink.close()


def _lost(form: Form, count: int) -> bytes:
    """The line that says that lines are missing before it."""
    return form(
        {
            "log_format": "{count} lines of the log were lost here: it could not be written to",
            "log_level": LogLevel.warn,
            "log_time": time.time(),
            "channel": "logs",
            "count": count,
        }
    )


_current: ServerLog | None = None


def begin(
    settings: LogSettings | None = None,
    *,
    application: Componentized | None = None,
    clock: IReactorTime | None = None,
    environ: Mapping[str, str] | None = None,
    streams: Mapping[str, int] | None = None,
    default_output: str = "stderr",
) -> ServerLog:
    """Open the log as *settings* say and begin logging; for who owns the process. See `ServerLog`.

    :param application: under twistd, which begins logging itself just after it made the services: the
        application that then names our observer instead of twistd's own. Without it lines come twice.

    Raises ConfigError. A second time, the first log is stopped.
    """
    global _current
    log = ServerLog(
        settings or LogSettings(),
        clock=clock,
        environ=environ,
        streams=streams,
        default_output=default_output,
    )
    stop()
    if application is not None:
        application.setComponent(ILogObserver, log.observer)
        log.use_levels()
    else:
        log.install()
    _current = log
    return log


def apply(settings: LogSettings) -> None:
    """Let the log that `begin` has begun go on as *settings* say; nothing without one.

    Raises ConfigError, and then nothing has changed.
    """
    if _current is not None:
        _current.apply(settings)


def reopen() -> None:
    """Open the files of the log that `begin` has begun again; for SIGUSR1. Nothing without one."""
    if _current is not None:
        _current.reopen()


def stop() -> None:
    """End the log that `begin` has begun, with what still waits. Nothing without one."""
    global _current
    if _current is not None:
        _current.stop()
        _current = None
