"""The templates of a server: one for each kind of worker that is preloaded, and what takes over where there is none.

What one of them does is template.py's subject.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList

from twisted_rr.pool.process import WorkerProcess
from twisted_rr.pool.spawner import Spawner
from twisted_rr.pool.spec import LaunchSpec
from twisted_rr.pool.state import TemplateInfo
from twisted_rr.pool.template import Birth, Template

AGAIN: Final = 5.0  # seconds after which another is tried, when one was lost
PIDFD_OPEN: Final[Callable[[int], int] | None] = getattr(os, "pidfd_open", None)


class Templates(Service):
    """The templates of a server: one for each kind of worker, started with the first worker of that kind.

    It stops with the pools. :ivar auto: whether ``--preload`` in a worker's command is enough (not when embedded).
    """

    name = "templates"

    def __init__(
        self,
        reactor: Any,
        log: Any,
        become_subreaper: Callable[[], None],
        *,
        auto: bool = True,
        getpid: Callable[[], int] = os.getpid,
        pidfd_open: Callable[[int], int] | None = PIDFD_OPEN,
        killpg: Callable[[int, int], None] = os.killpg,
        start: Callable[..., Any] | None = None,
        spawner: Spawner | None = None,
    ) -> None:
        """*spawner* starts what has no template. *become_subreaper* is called before the first fork; raises OSError where that is not possible."""
        self.auto = auto
        self.reactor = reactor
        self.log = log
        self.getpid = getpid
        self._become_subreaper = become_subreaper
        self._pidfd_open = pidfd_open
        self._killpg = killpg
        self._start = start
        self._spawner = spawner
        self._prepared = False
        self._stopping = False
        self._said: tuple[str, ...] = ()
        self._made: list[tuple[LaunchSpec, Template, float]] = []
        self._leaving: set[Template] = set()
        self._unmade = ""  # why the last one could not be started

    def startService(self) -> None:
        Service.startService(self)
        self._stopping = False

    def make_process(self, owner: Template) -> WorkerProcess:
        """A process for a template."""
        return WorkerProcess(
            owner, self.reactor, self.log, self._pidfd_open, self._killpg, "template", self._start
        )

    def pids(self) -> list[int]:
        """The templates that run."""
        return [template.pid for template in self._all() if template.process.alive]

    def info(self, spec: LaunchSpec) -> TemplateInfo:
        """What has become of the template for *spec*."""
        for made, template, _ in self._made:
            if made != spec:
                continue
            age = self.reactor.seconds() - template.since
            if template.over:
                return TemplateInfo(reason=template.lost or "it has ended")
            return TemplateInfo(pid=template.pid, ready=template.ready, seconds=age)
        return TemplateInfo(reason=self._unmade or "no worker has been started")

    # ------------------------------------------------------------------ what processes ask for

    def fork(self, spec: LaunchSpec, process: WorkerProcess, stdin: int, stdout: int) -> None:
        """Start *process* from the template for *spec*, or alone; it is told which. Raises OSError."""
        template = None if self._stopping or not spec.preload else self._usable(spec)
        if template is None:
            self.start_alone(spec, process, stdin, stdout)
        else:
            template.add(Birth.make(process, spec, stdin, stdout))

    def start_alone(self, spec: LaunchSpec, process: WorkerProcess, stdin: int, stdout: int) -> None:
        """Start *process* without a template. Raises OSError."""
        if self._spawner is None:
            process.start_alone(spec, stdin, stdout)
        else:
            self._spawner.fork(spec, process, stdin, stdout)

    def withdraw(self, process: WorkerProcess) -> bool:
        """*process* is not wanted any more. True: it was not asked for yet, and will not be."""
        if self._spawner is not None and self._spawner.withdraw(process):
            return True
        return any(template.withdraw(process) for template in self._all())

    def _usable(self, spec: LaunchSpec) -> Template | None:
        for entry in list(self._made):
            if entry[0] != spec:
                continue
            template, since = entry[1], entry[2]
            if not template.over:
                return template
            if template.refused or self.reactor.seconds() - since < AGAIN:
                return None
            self._drop(entry)
        return self._make(spec)

    def _make(self, spec: LaunchSpec) -> Template | None:
        try:
            if not self._prepared:
                self._become_subreaper()
                self._prepared = True
            template = Template(spec, self)
            if self._said:
                template.process.hold()  # until it is ready, or says something else than the one before
        except OSError as error:
            self._unmade = str(error)
            self.log.warn("no template, workers are started one by one: {reason}", reason=str(error))
            return None
        self._made.append((spec, template, self.reactor.seconds()))
        return template

    # ------------------------------------------------------------------ what pools ask for

    def renew(self, spec: LaunchSpec) -> None:
        """Workers that are started as *spec* says from now on come from a new template, with the code of then."""
        for entry in list(self._made):
            if entry[0] == spec:
                self._drop(entry)

    def _drop(self, entry: tuple[LaunchSpec, Template, float]) -> None:
        self._made.remove(entry)
        if entry[1].process.alive:
            self._leaving.add(entry[1])
        entry[1].retire()

    def heard_out(self, template: Template) -> None:
        """The last words of one that could not import the application are in the log once."""
        said = () if template.ready else template.process.said()
        template.process.release(drop=bool(said) and said == self._said)
        self._said = said

    def exited(self, template: Template) -> None:
        """A template has been reaped."""
        self._leaving.discard(template)
        self._made = [
            (spec, each, self.reactor.seconds() if each is template else since)
            for spec, each, since in self._made
        ]

    # ------------------------------------------------------------------ the end

    def _all(self) -> list[Template]:
        return [*(template for _, template, _ in self._made), *self._leaving]

    def stopService(self) -> Deferred[Any]:
        Service.stopService(self)
        self._stopping = True
        stopping = self._all()
        self._made.clear()
        self._leaving.update(template for template in stopping if template.process.alive)
        gone = [template.stop() for template in stopping]
        return DeferredList(gone)

    def hurry(self) -> None:
        """SIGKILL to every template."""
        for template in self._all():
            with contextlib.suppress(OSError):
                template.kill()
