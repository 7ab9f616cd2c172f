"""Services that have a pool of their own."""

import pytest
from grpc_world import GrpcPool
from twisted.internet.task import Clock

from twisted_rr.build import read_config
from twisted_rr.compiled import compiled_modules
from twisted_rr.errors import ConfigError
from twisted_rr.plugins.grpc.config import GrpcSettings
from twisted_rr.plugins.grpc.exchange import Exchange
from twisted_rr.plugins.grpc.routes import Routes, RouteSettings
from twisted_rr.plugins.grpc.service import GrpcFront
from twisted_rr.testing.host import FakeHost

BASE = """\
version: "3"
server: {command: python worker.py}
grpc:
  listen: tcp://127.0.0.1:0
"""


@pytest.mark.parametrize(
    ("service", "pool"),
    [
        ("shop.Orders", "orders"),
        ("shop.Stock", "shop"),
        ("shop.big.Reports", "big"),
        ("shopping.Cart", "own"),
        ("shop", "own"),
        ("Echo", "own"),
        ("shop.Health", "own"),
    ],
)
def test_the_service_itself_counts_before_its_package_and_a_longer_package_before_a_shorter(service, pool):
    routes = [
        RouteSettings(service="shop.*", pool="shop"),
        RouteSettings(service="shop.big.*", pool="big"),
        RouteSettings(service="shop.Orders", pool="orders"),
        RouteSettings(service="shop.Health", pool="grpc"),
    ]
    table = Routes(routes, "own", lambda name, index: name)
    assert table.pool(service) == pool
    assert table.pools == ("own", "shop", "big", "orders")


@pytest.mark.skipif(bool(compiled_modules()), reason="a compiled exchange takes no stream but a real one")
def test_a_call_goes_to_the_pool_of_its_service() -> None:
    host = FakeHost(Clock())
    own, heavy = GrpcPool("grpc"), GrpcPool("heavy")
    settings = GrpcSettings(listen="127.0.0.1:0", routes=(RouteSettings(service="a.Heavy", pool="heavy"),))
    front = GrpcFront(settings, own, host, pool_of=lambda name, index: heavy)
    assert front.pools == (own, heavy)

    class Derived:
        streams = None

        def __init__(self, service: str) -> None:
            self.service = service

    assert Exchange(front, None, Derived("a.Heavy"), 0.0).pool is heavy
    assert Exchange(front, None, Derived("a.Light"), 0.0).pool is own


def problems(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read_config(BASE + text, environ={})
    return "\n".join(str(problem) for problem in caught.value.problems)


def test_what_is_wrong_with_a_route_is_told_with_its_line() -> None:
    assert ":5:" in problems("  routes: [{service: a.B, pool: nope}]\npools: {x: {}}\n")
    text = "  routes:\n    - {service: a.B, pool: x}\n    - {service: a.B, pool: x}\npools: {x: {}}\n"
    told = problems(text)
    assert ":7:" in told
    assert "is never reached: the route at line" in told
    assert "a service such as shop.Orders" in problems(
        "  routes: [{service: '*', pool: x}]\npools: {x: {}}\n"
    )


def test_one_pool_serves_one_plugin() -> None:
    text = "  routes: [{service: a.B, pool: x}]\nhttp: {address: ':0', routes: [{path: /a, pool: x}]}\npools: {x: {}}\n"
    assert "pool 'x' serves grpc already, and workers speak for one plugin only" in problems(text)
