"""The front: bound early, listening when ready, and a way out that loses nothing."""

from __future__ import annotations

import pwd
from typing import Any

import attrs
import pytest
from front_world import UNIX, FakeTransport, World
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_rr.errors import ConfigError, Draining, NoFreeWorker, WorkerStartError
from twisted_rr.interfaces import IFront
from twisted_rr.lifecycle.settings import DrainSettings
from twisted_rr.plugins.http import plugin
from twisted_rr.plugins.http.config import HttpSettings, TimeoutSettings
from twisted_rr.plugins.http.forwarded import LOOPBACK, Forwarding
from twisted_rr.plugins.http.service import HttpFront
from twisted_rr.pool.settings import ServerSettings
from twisted_rr.testing.host import FakeHost
from twisted_rr.wire.context import decode_request, encode_head
from twisted_rr.wire.frame import CODEC_MSGPACK

GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
OK = encode_head(CODEC_MSGPACK, 200, [])


def stop(world: World) -> list[Any]:
    """stopService; the list gets its result."""
    done: list[Any] = []
    world.front.stopService().addBoth(done.append)
    return done


def answer(world: World, body: bytes = b"hi") -> None:
    world.call.answer(CODEC_MSGPACK, OK, body)


# ---------------------------------------------------------------------------------- start


def test_it_binds_before_it_starts_and_listens_when_the_pool_is_ready() -> None:
    world = World()
    world.pool.start = Deferred()
    world.front.privilegedStartService()
    assert world.ports[0].events == []
    world.front.startService()
    started: list[Any] = []
    world.front.started().addCallback(started.append)
    assert world.ports[0].events == []
    assert not started
    assert not world.front.listening
    world.pool.start.callback(None)
    assert world.ports[0].events == ["listen"]
    assert started == [None]
    assert world.front.listening
    assert world.front.address == "127.0.0.1:8080"


def test_a_pool_that_does_not_start_is_told_to_whoever_waits() -> None:
    world = World()
    world.pool.start = Deferred()
    world.start()
    early: list[Any] = []
    world.front.started().addErrback(early.append)
    failure = Failure(WorkerStartError("php x", "exit code 1"))
    world.pool.start.errback(failure)
    late: list[Any] = []
    world.front.started().addErrback(late.append)
    assert [each.value for each in early + late] == [failure.value, failure.value]
    assert world.ports[0].events == []


def test_a_stop_before_the_pool_is_ready_never_listens() -> None:
    world = World()
    world.pool.start = Deferred()
    world.start()
    told: list[Any] = []
    world.front.started().addErrback(told.append)
    done = stop(world)
    assert done == [None]
    assert isinstance(told[0].value, Draining)
    world.pool.start.callback(None)
    assert "listen" not in world.ports[0].events


def test_the_front_is_a_front() -> None:
    assert IFront.providedBy(World().front)


# ------------------------------------------------------------------------------- sessions


def test_a_request_is_answered_and_the_connection_kept() -> None:
    world = World().start()
    client = world.connect()
    client.send(GET)
    answer(world)
    assert client.out.startswith(b"HTTP/1.1 200 OK\r\n")
    assert client.out.endswith(b"\r\n\r\nhi")
    assert b"connection: close" not in client.out
    assert world.front.in_flight.count() == 0
    client.send(GET)
    assert len(world.pool.calls) == 2


def test_an_answer_counts_until_the_kernel_has_it() -> None:
    world = World().start()
    client = world.connect()
    client.send(GET)
    client.stuck = True
    answer(world)
    assert world.front.in_flight.count() == 1
    client.take()
    assert world.front.in_flight.count() == 0


def test_a_client_that_leaves_cancels_its_call_and_is_forgotten() -> None:
    world = World().start()
    client = world.connect()
    client.send(GET)
    client.lose()
    assert world.call.cancelled == "client"
    assert world.front.in_flight.count() == 0
    assert not world.front.connections


def test_a_malformed_request_is_one_debug_line_and_reaches_nobody() -> None:
    world = World().start()
    client = world.connect()
    client.send(b"GET / HTTP/1.1\r\nHost : h\r\n\r\n")
    assert client.out.startswith(b"HTTP/1.1 400 ")
    assert not world.pool.calls
    assert len(world.log("debug")) == 1
    assert "203.0.113.7: 400" in world.log("debug")[0]
    assert not world.log("error", "warn")


