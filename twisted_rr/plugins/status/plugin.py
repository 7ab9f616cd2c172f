"""The status plugin: puts the status listener into phase STATUS."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred

from twisted_rr.interfaces import IHost, IReloadable
from twisted_rr.plugins.status.checks.command import Commands
from twisted_rr.plugins.status.checks.connect import ask_http, ask_tcp
from twisted_rr.plugins.status.checks.runner import Run
from twisted_rr.plugins.status.checks.settings import CheckSettings
from twisted_rr.plugins.status.config import StatusSettings
from twisted_rr.plugins.status.service import StatusService

#: What the section ``status`` is read to.
SETTINGS = StatusSettings


def build(settings: StatusSettings, host: IHost, environ: Mapping[str, str] = os.environ) -> None:
    """Place the listener; it collects `IHealth` and `IInFlight` providers when it is asked.

    :raises ConfigError: a check runs a command and ``server.user`` does not exist.
    """
    run = runner_of(host, environ) if settings.checks else None
    options: dict[str, Any] = {} if run is None else {"run": run}
    service = StatusService(host, settings, bind=host.bind, **options)
    host.place("STATUS", service)
    host.provide(IReloadable, service)


def runner_of(host: IHost, environ: Mapping[str, str]) -> Run:
    """What runs one check of any kind on *host*."""
    reactor = host.reactor
    commands = Commands(reactor, host.setting("server"), environ)

    def run(check: CheckSettings, timeout: float) -> Deferred[Any]:
        if check.exec is not None:
            return commands.run(check.exec)
        if check.tcp is not None:
            return Deferred.fromCoroutine(ask_tcp(reactor, check.tcp, timeout))
        assert check.http is not None
        return Deferred.fromCoroutine(ask_http(reactor, check.http, timeout))

    return run
