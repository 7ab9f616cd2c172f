"""The configuration that `twisted-rr serve module:app` and `twisted-rr init` mean, as a plain dict.

Where an application is found in a folder is decided here too; what the keys mean is not.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from twisted_rr.config import Config
from twisted_rr.errors import ConfigProblem

#: Names an application object usually has, and the files it is usually in, best guess first.
_FILES = ("app.py", "main.py", "wsgi.py", "asgi.py", "application.py", "server.py")
_OBJECT = re.compile(
    r"^(app|application|api)\s*(?::[^=\n]+)?=|^(?:async\s+)?def\s+(app|application)\s*\(|^\s{0,4}(app)\s*=",
    re.M,
)


@frozen(kw_only=True)
class ServeOptions:
    """What the command line said; None where it said nothing.

    :ivar application: ``module:attribute``.
    :ivar status: address of the status endpoints.
    """

    application: str
    host: str | None = None
    port: int | None = None
    workers: int | None = None
    threads: int | None = None
    interface: str | None = None
    status: str | None = None
    access_log: bool = False
    preload: bool = False


def in_container(environ: Mapping[str, str], root: Path = Path("/")) -> bool:
    """Whether this process runs in a container, where 127.0.0.1 could be reached by nobody."""
    markers = (".dockerenv", "run/.containerenv")
    return "KUBERNETES_SERVICE_HOST" in environ or any((root / marker).exists() for marker in markers)


def config_for(
    options: ServeOptions, environ: Mapping[str, str], container: bool, python: str = sys.executable
) -> dict[str, Any]:
    """The configuration for one application; PORT, HOST and WEB_CONCURRENCY are read as everywhere."""
    host = options.host or environ.get("HOST") or ("0.0.0.0" if container else "127.0.0.1")
    port = options.port if options.port is not None else _number(environ, "PORT", 8000)
    workers = options.workers if options.workers is not None else _number(environ, "WEB_CONCURRENCY", 0)
    status = options.status or ("0.0.0.0:2114" if container else "127.0.0.1:2114")
    command = [python, "-m", "twisted_rr.worker"]
    if options.interface:
        command += ["--interface", options.interface]
    if options.threads is not None:
        command += ["--threads", str(options.threads)]
    if options.preload:
        command.append("--preload")
    http: dict[str, Any] = {"address": _joined(host, port), "pool": {"num_workers": workers}}
    if options.access_log:
        http["access_logs"] = True
    return {
        "version": "3",
        "server": {"command": [*command, options.application]},
        "http": http,
        "status": {"address": status},
    }


def _joined(host: str, port: int) -> str:
    if host.startswith(("unix:", "/")):
        return "unix://" + host.removeprefix("unix:").removeprefix("//")  # gunicorn's unix:/path as well
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def _number(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name, "").strip()
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise ValueError(f"the environment variable {name} is {text!r}, expected a number")
    return int(text)


_OPTIONS: Mapping[str, str] = {
    "http.address": "--host, --port",
    "http.pool.num_workers": "--workers",
    "status.address": "--status",
}


def told(problem: ConfigProblem) -> str:
    """A problem of a configuration that `config_for` made, with the option in the place of the key."""
    option = _OPTIONS.get(problem.path) if problem.where == "<memory>" else None
    return f"{option}: {problem.reason}" if option else str(problem)


def spoken(config: Config, key: str) -> str:
    """*key* as the user gave it: the option where `config_for` made *config*."""
    return _OPTIONS.get(key, key) if config.source == "<memory>" else key


def wrong_name(application: str) -> str | None:
    """What is wrong with *application* as ``module:attribute``, and what was most likely meant; None when nothing is."""
    module, colon, attribute = application.partition(":")
    path = module.removesuffix(".py").strip("/").removeprefix("./").replace("/", ".")
    meant = f"{path or 'app'}:{attribute or 'app'}"
    if not colon or not attribute:
        return f"{application!r} names no attribute; expected MODULE:ATTRIBUTE, such as {meant}"
    if module.endswith(".py") or "/" in module:
        return f"{application!r} names a file; expected a module as in Python's import, such as {meant}"
    return None if module else f"{application!r} names no module; expected MODULE:ATTRIBUTE, such as {meant}"


def find_application(folder: Path) -> str | None:
    """``module:attribute`` of the application in *folder*, by reading (never importing) likely files."""
    for file in _candidates(folder):
        try:
            found = _OBJECT.search(file.read_text(encoding="utf-8", errors="replace"))
        except OSError:
            continue
        if found:
            module = ".".join(file.relative_to(folder).with_suffix("").parts)
            return f"{module}:{next(name for name in found.groups() if name)}"
    return None


def _candidates(folder: Path) -> Iterator[Path]:
    yield from (folder / name for name in _FILES if (folder / name).is_file())
    # Django keeps asgi.py and wsgi.py in the package beside manage.py.
    for name in ("wsgi.py", "asgi.py"):
        yield from sorted(folder.glob(f"*/{name}"))
