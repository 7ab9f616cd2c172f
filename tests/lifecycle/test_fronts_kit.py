"""The kit for fronts: the example of docs/fronts.md passes, and each way to break the contract is found."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from twisted_rr.testing.fronts import RULES, check_front
from twisted_rr.testing.host import FakeHost
from twisted_rr.testing.port import FakePort
from twisted_rr.testing.transport import StringTransport

PAGE = Path(__file__).resolve().parents[2] / "docs" / "fronts.md"
EXAMPLE: dict[str, Any] = {}
exec(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)[0], EXAMPLE)
LineFront: Any = EXAMPLE["LineFront"]


class Transport(StringTransport):
    """Tells its protocol when it is closed, as a real one does."""

    def loseConnection(self) -> None:
        super().loseConnection()
        self.leave()

    def abortConnection(self) -> None:
        super().abortConnection()
        self.leave()

    def leave(self) -> None:
        protocol, self.protocol = self.protocol, None
        if protocol is not None:
            protocol.connectionLost(None)


class Hands:
    """A client and an application of `LineFront`."""

    def __init__(self, front: Any) -> None:
        self.front = front

    def begin(self) -> Any:
        if not self.front.port.listening:
            return None
        transport = Transport()
        self.front.port.connect(transport).dataReceived(b"hello\n")
        return transport, self.front.replies[-1]

    def finish(self, exchange: Any) -> None:
        exchange[1](b"HELLO")

    def leave(self, exchange: Any) -> None:
        exchange[0].leave()

    def outcome(self, exchange: Any) -> str:
        data = exchange[0].value()
        if not data:
            return "open" if exchange[0].protocol is not None else "broken"
        return "refused" if data.startswith(b"REFUSED") else "complete"

    def told_to_go(self, exchange: Any) -> bool:
        return b"BYE" in exchange[0].value()


def checked(cls: Any) -> list[str]:
    """The rules that *cls* breaks."""
    clock = Clock()

    def make() -> Any:
        port = FakePort("127.0.0.1:7")
        replies: list[Any] = []
        front = cls(
            "127.0.0.1:7", FakeHost(clock), lambda text, reply: replies.append(reply), bind=lambda _: port
        )
        front.port, front.replies = port, replies
        return front

    return check_front(make, Hands, clock.advance)


def test_the_example_of_the_docs_breaks_no_rule() -> None:
    assert checked(LineFront) == []


class AcceptsAfterFinish(LineFront):  # type: ignore[misc]
    def finish(self) -> None:
        pass


class CutsAtFinish(LineFront):  # type: ignore[misc]
    def finish(self) -> None:
        super().finish()
        self.hurry()


class SaysNothing(LineFront):  # type: ignore[misc]
    def announce(self) -> None:
        pass


class RefusesInAnnounce(LineFront):  # type: ignore[misc]
    def announce(self) -> None:
        super().announce()
        self._listener.finish()


class ForgetsThoseWhoLeave(LineFront):  # type: ignore[misc]
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.in_flight = Forgetful(self.in_flight)


class Forgetful:
    """Passes on all but the end of who left."""

    def __init__(self, kept: Any) -> None:
        self.kept = kept

    def __getattr__(self, name: str) -> Any:
        return (lambda item: None) if name == "end_lost" else getattr(self.kept, name)


class DoesNotWait(LineFront):  # type: ignore[misc]
    async def _drained(self) -> None:
        """At once."""


class CutsWithoutAWord(LineFront):  # type: ignore[misc]
    def hurry(self) -> None:
        for transport in self.transports():
            transport.loseConnection()


class LeavesSomething(LineFront):  # type: ignore[misc]
    def hurry(self) -> None:
        """Nothing."""


class EndsTwice(LineFront):  # type: ignore[misc]
    def hurry(self) -> None:
        for line in self.in_flight.items():
            line.hurry()
            self.in_flight.end_lost(line)


@pytest.mark.parametrize(
    ("cls", "rule"),
    [
        (AcceptsAfterFinish, "nothing is accepted after finish"),
        (CutsAtFinish, "finish() cuts nothing"),
        (SaysNothing, "after announce() answers tell clients to go"),
        (RefusesInAnnounce, "has to be accepted until finish"),
        (ForgetsThoseWhoLeave, "a client that left included"),
        (DoesNotWait, "stopService() waits"),
        (CutsWithoutAWord, "refuses in words"),
        (LeavesSomething, "hurry() ends everything"),
        (EndsTwice, "ended once"),
    ],
)
def test_a_front_that_breaks_a_rule_is_told_which(cls: Any, rule: str) -> None:
    assert any(rule in each for each in checked(cls)), checked(cls)


def test_every_rule_can_be_broken() -> None:
    assert len(RULES) == 7
