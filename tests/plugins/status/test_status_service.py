"""The status listener over transports in memory: first up, last down, never in the way."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock

from twisted_rr.errors import ListenError
from twisted_rr.interfaces import IHealth, IReloadable
from twisted_rr.lifecycle.budget import Budget
from twisted_rr.lifecycle.drain import Drain
from twisted_rr.plugins.status import plugin
from twisted_rr.plugins.status.checks.settings import CheckSettings
from twisted_rr.plugins.status.config import StatusSettings
from twisted_rr.plugins.status.service import StatusService
from twisted_rr.testing.host import FakeHost
from twisted_rr.testing.pool import FakeHealth
from twisted_rr.testing.transport import StringTransport


class Port:
    """A bound port that the test connects to."""

    def __init__(self, address: str, diary: list[str]) -> None:
        self.address = address
        self.diary = diary
        self.listening = False
        self.factory: Any = None

    def listen(self, factory: Any, reactor: Any, spare: int = 0) -> None:
        self.diary.append("listen")
        self.factory = factory
        self.listening = True

    def finish(self) -> None:
        self.diary.append("finish")

    def close(self) -> None:
        self.diary.append("close")


class Client:
    """One connection."""

    def __init__(self, port: Port) -> None:
        self.protocol = port.factory.buildProtocol(None)
        self.transport = StringTransport()
        if self.protocol is not None:
            self.protocol.makeConnection(self.transport)

    def send(self, data: bytes) -> Client:
        self.protocol.dataReceived(data)
        return self

    def get(self, path: str, method: str = "GET", **headers: str) -> Client:
        lines = [
            f"{method} {path} HTTP/1.1",
            "host: x",
            *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items()),
        ]
        return self.send("\r\n".join([*lines, "", ""]).encode())

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The first answer received and not taken yet; status 0 when there is none."""
        head, _, body = self.transport.take().partition(b"\r\n\r\n")
        if not head:
            return 0, {}, b""
        first, *lines = head.decode().split("\r\n")
        pairs = (line.partition(":") for line in lines)
        return int(first.split()[1]), {name.lower(): value.strip() for name, _, value in pairs}, body

    def leave(self) -> None:
        self.protocol.connectionLost()


class Rig:
    def __init__(self, **changed: Any) -> None:
        self.clock = Clock()
        self.host = FakeHost(self.clock)
        self.drain = Drain(Budget(total=30.0, announce_min=2.0, announce_max=5.0), self.clock.seconds)
        self.host.drain = self.drain  # type: ignore[assignment]
        self.health = FakeHealth("http")
        self.host.provide(IHealth, self.health)
        self.diary: list[str] = []
        self.ports: list[Port] = []
        options = {name: changed.pop(name) for name in ("run",) if name in changed}
        settings = StatusSettings(address="127.0.0.1:2114", **changed)
        self.service = StatusService(self.host, settings, bind=self.bind, **options)

    def bind(self, address: str) -> Port:
        self.ports.append(Port(address, self.diary))
        return self.ports[-1]

    def start(self, running: bool = True) -> Rig:
        self.service.privilegedStartService()
        self.service.startService()
        if running:
            self.drain.start()
            self.drain.ready()
        return self

    def client(self) -> Client:
        return Client(self.ports[-1])

    def ready_entry(self, name: str) -> str:
        """What /ready says of *name*."""
        return str(self.service.probe(f"/ready?plugin={name}")[1][0]["error_message"])

    def stop(self) -> list[float]:
        done: list[float] = []
        self.service.stopService().addCallback(lambda _: done.append(self.clock.seconds()))
        return done


def test_it_listens_at_once_and_tells_booting() -> None:
    rig = Rig().start(running=False)
    assert rig.diary == ["listen"]
    status, headers, body = rig.client().get("/ready").answer()
    assert (status, headers["x-rr-lifecycle"]) == (503, "booting")
    assert msgspec.json.decode(body)[0]["plugin_name"] == "lifecycle"
    assert rig.client().get("/health").answer()[0] == 200


def test_a_port_in_use_fails_the_start() -> None:
    def bind(address: str) -> Port:
        raise ListenError(address, "in use")

    service = StatusService(FakeHost(), StatusSettings(address=":1"), bind=bind)
    with pytest.raises(ListenError):
        service.privilegedStartService()


def test_answers_follow_the_state_at_once() -> None:
    rig = Rig().start()
    client = rig.client()
    assert client.get("/ready").answer()[0] == 200
    rig.drain.begin("SIGTERM")
    status, headers, _ = client.get("/ready").answer()
    assert (status, headers["connection"], headers["retry-after"]) == (503, "close", "1")
    assert client.transport.closing == "linger"
    assert rig.client().get("/health").answer()[0] == 200


