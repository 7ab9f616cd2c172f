"""Runs a server as this process: reactor, log, signals, the block at the start, the exit code."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.python.failure import Failure

import twisted_rr
from twisted_rr import log
from twisted_rr.build import make_server
from twisted_rr.compiled import in_short
from twisted_rr.config import Config
from twisted_rr.discovery import ServerPlugin
from twisted_rr.errors import ConfigError, ListenError, PluginLoadError
from twisted_rr.lifecycle.budget import Budget
from twisted_rr.lifecycle.process import Process
from twisted_rr.lifecycle.server import Server
from twisted_rr.net.inherited import Inherited
from twisted_rr.tap import follow, own

from .application import spoken
from .reload import Reload


class Run:
    """One `twisted-rr serve`."""

    def __init__(
        self,
        process: Process,
        config: Config,
        plugins: Mapping[str, ServerPlugin],
        *,
        reload: Path | None = None,
        inherited: Inherited | None = None,
        read: Callable[[], Config] | None = None,
        folder: str = "",
    ) -> None:
        """*read* reads the configuration again; *folder* is where workers run that no file's folder is given for."""
        self._process = process
        self._config = config
        self._plugins = plugins
        self._reload = reload
        self._inherited = inherited
        self._read = read
        self._folder = folder

    def run(self, install: Callable[[], None]) -> None:
        """Serve until a signal; *install* installs the reactor. Ends the process through its exit code."""
        install()
        from twisted.internet import reactor as global_reactor

        reactor = own(global_reactor)
        try:
            log.begin(self._config.settings("logs"), clock=reactor, environ=os.environ)
            server = make_server(
                self._config,
                reactor,
                plugins=self._plugins,
                on_failure=self._failed,
                stop=self._process.signals.stop,
                inherited=self._inherited,
                read=self._read,
                folder=self._folder,
            )
            follow(self._process, server, reactor, self._config)
            server.privilegedStartService()
        except ListenError as error:
            error.key = spoken(self._config, self._config.key_of(error.address))
            sys.stderr.write(f"{error}\n")
            raise SystemExit(1) from None
        except (ConfigError, PluginLoadError) as error:
            sys.stderr.write(f"{error}\n")
            raise SystemExit(1) from None
        reactor.addSystemEventTrigger("before", "shutdown", server.stopService)
        reactor.callWhenRunning(self._start, server, reactor)
        # Our handlers are in place already, and workers are reaped by pidfd without SIGCHLD.
        reactor.run(installSignalHandlers=False)

    def _failed(self, failure: Failure) -> None:
        self._process.failed(failure)

    def _start(self, server: Server, reactor: Any) -> None:
        try:
            server.startService()
        except Exception:
            self._process.failed(Failure())
            return
        server.ready().addCallbacks(lambda _: self._ready(server, reactor), lambda failure: None)

    def _ready(self, server: Server, reactor: Any) -> None:
        tell_start(server)
        if self._reload is not None:
            Reload(self._reload, server, reactor).start()
        # What stands now stands for long: the collector need not look at it again.
        gc.collect()
        gc.freeze()


def tell_start(server: Server) -> None:
    """One block on a terminal, one record elsewhere."""
    facts = start_facts(server)
    if sys.stderr.isatty():
        width = max(len(name) for name in facts)
        lines = [f"  {name:<{width}}  {value}" for name, value in facts.items()]
        sys.stderr.write("\n".join([f"twisted_rr {twisted_rr.__version__}", *lines, ""]) + "\n")
    else:
        log.logger("server").info("serving", event="serving", **facts)


def start_facts(server: Server) -> dict[str, str]:
    """What a person wants to know at the start: where, how many, how long a stop may take."""
    facts: dict[str, str] = {}
    for phase, name in (("FRONT", "serving"), ("STATUS", "status")):
        urls = [
            url_of(child.address, child.name) for child in server.phase(phase) if hasattr(child, "address")
        ]
        if urls:
            facts[name] = ", ".join(urls)
    if not server.fronts():
        facts["serving"] = "nothing"
    pools = {pool.name: capacity_of(pool.workers()) for pool in server.pools()}
    if pools:
        one = len(pools) == 1
        facts["workers"] = ", ".join(text if one else f"{name} {text}" for name, text in pools.items())
    facts["stop"] = describe_budget(server.drain.budget)
    facts["build"] = in_short()
    return facts


def capacity_of(workers: Sequence[Any]) -> str:
    """How many there are, and what one of them holds."""
    if not workers:
        return "none"
    limit = max(each.limit for each in workers)
    return f"{len(workers)} x {limit} {'call' if limit == 1 else 'calls'} at once"


def describe_budget(budget: Budget) -> str:
    """How long a stop takes at most."""
    announce = f", {budget.announce_max:g}s of it to announce" if budget.announce_max else ""
    return f"within {budget.total:g}s{announce}"


def url_of(address: str, protocol: str = "http") -> str:
    """What to type into a browser for a listener's address, or to give to a client of gRPC: it gets no scheme.

    A unix socket's path stays as it is.
    """
    if address.startswith("unix:"):
        return address
    host, _, port = address.rpartition(":")
    everywhere = {"0.0.0.0": "127.0.0.1", "[::]": "127.0.0.1", "": "127.0.0.1"}
    scheme = "grpc " if protocol == "grpc" else "http://"
    return f"{scheme}{everywhere.get(host, host)}:{port}"