def test_the_limits_of_the_section_are_the_sessions() -> None:
    world = World(max_request_size=10, max_headers=8, max_header_bytes=1024).start()
    for request, status in (
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\n", b"413"),
        (b"GET / HTTP/1.1\r\nHost: h\r\n" + b"a: b\r\n" * 8 + b"\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nHost: h\r\na: " + b"x" * 2000 + b"\r\n\r\n", b"431"),
    ):
        client = world.connect()
        client.send(request)
        assert client.out.split()[1] == status
    assert not world.pool.calls


def test_no_limit_on_the_size_of_a_request_is_still_roadrunners_default() -> None:
    assert HttpSettings(address=":1", max_request_size=0).max_body == 1000 << 20


def test_time_outs_are_looked_at_once_a_second() -> None:
    world = World(timeouts=TimeoutSettings(header=3, keepalive=5)).start()
    client = world.connect()
    client.send(b"GET / HT")
    for _ in range(5):
        world.clock.advance(1)
    assert client.out.startswith(b"HTTP/1.1 408 ")
    idle = world.connect()
    idle.send(GET)
    answer(world)
    for _ in range(5):
        world.clock.advance(1)
    assert idle.events == []
    for _ in range(2):
        world.clock.advance(1)
    assert idle.events == ["fin"]


def test_a_unix_peer_has_no_address_and_is_trusted() -> None:
    world = World().start()
    client = world.connect(UNIX, UNIX)
    client.send(
        b"GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Host: e.org\r\n\r\n"
    )
    _, _, _, scheme, peer, server, headers, _ = decode_request(
        CODEC_MSGPACK, world.call.context(CODEC_MSGPACK)
    )
    assert (scheme, peer, server) == ("http", ("203.0.113.9", 0), None)
    assert headers[0] == (b"host", b"e.org")


def test_only_trusted_peers_set_client_scheme_and_host() -> None:
    world = World(forwarding=Forwarding(["10.0.0.0/8"])).start()
    head = (
        b"GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 9.9.9.9\r\n"
        b"X-Forwarded-Proto: https\r\nX-Forwarded-Host: e.org\r\n\r\n"
    )
    found = []
    for peer in ("10.1.1.1", "11.1.1.1"):
        client = world.connect(IPv4Address("TCP", peer, 5))
        client.send(head)
        context = decode_request(CODEC_MSGPACK, world.call.context(CODEC_MSGPACK))
        found.append((context[3], context[4], context[6][0][1]))
    assert found == [("https", ("9.9.9.9", 0), b"e.org"), ("http", ("11.1.1.1", 5), b"h")]


def test_an_upload_is_held_while_its_call_is_full() -> None:
    world = World().start()
    client = world.connect()
    client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nabc")
    world.call.room = False
    client.send(b"def")
    assert not client.reading
    world.call.drained()
    assert client.reading
    client.send(b"x" * 94)
    assert world.call.complete


def test_a_download_is_held_while_its_client_is_full() -> None:
    world = World().start()
    client = world.connect()
    client.send(GET)
    world.call.head(CODEC_MSGPACK, OK, b"x")
    client.producer.pauseProducing()
    assert world.call.paused
    client.producer.resumeProducing()
    assert not world.call.paused


def test_half_close_answers_a_client_that_sends_no_more() -> None:
    world = World(half_close=True).start()
    client = world.connect()
    client.send(GET)
    client.protocol.readConnectionLost()
    assert world.call.cancelled is None
    answer(world)
    assert client.out.endswith(b"hi")


