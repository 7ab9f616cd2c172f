"""What discovery asks of the HTTP plugin: its settings, and its parts built into a host."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Callable, Mapping
from typing import Any, Final

from zope.interface import implementer

from twisted_rr.errors import ConfigError, ConfigProblem
from twisted_rr.interfaces import IHost, IReloadable

from .config import HttpSettings
from .forwarded import LOOPBACK, Forwarding
from .service import HttpFront
from .uploads import UploadPolicy

SETTINGS = HttpSettings

#: What can change while it serves: not its listener, and its pool elsewhere.
LIVE: Final = frozenset(
    {
        "routes",
        "internal_error_code",
        "access_logs",
        "max_request_size",
        "raw_body",
        "codec",
        "uploads",
        "trusted_subnets",
        "trusted_headers",
        "half_close",
        "timeouts",
        "max_header_bytes",
        "max_headers",
    }
)


def build(settings: HttpSettings, host: IHost, environ: Mapping[str, str] = os.environ) -> None:
    """Give *host* the front and its pool, whose health the host collects."""
    pool = host.pool("http", settings.pool, "http")
    forwarding = Forwarding(trusted_subnets(settings, environ), settings.trusted_headers)
    uploads = upload_policy(settings, host.setting("server"))
    front = HttpFront(settings, pool, host, forwarding, uploads, bind=host.bind, pool_of=_pools(host))
    host.place("FRONT", front)
    host.provide(IReloadable, HttpReload(front, host, environ))


def _pools(host: IHost) -> Callable[[str, int], Any]:
    return lambda name, index: host.named_pool(name, "http", f"http.routes[{index}].pool")


@implementer(IReloadable)
class HttpReload:
    """The front's part of a reload; see `IReloadable`."""

    section = "http"
    live = LIVE

    def __init__(self, front: HttpFront, host: IHost, environ: Mapping[str, str]) -> None:
        self._front = front
        self._host = host
        self._environ = environ

    def prepare(self, settings: HttpSettings) -> Callable[[], None]:
        """See `IReloadable`."""
        forwarding = Forwarding(trusted_subnets(settings, self._environ), settings.trusted_headers)
        uploads = upload_policy(settings, self._host.setting("server"))
        routes = self._front.routes_for(settings, self._known)
        return lambda: self._front.use(settings, forwarding, uploads, routes)

    def _known(self, name: str, index: int) -> Any:
        for pool in self._front.pools:
            if pool.name == name:
                return pool
        reason = f"no route led to pool {name} at the start, so it has no workers: restart the server"
        raise ConfigError([ConfigProblem(f"http.routes[{index}].pool", reason)])


def trusted_subnets(settings: HttpSettings, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Whom to believe: the key, else FORWARDED_ALLOW_IPS as gunicorn and uvicorn read it, else loopback.

    :raises ConfigError: the variable holds what is no network.
    """
    if settings.trusted_subnets is not None:
        return settings.trusted_subnets
    text = environ.get("FORWARDED_ALLOW_IPS")
    if text is None:
        return LOOPBACK
    words = tuple(word.strip() for word in text.split(",") if word.strip())
    try:
        Forwarding(words)
    except ValueError as error:
        problem = ConfigProblem("http.trusted_subnets", str(error), "FORWARDED_ALLOW_IPS")
        raise ConfigError([problem]) from error
    return words


def upload_policy(settings: HttpSettings, server: Any) -> UploadPolicy:
    """Where uploaded files go, and to whom: the workers' user has to read and move them."""
    uploads = settings.uploads
    return UploadPolicy(uploads.dir, uploads.allow, uploads.forbid, owner_of(server))


def owner_of(server: Any) -> tuple[int, int] | None:
    """uid and gid of ``server.user`` and ``server.group``; None where workers run as we do, or as root."""
    user = getattr(server, "user", "")
    if not user:
        return None
    try:
        entry = pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
    except KeyError:
        # The pool names the mistake when it starts the first worker.
        return None
    uid, gid = entry.pw_uid, entry.pw_gid
    group = getattr(server, "group", "")
    if group:
        try:
            gid = int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
        except KeyError:
            return None
    return (uid, gid) if uid and gid else None
