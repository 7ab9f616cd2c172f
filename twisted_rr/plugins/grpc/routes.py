"""Which pool gets a call, by its service; the table as it is configured, and as it is asked.

What a pool is, and that it exists, is the host's subject.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from twisted_rr.config import key, kinds

OWN = "grpc"
"""The name by which a route leads to ``grpc.pool``."""

_SERVICE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*(\.\*)?", re.ASCII)


def _service(text: str) -> str:
    if not _SERVICE.fullmatch(text):
        raise ValueError
    return text


@attrs.frozen(kw_only=True)
class RouteSettings:
    """One entry of ``grpc.routes``: a service that has another pool than ``grpc.pool``."""

    service: str = key(
        kinds.custom("a service such as shop.Orders, or all of a package: shop.*", _service),
        required=True,
        doc="a service with its package; package.* is every service in it and below",
    )
    pool: str = key(kinds.string("a name", r".+"), required=True, doc="a name under pools; grpc is grpc.pool")


def route_table() -> kinds.Kind:
    """The list of routes; one that can never be reached is refused where it stands."""
    text = "is never reached: the route at {first} takes the same calls"
    return kinds.distinct(kinds.section(RouteSettings), lambda route: route.service, text)


class Routes:
    """The table as it is asked, once a call: the service itself counts before a package, a longer one before a shorter.

    :ivar pools: every one that it leads to, the front's own first.
    """

    __slots__ = ("_own", "_packages", "_services", "pools")

    def __init__(self, routes: Sequence[RouteSettings], own: Any, pool_of: Callable[[str, int], Any]) -> None:
        """*own* gets what no route takes; ``pool_of(name, index)`` gives the pool of route *index*."""
        self._own = own
        self._services: dict[str, Any] = {}
        packages: dict[str, Any] = {}
        found = [own]
        for index, route in enumerate(routes):
            pool = own if route.pool == OWN else pool_of(route.pool, index)
            found.append(pool)
            if route.service.endswith("*"):
                packages[route.service[:-1]] = pool
            else:
                self._services[route.service] = pool
        self._packages = sorted(packages.items(), key=lambda pair: -len(pair[0]))
        self.pools = tuple(dict.fromkeys(found))

    def pool(self, service: str) -> Any:
        """The pool for calls of *service*."""
        found = self._services.get(service)
        if found is not None:
            return found
        for package, pool in self._packages:
            if service.startswith(package):
                return pool
        return self._own
