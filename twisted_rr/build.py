"""From a configuration to a service tree: the one place that knows all parts.

Which plugins exist is discovery's; what a section means is its plugin's. Nothing is started here.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs
from twisted.application.service import IService, Service
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

import twisted_rr
from twisted_rr.coherence import check_commands, something_is_served
from twisted_rr.config import Config, Registry, load
from twisted_rr.config.kinds.section import Section
from twisted_rr.config.nodes import Node
from twisted_rr.config.report import Place
from twisted_rr.discovery import ServerPlugin, discover
from twisted_rr.errors import ConfigError, ConfigProblem, PluginLoadError
from twisted_rr.interfaces import IFront, IHealth, IHost, IMetrics, IWorkerPool
from twisted_rr.lifecycle.admin.install import install as install_admin
from twisted_rr.lifecycle.admin.settings import AdminSettings
from twisted_rr.lifecycle.budget import Budget, plan
from twisted_rr.lifecycle.clock import MonotonicClock
from twisted_rr.lifecycle.notify import Notifier
from twisted_rr.lifecycle.phases import FRONT, STATUS, WORKERS
from twisted_rr.lifecycle.server import Server
from twisted_rr.lifecycle.settings import DrainSettings
from twisted_rr.lifecycle.watchdog import Watchdog, watchdog_interval
from twisted_rr.log import logger
from twisted_rr.named_pools import POOLS, NamedPools, check_pools
from twisted_rr.named_pools import SECTION as POOLS_SECTION
from twisted_rr.net import ports
from twisted_rr.net.inherited import Inherited
from twisted_rr.net.turn import turn_of
from twisted_rr.pool import child, confine
from twisted_rr.pool.host import PoolHost, StopSchedule
from twisted_rr.pool.metrics import PoolMetrics
from twisted_rr.pool.on_init import AfterInit, OnInit
from twisted_rr.pool.pool import WorkerPool
from twisted_rr.pool.relay import RelayListener, relay_service
from twisted_rr.pool.settings import PoolSettings, ServerSettings
from twisted_rr.pool.spawner import Spawner
from twisted_rr.pool.strangers import Strangers, become_subreaper
from twisted_rr.pool.templates import Templates
from twisted_rr.reload import PlacedPool, Reloader


class PluginSection(Section):
    """The section of a plugin that is imported only when a configuration has that section."""

    def __init__(self, plugin: ServerPlugin) -> None:
        self._plugin = plugin

    @property
    def cls(self) -> type[Any]:  # type: ignore[override]
        """The plugin's settings class; raises `PluginLoadError`."""
        settings: type[Any] = self._plugin.load().SETTINGS
        return settings

    def read(self, node: Node, at: Place) -> Any:
        """The plugin's settings; a plugin that cannot be loaded is a problem of the section."""
        try:
            self._plugin.load()
        except PluginLoadError as error:
            return at.reject(node, str(error))
        return super().read(node, at)


def registry(plugins: Mapping[str, ServerPlugin]) -> Registry:
    """Every section that this installation understands; raises `PluginLoadError` for one that cannot have its name."""
    known = Registry()
    known.add("server", ServerSettings)
    known.add("drain", DrainSettings)
    known.add("admin", AdminSettings)
    known.add(
        "pools", POOLS, "More pools by name, each with the keys of http.pool; http.routes leads to them."
    )
    known.rule(check_pools)
    known.rule(check_commands)
    known.rule(something_is_served(plugins))
    for plugin in plugins.values():
        try:
            known.add(plugin.name, PluginSection(plugin), plugin.description)
        except ValueError as error:
            raise PluginLoadError(plugin.name, str(error)) from None
    return known


def read_config(
    source: str | os.PathLike[str] | Mapping[str, Any],
    *,
    overrides: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    dotenv: str | None = None,
    plugins: Mapping[str, ServerPlugin] | None = None,
    folder: str | os.PathLike[str] = ".",
    workdir: str | os.PathLike[str] | None = None,
) -> Config:
    """Read a file, or a dict with the same keys; raises `ConfigError` with every problem.

    *source* is resolved from *folder*, and the files in it from its own folder unless *workdir* is another.
    """
    environ = os.environ if environ is None else environ
    plugins = discover() if plugins is None else plugins
    return load(
        source,
        registry(plugins),
        overrides=overrides,
        environ=environ,
        dotenv=dotenv,
        directory=folder,
        workdir=workdir,
    )


def plan_budget(config: Config, environ: Mapping[str, str]) -> tuple[Budget, list[str]]:
    """The budget of a stop that *config* means, and warnings; raises `ConfigError` when it does not fit."""
    try:
        return plan(config.settings("drain") or DrainSettings(), config.settings("endure"), environ)
    except ConfigError as error:
        placed = [(each.path, each.reason, each.where or config.place(each.path)) for each in error.problems]
        raise ConfigError([ConfigProblem(*each) for each in placed]) from None


