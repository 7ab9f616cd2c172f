"""Which pool gets a call, by its service; the table as it is configured, and as it is asked.

What a pool is, and that it exists, is the host's subject.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from twisted_rr.config import key, kinds
from twisted_rr.config.nodes import ListNode, Node
from twisted_rr.config.report import INVALID, Place

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


class RouteTable(kinds.Kind):
    """The list of routes; a service that is there twice is refused where it stands."""

    def __init__(self) -> None:
        self._list = kinds.list_of(kinds.section(RouteSettings))
        self.expected = self._list.expected

    def read(self, node: Node, at: Place) -> Any:
        """A tuple of `RouteSettings`."""
        routes = self._list.read(node, at)
        if routes is INVALID or not isinstance(node, ListNode):
            return routes
        services = [route.service for route in routes]
        twice = [index for index, service in enumerate(services) if service in services[:index]]
        for index in twice:
            at.item(index).reject(
                node.items[index], f"is never reached: {services[index]} has a route before this one"
            )
        return INVALID if twice else routes

    def schema(self) -> dict[str, Any]:
        """That of the list."""
        return self._list.schema()


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
