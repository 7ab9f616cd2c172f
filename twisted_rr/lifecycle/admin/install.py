"""From a configuration to the admin service in its phase: whether there is one, where, and under which name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from zope.interface import implementer

from twisted_rr.config import Config
from twisted_rr.interfaces import IHost, IMetrics
from twisted_rr.lifecycle.admin import place
from twisted_rr.lifecycle.admin.place import Place
from twisted_rr.lifecycle.admin.service import AdminService
from twisted_rr.lifecycle.phases import CONTROL
from twisted_rr.lifecycle.previous_exit import PreviousExit
from twisted_rr.lifecycle.server import Server


def install(
    config: Config,
    server: Server,
    host: IHost,
    environ: Mapping[str, str],
    stop: Callable[[str], object] | None,
) -> AdminService | None:
    """Place the service, if the process is ours (*stop* stops it) or ``admin.socket`` asks for one.

    Offers the previous run's end to whoever collects `PreviousExit`, as a callable, and `IMetrics`.
    """
    settings = config.settings("admin")
    configured = settings.socket if settings is not None else None
    if configured is None and stop is None:
        return None
    name, facts = _identity(config)
    service = AdminService(
        server,
        _places(configured, os.path.dirname(_file(config)), name, environ),
        configured=configured is not None,
        facts=facts,
        stop=stop,
    )
    host.place(CONTROL, service)
    host.provide(PreviousExit, lambda: service.previous)
    host.provide(IMetrics, PreviousExitMetric(service))
    return service


def _identity(config: Config) -> tuple[str, dict[str, Any]]:
    """The server's name, and what its state file tells; now, because twistd changes the directory later."""
    path = _file(config)
    if path:
        return place.name_of_file(path), {"config": path}
    application = _application(config)
    facts = {"folder": os.path.realpath("."), "application": application}
    return place.name_of_application(".", application), facts


def _file(config: Config) -> str:
    """The path of the configuration, empty when there is none (its files may still be those of variables)."""
    return "" if config.source.startswith("<") else os.path.abspath(config.source)


def _application(config: Config) -> str:
    command = config.settings("server").command if config.settings("server") is not None else ()
    return str(command[-1]) if command else ""


def _places(
    configured: str | None, folder: str, name: str, environ: Mapping[str, str]
) -> Callable[[], Sequence[Place]]:
    if configured is None:
        return lambda: place.places(name, environ, os.geteuid())
    path = configured.removeprefix("unix://")
    # From the configuration's own folder: the one thing that a command knows too, wherever the server works.
    chosen = place.at(path if path.startswith("@") else os.path.abspath(os.path.join(folder, path)))
    return lambda: [chosen]


@implementer(IMetrics)
class PreviousExitMetric:
    """``rr_previous_exit{reason}``: 1 for how the run before ended."""

    def __init__(self, service: AdminService) -> None:
        self._service = service

    def samples(self) -> Iterable[tuple[str, str, str, Mapping[str, str], float]]:
        """See `IMetrics`; nothing while it is not known."""
        previous = self._service.previous
        if previous is not None:
            labels = {"reason": previous.label}
            yield ("rr_previous_exit", "gauge", "How the previous run of this server ended.", labels, 1.0)