@pytest.mark.parametrize("sent", [GET, b"POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n"])
def test_a_fault_of_the_server_is_a_500_and_never_stays_in_flight(
    monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    world = World().start()

    def broken(*arguments: Any) -> Any:
        raise RuntimeError("a bug")

    monkeypatch.setattr(world.pool, "open", broken)
    client = world.connect()
    client.send(sent)
    world.host.turn.end()
    assert client.out.startswith(b"HTTP/1.1 500 ")
    assert world.front.in_flight.count() == 0
    assert world.log("critical") == [sent[:4].decode().strip() + " /a could not be started"]


def test_a_session_that_fails_takes_no_other_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(timeouts=TimeoutSettings(header=2)).start()
    broken, slow = world.connect(), world.connect()
    broken.send(GET)
    monkeypatch.setattr(broken, "buffered", lambda: 1 / 0)
    for _ in range(4):
        world.clock.advance(1)
    assert broken.events == ["abort"]
    assert slow.events == ["fin"]
    assert world.log("critical")


# ---------------------------------------------------------------------------------- drain


def test_in_the_announce_answers_say_close_and_the_connection_ends_with_a_fin() -> None:
    world = World().start()
    client = world.connect()
    world.front.announce()
    client.send(GET)
    answer(world)
    assert b"connection: close\r\n" in client.out
    assert client.events == ["fin"]
    fresh = world.connect()
    fresh.send(GET)
    answer(world)
    assert fresh.out.endswith(b"hi")


def test_an_admins_drain_can_be_taken_back() -> None:
    world = World().start()
    world.front.announce()
    assert world.front.draining
    world.host.drain.undrain()
    assert not world.front.draining


def test_idle_connections_are_kept_through_announce_and_finish_then_answered_and_closed() -> None:
    world = World().start()
    idle, busy = world.connect(), world.connect()
    idle.send(GET)
    answer(world)
    busy.send(GET)
    held = world.call
    world.front.announce()
    world.front.finish()
    assert world.ports[0].events == ["listen", "finish"]
    assert idle.events == []
    idle.send(GET)
    answer(world)
    assert b"connection: close" in idle.out
    assert idle.events == ["fin"]
    held.answer(CODEC_MSGPACK, OK)
    assert busy.events == ["fin"]


def test_idle_connections_are_closed_near_the_deadline_at_the_latest() -> None:
    world = World().start()
    idle, busy = world.connect(), world.connect()
    for client in (idle, busy):
        client.send(GET)
    world.pool.calls[0].answer(CODEC_MSGPACK, OK)
    world.front.finish()
    world.clock.advance(1)
    assert idle.events == []
    world.host.drain.budget = 1.5
    world.clock.advance(1)
    assert (idle.events, busy.events) == (["fin"], [])


def test_a_connection_from_the_accept_queue_is_heard_before_it_counts_as_idle() -> None:
    """Where the whole budget is near the deadline, the first sweep comes in the turn of the close."""
    world = World().start()
    world.host.drain.budget = 1.5
    queued = FakeTransport()
    world.ports[0].waiting.append(queued)
    world.connect().send(GET)
    world.clock.advance(0.99)
    world.front.announce()
    world.front.finish()
    world.clock.advance(0.01)
    assert queued.events == []
    queued.send(GET)
    answer(world)
    assert b"connection: close" in queued.out
    assert queued.events == ["fin"]


def test_a_client_that_just_connected_may_still_ask_near_the_deadline() -> None:
    world = World().start()
    world.host.drain.budget = 1.5
    world.connect().send(GET)
    world.clock.advance(0.7)
    silent = world.connect()
    world.front.finish()
    world.clock.advance(0.3)
    assert silent.events == []
    world.clock.advance(1)
    assert silent.events == ["fin"]


def test_a_stop_in_a_terminal_closes_idle_connections_at_once() -> None:
    world = World().start()
    world.host.drain.brisk = True  # type: ignore[attr-defined]
    idle = world.connect()
    world.front.finish()
    assert idle.events == ["fin"]


def test_stop_waits_for_what_is_in_flight_then_for_the_clients_to_close() -> None:
    world = World().start()
    client = world.connect()
    client.send(GET)
    world.clock.advance(0.2)
    done = stop(world)
    world.clock.advance(60)
    assert not done
    answer(world)
    assert client.events == ["fin"]
    assert not done
    client.lose()
    assert done == [None]
    assert not world.clock.getDelayedCalls()


def test_stop_does_not_wait_for_clients_that_never_close() -> None:
    world = World().start()
    client = world.connect()
    world.clock.advance(0.5)
    done = stop(world)
    assert client.events == ["fin"]
    world.clock.advance(0.5)
    assert done == [None]
    assert client.events == ["fin", "close"]


def test_a_client_that_just_connected_may_still_ask_when_nothing_else_holds_the_stop() -> None:
    world = World().start()
    client, silent = world.connect(), world.connect()
    world.clock.advance(0.2)
    done = stop(world)
    world.clock.advance(0.1)
    assert (client.events, silent.events) == ([], [])
    client.send(GET)
    answer(world)
    assert b"connection: close" in client.out
    assert client.events == ["fin"] and silent.events == []
    world.clock.advance(0.1)
    world.clock.advance(0.1)
    assert silent.events == ["fin"]
    world.clock.advance(0.5)
    assert done == [None]


def test_a_stop_without_connections_is_immediate() -> None:
    world = World().start()
    assert stop(world) == [None]
    assert not world.clock.getDelayedCalls()


def test_a_connection_from_the_accept_queue_is_served() -> None:
    world = World().start()
    queued = FakeTransport()
    world.ports[0].waiting.append(queued)
    done = stop(world)
    assert queued.events == []
    queued.send(GET)
    world.clock.advance(0.2)
    answer(world)
    assert queued.out.endswith(b"hi")
    queued.lose()
    world.clock.advance(0.1)
    assert done == [None]


def test_a_half_sent_head_holds_the_stop_two_seconds_at_most() -> None:
    world = World().start()
    client = world.connect()
    client.send(b"GET / HT")
    world.clock.advance(0.2)
    done = stop(world)
    world.clock.pump([0.1] * 19)
    assert client.events == []
    world.clock.pump([0.1] * 3)
    assert client.events == ["fin"]
    world.clock.advance(1)
    assert done == [None]


def test_a_half_sent_head_that_is_completed_is_answered() -> None:
    world = World().start()
    client = world.connect()
    client.send(GET[:9])
    world.clock.advance(0.2)
    done = stop(world)
    world.clock.advance(0.1)
    client.send(GET[9:])
    world.clock.pump([0.1] * 30)
    assert not done
    answer(world)
    assert client.out.endswith(b"hi")
    client.lose()
    world.clock.advance(0.1)
    assert done == [None]


def test_hurry_ends_a_stop_that_waits() -> None:
    world = World().start()
    waiting, streaming, half = world.connect(), world.connect(), world.connect()
    waiting.send(GET)
    streaming.send(GET)
    world.call.head(CODEC_MSGPACK, OK, b"x")
    half.send(b"GET")
    world.clock.advance(0.2)
    done = stop(world)
    world.front.hurry()
    assert waiting.out.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1" in waiting.out
    assert streaming.events == ["abort"]
    assert half.events == ["fin"]
    assert world.front.in_flight.cut == 2
    world.clock.advance(0.05)
    assert done == [None]
    assert not world.front.connections
    assert not world.clock.getDelayedCalls()


def test_hurry_in_the_last_wait_ends_it() -> None:
    world = World().start()
    client = world.connect()
    world.clock.advance(0.5)
    done = stop(world)
    assert client.events == ["fin"]
    world.front.hurry()
    world.clock.advance(0)
    assert done == [None]


def test_it_starts_again_after_a_stop() -> None:
    world = World().start()
    assert stop(world) == [None]
    world.start()
    assert len(world.ports) == 2
    client = world.connect()
    client.send(GET)
    answer(world)
    assert b"connection: close" not in client.out


# --------------------------------------------------------------------------------- plugin


def test_the_plugin_builds_a_pool_and_a_front() -> None:
    host = FakeHost()
    plugin.build(HttpSettings(address="127.0.0.1:0"), host, {})
    ((phase, front),) = host.placed
    assert phase == "FRONT"
    assert isinstance(front, HttpFront)
    assert front.pool is host.pools["http"]
    assert host.modes == {"http": "http"}
    assert front.trusts(("127.0.0.1", 1))


@pytest.mark.parametrize(
    ("key", "environ", "found"),
    [
        (None, {}, LOOPBACK),
        (None, {"FORWARDED_ALLOW_IPS": "*"}, ("*",)),
        (None, {"FORWARDED_ALLOW_IPS": "10.0.0.1, 10.1.0.0/16"}, ("10.0.0.1", "10.1.0.0/16")),
        (None, {"FORWARDED_ALLOW_IPS": ""}, ()),
        (("10.0.0.0/8",), {"FORWARDED_ALLOW_IPS": "*"}, ("10.0.0.0/8",)),
        ((), {}, ()),
    ],
)
def test_the_key_wins_over_the_variable(
    key: tuple[str, ...] | None, environ: dict[str, str], found: tuple[str, ...]
) -> None:
    assert plugin.trusted_subnets(HttpSettings(address=":1", trusted_subnets=key), environ) == found


def test_a_variable_that_holds_no_network_starts_nothing() -> None:
    with pytest.raises(ConfigError, match="FORWARDED_ALLOW_IPS"):
        plugin.build(HttpSettings(address=":1"), FakeHost(), {"FORWARDED_ALLOW_IPS": "10.0.0/99"})


@pytest.mark.parametrize(
    ("user", "group", "owner"),
    [
        ("", "", None),
        ("root", "", None),
        ("nobody", "", "nobody"),
        ("nobody", "12345", 12345),
        ("no such user", "", None),
        ("nobody", "no such group", None),
    ],
)
def test_uploads_belong_to_the_workers_user(user: str, group: str, owner: Any) -> None:
    found = plugin.owner_of(ServerSettings(user=user, group=group))
    if owner is None:
        assert found is None
    else:
        entry = pwd.getpwnam("nobody")
        assert found == (entry.pw_uid, entry.pw_gid if owner == "nobody" else owner)


# ------------------------------------------------------------------------------ late, and on the way out


def test_from_the_late_limit_on_a_kept_connection_is_turned_away_and_counted_as_refused() -> None:
    world = World()
    world.host.drain.budget = attrs.make_class("Budget", {"late_reject": attrs.field(default=2.0)})()  # type: ignore[assignment]
    world.host.drain.remaining = lambda: 20.0  # type: ignore[method-assign]
    world.start()
    kept, busy = world.connect(), world.connect()
    kept.send(GET)
    answer(world)
    busy.send(GET)
    world.front.announce()
    world.front.finish()
    world.clock.advance(1.9)
    kept.out = b""
    world.clock.advance(0.1)
    calls = len(world.pool.calls)
    kept.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
    assert kept.out.startswith(b"HTTP/1.1 503 ")
    assert b"connection: close" in kept.out and b"retry-after: 1" in kept.out
    assert len(world.pool.calls) == calls
    assert (world.front.in_flight.refused, world.front.in_flight.finished) == (1, 1)


def test_closing_the_listener_does_not_yet_tell_clients_to_go() -> None:
    world = World().start()
    kept, busy = world.connect(), world.connect()
    busy.send(GET)
    world.front.finish()
    kept.send(GET)
    answer(world)
    assert b"connection: close" not in kept.out
    world.front.announce()
    kept.send(GET)
    answer(world)
    assert b"connection: close" in kept.out


def test_a_connection_that_never_spoke_is_closed_soon_after_the_listener() -> None:
    world = World()
    world.host.drain.remaining = lambda: 20.0  # type: ignore[method-assign]
    world.start()
    silent, busy = world.connect(), world.connect()
    busy.send(GET)
    world.clock.advance(3)
    assert silent.events == []
    world.front.finish()
    world.clock.advance(1)
    assert silent.events == ["fin"] and busy.events == []


def test_calls_that_get_no_worker_in_a_drain_count_as_refused() -> None:
    world = World().start()
    client = world.connect()
    client.send(GET)
    world.host.drain.enter("draining:finish")
    world.call.fail(NoFreeWorker(60.0))
    assert client.out.startswith(b"HTTP/1.1 503 ")
    assert (world.front.in_flight.refused, world.front.in_flight.finished) == (1, 0)


def test_envoys_header_comes_with_what_tells_clients_to_go() -> None:
    world = World(settings={"drain": DrainSettings(envoy_immediate_fail=True)}).start()
    client = world.connect()
    client.send(GET)
    answer(world)
    assert b"x-envoy" not in client.out
    world.front.announce()
    client.send(b"nonsense\r\n\r\n")
    assert b"x-envoy-immediate-health-check-fail: true\r\n" in client.out


def test_activity_changes_with_bytes_to_clients() -> None:
    world = World().start()
    client = world.connect()
    client.send(GET)
    before = world.front.activity()
    world.call.head(CODEC_MSGPACK, OK, b"abc")
    assert world.front.activity() == before + 3
