"""The functions of an application that run at the turns of a worker's life."""

from __future__ import annotations

import asyncio
import sys

import pytest

from twisted_rr.worker import hooks


@pytest.fixture(autouse=True)
def nothing_registered(monkeypatch):
    for name in ("_on_start", "_after_fork", "_on_stop"):
        monkeypatch.setattr(hooks, name, [])


def test_they_are_called_in_the_order_of_their_making():
    seen = []
    hooks.on_start(lambda: seen.append(1))
    hooks.on_start(lambda: seen.append(2))
    hooks.begin()
    assert seen == [1, 2]


def test_a_decorated_function_stays_what_it_was():
    def function():
        return 5

    assert hooks.on_start(function) is function
    assert hooks.after_fork(function) is function
    assert hooks.on_stop(function) is function


def test_plain_functions_and_coroutine_functions_run_with_a_loop():
    seen = []

    @hooks.on_start
    async def waits():
        await asyncio.sleep(0)
        seen.append("coroutine")

    hooks.on_start(lambda: seen.append("plain"))
    asyncio.run(hooks.begin_on_loop())
    assert seen == ["coroutine", "plain"]


def test_without_a_loop_a_coroutine_function_gets_one_and_a_plain_function_none():
    seen = []

    @hooks.on_start
    async def waits():
        seen.append(asyncio.get_running_loop() is not None)

    @hooks.on_start
    def plain():
        seen.append(asyncio._get_running_loop())

    hooks.begin()
    assert seen == [True, None]


def test_a_failure_of_on_start_names_the_function_and_shows_its_traceback(capsys):
    @hooks.on_start
    def connects():
        raise ConnectionError("the database is away")

    with pytest.raises(hooks.HookFailed, match=r"on_start function .*connects failed"):
        hooks.begin()
    with pytest.raises(hooks.HookFailed):
        asyncio.run(hooks.begin_on_loop())
    told = capsys.readouterr().err
    assert "ConnectionError: the database is away" in told and "in connects" in told


def test_a_function_that_exits_fails_the_start_too():
    hooks.after_fork(lambda: sys.exit(0))
    with pytest.raises(hooks.HookFailed, match="after_fork"):
        hooks.forked()


def test_a_failure_of_on_stop_keeps_no_other_from_being_called(capsys):
    seen = []

    @hooks.on_stop
    def fails():
        raise ValueError("too late")

    hooks.on_stop(lambda: seen.append(1))
    hooks.end()
    asyncio.run(hooks.end_on_loop())
    assert seen == [1, 1]
    assert capsys.readouterr().err.count("ValueError: too late") == 2


def test_after_fork_refuses_a_coroutine_function():
    async def late():
        """Never run."""

    with pytest.raises(TypeError, match="use on_start"):
        hooks.after_fork(late)
