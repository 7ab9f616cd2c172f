"""The status plugin: puts the status listener into phase STATUS."""

from __future__ import annotations

from twisted_rr.interfaces import IHost
from twisted_rr.plugins.status.config import StatusSettings
from twisted_rr.plugins.status.service import StatusService

#: What the section ``status`` is read to.
SETTINGS = StatusSettings


def build(settings: StatusSettings, host: IHost) -> None:
    """Place the listener; it collects `IHealth` and `IInFlight` providers when it is asked."""
    host.place("STATUS", StatusService(host, settings, bind=host.bind))
