"""Finds the application named on the command line and tells a WSGI from an ASGI one.

It does not run the application, nor decide what happens when there is none: it raises LoadError.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from twisted_rr.errors import RRError

if TYPE_CHECKING:
    from twisted_rr.worker.grpc import Services

Interface = Literal["wsgi", "asgi"]

_GUESSES = ("application", "app")
"""What the attribute is called when only the module is named; gunicorn's habit first."""


class LoadError(RRError):
    """No application is where the command line says.

    :ivar target: what was to be imported.
    :ivar reason: what is wrong with it, in one line.
    """

    def __init__(self, target: str, reason: str) -> None:
        super().__init__(target, reason)
        self.target = target
        self.reason = reason

    def __str__(self) -> str:
        return f"cannot load the application {self.target!r}: {self.reason}"


def load(target: str, directory: str | None = None) -> Any:
    """Import ``module``, ``module:attribute`` or ``module:factory()``, with *directory* first on sys.path.

    *directory* defaults to the working directory. Raises LoadError, whose ``__cause__`` is the
    application's own exception where there is one.
    """
    path = os.path.abspath(directory or os.curdir)
    if path not in sys.path:
        sys.path.insert(0, path)
    name, _, attribute = target.partition(":")
    module = _import(target, name)
    if not attribute:
        return _guess(target, module)
    called = attribute.endswith("()")
    found = _attribute(target, module, attribute[:-2] if called else attribute)
    return _call(target, found) if called else found


def _import(target: str, name: str) -> Any:
    if not name:
        raise LoadError(target, "write it as module:attribute")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            hint = f"; a module is named without .py: {name[:-3]}" if name.endswith(".py") else ""
            raise LoadError(target, f"there is no module {error.name!r}{hint}") from error
        raise LoadError(target, f"its import failed: {error}") from error
    # A module that calls sys.exit(), or raises what it likes, has failed to load all the same.
    except BaseException as error:
        raise LoadError(target, f"its import failed: {_one_line(error)}") from error


def _guess(target: str, module: Any) -> Any:
    for name in _GUESSES:
        if hasattr(module, name):
            return getattr(module, name)
    raise LoadError(
        target, f"the module has neither {_GUESSES[0]!r} nor {_GUESSES[1]!r}; name it after a colon"
    )


def _attribute(target: str, module: Any, dotted: str) -> Any:
    found = module
    for name in dotted.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            names = [guess for guess in _GUESSES if hasattr(module, guess)]
            hint = f"; did you mean {names[0]!r}?" if names else ""
            raise LoadError(target, f"there is no {dotted!r} in it{hint}") from None
    return found


def _call(target: str, factory: Any) -> Any:
    if not callable(factory):
        raise LoadError(target, "what precedes () is not callable")
    try:
        return factory()
    except BaseException as error:
        raise LoadError(target, f"the factory failed: {_one_line(error)}") from error


def services(target: str, found: Any) -> Services:
    """What the gRPC worker *found* serves: a `Services` itself, or a function that adds to the one it is given.

    Raises LoadError.
    """
    from twisted_rr.worker.grpc import Services  # here, because most workers do without

    if isinstance(found, Services):
        return found
    if not callable(found):
        raise LoadError(
            target, f"it is of type {type(found).__name__}: neither a function nor a Services object"
        )
    made = Services()
    try:
        found(made)
    except BaseException as error:
        raise LoadError(target, f"adding its services failed: {_one_line(error)}") from error
    return made


def _one_line(error: BaseException) -> str:
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def detect(target: str, application: Any) -> Interface:
    """Tell how *application* wants to be called.

    An ASGI application is a coroutine function, an object whose ``__call__`` is one, or a callable
    of three arguments; a WSGI application is a callable of two. Double callables (ASGI 2) and what
    cannot be told apart raise LoadError.
    """
    if not callable(application):
        raise LoadError(target, f"it is of type {type(application).__name__}, which is not callable")
    plain = application
    while isinstance(plain, functools.partial):
        plain = plain.func
    if inspect.isclass(plain):
        return _detect_class(target, application)
    if inspect.iscoroutinefunction(plain) or inspect.iscoroutinefunction(getattr(plain, "__call__", None)):  # noqa: B004
        return "asgi"
    return _by_arguments(target, application)


def _detect_class(target: str, application: Any) -> Interface:
    """A class is called to make an instance: fine for WSGI (its instances are iterables), ASGI 2 otherwise."""
    if _takes(application, 2) and not _takes(application, 1):
        return "wsgi"
    if _takes(application, 1):
        raise LoadError(
            target,
            "it is an ASGI 2 application (a class called with the scope); only ASGI 3 is served: "
            "wrap it with asgiref.compatibility.guarantee_single_callable",
        )
    raise LoadError(target, f"it is the class {application.__name__}, not an instance of it; try {target}()")


def _by_arguments(target: str, application: Callable[..., Any]) -> Interface:
    fits = [count for count in (1, 2, 3) if _takes(application, count)]
    if fits == [2]:
        return "wsgi"
    if fits == [3]:
        return "asgi"
    if fits == [1]:
        raise LoadError(
            target,
            "it takes one argument: an ASGI 2 application (only ASGI 3 is served), or a factory "
            "that wants an argument",
        )
    if not fits and _takes(application, 0):
        raise LoadError(target, f"it takes no argument, so it is a factory: write {target}()")
    raise LoadError(target, "it could be WSGI or ASGI; say which with --interface")


def _takes(application: Callable[..., Any], count: int) -> bool:
    try:
        inspect.signature(application).bind(*(None,) * count)
    except (TypeError, ValueError):
        return False
    return True