@implementer(IHost)
class Host:
    """What one plugin is given: the server's parts, and its own name on logs."""

    def __init__(self, builder: Builder, name: str) -> None:
        self._builder = builder
        self._name = name
        self.reactor = builder.reactor
        self.clock = builder.server.clock
        self.drain = builder.server.drain
        self.turn = turn_of(builder.reactor)

    def log(self, part: str) -> Any:
        """See `IHost`."""
        return logger(self._name)

    def pool(
        self,
        name: str,
        settings: PoolSettings,
        mode: str,
        key: str = "pool",
        env: Mapping[str, str] | None = None,
    ) -> IWorkerPool:
        """See `IHost`."""
        pool = self._builder.pool(name, settings, mode, env)
        self._builder.pools.append(PlacedPool(self._name, key, pool))
        return pool

    def named_pool(self, name: str, mode: str, key: str, env: Mapping[str, str] | None = None) -> IWorkerPool:
        """See `IHost`."""
        return self._builder.named.get(name, mode, key, env)

    def bind(self, address: str, key: str = "address") -> ports.BoundPort:
        """See `IHost`."""
        passed = self._builder.inherited.take(self._name, address, key, self._builder.plugins)
        return ports.bind(address) if passed is None else passed

    def place(self, phase: str, service: IService) -> None:
        """See `IHost`. A front is offered to whoever collects `IFront`, such as the status answers."""
        self._builder.server.place(phase, service)
        if IFront.providedBy(service):
            self.provide(IFront, service)

    def provide(self, interface: Any, provider: object) -> None:
        """See `IHost`."""
        self._builder.providers.setdefault(interface, []).append(provider)

    def collect(self, interface: Any) -> Iterable[Any]:
        """See `IHost`."""
        return self._builder.collect(interface)

    def setting(self, section: str) -> Any:
        """See `IHost`."""
        return self._builder.config.settings(section)

    def fail(self, failure: Failure) -> None:
        """See `IHost`."""
        self._builder.server.fail(failure)


class _Rest(Service):
    """Placed last: closes the passed sockets that no listener took."""

    name = "passed sockets"

    def __init__(self, inherited: Inherited) -> None:
        self._inherited = inherited

    def privilegedStartService(self) -> None:
        self._inherited.close_rest()


class Builder:
    """One server being put together."""

    def __init__(
        self,
        config: Config,
        reactor: Any,
        plugins: Mapping[str, ServerPlugin],
        *,
        environ: Mapping[str, str],
        clock: IReactorTime | None,
        on_failure: Callable[[Failure], None] | None,
        stop: Callable[[str], object] | None = None,
        inherited: Inherited | None = None,
        read: Callable[[], Config] | None = None,
        folder: str = "",
    ) -> None:
        self.config = config
        self.inherited = Inherited() if inherited is None else inherited
        self.reactor = reactor
        self.plugins = plugins
        self.providers: dict[Any, list[Any]] = {}
        self.pools: list[PlacedPool] = []
        self.named = NamedPools(self)
        self._environ = environ
        self._folder = folder
        self._stop = stop
        drain: DrainSettings = config.settings("drain") or DrainSettings()
        self.budget, self.warnings = self.plan_stop(config)
        self.server = Server(
            reactor,
            self.budget,
            clock=clock,
            notify=Notifier(environ),
            on_failure=on_failure,
            tell=drain.report.log,
        )
        self._pool_host: PoolHost | None = None
        self._stop_schedule = StopSchedule(term=self.budget.frame, kill=self.budget.worker_stop)
        if read is not None:
            self.server.reload = Reloader(self, read).reload

    def build(self) -> Server:
        """Load the plugins whose sections are there and let each build its part."""
        for plugin in self.plugins.values():
            settings = self.config.settings(plugin.name)
            if settings is not None:
                plugin.load().build(settings, Host(self, plugin.name))
        if self.inherited:
            # Bound in the order of the phases, so it sees what nobody took.
            self.server.place(FRONT, _Rest(self.inherited))
        install_admin(self.config, self.server, Host(self, "admin"), self._environ, self._stop)
        self._watch(self._environ)
        return self.server

    def _watch(self, environ: Mapping[str, str]) -> None:
        """Keep systemd's watchdog alive by what /health says; without a status section, by living at all."""
        interval = watchdog_interval(environ)
        if interval is None:
            return
        judges = [child for child in self.server.phase(STATUS) if hasattr(child, "healthy")]
        watchdog = Watchdog(
            self.server.notify,
            self.server.clock,
            interval,
            lambda: all(judge.healthy() for judge in judges),
            environ=environ,
        )
        self.server.place(STATUS, watchdog)

    def pool(
        self, name: str, settings: PoolSettings, mode: str, env: Mapping[str, str] | None = None
    ) -> WorkerPool:
        """A pool in phase WORKERS; raises `ConfigError` when nobody says what its workers run."""
        server = self.server_settings(self.config)
        if not (settings.command or server.command):
            raise ConfigError(
                [ConfigProblem("server.command", f"is required: the command that runs {name}'s workers")]
            )
        named = name in (self.config.settings(POOLS_SECTION) or {})
        where = f"{POOLS_SECTION}.{name}" if named else f"{name}.pool"
        if impossible := confine.problems(server, settings, where):
            raise ConfigError(impossible)
        pool = WorkerPool(name, mode, settings, server, self._pool_host_for(server), env)
        self.server.place(WORKERS, pool)
        self.providers.setdefault(IHealth, []).append(pool.health)
        self.providers.setdefault(IMetrics, []).append(PoolMetrics(pool, mode))
        return pool

    def collect(self, interface: Any) -> Iterable[Any]:
        """Every provider of *interface* so far."""
        return list(self.providers.get(interface, ()))

    def server_settings(self, config: Config) -> ServerSettings:
        """The section ``server``. Workers of a file run in the folder of its relative files, as under RoadRunner.

        Links are followed now, so that a reload finds where they lead by then.
        """
        server: ServerSettings = config.settings("server") or ServerSettings()
        folder = config.folder or self._folder
        if server.directory or not folder:
            return server
        return attrs.evolve(server, directory=os.path.realpath(folder))

    def plan_stop(self, config: Config) -> tuple[Budget, list[str]]:
        """See `plan_budget`."""
        return plan_budget(config, self._environ)

    def use_budget(self, budget: Budget) -> None:
        """Stop by *budget* from now on, the workers too."""
        self.budget = budget
        self.server.drain.replan(budget)
        self._stop_schedule.term, self._stop_schedule.kill = budget.frame, budget.worker_stop

    def _pool_host_for(self, server: ServerSettings) -> PoolHost:
        """Made once: pools share the relay's listener and the ``on_init`` command."""
        if self._pool_host is None:
            host = PoolHost(
                reactor=self.reactor,
                turn=turn_of(self.reactor),
                environ=self.config.environment,
                drain=self.server.drain,
                version=twisted_rr.__version__,
                relays=self._relays(server),
                stop=self._stop_schedule,
                start=child.start,
                templates=self._templates(),
            )
            if server.on_init is not None:
                before = OnInit(server.on_init, host, logger("server"))
                self.server.place(WORKERS, before)
                host = attrs.evolve(host, prepare=before.run)
            if server.after_init is not None:
                pools = self.server.pools
                self.server.place(WORKERS, AfterInit(server.after_init, host, logger("server"), pools))
            self._pool_host = host
        return self._pool_host

    def _templates(self) -> Templates:
        """Where workers are preloaded. A process that is not ours takes in orphans only when it was asked to."""
        strangers = Strangers(self.reactor, ours=self._stop is not None)

        def subreaper() -> None:
            become_subreaper()
            strangers.begin()

        templates = Templates(
            self.reactor,
            logger("server"),
            subreaper,
            auto=self._stop is not None,
            start=child.start,
            spawner=Spawner(self.reactor),
        )
        for service in (strangers, templates):
            self.server.place(WORKERS, service)
        return templates

    def _relays(self, server: ServerSettings) -> RelayListener | None:
        """The listener of ``server.relay``. It is placed before the pools, so that it closes after them."""
        service = relay_service(server, self.reactor, logger("server"))
        if service is None:
            return None
        service.setName("relay")
        self.server.place(WORKERS, service)
        return service.listener


