"""The observer that sends each event to the sinks of its channel, in their forms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import attrs
from twisted.logger import ILogObserver, LogLevel
from zope.interface import implementer

from .lines import Event, Form, channel_of, level_of
from .shape import Shape, ShortForm, short_form
from .sinks import Long, Sink

Way: TypeAlias = tuple[ShortForm, Long, Sink, bool]
"""The short form, the long one, the sink, and whether that may gather lines."""

_RANKS = {"debug": 0, "info": 1, "warn": 2, "error": 3, "critical": 4, "none": 5}


@attrs.frozen
class Route:
    """What one channel's events go through.

    :ivar level: the least level that is written: debug, info, warn, error, critical; none writes nothing.
    """

    level: str
    targets: tuple[tuple[Form, Sink], ...]

    @property
    def rank(self) -> int:
        """The level as a number, to compare."""
        return _RANKS[self.level]


@implementer(ILogObserver)
class Outlet:
    """Takes every event; never raises, because whoever logs is in the middle of something.

    :ivar failed: events that could not be written out, most likely for a field's broken ``__repr__``.
    :ivar routes: another object after each `route`.
    """

    def __init__(self, default: Route, channels: Mapping[str, Route]) -> None:
        self.failed = 0
        self.route(default, channels)

    def route(self, default: Route, channels: Mapping[str, Route]) -> None:
        """Use these routes from now on."""
        self._default = default
        self._channels = dict(channels)
        self.routes = object()

    def write(self, ways: tuple[Way, ...], moment: float, values: tuple[Any, ...]) -> None:
        """As an event at info would be; *values* are of the shape's types. Never raises either.

        :param ways: of their shape on their channel, as `ways` gives them.
        """
        try:
            for short, long, sink, gathers in ways:
                if gathers:
                    sink.gather(short, long, moment, values)
                elif sink.clogged():
                    sink.lose(1)
                else:
                    sink.write(short(moment, values) or long(moment, values))
        except Exception:
            self.failed += 1

    def ways(self, channel: str, shape: Shape) -> tuple[Way, ...]:
        """The ways of a shape's lines on a channel, as long as `routes` is the same."""
        route = self._channels.get(channel, self._default)
        if _RANKS["info"] < route.rank:
            return ()
        return tuple(
            (short_form(form, shape, channel), _long(form, shape, channel), sink, _ends(form))
            for form, sink in route.targets
        )

    def __call__(self, event: Event) -> None:
        try:
            self._write(event)
        except Exception:
            self.failed += 1

    def _write(self, event: Event) -> None:
        route = self._channels.get(channel_of(event), self._default)
        if _rank(event) < route.rank:
            return
        for form, sink in route.targets:
            if sink.clogged():
                # In a burst, to make a line costs ten times what it costs to drop it.
                sink.lose(1)
            else:
                sink.write(form(event))


def _rank(event: Event) -> int:
    """Twisted's own chatter at info (factories, ports) is debug to an operator of this server."""
    level: Any = event.get("log_level")
    if level is LogLevel.critical:
        return _RANKS["critical"]
    name = level_of(event)
    if name == "info" and channel_of(event) == "twisted":
        return _RANKS["debug"]
    return _RANKS[name]


def _long(form: Form, shape: Shape, channel: str) -> Long:
    return lambda moment, values: form(shape.event(channel, moment, values))


def _ends(form: Form) -> bool:
    """Lines that do not end where they seem to could not be counted once several are in one write."""
    return getattr(form, "ending", "") in ("\n", "\r\n")
