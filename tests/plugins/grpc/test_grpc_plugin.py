"""What the plugin gives its host, and what a reload changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
from grpc_world import served
from zope.interface.verify import verifyObject

from twisted_rr.errors import ConfigError
from twisted_rr.interfaces import IFront, IMetrics, IReloadable
from twisted_rr.plugins.grpc import plugin
from twisted_rr.plugins.grpc.config import GrpcSettings, TlsSettings
from twisted_rr.plugins.grpc.plugin import GrpcReload
from twisted_rr.testing.host import FakeHost


class Host(FakeHost):
    env: Any = None

    def pool(self, name: str, settings: Any, mode: str, key: str = "pool", env: Any = None) -> Any:
        self.env = env
        return super().pool(name, settings, mode)


def test_it_builds_a_front_a_pool_and_numbers() -> None:
    host = Host()
    plugin.build(GrpcSettings(listen=":0", env={"A": "1"}, max_send_msg_size=1000), host)
    assert host.modes == {"grpc": "grpc"}
    assert host.env == {"A": "1"}
    assert host.pools["grpc"].max_message >= 1000
    ((phase, front),) = host.placed
    assert phase == "FRONT"
    verifyObject(IFront, front)
    (metrics,) = host.collect(IMetrics)
    verifyObject(IMetrics, metrics)
    (reload,) = host.collect(IReloadable)
    verifyObject(IReloadable, reload)


def test_tls_files_that_cannot_be_used_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.pem"
    path.write_text("nothing")
    for tls in (TlsSettings(private_key="/no/key", cert="/no/cert"),
                TlsSettings(private_key=str(path), cert=str(path))):  # fmt: skip
        with pytest.raises(ConfigError, match=r"grpc\.tls"):
            plugin.build(GrpcSettings(listen=":0", tls=tls), Host())


def test_a_reload_changes_what_comes_next() -> None:
    world, client = served()
    before = client.call()
    settings = attrs.evolve(
        world.front.settings, max_recv_msg_size=1, access_logs=True, max_concurrent_streams=1
    )
    GrpcReload(world.front).prepare(settings)()
    world.call.reply(b"ho", more=False)
    world.turn()
    assert client.answer(before).status == 0
    assert client.answer(client.call(message=b"two")).status == 8
    assert len(world.host.log("access").lines("info")) == 2
    new = world.connect()
    numbers = [new.call(message=b"1") for _ in range(2)]
    assert new.answer(numbers[1]).reset == 7


def test_a_reload_counts_for_calls_that_a_connection_repeats() -> None:
    world, client = served(compression="never")
    what: dict[str, Any] = {"fields": [("grpc-encoding", "gzip"), ("grpc-timeout", "9S")]}

    def answered() -> bytes:
        number = client.call(**what)
        world.call.reply(b"a" * 1000, more=False)
        world.turn()
        return client.answer(number).data[:1]

    assert [answered() for _ in range(3)] == [b"\0"] * 3
    GrpcReload(world.front).prepare(attrs.evolve(world.front.settings, compression="request"))()
    assert [answered() for _ in range(3)] == [b"\1"] * 3
    del what["fields"][1]
    assert [answered() for _ in range(3)] == [b"\1"] * 3


def test_every_key_that_can_change_is_one() -> None:
    assert {field.name for field in attrs.fields(GrpcSettings)} >= plugin.LIVE
