"""`--reload`: replaces the workers when a file of the application changes. For development."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from twisted_rr import log
from twisted_rr.lifecycle.server import Server
from twisted_rr.tap import reset


class Reload:
    """Watches *folder* from a thread of its own, which ends with the process."""

    def __init__(self, folder: Path, server: Server, reactor: Any) -> None:
        self._folder = folder
        self._server = server
        self._reactor = reactor
        self._ended = threading.Event()
        self._log = log.logger("reload")

    def start(self) -> None:
        """Begin to watch."""
        self._reactor.addSystemEventTrigger("before", "shutdown", self._ended.set)
        threading.Thread(target=self._watch, name="reload", daemon=True).start()
        self._log.info("watching {folder} for changes", folder=str(self._folder))

    def _watch(self) -> None:
        from watchfiles import PythonFilter, watch

        for changes in watch(
            self._folder, watch_filter=PythonFilter(extra_extensions=(".php",)), stop_event=self._ended
        ):
            names = sorted({Path(path).name for _, path in changes})
            self._reactor.callFromThread(self._changed, names)

    def _changed(self, names: list[str]) -> None:
        if self._server.drain.draining:
            return
        self._log.info("{names} changed: replacing the workers", names=", ".join(names[:5]))
        reset(self._server)


def available() -> bool:
    """Whether the library that watches files is installed."""
    from importlib.util import find_spec

    return find_spec("watchfiles") is not None
