"""The command ``python -m twisted_rr.worker``: take the relay, load the application, serve it.

Each step is a module of its own; here are their order, the options, and what is said when one fails.
"""

from __future__ import annotations

import argparse
import gc
import os
import shlex
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from twisted_rr.errors import FrameError
from twisted_rr.worker import descriptors, forks, handshake, hooks, load, signals, stacks
from twisted_rr.worker.descriptors import Relay
from twisted_rr.worker.report import say, tell_failure

if TYPE_CHECKING:
    from twisted_rr.worker.grpc import Services

OK = 0
RELAY_FAILED = 1
WRONG_USE = 2
NOT_LOADED = 3
NOT_STARTED = 4
"""Exit codes: in good order; the relay broke; options; the application cannot be imported; its startup failed."""

TEMPLATE = "RR_TEMPLATE"
"""Set by the server in the environment of a template (`template`), and of no worker."""

_CONCURRENCY = 1000


def main(arguments: Sequence[str]) -> int:
    """Run a worker with the command line's *arguments*; the exit code."""
    options = _options().parse_args(arguments)
    template = _template() if _is_template() else None
    relay: Relay | None = None
    try:
        if template is not None:
            control = template.take()
        else:
            relay = descriptors.take()
    except descriptors.RelayUnavailable as error:
        say(str(error))
        return WRONG_USE
    signals.ignore_interrupt()
    stacks.install()
    dev = options.dev = _is_dev()
    try:
        application, interface = _load(options)
    except load.LoadError as error:
        _explain(error, arguments)
        if dev is None or relay is None or options.interface == "grpc":
            return NOT_LOADED
        application, interface = dev.Broken(error.__cause__ or error, str(error)), "asgi"
    else:
        if dev is not None:
            application = dev.shown(application, interface)
    if template is not None:
        _warm(interface, options)
        relay = template.serve(control)
    if relay is None:
        return OK
    code = _run(application, interface, relay, options, template is not None)
    if template is not None:
        template.finish(code)
    return code


def _load(options: argparse.Namespace) -> tuple[Any, str]:
    application = load.load(options.application, options.app_dir)
    interface = options.interface
    if interface == "auto":
        interface = load.detect(options.application, application)
    elif interface == "grpc":
        application = load.services(options.application, application)
    return application, interface


def _run(application: Any, interface: str, relay: Relay, options: argparse.Namespace, forked: bool) -> int:
    descriptors.fill()
    forks.guard(relay)
    try:
        if forked:
            hooks.forked()
        reason = _serve(application, interface, relay, options)
    except (FrameError, ConnectionError) as error:
        reason = str(error)
    except (_NotStarted, hooks.HookFailed) as error:
        say(str(error))
        return NOT_STARTED
    if reason:
        say(str(reason))
        return RELAY_FAILED
    return OK


def _is_dev() -> Any:
    """What shows failures to browsers, in dev mode; asked once, and nobody after us finds the variable."""
    if os.environ.pop("RR_DEV", "") in ("", "0"):
        return None
    from twisted_rr.worker import devpage  # here, because in production it must not be there

    return devpage


def _is_template() -> bool:
    """Whether the server wants to fork workers from this process; asked once, and nobody after us finds it."""
    return os.environ.pop(TEMPLATE, "") != ""


def _template() -> Any:
    from twisted_rr.worker import template  # here, because most workers do without

    return template


def _warm(interface: str, options: argparse.Namespace) -> None:
    """Import what serves *interface*, so that it is shared as well."""
    if interface == "wsgi":
        from twisted_rr.worker import wsgi_server  # noqa: F401

        return
    if interface == "grpc":
        from twisted_rr.worker.grpc import serving  # noqa: F401
    else:
        from twisted_rr.worker import asgi  # noqa: F401
    loop_factory(options.loop)


