"""The gRPC front is held to the rules for every front (docs/fronts.md)."""

from __future__ import annotations

from typing import Any

from grpc_world import World

from twisted_rr.testing.fronts import check_front


class Hands:
    """A client and its application."""

    def __init__(self, front: Any) -> None:
        self.world: World = front.world

    def begin(self) -> Any:
        if not self.world.front.listening:
            return None
        client = self.world.connect()
        if self.world.front.draining:
            self.world.advance(1.0)  # a younger connection is left alone
        number = client.call()
        return client, number, self.world.call

    def finish(self, exchange: Any) -> None:
        exchange[2].reply(b"ho", more=False)
        self.world.turn()
        exchange[0].acknowledge()

    def leave(self, exchange: Any) -> None:
        exchange[0].lose()

    def outcome(self, exchange: Any) -> str:
        answer = exchange[0].answer(exchange[1])
        if answer.status is None:
            return "broken" if exchange[0].transport.closing else "open"
        return "complete" if answer.status == 0 else "refused"

    def told_to_go(self, exchange: Any) -> bool:
        return bool(exchange[0].read().goaways)


def test_it_breaks_none() -> None:
    worlds: list[World] = []

    def make() -> Any:
        world = World()
        world.front.world = world  # type: ignore[attr-defined]
        worlds.append(world)
        return world.front

    def advance(seconds: float) -> None:
        for world in worlds:
            world.advance(seconds)
            for client in list(world.clients):
                client.acknowledge()

    assert check_front(make, Hands, advance) == []
