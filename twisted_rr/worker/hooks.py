"""Functions of the application that run at the turns of a worker's life: `on_start`, `after_fork`, `on_stop`.

They are decorators, so that importing the application's module is all it takes. When each is called is decided
by `command` and `api`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from twisted_rr.errors import RRError
from twisted_rr.worker.report import tell_failure

Hook = TypeVar("Hook", bound=Callable[[], Any])

_on_start: list[Callable[[], Any]] = []
_after_fork: list[Callable[[], Any]] = []
_on_stop: list[Callable[[], Any]] = []


class HookFailed(RRError):
    """A function of the application failed, so the worker does not start.

    :ivar hook: which decorator it has.
    :ivar function: its name.
    """

    def __init__(self, hook: str, function: str) -> None:
        super().__init__(hook, function)
        self.hook = hook
        self.function = function

    def __str__(self) -> str:
        return f"{self.hook} function {self.function} failed"


def on_start(function: Hook) -> Hook:
    """Call *function* in every worker process once, before the server hears that the worker is ready.

    A coroutine function is awaited on the worker's event loop (before the ASGI lifespan's startup). What it raises
    fails the worker's start.
    """
    _on_start.append(function)
    return function


def after_fork(function: Hook) -> Hook:
    """Call *function* in a worker that was forked from a preloaded application, before anything else there.

    The place to open anew what must not be shared with the other workers: connections, random generators of your
    own. Not called where the application was imported by the worker itself. What it raises fails the worker's start.
    Raises TypeError for a coroutine function: there is no event loop yet.
    """
    if inspect.iscoroutinefunction(function):
        raise TypeError(f"after_fork function {_name(function)} is a coroutine function: use on_start")
    _after_fork.append(function)
    return function


def on_stop(function: Hook) -> Hook:
    """Call *function* when the worker has answered its last call and ends in good order.

    A coroutine function is awaited on the worker's event loop (after the ASGI lifespan's shutdown). What it raises
    is told in the log, and the others are called all the same. Not called in a worker that is killed.
    """
    _on_stop.append(function)
    return function


def forked() -> None:
    """Call what `after_fork` has. Raises HookFailed."""
    for function in _after_fork:
        try:
            function()
        except BaseException as error:
            raise _failed("after_fork", function, error) from error


def begin() -> None:
    """Call what `on_start` has, in a worker without an event loop. Raises HookFailed."""
    for function in _on_start:
        try:
            _call_without_loop(function)
        except BaseException as error:
            raise _failed("on_start", function, error) from error


def end() -> None:
    """Call what `on_stop` has, in a worker without an event loop."""
    for function in _on_stop:
        try:
            _call_without_loop(function)
        except BaseException as error:
            tell_failure(f"on_stop function {_name(function)} failed", error)


def _call_without_loop(function: Callable[[], Any]) -> None:
    if inspect.iscoroutinefunction(function):
        import asyncio  # here, so that a worker without a loop does not load it

        asyncio.run(function())
    else:
        function()


async def begin_on_loop() -> None:
    """Call what `on_start` has, on the running loop. Raises HookFailed."""
    for function in _on_start:
        try:
            await _call(function)
        except BaseException as error:
            raise _failed("on_start", function, error) from error


async def end_on_loop() -> None:
    """Call what `on_stop` has, on the running loop."""
    for function in _on_stop:
        try:
            await _call(function)
        except BaseException as error:
            tell_failure(f"on_stop function {_name(function)} failed", error)


async def _call(function: Callable[[], Any]) -> None:
    outcome = function()
    if inspect.isawaitable(outcome):
        await outcome


def _failed(hook: str, function: Callable[[], Any], error: BaseException) -> HookFailed:
    tell_failure(f"{hook} function {_name(function)} failed", error)
    return HookFailed(hook, _name(function))


def _name(function: Callable[[], Any]) -> str:
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', repr(function))}"
