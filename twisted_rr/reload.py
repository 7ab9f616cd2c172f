"""Going over to a changed configuration while the server runs: all of it in one step, or nothing (design: Reload).

How one pool changes its workers is `pool.succession`'s subject, what a section can change its plugin's
(`IReloadable`). Which signal or verb asks for a reload is decided elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final, Protocol

import attrs
from twisted.internet.defer import CancelledError, Deferred, FirstError, gatherResults
from twisted.python.failure import Failure

from twisted_rr import log as server_log
from twisted_rr.config import Config
from twisted_rr.config.difference import changed_keys, covers
from twisted_rr.errors import ConfigError, ConfigProblem, Draining, RRError, WorkerStartError
from twisted_rr.interfaces import IReloadable
from twisted_rr.lifecycle.admin.settings import AdminSettings
from twisted_rr.lifecycle.budget import Budget
from twisted_rr.lifecycle.drain import DRAINED, RUNNING, WrongState
from twisted_rr.lifecycle.server import Server
from twisted_rr.lifecycle.settings import DrainSettings
from twisted_rr.log import logger
from twisted_rr.pool import confine
from twisted_rr.pool.pool import WorkerPool
from twisted_rr.pool.settings import PoolSettings, ServerSettings
from twisted_rr.pool.spec import PRIVATE, PoolPlan
from twisted_rr.pool.succession import LIVE as POOL_LIVE
from twisted_rr.pool.succession import SERVER_LIVE, Succession

#: Keys of ``drain`` that the process has taken to heart at its start: how signals and the exit are told.
DRAIN_FIXED: Final = frozenset({"second_signal", "report", "exit_code"})

#: What can change of the sections that belong to no plugin.
GENERAL_LIVE: Final = frozenset(
    {"endure", "logs", "compat", "env"}
    | {f"drain.{field.name}" for field in attrs.fields(DrainSettings) if field.name not in DRAIN_FIXED}
    | {f"server.{name}" for name in SERVER_LIVE}
)

#: What a section that is not there means.
ABSENT: Final = {"server": ServerSettings(), "drain": DrainSettings(), "admin": AdminSettings()}

RESTART: Final = "cannot change while the server runs: restart it"


@attrs.frozen
class PlacedPool:
    """A pool, and where its settings are: *key* of *section*."""

    section: str
    key: str
    pool: WorkerPool

    def settings(self, config: Config) -> PoolSettings | None:
        """Its settings in *config*; None when the section is gone."""
        section = config.settings(self.section)
        if isinstance(section, Mapping):
            found: PoolSettings | None = section.get(self.key)
            return found
        return None if section is None else attrgetter(self.key)(section)


class Running(Protocol):
    """The server that is running, as its builder knows it.

    :ivar config: the configuration in force.
    :ivar pools: every pool.
    """

    config: Config
    server: Server
    pools: list[PlacedPool]

    def collect(self, interface: Any) -> Iterable[Any]:
        """Every provider of *interface*."""

    def server_settings(self, config: Config) -> ServerSettings:
        """The section ``server`` of *config*, completed."""

    def plan_stop(self, config: Config) -> tuple[Budget, list[str]]:
        """The budget of a stop under *config*, and warnings; raises ConfigError."""

    def use_budget(self, budget: Budget) -> None:
        """Stop by *budget* from now on."""


@attrs.frozen(kw_only=True)
class Reloaded:
    """What a reload did; both empty: nothing had changed.

    :ivar changed: paths of the keys that have other values now.
    :ivar replaced: names of the pools whose workers were replaced.
    """

    changed: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.changed and not self.replaced:
            return "nothing has changed"
        parts = [f"changed: {', '.join(self.changed)}"] if self.changed else []
        if self.replaced:
            parts.append(f"workers replaced: {', '.join(self.replaced)}")
        return "; ".join(parts)


@attrs.frozen(kw_only=True)
class Change:
    """A configuration that can be applied, and the steps that do it."""

    config: Config
    keys: tuple[str, ...]
    budget: Budget
    warnings: Sequence[str]
    steps: Sequence[Callable[[], Any]]
    successions: Sequence[Succession]

    @property
    def replaced(self) -> tuple[str, ...]:
        """Names of the pools whose workers are replaced."""
        return tuple(each.name for each in self.successions if each.replaces)


def live_keys(pools: Iterable[PlacedPool], reloadables: Iterable[Any]) -> frozenset[str]:
    """Paths of the keys, or of what they are in, that can change while the server runs."""
    keys = set(GENERAL_LIVE)
    for placed in pools:
        keys.update(f"{placed.section}.{placed.key}.{name}" for name in POOL_LIVE)
    for reloadable in reloadables:
        keys.update(f"{reloadable.section}.{name}" for name in reloadable.live)
    return frozenset(keys)


def working_folder(environ: Mapping[str, str]) -> str:
    """The working directory as people wrote it: by PWD where that is the same folder, its links not followed.

    So a reload finds where a link such as ``current`` leads by then; what the kernel tells has forgotten the link.
    """
    told, real = environ.get("PWD", ""), os.getcwd()
    try:
        return told if os.path.isabs(told) and os.path.samefile(told, real) else real
    except OSError:
        return real


class Reloader:
    """Reloads one server; one reload at a time, and what is asked for meanwhile is done once, afterwards."""

    def __init__(self, running: Running, read: Callable[[], Config]) -> None:
        """*read* reads the configuration as at the start; raises ConfigError and PluginLoadError."""
        self._running = running
        self._read = read
        self._asked: list[tuple[Deferred[Reloaded], str, bool]] = []
        self._busy = False
        self._log = logger("reload")

    def reload(self, cause: str, replace: bool = False) -> Deferred[Reloaded]:
        """Read the configuration again and apply all of it, or nothing.

        *replace*: workers are replaced even if nothing about them changed. Fires when the new workers serve. Fails
        with ConfigError (every problem; nothing was applied), WorkerStartError (a new worker did not start),
        WrongState or Draining (the server stops). All of it is logged here.
        """
        done: Deferred[Reloaded] = Deferred()
        self._asked.append((done, cause, replace))
        if not self._busy:
            self._busy = True
            Deferred.fromCoroutine(self._work())
        return done

    async def _work(self) -> None:
        while self._asked:
            asked, self._asked = self._asked, []
            causes = ", ".join(dict.fromkeys(cause for _, cause, _ in asked))
            try:
                outcome: Any = await self._until_drain(causes, any(replace for _, _, replace in asked))
            except Exception:
                outcome = Failure()
            for done, _, _ in asked:
                done.callback(outcome)
        self._busy = False

    # ------------------------------------------------------------------ one reload

    async def _until_drain(self, cause: str, replace: bool) -> Reloaded:
        """One reload, which ends where it is when a drain begins."""
        server = self._running.server
        drain = server.drain
        if drain.draining:
            self._log.warn("no reload for {cause}: {state}", cause=cause, state=drain.state)
            raise WrongState("reload", drain.state)
        work: Deferred[Reloaded] = Deferred()
        unwatch = drain.watch(lambda state: work.cancel() if drain.draining else None)
        try:
            work = Deferred.fromCoroutine(self._told(cause, replace))
            return await work
        finally:
            unwatch()

    async def _told(self, cause: str, replace: bool) -> Reloaded:
        server = self._running.server
        begun = server.clock.seconds()
        try:
            if server.drain.state not in (RUNNING, DRAINED):
                await server.ready()
            server.notify.reloading(server.clock.seconds())
            reloaded = await self._reload(cause, replace)
        except (CancelledError, Draining):
            self._log.warn("the reload for {cause} ends where it is: the server stops", cause=cause)
            raise Draining() from None
        except ConfigError as error:
            self._refuse(cause, error)
            raise
        except RRError as error:
            self._log.error("the reload for {cause} failed: {reason}", cause=cause, reason=str(error))
            raise
        except Exception:
            self._log.failure("the reload for {cause} failed", cause=cause)
            raise
        finally:
            if not server.drain.draining:
                server.notify.ready(server.line())
        self._log.info(
            "reloaded for {cause} in {seconds:.2f} s: {outcome}",
            event="reloaded",
            cause=cause,
            seconds=server.clock.seconds() - begun,
            outcome=str(reloaded),
        )
        return reloaded

    def _refuse(self, cause: str, error: ConfigError) -> None:
        self._log.error(
            "the configuration is not applied ({cause}); the server goes on as it was: {problems}",
            event="reload_refused",
            cause=cause,
            problems="; ".join(str(problem) for problem in error.problems),
        )

    async def _reload(self, cause: str, replace: bool) -> Reloaded:
        self._log.info("reading {source} again for {cause}", source=self._running.config.source, cause=cause)
        change = self._prepared(self._read(), replace)
        if not change.keys and not change.successions:
            return Reloaded()
        # Nothing has happened yet, and what follows may be refused.
        self._log.info(
            "to be changed: {changed}; workers to be replaced: {replaced}",
            changed=", ".join(change.keys) or "nothing",
            replaced=", ".join(change.replaced) or "none",
        )
        await self._prove(change)
        try:
            self._apply_logs(change)
        except BaseException:
            self._abandon(change)
            raise
        committed = self._commit(change)
        await self._replaced(committed)
        return Reloaded(changed=change.keys, replaced=change.replaced)

    # ------------------------------------------------------------------ before: nothing is changed

    def _prepared(self, config: Config, replace: bool) -> Change:
        """Everything checked; raises ConfigError with all problems."""
        running = self._running
        keys = changed_keys(running.config, config, ABSENT, PRIVATE)
        reloadables = list(running.collect(IReloadable))
        problems = self._fixed(keys, live_keys(running.pools, reloadables))
        steps: list[Callable[[], Any]] = []
        budget, warnings = running.server.drain.plan, list[str]()
        try:
            budget, warnings = running.plan_stop(config)
        except ConfigError as error:
            problems += error.problems
        for reloadable in reloadables if keys else ():
            settings = config.settings(reloadable.section)
            if settings is not None:
                try:
                    steps.append(reloadable.prepare(settings))
                except ConfigError as error:
                    problems += error.problems
        successions = self._successions(config, replace, problems)
        if problems:
            raise ConfigError(problems)
        warnings = [*(str(warning) for warning in config.warnings), *warnings]
        return Change(
            config=config, keys=keys, budget=budget, warnings=warnings, steps=steps, successions=successions
        )

    def _fixed(self, keys: Iterable[str], live: frozenset[str]) -> list[ConfigProblem]:
        return [ConfigProblem(key, RESTART) for key in keys if not covers(live, key)]

    def _successions(
        self, config: Config, replace: bool, problems: list[ConfigProblem]
    ) -> Sequence[Succession]:
        server = self._running.server_settings(config)
        found = []
        for placed in self._running.pools:
            settings = placed.settings(config)
            if settings is None:
                continue  # its section is gone, which is among the problems
            if not (settings.command or server.command):
                problems.append(
                    ConfigProblem("server.command", f"is required: {placed.section} needs workers")
                )
                continue
            problems += confine.problems(server, settings, f"{placed.section}.{placed.key}")
            each = Succession(placed.pool, PoolPlan(settings, server, config.environment), replace)
            if each.changes:
                found.append(each)
        return found

    async def _prove(self, change: Change) -> None:
        """One worker of each kind is started; the first that does not come ends them all."""
        proofs = [each.prove() for each in change.successions]
        try:
            await gatherResults(proofs, consumeErrors=True)
            for each in change.successions:
                each.check()
        except BaseException as error:
            for proof in proofs:
                proof.cancel()
            self._abandon(change)
            if isinstance(error, FirstError):
                self._tell_workers(
                    error, "the new workers do not start: nothing is changed, the old ones stay"
                )
                raise error.subFailure.value or error from None
            raise

    def _abandon(self, change: Change) -> None:
        for each in change.successions:
            each.abandon()

    # ------------------------------------------------------------------ the step

    def _apply_logs(self, change: Change) -> None:
        """First of all, because it alone may still be refused: a file that cannot be opened."""
        if any(covers({"logs"}, key) for key in change.keys):
            server_log.apply(change.config.settings("logs"))

    def _commit(self, change: Change) -> list[Deferred[None]]:
        """Everything goes over to the new configuration, in this reactor turn."""
        running = self._running
        running.config = change.config
        if change.budget != running.server.drain.plan:
            running.use_budget(change.budget)
        for step in change.steps:
            try:
                step()
            except Exception:
                # It had been checked: a fault of ours, and no reason to be half old, half new.
                self._log.failure("a part of the new configuration could not be applied")
        for warning in change.warnings:
            self._log.warn("{warning}", warning=warning)
        return [each.commit() for each in change.successions]

    async def _replaced(self, committed: list[Deferred[None]]) -> None:
        try:
            await gatherResults(committed, consumeErrors=True)
        except FirstError as error:
            self._tell_workers(
                error,
                "the new configuration is in force, but not every worker could be started: old ones that are left go on",
            )
            raise error.subFailure.value or error from None

    def _tell_workers(self, error: FirstError, text: str) -> None:
        if isinstance(error.subFailure.value, WorkerStartError):
            self._log.error("{text}", text=text)
