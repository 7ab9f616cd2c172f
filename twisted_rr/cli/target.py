"""Which server a command is for: by ``--socket``, by the configuration, or by the working directory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from twisted_rr.lifecycle.admin import place

from .client import Connection, NobodyThereError

DEFAULT = ".rr.yaml"


class AmbiguousError(Exception):
    """Several servers answer to the same name."""


class Target:
    """One server, as the command line names it.

    :param socket: of ``--socket``.
    :param config: of ``-c``.
    :param application: ``module:attribute``, for a server without a configuration.
    """

    def __init__(
        self,
        *,
        socket: str | None,
        config: str | None,
        application: str | None,
        environ: Mapping[str, str],
        folder: str,
        uid: int,
    ) -> None:
        self._socket = socket
        self._application = application
        self._environ = environ
        self._folder = folder
        self._uid = uid
        self._guessed = config is None and application is None
        if self._guessed and os.path.exists(os.path.join(folder, DEFAULT)):
            config = DEFAULT
        self._config = None if config is None else os.path.join(folder, config)
        self._sections: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        """For messages."""
        if self._socket is not None:
            return self._socket
        return self._config or self._application or f"the folder {self._folder}"

    def connect(self, timeout: float | None) -> Connection:
        """To its admin socket; raises `NobodyThereError` and `AmbiguousError`."""
        if self._socket is not None:
            return Connection(self._socket.removeprefix("unix://"), timeout)
        found = self._living(self._found(), timeout) or self._living(self._configured(), timeout)
        if not found:
            gone = self._config is not None and not os.path.exists(self._config)
            raise NobodyThereError("nobody listens" + (", and there is no such file" if gone else ""))
        for _, other in found[1:]:
            other.close()
        if len(found) > 1:
            found[0][1].close()
            listed = ", ".join(f"{path} (process {connection.pid})" for path, connection in found)
            raise AmbiguousError(
                f"several servers run for {self}; say which, as MODULE:ATTRIBUTE or by --socket: {listed}"
            )
        return found[0][1]

    def _living(self, sockets: list[str], timeout: float | None) -> list[tuple[str, Connection]]:
        living = []
        for path in sockets:
            try:
                living.append((path, Connection(path, timeout)))
            except NobodyThereError:
                continue  # what a killed server left behind
        return living

    def _found(self) -> list[str]:
        if self._config is not None:
            found = place.find(place.name_of_file(self._config), self._environ, self._uid)
            # Beside a configuration that nobody asked for, an application may be what is served.
            return found or (self._in_folder() if self._guessed else [])
        if self._application is not None:
            name = place.name_of_application(self._folder, self._application)
            return place.find(name, self._environ, self._uid)
        return self._in_folder()

    def _in_folder(self) -> list[str]:
        return place.find_in_folder(self._folder, self._environ, self._uid)

    def _configured(self) -> list[str]:
        socket = str(self._section("admin").get("socket") or "").removeprefix("unix://")
        if not socket or socket.startswith("@"):
            return [socket] if socket else []
        # As the server does: from the folder of the configuration.
        return [os.path.join(os.path.dirname(self._config or ""), socket)]

    def status_address(self) -> str | tuple[str, int] | None:
        """Where the status endpoints are, by the configuration; None when it does not say."""
        address = str(self._section("status").get("address") or "").removeprefix("tcp://")
        if address.startswith("unix:"):
            return address.removeprefix("unix:").removeprefix("//")
        host, _, port = address.rpartition(":")
        if not port.isdecimal():
            return None
        anywhere = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "::1"}
        return anywhere.get(host, host.strip("[]")), int(port)

    def _section(self, name: str) -> Mapping[str, Any]:
        if self._config is None:
            return {}
        if self._sections is None:
            self._sections = read_sections(self._config, self._environ)
        section = self._sections.get(name)
        return section if isinstance(section, dict) else {}


def read_sections(path: str, environ: Mapping[str, str]) -> Mapping[str, Any]:
    """A configuration's sections as plain data, whatever plugins they are for; empty when it cannot be read.

    Slower than all the rest, and therefore the last resort.
    """
    from twisted_rr.config import Registry, kinds, load
    from twisted_rr.config.registry import ROADRUNNER_SECTIONS
    from twisted_rr.config.report import Report
    from twisted_rr.config.source import read_yaml
    from twisted_rr.errors import ConfigError

    registry = Registry()
    try:
        with open(path, encoding="utf-8-sig") as file:
            top = read_yaml(file.read(), path, Report())
        names = {name.partition(".")[0] for name in getattr(top, "entries", ())}
        for name in sorted(ROADRUNNER_SECTIONS | names | {"admin", "drain"}):
            if name not in registry.sections and name == name.lower() and not name.startswith("x-"):
                registry.add(name, kinds.any_value(), name)
        return load(path, registry, environ=environ).data
    except (OSError, ValueError, ConfigError):
        return {}
