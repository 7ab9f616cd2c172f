"""Finding the application, and telling WSGI from ASGI."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

import pytest
from asgiref.compatibility import is_double_callable

from twisted_rr.worker.load import LoadError, detect, load


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "loadme.py").write_text(
        "application = 'the application'\n"
        "class inner:\n    app = 'deep'\n"
        "def factory():\n    return 'made'\n"
        "def broken():\n    raise ValueError('no\\nway')\n"
    )
    (tmp_path / "loadme_broken.py").write_text("import does_not_exist_at_all\n")
    (tmp_path / "loadme_exit.py").write_text("raise SystemExit(9)\n")
    (tmp_path / "loadme_syntax.py").write_text("def (:\n")
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("loadme")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("loadme:application", "the application"),
        ("loadme", "the application"),
        ("loadme:inner.app", "deep"),
        ("loadme:factory()", "made"),
    ],
)
def test_the_target_names_module_attribute_or_factory(package: Path, target: str, found: str) -> None:
    assert load(target, str(package)) == found
    assert sys.path[0] == str(package)


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("loadme_missing:app", "there is no module 'loadme_missing'"),
        ("loadme_broken:app", "its import failed: No module named 'does_not_exist_at_all'"),
        ("loadme_exit:app", "its import failed: SystemExit: 9"),
        ("loadme_syntax:app", "its import failed: SyntaxError"),
        ("loadme:nothing", "there is no 'nothing' in it"),
        ("loadme.py:app", "there is no module 'loadme.py'; a module is named without .py: loadme"),
        ("loadme:broken()", "the factory failed: ValueError: no"),
        ("loadme:application()", "what precedes () is not callable"),
        (":app", "write it as module:attribute"),
    ],
)
def test_what_cannot_be_loaded_is_explained_in_one_line(package: Path, target: str, reason: str) -> None:
    with pytest.raises(LoadError) as caught:
        load(target, str(package))
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


async def asgi_function(scope: Any, receive: Any, send: Any) -> None: ...


def asgi_wrapper(scope: Any, receive: Any, send: Any) -> Any:
    return asgi_function(scope, receive, send)


class AsgiObject:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


class Asgi2Class:
    def __init__(self, scope: Any) -> None: ...

    async def __call__(self, receive: Any, send: Any) -> None: ...


def asgi2_function(scope: Any) -> Any: ...


def wsgi_function(environ: Any, start_response: Any) -> Any: ...


class WsgiObject:
    def __call__(self, environ: Any, start_response: Any) -> Any: ...

    def method(self, environ: Any, start_response: Any) -> Any: ...


class WsgiClass:
    def __init__(self, environ: Any, start_response: Any) -> None: ...

    def __iter__(self) -> Any: ...


@pytest.mark.parametrize(
    "application", [asgi_function, asgi_wrapper, AsgiObject(), functools.partial(asgi_function)]
)
def test_an_asgi_application_is_recognized(application: Any) -> None:
    assert detect("x:app", application) == "asgi"


@pytest.mark.parametrize(
    "application",
    [wsgi_function, WsgiObject(), WsgiObject().method, WsgiClass, functools.partial(wsgi_function)],
)
def test_a_wsgi_application_is_recognized(application: Any) -> None:
    assert detect("x:app", application) == "wsgi"


@pytest.mark.parametrize("application", [Asgi2Class, asgi2_function])
def test_an_asgi_2_application_is_refused_clearly(application: Any) -> None:
    assert is_double_callable(application)
    with pytest.raises(LoadError, match="ASGI 2"):
        detect("x:app", application)


@pytest.mark.parametrize(
    ("application", "reason"),
    [
        (7, "it is of type int, which is not callable"),
        (lambda: None, r"so it is a factory: write x:app\(\)"),
        (lambda *anything: None, "say which with --interface"),
        (AsgiObject, "not an instance of it"),
    ],
)
def test_what_is_neither_is_refused_with_advice(application: Any, reason: str) -> None:
    with pytest.raises(LoadError, match=reason):
        detect("x:app", application)


def test_frameworks_are_told_apart() -> None:
    from django.core.handlers.asgi import ASGIHandler
    from django.core.handlers.wsgi import WSGIHandler
    from fastapi import FastAPI
    from flask import Flask
    from starlette.applications import Starlette

    assert detect("x:app", Flask("x")) == "wsgi"
    assert detect("x:app", WSGIHandler.__new__(WSGIHandler)) == "wsgi"
    assert detect("x:app", FastAPI()) == "asgi"
    assert detect("x:app", Starlette()) == "asgi"
    assert detect("x:app", ASGIHandler.__new__(ASGIHandler)) == "asgi"
