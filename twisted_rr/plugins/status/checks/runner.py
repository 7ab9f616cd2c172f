"""Runs each check again and again and keeps what came of it; how one is run is in `connect` and `command`.

A check runs once at a time and is given up at its time-out. Only changes are logged: the reason may hold what no
anonymous client should read, so an answer tells the name alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from twisted_rr.plugins.status.checks.settings import CheckSettings

#: Runs a check once; fails with the reason. Its Deferred can be cancelled.
Run = Callable[[CheckSettings, float], "Deferred[Any]"]


def no_checks(settings: CheckSettings, timeout: float) -> Deferred[Any]:
    """For a listener that was made without the means to run any: each fails."""
    return fail(RuntimeError("nothing here runs checks"))


@attrs.frozen(kw_only=True)
class CheckFacts:
    """One check as it stands.

    :ivar needed: ``ready`` or ``health``.
    :ivar known: it has succeeded or failed at least once.
    :ivar failing: enough runs in a row have failed.
    """

    name: str
    needed: str
    known: bool
    failing: bool


class _Check:
    """One check and its rhythm."""

    def __init__(
        self, settings: CheckSettings, timeout: float, clock: IReactorTime, run: Run, log: Any
    ) -> None:
        self._settings = settings
        self._timeout = settings.timeout or timeout
        self._clock = clock
        self._run = run
        self._log = log
        self._timer: IDelayedCall | None = None
        self._limit: IDelayedCall | None = None
        self._running: Deferred[Any] | None = None
        self._stopped = True
        self._failed = 0
        self._late = False
        self._ever_good = False
        self._runs = 0

    def start(self) -> None:
        self._stopped = False
        self._failed = self._runs = 0
        self._ever_good = False
        self._go()

    def facts(self) -> CheckFacts:
        enough = self._failed >= self._settings.failures
        return CheckFacts(
            name=self._settings.name,
            needed=self._settings.needed,
            known=self._ever_good or enough,
            failing=enough,
        )

    def _go(self) -> None:
        self._timer = None
        self._late = False
        running = self._running = maybeDeferred(self._run, self._settings, self._timeout)
        if not running.called:
            self._limit = self._clock.callLater(self._timeout, self._too_late)
        running.addCallbacks(lambda _: self._good(), self._bad).addErrback(self._broken)

    def _too_late(self) -> None:
        self._limit = None
        self._late = True
        if self._running is not None:
            self._running.cancel()

    def _good(self) -> None:
        if self._stopped:
            return
        if self._failed >= self._settings.failures:
            self._log.info("check {check} succeeds again", check=self._settings.name)
        self._failed = 0
        self._ever_good = True
        self._again()

    def _bad(self, failure: Failure) -> None:
        if self._stopped:
            return
        self._failed += 1
        if self._failed == self._settings.failures:
            reason = f"no result within {self._timeout:g} s" if self._late else str(failure.value)
            self._log.warn("check {check} fails: {reason}", check=self._settings.name, reason=reason[:500])
        self._again()

    def _broken(self, failure: Failure) -> None:
        # A mistake of ours: nobody else would run it again.
        self._log.failure("check {check} cannot be run", failure=failure, check=self._settings.name)
        self._again()

    def _again(self) -> None:
        self._end_limit()
        self._running = None
        if not self._stopped:
            self._timer = self._clock.callLater(self._settings.interval, self._go)

    def _end_limit(self) -> None:
        limit, self._limit = self._limit, None
        if limit is not None and limit.active():
            limit.cancel()

    def stop(self) -> None:
        self._stopped = True
        self._end_limit()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        running, self._running = self._running, None
        if running is not None:
            running.cancel()


class Runner:
    """All checks of one status listener.

    :param timeout: of a check that names none, in seconds.
    """

    def __init__(
        self, checks: Sequence[CheckSettings], timeout: float, clock: IReactorTime, run: Run, log: Any
    ) -> None:
        self._checks = [_Check(each, timeout, clock, run, log) for each in checks]

    def start(self) -> None:
        """Run each now, then at its interval. What was known before is forgotten."""
        for check in self._checks:
            check.start()

    def stop(self) -> None:
        """Run none any more; what runs is given up."""
        for check in self._checks:
            check.stop()

    def facts(self) -> tuple[CheckFacts, ...]:
        """The last results; reads nothing but memory."""
        return tuple(check.facts() for check in self._checks)