def make_server(
    config: Config,
    reactor: Any,
    *,
    plugins: Mapping[str, ServerPlugin] | None = None,
    environ: Mapping[str, str] | None = None,
    clock: IReactorTime | None = None,
    on_failure: Callable[[Failure], None] | None = None,
    stop: Callable[[str], object] | None = None,
    inherited: Inherited | None = None,
    read: Callable[[], Config] | None = None,
    folder: str = "",
) -> Server:
    """The service tree for *config* on *reactor*; raises `ConfigError` and `PluginLoadError`.

    *clock* has monotonic seconds; without one a `MonotonicClock` over *reactor* is used unless its own
    seconds are monotonic already. *on_failure* is called when the server cannot go on; without it the
    server stops itself. *stop* stops the process, given a cause; without it the process is not ours, and there is
    an admin socket only when ``admin.socket`` asks for one. *inherited* has the sockets that a service manager passed.
    *read* reads the configuration again, for ``Server.reload``. *folder*: where workers of a configuration without
    a file run.
    """
    if clock is None and getattr(reactor, "seconds", None) is time.monotonic:
        clock = reactor
    builder = Builder(
        config,
        reactor,
        discover() if plugins is None else plugins,
        environ=os.environ if environ is None else environ,
        clock=MonotonicClock(reactor) if clock is None else clock,
        on_failure=on_failure,
        stop=stop,
        inherited=inherited,
        read=read,
        folder=folder,
    )
    server = builder.build()
    log = logger("config")
    for warning in [*(str(problem) for problem in config.warnings), *builder.warnings]:
        log.warn("{warning}", warning=warning)
    return server


def embed(
    config: str | os.PathLike[str] | Mapping[str, Any], reactor: Any, *, overrides: Sequence[str] = ()
) -> Server:
    """A server to add to a service tree of your own (docs/embedding): a dict with the keys of
    ``.rr.yaml``, or a file's path, and your reactor.

    It installs no signal handler, no exit hook and no log observer.
    """
    read = functools.partial(read_config, config, overrides=overrides)
    return make_server(read(), reactor, read=read)