def test_a_connection_is_kept_alive_until_the_drain() -> None:
    rig = Rig().start()
    client = rig.client()
    for _ in range(3):
        status, headers, body = client.get("/health").answer()
        assert (status, len(body)) == (200, int(headers["content-length"]))
        assert "connection" not in headers
    assert client.transport.closing == ""


def test_head_has_the_headers_and_no_body() -> None:
    rig = Rig().start()
    status, headers, body = rig.client().get("/health", "HEAD").answer()
    assert (status, body) == (200, b"")
    assert headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET http://other.example/health HTTP/1.1\r\nhost: x\r\n\r\n", 200),
        (b"GET /health HTTP/1.0\r\n\r\n", 200),
        (b"GET /health HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nab", 200),
        (b"GET /health HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n", 200),
        (b"GET /nowhere HTTP/1.1\r\nhost: x\r\n\r\n", 404),
        (b"DELETE /health HTTP/1.1\r\nhost: x\r\n\r\n", 405),
        (b"GET /health\r\n\r\n", 400),
        (b"nonsense\x00\r\n\r\n", 400),
    ],
)
def test_strange_clients_are_answered(request_bytes: bytes, status: int) -> None:
    assert Rig().start().client().send(request_bytes).answer()[0] == status


def held(rig: Rig) -> Client:
    """A connection with a long poll, which is not idle."""
    return rig.client().get("/ready", if_none_match='"running"', prefer="wait=30")


def test_a_connection_beyond_the_cap_takes_the_place_of_the_longest_idle() -> None:
    rig = Rig(max_connections=2).start()
    first, second = rig.client(), rig.client()
    second.get("/health").answer()
    assert rig.client().get("/health").answer()[0] == 200
    assert (first.transport.closing, second.transport.closing) == ("linger", "")


def test_however_many_never_ask_the_next_one_is_answered() -> None:
    rig = Rig(max_connections=2).start()
    silent = [rig.client() for _ in range(200)]
    assert rig.client().get("/health").answer()[0] == 200
    assert len(rig.service.front.sessions) == 2
    # Each of them may linger, to spare its last answer a reset, but not all: descriptors are few.
    assert [client.transport.closing for client in silent[-65:-1]] == ["linger"] * 64
    assert {client.transport.closing for client in silent[:100]} == {"abort"}


def test_who_never_ends_a_question_keeps_nobody_out() -> None:
    rig = Rig(max_connections=3).start()
    slow = [rig.client().send(b"GET /health HT") for _ in range(2)]
    polling = held(rig)
    assert rig.client().get("/health").answer()[0] == 200
    assert [client.transport.closing for client in (*slow, polling)] == ["linger", "", ""]


def test_when_none_is_idle_it_gets_a_clear_503() -> None:
    rig = Rig(max_connections=2).start()
    held(rig), held(rig)
    status, headers, body = rig.client().answer()
    assert (status, headers["connection"], headers["retry-after"]) == (503, "close", "1")
    assert body == b"too many connections to the status listener\n"


def test_a_flood_beyond_that_is_just_closed_until_those_refused_are_gone() -> None:
    rig = Rig(max_connections=1).start()
    held(rig)
    refused = [rig.client() for _ in range(64)]
    assert rig.client().protocol is None
    refused[0].leave()
    assert rig.client().answer()[0] == 503


def test_a_long_poll_beyond_the_cap_is_answered_at_once_and_truthfully() -> None:
    rig = Rig(max_waiting=1).start()
    waiting, other = held(rig), held(rig)
    assert waiting.answer()[0] == 0
    assert other.answer()[0] == 304


def test_who_asks_is_told_to_the_drain_as_a_possible_probe() -> None:
    rig = Rig().start()
    client = rig.client()
    for _ in range(4):
        client.get("/ready", user_agent="checker/1")
        rig.clock.advance(5)
    now = rig.clock.seconds()
    assert rig.drain.probes.gone_at(now - 5) == now - 5 + 10


def test_after_the_cap_closed_one_the_stop_still_ends() -> None:
    rig = Rig(max_connections=1).start()
    first = rig.client()
    second = rig.client().get("/health")
    done = rig.stop()
    rig.clock.advance(0.05)
    first.leave()
    second.leave()
    rig.clock.advance(0.2)
    assert len(done) == 1


def test_a_client_that_does_not_ask_is_closed() -> None:
    rig = Rig(check_timeout=2.0).start()
    silent, half = rig.client(), rig.client().send(b"GET /health HT")
    for _ in range(5):
        rig.clock.advance(1)
    assert (silent.transport.closing, half.transport.closing) != ("", "")
    assert half.transport.closing


def test_no_time_for_a_check_means_the_usual_time() -> None:
    rig = Rig(
        check_timeout=0.0, checks=(CheckSettings(name="db", tcp=":1"),), run=lambda *_: Deferred()
    ).start()
    assert rig.ready_entry("db") == "it has not succeeded yet"
    rig.clock.advance(0.5)
    assert rig.ready_entry("db") == "it has not succeeded yet"
    rig.clock.advance(0.5)
    assert rig.ready_entry("db") == "it fails"


