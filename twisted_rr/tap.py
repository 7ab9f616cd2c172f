"""`twistd rr`: its options, and the service tree for the process's own reactor.

The only module that knows the global reactor. Given a reactor, `makeService` treats the process as
somebody else's: no signals, no exit code.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from twisted.application.service import IService, MultiService
from twisted.python import usage

from twisted_rr import log
from twisted_rr.build import make_server, read_config
from twisted_rr.config import Config
from twisted_rr.errors import ConfigError, ListenError, PluginLoadError
from twisted_rr.lifecycle import termination
from twisted_rr.lifecycle.process import Process
from twisted_rr.lifecycle.server import Server
from twisted_rr.lifecycle.settings import DrainSettings
from twisted_rr.net.inherited import Inherited, claim
from twisted_rr.reload import working_folder


class Options(usage.Options):
    """What ``twistd rr`` takes; twistd's own options stand before ``rr``."""

    synopsis = "[--config FILE] [-o key=value ...]"  # twistd puts its own part before it
    longdesc = "Serves the applications of a RoadRunner configuration with isolated workers."
    optParameters = [
        ["config", "c", ".rr.yaml", "The configuration file."],
        ["dotenv", None, None, "A file of environment variables to read first."],
    ]

    def __init__(self) -> None:
        super().__init__()
        self["overrides"] = []

    def opt_override(self, text: str) -> None:
        """Override one key, such as http.pool.num_workers=4; may be repeated."""
        self["overrides"].append(text)

    opt_o = opt_override

    def postOptions(self) -> None:
        """Read the configuration, while there is a terminal to tell its problems to.

        And take over passed sockets, while this is the process that they are for: twistd forks later.
        """
        self["inherited"] = claim(os.environ)
        try:
            folder = working_folder(os.environ)
        except OSError as error:
            sys.stderr.write(f"cannot work in this folder: {error.strerror}\n")
            raise SystemExit(1) from None
        self["read"] = functools.partial(
            read_config,
            self["config"],
            overrides=self["overrides"],
            dotenv=self["dotenv"],
            folder=folder,
        )
        try:
            self["settings"] = self["read"]()
        except (ConfigError, PluginLoadError) as error:
            # Not a UsageError: twistd prints its whole help for those and exits with 0.
            sys.stderr.write(f"{error}\n")
            raise SystemExit(1) from None


def makeService(options: Options, reactor: Any = None) -> IService:
    """The service tree for parsed *options*. Without *reactor*, the process is ours: signals and exit code too."""
    config: Config = options["settings"]
    if reactor is not None:
        return make_server(config, reactor, inherited=options["inherited"], read=options["read"])
    from twisted.internet import reactor as global_reactor

    twistd = getattr(options, "parent", None) or {}
    return _OfThisProcess(config, own(global_reactor), twistd, options["inherited"], options["read"])


def own(reactor: Any) -> Any:
    """Make *reactor* ours: its clock becomes monotonic, before anybody made a timer with it."""
    reactor.seconds = time.monotonic
    return reactor


def follow(process: Process, server: Server, reactor: Any, config: Config) -> None:
    """Let the signals and the exit code of *process* be those of *server*."""
    process.signals.reopen = log.reopen
    process.signals.reload = lambda: again(server, "SIGHUP")
    process.signals.reset = lambda: again(server, "SIGUSR2", replace=True)
    drain: DrainSettings = config.settings("drain") or DrainSettings()
    process.follow(server, reactor, drain)
    last_words(server, drain.report.termination_log)


def again(server: Server, cause: str, replace: bool = False) -> None:
    """Reload *server*; how it went is told in the log."""
    if server.reload is not None:
        server.reload(cause, replace).addErrback(lambda failure: None)


def reset(server: Server) -> None:
    """Replace the workers of every pool, one after the other."""
    logger = log.logger("pool")
    for pool in server.pools():
        pool.reset().addErrback(lambda failure: logger.failure("the reset failed", failure=failure))


def last_words(server: Server, mode: str, path: str = termination.PATH) -> None:
    """Leave the report of a stop where Kubernetes looks for it, as ``drain.report.termination_log`` says."""
    if mode == "false":
        return

    def write() -> None:
        if server.report is not None:
            trouble = termination.write(server.report.record(), path, must=mode == "true")
            if trouble:
                log.logger("drain").warn("{path}: {trouble}", path=path, trouble=trouble)

    server.at_end(write)


class _OfThisProcess(MultiService):
    """The root under twistd: a port in use is one line in the foreground, and twistd's own report in a daemon."""

    def __init__(
        self,
        config: Config,
        reactor: Any,
        twistd: Mapping[str, Any],
        inherited: Inherited,
        read: Callable[[], Config],
    ) -> None:
        super().__init__()
        self._config = config
        self._reactor = reactor
        self._twistd = twistd
        self._process = Process()
        try:
            process = self._process
            server = make_server(
                config,
                reactor,
                on_failure=process.failed,
                stop=process.signals.stop,
                inherited=inherited,
                read=read,
            )
        except (ConfigError, PluginLoadError) as error:
            sys.stderr.write(f"{error}\n")
            raise SystemExit(1) from None
        follow(self._process, server, reactor, config)
        server.setServiceParent(self)

    def setServiceParent(self, parent: Any) -> None:
        """Into twistd's application, whose log becomes ours unless ``--logger`` or ``--syslog`` was given."""
        super().setServiceParent(parent)
        if self._twistd.get("logger") or self._twistd.get("syslog"):
            return
        try:
            log.begin(
                self._config.settings("logs"),
                application=parent,
                clock=self._reactor,
                environ=os.environ,
                default_output=self._log_output(),
            )
        except ConfigError as error:
            sys.stderr.write(f"{error}\n")
            raise SystemExit(1) from None

    def _log_output(self) -> str:
        """Where twistd was told to log, or would by itself: a daemon to twistd.log."""
        file: str | None = self._twistd.get("logfile")
        if file == "-":
            return "stdout"
        if not file and self._twistd.get("nodaemon", True):
            return "stderr"
        # Whole, because twistd goes to --rundir later, and the file is opened again there.
        return os.path.abspath(file or "twistd.log")

    def privilegedStartService(self) -> None:
        try:
            super().privilegedStartService()
        except ListenError as error:
            self._process.exits.fail()
            error.key = self._config.key_of(error.address)
            if not self._twistd.get("nodaemon"):
                # twistd hands the error to the waiting parent, which prints it and exits with 1.
                raise
            sys.stderr.write(f"{error}\n")
            self._remove_pid_file()
            raise SystemExit(1) from None

    def _remove_pid_file(self) -> None:
        """twistd does it for other errors only. In a container the next start has the same process id: its own."""
        if self._twistd.get("pidfile"):
            with contextlib.suppress(OSError):
                os.unlink(self._twistd["pidfile"])
