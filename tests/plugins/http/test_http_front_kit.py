"""The HTTP front is held to the rules for every front (docs/fronts.md)."""

from __future__ import annotations

from typing import Any

from front_world import FakeTransport, World
from twisted.internet.task import Clock

from twisted_rr.testing.fronts import check_front
from twisted_rr.wire.context import encode_head
from twisted_rr.wire.frame import CODEC_MSGPACK

OK = encode_head(CODEC_MSGPACK, 200, [])


class Hands:
    """A client and its application."""

    def __init__(self, front: Any) -> None:
        self.world: World = front.world

    def begin(self) -> Any:
        if not self.world.front.listening:
            return None
        transport = self.world.connect()
        transport.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        return transport, self.world.call

    def finish(self, exchange: Any) -> None:
        exchange[1].answer(CODEC_MSGPACK, OK, b"hi")

    def leave(self, exchange: Any) -> None:
        exchange[0].lose()

    def outcome(self, exchange: Any) -> str:
        transport: FakeTransport = exchange[0]
        if not transport.out:
            return "open" if transport.open else "broken"
        return "complete" if transport.out.startswith(b"HTTP/1.1 200") else "refused"

    def told_to_go(self, exchange: Any) -> bool:
        return b"connection: close\r\n" in exchange[0].out


def test_it_breaks_none() -> None:
    clock = Clock()

    def make() -> Any:
        world = World()
        world.front.world = world  # type: ignore[attr-defined]
        return world.front

    worlds: list[Any] = []

    def advance(seconds: float) -> None:
        clock.advance(seconds)
        for front in worlds:
            front.world.clock.advance(seconds)

    def made() -> Any:
        worlds.append(make())
        return worlds[-1]

    assert check_front(made, Hands, advance) == []