class _NotStarted(Exception):
    """The application's startup failed."""


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m twisted_rr.worker",
        description="Serve a WSGI or ASGI application, or gRPC servicers, as a worker of twisted_rr or RoadRunner.",
        epilog="Started by a server, which talks to it over RR_RELAY. Exit codes: 3 the application "
        "cannot be imported, 4 its startup failed.",
    )
    parser.add_argument("application", help="module:attribute, or module:factory() to call")
    parser.add_argument(
        "--interface",
        choices=("auto", "wsgi", "asgi", "grpc"),
        default="auto",
        help="grpc: the attribute is a function that takes what servicers are added to, or a Services object",
    )
    parser.add_argument(
        "--threads",
        type=_positive,
        metavar="N",
        help="calls at once, each in a thread (WSGI: default 1; gRPC handlers that are no coroutines: 10)",
    )
    parser.add_argument(
        "--concurrency",
        type=_positive,
        default=_CONCURRENCY,
        metavar="K",
        help=f"ASGI, gRPC coroutines: calls at once on the event loop (default {_CONCURRENCY})",
    )
    parser.add_argument(
        "--app-dir", metavar="DIR", help="put first on sys.path instead of the working directory"
    )
    parser.add_argument(
        "--loop",
        choices=("auto", "asyncio", "uvloop"),
        default="auto",
        help="ASGI, gRPC coroutines: the event loop; auto: uvloop where it is installed",
    )
    parser.add_argument(
        "--preload",
        action="store_true",
        help="let the server import the application once and fork the workers, which then share its memory "
        "(without a server that can, each imports it)",
    )
    parser.add_argument(
        "--no-mux", action="store_true", help="serve one call at a time although the server offers more"
    )
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 65535:
        raise argparse.ArgumentTypeError("a number from 1 to 65535 is expected")
    return number


def _serve(application: Any, interface: str, relay: Relay, options: argparse.Namespace) -> str:
    hello = handshake.receive(relay)
    if hello is None:
        return ""
    if interface == "wsgi":
        from twisted_rr.worker import wsgi_server

        hooks.begin()
        settle()
        calls = 0 if options.no_mux else options.threads or 1
        reason = wsgi_server.serve(application, relay, hello, calls)
        hooks.end()
        return reason
    if interface == "grpc":
        return _serve_grpc(application, relay, hello, options)

    import asyncio  # here, because a WSGI worker does without

    from twisted_rr.worker import asgi
    from twisted_rr.worker.lifespan import LifespanFailed

    calls = 0 if options.no_mux else options.concurrency
    try:
        with asyncio.Runner(loop_factory=loop_factory(options.loop)) as runner:
            return runner.run(_hooked(asgi.serve(application, relay, hello, calls, settle)))
    except LifespanFailed as error:
        if options.dev is None:
            raise _NotStarted(str(error))
        say(str(error))
        broken = options.dev.Broken(error, "The application's startup failed (ASGI lifespan)")
    with asyncio.Runner(loop_factory=loop_factory(options.loop)) as runner:
        return runner.run(asgi.serve(broken, relay, hello, calls, settle))


def _serve_grpc(services: Services, relay: Relay, hello: handshake.Hello, options: argparse.Namespace) -> str:
    from twisted_rr.worker.grpc import serving

    threads = options.threads or serving.THREADS
    if not services.needs_loop():
        hooks.begin()
        reason = serving.serve_threads(services, relay, hello, 0 if options.no_mux else threads)
        hooks.end()
        return reason

    import asyncio

    calls = 0 if options.no_mux else options.concurrency
    with asyncio.Runner(loop_factory=loop_factory(options.loop)) as runner:
        return runner.run(_hooked(serving.serve_loop(services, relay, hello, calls, threads)))


async def _hooked(serve: Coroutine[Any, Any, str]) -> str:
    """The application's own start and stop around *serve*."""
    try:
        await hooks.begin_on_loop()
    except BaseException:
        serve.close()
        raise
    reason = await serve
    await hooks.end_on_loop()
    return reason


def loop_factory(name: str) -> Callable[[], Any]:
    """How the event loop *name* is made; ``auto`` is ``uvloop`` where that is installed, else ``asyncio``."""
    if name != "asyncio":
        try:
            import uvloop  # type: ignore[import-not-found, unused-ignore]
        except ImportError:
            if name == "uvloop":
                say("uvloop is not installed, so asyncio is used")
        else:
            return uvloop.new_event_loop  # type: ignore[no-any-return, unused-ignore]
    import asyncio

    return asyncio.new_event_loop


def settle() -> None:
    """What was loaded so far stays: keep the garbage collector from walking over it again and again."""
    gc.collect()
    gc.freeze()


def _explain(error: load.LoadError, arguments: Sequence[str]) -> None:
    """Say once what could not be loaded, why, and from where."""
    if error.__cause__ is not None:
        tell_failure("The application failed to load", error.__cause__)
    say(str(error))
    say(f"  command: {shlex.join([sys.executable, '-m', 'twisted_rr.worker', *arguments])}")
    say(f"  working directory: {_cwd()}")
    say(f"  sys.path: {os.pathsep.join(sys.path[:4])}")


def _cwd() -> str:
    try:
        return os.getcwd()
    except OSError:
        return "(removed)"