# ------------------------------------------------------------------------------- long polls


def long_poll(rig: Rig, tag: str = "running", wait: int = 30) -> Client:
    return rig.client().get("/ready", if_none_match=f'"{tag}"', prefer=f"wait={wait}")


def test_a_long_poll_is_answered_in_the_turn_of_the_signal() -> None:
    rig = Rig().start()
    client = long_poll(rig)
    rig.clock.advance(5)
    assert client.answer()[0] == 0
    rig.drain.begin("SIGTERM")
    status, headers, _ = client.answer()
    assert (status, headers["x-rr-lifecycle"], headers["connection"]) == (503, "draining:announce", "close")


def test_a_long_poll_without_news_ends_with_304() -> None:
    rig = Rig().start()
    client = long_poll(rig, wait=3)
    for _ in range(4):
        rig.clock.advance(1)
    assert client.answer()[0] == 304


def test_a_long_poll_that_knows_another_state_is_answered_at_once() -> None:
    assert long_poll(Rig().start(), tag="starting").answer()[0] == 200


def test_a_long_poll_hears_of_a_plugin_within_a_second() -> None:
    rig = Rig().start()
    client = long_poll(rig)
    rig.health.not_ready = "no worker is alive"
    rig.clock.advance(1)
    assert client.answer()[0] == 503


def test_long_polls_are_capped_and_the_next_is_answered_at_once() -> None:
    rig = Rig(max_waiting=1).start()
    first, second = long_poll(rig), long_poll(rig)
    assert (first.answer()[0], second.answer()[0]) == (0, 304)


def test_a_client_that_leaves_makes_room() -> None:
    rig = Rig(max_waiting=1).start()
    long_poll(rig).leave()
    assert long_poll(rig).answer()[0] == 0
    rig.drain.begin("SIGTERM")


# ----------------------------------------------------------------------------------- stop


def test_without_connections_it_stops_at_once_after_emptying_the_queue() -> None:
    rig = Rig().start()
    assert rig.stop() == [0.0]
    assert rig.diary == ["listen", "finish", "close"]
    assert rig.clock.getDelayedCalls() == []


def test_a_question_that_was_in_the_accept_queue_is_answered_before_it_closes() -> None:
    rig = Rig().start()
    client = rig.client()
    done = rig.stop()
    client.get("/health")
    assert client.answer()[0] == 200
    rig.clock.advance(0.05)
    assert client.transport.closing == "linger"
    client.leave()
    assert done == [0.05]


def test_no_connection_holds_the_exit_for_200_ms() -> None:
    rig = Rig().start()
    clients = [rig.client(), rig.client().get("/health"), rig.client().send(b"GET /hea"), long_poll(rig)]
    rig.drain.begin("SIGTERM")
    done = rig.stop()
    for _ in range(20):
        rig.clock.advance(0.01)
    assert done
    assert done[0] <= 0.2
    assert all(client.transport.closing for client in clients)


def test_it_starts_again() -> None:
    rig = Rig().start()
    rig.health.not_alive = "dead"
    rig.clock.advance(5)
    rig.stop()
    rig.health.not_alive = None
    rig.service.privilegedStartService()
    rig.service.startService()
    assert rig.diary == ["listen", "finish", "close", "listen"]
    assert rig.client().get("/health").answer()[0] == 200
    rig.stop()


def test_a_service_that_never_started_only_releases_its_port() -> None:
    rig = Rig()
    rig.service.privilegedStartService()
    assert rig.stop() == [0.0]
    assert rig.diary == ["close"]


def test_the_plugin_places_it_in_its_own_phase() -> None:
    host = FakeHost(MemoryReactorClock())
    plugin.build(plugin.SETTINGS(address="127.0.0.1:0"), host)
    ((phase, service),) = host.placed
    assert (phase, service.name) == ("STATUS", "status")


# ------------------------------------------------------------------------------- reload


def test_answers_change_with_a_reload() -> None:
    rig = Rig().start()
    rig.health.not_ready = "no worker is alive"
    assert rig.client().get("/ready").answer()[0] == 503
    step = rig.service.prepare(StatusSettings(address="127.0.0.1:2114", unavailable_status_code=500))
    assert rig.client().get("/ready").answer()[0] == 503
    step()
    assert rig.client().get("/ready").answer()[0] == 500


def test_the_plugin_says_what_a_reload_can_change() -> None:
    host = FakeHost()
    plugin.build(StatusSettings(address="127.0.0.1:0"), host)
    [reloadable] = host.collect(IReloadable)
    assert reloadable.section == "status"
    assert "liveness" in reloadable.live
    assert not reloadable.live & {"address", "checks", "stuck_after"}
