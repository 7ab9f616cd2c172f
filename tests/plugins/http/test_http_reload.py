"""What a reload changes in a front that serves: at once, on open connections too."""

from __future__ import annotations

import attrs
import pytest
from front_world import World
from twisted.internet.address import IPv4Address

from twisted_rr.errors import ConfigError
from twisted_rr.interfaces import IReloadable
from twisted_rr.plugins.http import plugin
from twisted_rr.plugins.http.config import HttpSettings, TimeoutSettings
from twisted_rr.testing.host import FakeHost
from twisted_rr.wire.context import decode_request, encode_head
from twisted_rr.wire.frame import CODEC_MSGPACK

OK = encode_head(CODEC_MSGPACK, 200, [])
HEAD = b"GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n"


def change(world: World, **keys: object) -> None:
    """Reload *world*'s front with these keys changed."""
    reloadable = plugin.HttpReload(world.front, world.host, {})
    reloadable.prepare(attrs.evolve(world.front.settings, **keys))()


def client_of(world: World) -> str:
    """Who the last call says its client is."""
    context = decode_request(CODEC_MSGPACK, world.call.context(CODEC_MSGPACK))
    return str(context[4][0])


def test_the_plugin_offers_its_part() -> None:
    host = FakeHost()
    plugin.build(HttpSettings(address="127.0.0.1:0"), host, {})
    [reloadable] = host.collect(IReloadable)
    assert reloadable.section == "http"
    assert "address" not in reloadable.live


def test_trust_that_is_withdrawn_is_withdrawn_from_open_connections() -> None:
    """The same head again, whose meaning was remembered."""
    world = World().start()
    change(world, trusted_subnets=("10.0.0.0/8",))
    client = world.connect(IPv4Address("TCP", "10.1.1.1", 5))
    seen = []
    for trusted in (("10.0.0.0/8",), (), ("10.0.0.0/8",)):
        change(world, trusted_subnets=trusted)
        for _ in range(2):
            client.send(HEAD)
            seen.append(client_of(world))
            world.call.answer(CODEC_MSGPACK, OK, b"x")
    assert seen == ["9.9.9.9"] * 2 + ["10.1.1.1"] * 2 + ["9.9.9.9"] * 2


def test_time_outs_hold_for_open_connections() -> None:
    world = World(timeouts=TimeoutSettings(header=60)).start()
    client = world.connect()
    client.send(b"GET / HT")
    world.clock.advance(1)
    change(world, timeouts=TimeoutSettings(header=2))
    for _ in range(4):
        world.clock.advance(1)
    assert b" 408 " in client.out


def test_limits_hold_from_the_next_request_on() -> None:
    world = World().start()
    client = world.connect()
    client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n")
    change(world, max_request_size=10)
    client.send(b"x" * 100)
    assert world.call.complete
    other = world.connect()
    other.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n")
    assert b" 413 " in other.out


def test_the_access_log_comes_and_goes() -> None:
    world = World().start()
    for wanted in (True, False):
        change(world, access_logs=wanted)
        assert (world.front._access is not None) is wanted


def test_networks_that_are_none_are_refused_and_nothing_changes() -> None:
    world = World()
    before = world.front.settings
    reloadable = plugin.HttpReload(world.front, world.host, {"FORWARDED_ALLOW_IPS": "10.0.0/99"})
    with pytest.raises(ConfigError):
        reloadable.prepare(before)
    assert world.front.settings is before
