"""What the workers of a pool are started with, for a plan: command, environment, limits, template.

How one starts is the worker's own affair, and when, the crew's.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import evolve

from twisted_rr.pool.confine import confined
from twisted_rr.pool.host import PoolHost
from twisted_rr.pool.settings import ServerSettings
from twisted_rr.pool.spec import (
    LaunchSpec,
    PoolPlan,
    launch_spec,
    preload_patience,
    resolve_identity,
    why_no_preload,
    worker_env,
)
from twisted_rr.pool.state import TemplateInfo


class Recruits:
    """The same for every worker of one plan."""

    def __init__(self, host: PoolHost, server: ServerSettings, mode: str, env: Mapping[str, str]) -> None:
        """*mode* becomes RR_MODE, *env* is the plugin's own part of the environment. Raises ConfigError: no such user."""
        self._host = host
        self._mode = mode
        self._env = dict(env)
        self._identity = resolve_identity(server.user, server.group)

    def spec(self, plan: PoolPlan) -> LaunchSpec:
        """What a worker is started with."""
        host, server = self._host, confined(plan.server, plan.settings)
        env = worker_env(plan.environ, server, self._mode, host.version, host.rpc, self._env)
        command = plan.settings.command or server.command
        spec = launch_spec(command, server, self._identity, env, host.getpid())
        templates = host.templates
        if templates is None:
            return spec
        return evolve(spec, preload=preload_patience(plan.settings, server, templates.auto))

    def renew_template(self, plan: PoolPlan) -> None:
        """Workers that *plan* starts from now on take the application's code of now, if they are preloaded."""
        if self._host.templates is not None:
            self._host.templates.renew(self.spec(plan))

    def template(self, plan: PoolPlan) -> TemplateInfo | None:
        """The template of *plan*'s workers, or why there is none; None where nobody asks for it."""
        templates = self._host.templates
        if templates is None:
            return None
        reason = why_no_preload(plan.settings, plan.server, templates.auto)
        if reason is None:
            return None
        return TemplateInfo(reason=reason) if reason else templates.info(self.spec(plan))
