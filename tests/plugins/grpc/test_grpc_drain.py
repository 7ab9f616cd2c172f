"""Health, reflection, and the way out: NOT_SERVING, then GOAWAY twice, then the end (drain.md I18, I19, F22 to F24)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_world import Client, World, served

from twisted_rr.interfaces import IHealth
from twisted_rr.plugins.grpc.config import ProtoFiles
from twisted_rr.plugins.grpc.framing import framed
from twisted_rr.testing.pool import FakeHealth

CHECK = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"
LIST = "/grpc.health.v1.Health/List"
INFO = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"

SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3
LAST_ID = 2**31 - 1

PROTO = """
syntax = "proto3"; package rr.test;
message M { string text = 1; }
service Echo { rpc Say(M) returns (M); rpc Sum(stream M) returns (M); rpc Tell(M) returns (stream M); }
"""


@pytest.fixture(scope="module")
def protos(tmp_path_factory: Any) -> ProtoFiles:
    path: Path = tmp_path_factory.mktemp("protos") / "echo.proto"
    path.write_text(PROTO)
    return ProtoFiles((str(path),))


def request(service: str = "") -> bytes:
    data: bytes = health_pb2.HealthCheckRequest(service=service).SerializeToString()
    return data


def check(client: Client, service: str = "") -> int | str:
    answer = client.answer(client.call(CHECK, request(service)))
    if answer.status:
        return answer.text
    return int(health_pb2.HealthCheckResponse.FromString(answer.messages[0]).status)


def statuses(client: Client, number: int) -> list[int]:
    return [health_pb2.HealthCheckResponse.FromString(one).status for one in client.answer(number).messages]


# ----------------------------------------------------------------------------------------- health


def test_each_name_has_its_status(protos: ProtoFiles) -> None:
    world, client = served(proto=protos)
    for name in ("", "readiness", "liveness", "startup", "rr.test.Echo"):
        assert check(client, name) == SERVING
    assert check(client, "no.such") == "unknown service"
    assert world.front.in_flight.finished == 0


def test_rr_compat_answers_for_the_server_whatever_is_asked() -> None:
    from twisted_rr.plugins.grpc.config import HealthSettings

    world, client = served(health=HealthSettings(rr_compat=True))
    assert check(client, "no.such") == SERVING
    world.host.drain.enter("draining:announce")
    assert check(client, "liveness") == NOT_SERVING


def test_list_has_all_of_them(protos: ProtoFiles) -> None:
    world, client = served(proto=protos)
    answer = client.answer(client.call(LIST, b""))
    listed = health_pb2.HealthListResponse.FromString(answer.messages[0]).statuses
    assert {name: one.status for name, one in listed.items()} == dict.fromkeys(
        ("", "readiness", "liveness", "startup", "rr.test.Echo"), SERVING
    )


def test_a_part_that_is_not_ready_is_not_serving_and_not_dead() -> None:
    world, client = served()
    health = FakeHealth("grpc")
    world.host.provide(IHealth, health)
    health.not_ready = "no worker is alive"
    assert [check(client, name) for name in ("", "readiness", "liveness")] == [
        NOT_SERVING,
        NOT_SERVING,
        SERVING,
    ]
    health.not_ready, health.not_alive = None, "stuck"
    assert [check(client, name) for name in ("", "liveness")] == [SERVING, NOT_SERVING]


def test_a_watch_tells_each_change_once() -> None:
    world, client = served()
    health = FakeHealth("grpc")
    world.host.provide(IHealth, health)
    number = client.call(WATCH, request())
    health.not_ready = "no worker"
    for _ in range(3):
        world.advance(1.0)
    health.not_ready = None
    world.advance(1.0)
    assert statuses(client, number) == [SERVING, NOT_SERVING, SERVING]


def test_a_watch_of_an_unknown_service_stays_open() -> None:
    world, client = served()
    number = client.call(WATCH, request("no.such"))
    assert statuses(client, number) == [SERVICE_UNKNOWN]
    assert client.answer(number).status is None


def test_a_watch_whose_client_left_is_forgotten() -> None:
    world, client = served()
    client.cancel(client.call(WATCH, request()))
    client.call(WATCH, request())
    client.lose()
    assert world.front.health._watches == {}
    assert world.front._local_calls == {}


def test_a_deadline_ends_a_watch() -> None:
    world, client = served()
    number = client.call(WATCH, request(), fields=[("grpc-timeout", "1S")])
    world.advance(1.1)
    assert client.answer(number).status == 4


@pytest.mark.parametrize("message", [b"\xff", b"\x0a\x01\xff"])
def test_what_is_no_request_is_invalid(message: bytes) -> None:
    world, client = served()
    assert client.answer(client.call(CHECK, message)).status == 3


def test_methods_that_health_does_not_have_are_unimplemented() -> None:
    world, client = served()
    assert client.answer(client.call("/grpc.health.v1.Health/No", b"")).status == 12


# ----------------------------------------------------------------------------------- what is served


def test_only_what_the_protos_declare_is_served(protos: ProtoFiles) -> None:
    world, client = served(proto=protos)
    answer = client.answer(client.call("/rr.test.Echo/No"))
    assert (answer.status, answer.text) == (12, "unknown method No for service rr.test.Echo")
    answer = client.answer(client.call("/rr.test.No/Say"))
    assert (answer.status, answer.text) == (12, "unknown service rr.test.No")
    assert world.pool.calls == []


def test_a_method_of_one_message_takes_its_worker_when_that_is_complete(protos: ProtoFiles) -> None:
    world, client = served(proto=protos)
    number = client.call("/rr.test.Echo/Say", end=False)
    assert world.pool.calls == []
    client.data(number, framed(b"second"), end=True)
    answer = client.answer(number)
    assert (answer.status, answer.text) == (13, "a second message for a method that takes one")
    client.call("/rr.test.Echo/Sum", end=False)
    assert len(world.pool.calls) == 1


def ask(client: Client, number: int, **question: Any) -> Any:
    message = reflection_pb2.ServerReflectionRequest(**question)
    client.data(number, framed(message.SerializeToString()))
    return reflection_pb2.ServerReflectionResponse.FromString(client.answer(number).messages[-1])


def test_reflection_tells_services_and_files(protos: ProtoFiles) -> None:
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

    world, client = served(proto=protos)
    number = client.call(INFO, None, end=False)
    listed = ask(client, number, list_services="").list_services_response.service
    assert "rr.test.Echo" in [one.name for one in listed]
    for question in (
        {"file_containing_symbol": "rr.test.Echo"},
        {"file_containing_symbol": "rr.test.Echo.Say"},
        {"file_containing_symbol": "rr.test.M.text"},
        {"file_by_filename": "echo.proto"},
    ):
        (data,) = ask(client, number, **question).file_descriptor_response.file_descriptor_proto
        assert FileDescriptorProto.FromString(data).name == "echo.proto"
    assert ask(client, number, file_containing_symbol="no.such").error_response.error_code == 5
    assert ask(client, number, file_by_filename="no.proto").error_response.error_code == 5
    none = ask(client, number, all_extension_numbers_of_type="rr.test.M").all_extension_numbers_response
    assert (none.base_type_name, list(none.extension_number)) == ("rr.test.M", [])
    client.data(number, b"", end=True)
    assert client.answer(number).status == 0


def test_reflection_is_there_only_with_protos_and_when_wanted(protos: ProtoFiles) -> None:
    world, client = served()
    client.call(INFO, None, end=False)
    assert len(world.pool.calls) == 1  # its workers may have one of their own
    world, client = served(proto=protos, reflection=False)
    assert client.answer(client.call(INFO, None)).status == 12


# ----------------------------------------------------------------------------------------- the drain


def announce(world: World) -> None:
    world.host.drain.enter("draining:announce")
    world.front.announce()
    world.turn()


def test_not_serving_is_told_before_the_first_goaway() -> None:
    world, client = served()
    number = client.call(WATCH, request())
    client.read()
    client.order.clear()
    announce(world)
    assert statuses(client, number) == [SERVING, NOT_SERVING]
    assert client.order.index("data") < client.order.index("goaway")
    assert check(client) == NOT_SERVING
    assert check(client, "readiness") == NOT_SERVING
    assert check(client, "liveness") == SERVING


def test_goaway_is_said_twice_and_calls_in_between_are_served() -> None:
    world, client = served()
    first = client.call()
    announce(world)
    assert client.read().goaways == [(LAST_ID, 0)]
    crossing = client.call()
    client.acknowledge()
    assert client.read().goaways == [(LAST_ID, 0), (crossing, 0)]
    late = client.call()
    for call in world.pool.calls:
        call.reply(b"ho", more=False)  # type: ignore[attr-defined]
    world.turn()
    assert client.answer(first).status == client.answer(crossing).status == 0
    assert client.answer(late).status is None
    assert len(world.pool.calls) == 2


def test_a_client_that_does_not_acknowledge_is_told_all_the_same() -> None:
    world, client = served()
    client.call()
    announce(world)
    world.advance(1.0)
    world.advance(1.0)
    assert len(client.read().goaways) == 2


def test_a_connection_of_the_announce_serves_before_it_is_told_to_go() -> None:
    world, client = served()
    announce(world)
    new = world.connect()
    number = new.call()
    world.call.reply(b"ho", more=False)
    world.turn()
    assert new.answer(number).status == 0
    assert (
        new.read().goaways == []
    )  # a client that was just told to go elsewhere, and came here, would be again
    world.advance(1.0)
    assert new.read().goaways == []
    number = new.call()
    assert new.read().goaways == [(LAST_ID, 0)]
    world.call.reply(b"ho", more=False)
    world.turn()
    assert new.answer(number).status == 0


def test_a_young_connection_of_the_announce_is_told_to_go_when_that_is_over() -> None:
    world, client = served()
    announce(world)
    new = world.connect()
    new.call()
    assert new.read().goaways == []
    world.front.finish()
    world.turn()
    assert new.read().goaways == [(LAST_ID, 0)]


def test_finish_ends_watches_and_reflection_and_no_call(protos: ProtoFiles) -> None:
    world, client = served(proto=protos)
    watch = client.call(WATCH, request())
    info = client.call(INFO, None, end=False)
    call = client.call()
    announce(world)
    assert client.answer(watch).status is None
    world.front.finish()
    world.turn()
    assert statuses(client, watch)[-1] == NOT_SERVING
    assert client.answer(watch).status == client.answer(info).status == 14
    assert client.answer(call).status is None
    assert world.ports[-1].events == ["listen", "finish"]


def test_a_watch_after_finish_is_told_and_ended() -> None:
    world, client = served()
    call = client.call()
    world.host.drain.enter("draining:finish")
    world.front.finish()
    watch = client.call(WATCH, request())
    assert statuses(client, watch) == [NOT_SERVING]
    assert client.answer(watch).status == 14
    assert check(client, "liveness") == SERVING
    assert client.answer(call).status is None


def test_a_hundred_watchers_hold_no_stop() -> None:
    world, client = served(max_concurrent_streams=200)
    for _ in range(100):
        client.call(WATCH, request())
    stopped: list[Any] = []
    world.host.drain.enter("draining:finish")
    world.front.stopService().addCallback(stopped.append)
    world.turn()
    client.acknowledge()
    world.advance(0.1)
    world.advance(1.0)
    assert stopped == [None]


def test_a_call_is_waited_for_and_its_connection_closed_after_it() -> None:
    world, client = served()
    number = client.call()
    stopped: list[Any] = []
    announce(world)
    world.front.stopService().addCallback(stopped.append)
    client.acknowledge()
    for _ in range(5):
        world.advance(1.0)
    assert stopped == []
    world.call.reply(b"ho", more=False)
    world.turn()
    assert client.answer(number).status == 0
    assert client.transport.closing == "linger"
    world.advance(1.0)
    assert stopped == [None]


def test_at_the_deadline_calls_end_unavailable_with_the_reason() -> None:
    world, client = served()
    waiting = client.call()
    streaming = client.call(message=None, end=False)
    world.pool.calls[1].reply(b"one")  # type: ignore[attr-defined]
    world.advance(2.5)
    announce(world)
    world.front.finish()
    world.front.hurry()
    for number in (waiting, streaming):
        answer = client.answer(number)
        assert answer.status == 14
        assert answer.text == "the server is stopping and its time is over: the call was cut after 2.5 s"
    assert [call.cancelled for call in world.pool.calls] == ["drain", "drain"]
    assert world.front.in_flight.cut == 2
    assert client.transport.closing == "linger"


def test_late_calls_are_turned_away_when_told_to() -> None:
    world, client = served()
    budget = type("Budget", (), {"late_reject": 1.0})()
    world.host.drain.budget = budget
    client.call()
    world.front.finish()
    world.turn()
    early = client.call()
    world.advance(1.0)
    late = client.call()
    assert client.answer(early).status is None
    # The second GOAWAY was said meanwhile, so a client knows that this one was not served.
    assert client.answer(late).status in (None, 14)
    assert len(world.pool.calls) == 2


def test_an_admins_drain_can_be_taken_back() -> None:
    world, client = served()
    world.host.drain.enter("drained")
    world.front.announce()
    assert check(client) == NOT_SERVING
    world.host.drain.leaving = False  # type: ignore[attr-defined]
    world.host.drain.enter("running")
    new = world.connect()
    assert check(new) == SERVING
    assert new.read().goaways == []


def test_a_developers_stop_ends_streams_at_once(protos: ProtoFiles) -> None:
    world, client = served(proto=protos)
    unary = client.call("/rr.test.Echo/Say")
    stream = client.call("/rr.test.Echo/Tell")
    world.host.drain.brisk = True  # type: ignore[attr-defined]
    world.host.drain.enter("draining:finish")
    world.front.finish()
    world.turn()
    assert client.answer(stream).status == 14
    assert client.answer(unary).status is None


def test_calls_of_a_drain_that_got_no_worker_count_as_refused() -> None:
    from twisted_rr.errors import Draining

    world, client = served()
    number = client.call()
    announce(world)
    world.call.fail(Draining())
    world.turn()
    assert client.answer(number).status == 14
    assert world.front.in_flight.refused == 1


# --------------------------------------------------------------------------------- connections


def test_old_connections_are_told_to_go_at_different_ages() -> None:
    ages = iter((0.0, 1.0))
    world = World(max_connection_age=100.0)
    world.front._random = lambda: next(ages)
    world.start()
    first, second = world.connect(), world.connect()
    first.call()
    second.call()
    for _ in range(95):
        world.advance(1.0)
    assert first.read().goaways
    assert not second.read().goaways
    for _ in range(20):
        world.advance(1.0)
    assert second.read().goaways


def test_idle_connections_are_told_to_go() -> None:
    world, client = served(max_connection_idle=5.0)
    for _ in range(8):
        world.advance(1.0)
        client.acknowledge()
    assert client.transport.closing == "linger"


def test_a_silent_connection_is_asked_and_closed() -> None:
    world, client = served(ping_time=10.0, timeout=3.0)
    for _ in range(12):
        world.advance(1.0)
    assert client.read().pings
    for _ in range(4):
        world.advance(1.0)
    assert client.transport.closing == "abort"


def test_streams_beyond_the_limit_are_refused() -> None:
    world, client = served(max_concurrent_streams=2)
    numbers = [client.call() for _ in range(3)]
    client.read()
    assert client.streams[numbers[2]].reset == 7
    assert len(world.pool.calls) == 2


def test_it_starts_again_after_a_stop() -> None:
    world, client = served()
    stopped: list[Any] = []
    world.front.stopService().addCallback(stopped.append)
    world.turn()
    client.acknowledge()
    world.advance(0.1)
    world.advance(1.0)
    assert stopped == [None]
    world.start()
    again = world.connect()
    number = again.call()
    world.call.reply(b"ho", more=False)
    world.turn()
    assert again.answer(number).status == 0
