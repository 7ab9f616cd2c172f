"""Startup and shutdown of an ASGI application."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from twisted_rr.worker.lifespan import DRAINING, Lifespan, LifespanFailed

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")


def run(application: Any, test: Callable[[Lifespan], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(10):
            await test(Lifespan(application, asyncio.get_running_loop()))

    asyncio.run(main())


async def whole(lifespan: Lifespan) -> None:
    await lifespan.startup()
    await lifespan.shutdown()


def test_the_application_is_told_of_both_ends_and_fills_the_state() -> None:
    events: list[str] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "lifespan"
        assert scope["asgi"]["version"] == "3.0"
        events.append((await receive())["type"])
        scope["state"]["db"] = "open"
        variable.set("set at startup")
        await send({"type": "lifespan.startup.complete"})
        events.append((await receive())["type"])
        await send({"type": "lifespan.shutdown.complete"})
        events.append("cleaned up")

    async def test(lifespan: Lifespan) -> None:
        await lifespan.startup()
        assert lifespan.state["db"] == "open"
        assert lifespan.context[variable] == "set at startup"
        assert isinstance(lifespan.state[DRAINING], asyncio.Event)
        assert events == ["lifespan.startup"]
        await lifespan.shutdown()

    run(application, test)
    assert events == ["lifespan.startup", "lifespan.shutdown", "cleaned up"]


def test_a_failed_startup_is_raised_with_its_message() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})
        raise ValueError("frameworks raise it, too")

    with pytest.raises(LifespanFailed, match="no database"):
        run(application, whole)


async def raises_at_once(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError("only http")


async def returns_at_once(scope: Any, receive: Any, send: Any) -> None: ...


async def takes_it_for_http(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200})


@pytest.mark.parametrize(
    ("application", "said"),
    [(raises_at_once, False), (returns_at_once, False), (takes_it_for_http, True)],
)
def test_an_application_without_lifespan_is_served_all_the_same(
    application: Any, said: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    run(application, whole)
    assert ("served without a lifespan" in capsys.readouterr().err) is said


def test_a_failed_shutdown_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.failed", "message": "stuck"})

    run(application, whole)
    assert "failed to shut down: stuck" in capsys.readouterr().err


def test_a_shutdown_that_takes_too_long_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await asyncio.sleep(1000)

    async def test(lifespan: Lifespan) -> None:
        await lifespan.startup()
        await lifespan.shutdown(0.01)

    run(application, test)
    assert "did not shut down within 0.01 s" in capsys.readouterr().err


def test_a_lifespan_that_breaks_off_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        raise ValueError("boom")

    run(application, whole)
    assert "lifespan ended early: ValueError: boom" in capsys.readouterr().err


def test_a_message_out_of_order_is_an_error_to_the_application() -> None:
    seen: list[str] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        for kind in ("lifespan.startup.complete", "lifespan.startup", "other"):
            with pytest.raises(RuntimeError):
                await send({"type": kind})
            seen.append(kind)
        await receive()

    run(application, whole)
    assert len(seen) == 3
