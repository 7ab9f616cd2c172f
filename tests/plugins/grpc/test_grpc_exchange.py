"""Calls for mux workers: what the worker gets, what the client gets, and what becomes of mistakes."""

from __future__ import annotations

import base64
import gzip
from pathlib import Path
from typing import Any

import pytest
from grpc_world import World, served

from twisted_rr.errors import (
    ApplicationError,
    Draining,
    ExecTimeout,
    FrameError,
    NoFreeWorker,
    QueueFull,
    WorkerDied,
)
from twisted_rr.plugins.grpc.config import ProtoFiles
from twisted_rr.plugins.grpc.framing import framed
from twisted_rr.wire.frame import CODEC_MSGPACK
from twisted_rr.wire.grpc_context import encode_grpc_head

# ------------------------------------------------------------------------------------ the request


def test_a_worker_gets_service_method_metadata_and_peer() -> None:
    world, client = served()
    client.call(fields=[("x-one", "1"), ("x-one", "2"), ("user-agent", "tests")])
    service, method, metadata, deadline, peer, attributes = world.call.opened
    assert (service, method) == ("rr.test.Echo", "Say")
    assert metadata == [("x-one", "1"), ("x-one", "2"), ("user-agent", "tests")]
    assert deadline is None
    assert peer == "192.168.1.1:54321"
    assert attributes == {":authority": "test"}


def test_a_head_that_repeats_means_the_same_each_time() -> None:
    world, client = served()
    for _ in range(3):
        client.call(fields=[("x-one", "1")])
    assert [call.opened for call in world.pool.calls] == [world.call.opened] * 3  # type: ignore[attr-defined]


def test_a_call_with_its_message_is_opened_once_and_complete() -> None:
    world, client = served()
    client.call(message=b"hello")
    assert world.call.messages == [b"hello"]
    assert world.call.complete


def test_a_worker_may_speak_before_the_client() -> None:
    world, client = served()
    number = client.call(message=None, end=False)
    assert not world.call.complete
    world.call.initial([("x-early", "yes")])
    world.turn()
    assert client.answer(number).head["x-early"] == "yes"


def test_messages_are_told_apart_however_they_arrive() -> None:
    for size in (1, 2, 3, 7, 100):
        world, client = served()
        number = client.call(message=None, end=False)
        data = framed(b"one") + framed(b"") + framed(b"three" * 10)
        for start in range(0, len(data), size):
            client.data(number, data[start : start + size])
        client.data(number, b"", end=True)
        assert world.call.messages == [b"one", b"", b"three" * 10]
        assert world.call.complete


def test_the_last_message_and_the_end_go_together() -> None:
    world, client = served()
    number = client.call(message=b"one", end=False)
    client.data(number, framed(b"two") + framed(b"three"), end=True)
    assert world.call.messages == [b"one", b"two", b"three"]
    assert world.call.complete


def test_a_client_without_a_message_only_closes_its_side() -> None:
    world, client = served()
    client.call(message=None)
    assert world.call.messages == []
    assert world.call.complete


def test_a_request_that_ends_inside_a_message_is_internal() -> None:
    world, client = served()
    number = client.call(message=None, end=False)
    client.data(number, framed(b"hello")[:7], end=True)
    answer = client.answer(number)
    assert (answer.status, answer.text) == (13, "the request ends inside a message")
    assert world.call.cancelled == "client"


def test_a_message_above_the_limit_is_resource_exhausted() -> None:
    world, client = served(max_recv_msg_size=10)
    number = client.call(message=b"x" * 11)
    other = client.call(message=b"x" * 10)
    answer = client.answer(number)
    assert (answer.status, answer.text) == (8, "grpc: received message larger than max (11 vs. 10)")
    assert world.call.messages == [b"x" * 10]
    assert client.answer(other).status is None


def test_a_message_is_refused_as_soon_as_its_length_is_known() -> None:
    world, client = served(max_recv_msg_size=10)
    number = client.call(message=None, end=False)
    client.data(number, b"\0\0\0\0\x0b")
    answer = client.answer(number)
    assert answer.status == 8
    assert answer.reset == 0  # NO_ERROR: stop sending


def test_an_unknown_flag_is_internal() -> None:
    world, client = served()
    number = client.call(message=None, end=False)
    client.data(number, b"\x02\0\0\0\0", end=True)
    assert client.answer(number).status == 13


def test_binary_metadata_is_decoded_padded_or_not_and_joined() -> None:
    world, client = served()
    client.call(fields=[("x-bin", "q6s"), ("x-bin", "q6s="), ("x-bin", "q6s,AA==")])
    assert world.call.opened[2] == [("x-bin", b"\xab\xab")] * 3 + [("x-bin", b"\0")]


def test_what_is_no_base64_is_refused() -> None:
    world, client = served()
    answer = client.answer(client.call(fields=[("x-bin", "*")]))
    assert (answer.head[":status"], answer.status) == ("400", 13)
    assert world.pool.calls == []


# --------------------------------------------------------------------------------- what is no gRPC


@pytest.mark.parametrize(
    ("changes", "http"),
    [
        ({"method": "GET"}, "405"),
        ({"content_type": "application/json"}, "415"),
        ({"content_type": ""}, "415"),
        ({"content_type": "application/grpc-web"}, "415"),
        ({"te": ""}, "400"),
        ({"fields": [("grpc-timeout", "5")]}, "400"),
        ({"fields": [("grpc-timeout", "123456789S")]}, "400"),
    ],
)
def test_what_is_no_grpc_gets_an_http_status_too(changes: dict[str, Any], http: str) -> None:
    world, client = served()
    answer = client.answer(client.call(**changes))
    assert answer.head[":status"] == http
    assert answer.status == 13
    assert answer.text
    assert world.pool.calls == []
    assert len(world.log("debug")) == 1
    assert world.front.in_flight.count() == 0


def test_a_subtype_and_parameters_are_fine() -> None:
    world, client = served()
    client.call(content_type="application/grpc+proto")
    client.call(content_type="Application/gRPC; charset=utf-8")
    assert len(world.pool.calls) == 2


def test_a_path_without_a_method_is_unimplemented() -> None:
    world, client = served()
    for path in ("/", "/one", "//x", "/x/"):
        assert client.answer(client.call(path)).status == 12
    assert world.pool.calls == []


def test_an_unknown_encoding_is_unimplemented_and_told_which_there_are() -> None:
    world, client = served()
    answer = client.answer(client.call(fields=[("grpc-encoding", "snappy")]))
    assert answer.status == 12
    assert answer.head["grpc-accept-encoding"] == "identity,gzip"


# ------------------------------------------------------------------------------------ compression


def test_compressed_messages_reach_the_worker_plain() -> None:
    world, client = served()
    number = client.call(message=None, end=False, fields=[("grpc-encoding", "gzip")])
    packed = gzip.compress(b"hello")
    client.data(number, b"\1" + len(packed).to_bytes(4) + packed + framed(b"plain"), end=True)
    assert world.call.messages == [b"hello", b"plain"]


def test_a_compressed_message_without_an_encoding_is_internal() -> None:
    world, client = served()
    number = client.call(message=None, end=False)
    client.data(number, b"\1\0\0\0\0", end=True)
    assert client.answer(number).status == 13


def test_a_message_is_not_unpacked_beyond_the_limit() -> None:
    world, client = served(max_recv_msg_size=1000)
    number = client.call(message=None, end=False, fields=[("grpc-encoding", "gzip")])
    packed = gzip.compress(bytes(1 << 20))
    client.data(number, b"\1" + len(packed).to_bytes(4) + packed, end=True)
    assert client.answer(number).status in (8,)


@pytest.mark.parametrize(("members", "status"), [(2, None), (16, None), (17, 13), (500, 13)])
def test_a_message_of_many_gzip_members_is_refused(members: int, status: int | None) -> None:
    world, client = served()
    number = client.call(message=None, end=False, fields=[("grpc-encoding", "gzip")])
    packed = gzip.compress(b"a") * members
    client.data(number, b"\1" + len(packed).to_bytes(4) + packed, end=True)
    if status is None:
        assert world.call.messages == [b"a" * members]
    else:
        assert client.answer(number).status == status


@pytest.mark.parametrize(
    ("how", "sent", "accepted", "compressed"),
    [
        ("request", "gzip", "", True),
        ("request", "identity", "gzip", False),
        ("always", "identity", "deflate, gzip", True),
        ("always", "identity", "deflate", False),
        ("never", "gzip", "gzip", False),
    ],
)
def test_answers_are_compressed_as_configured(how: str, sent: str, accepted: str, compressed: bool) -> None:
    world, client = served(compression=how)
    fields = [("grpc-encoding", sent)] + ([("grpc-accept-encoding", accepted)] if accepted else [])
    number = client.call(fields=fields)
    world.call.reply(b"a" * 1000, more=False)
    world.turn()
    answer = client.answer(number)
    assert (answer.head.get("grpc-encoding") == "gzip") is compressed
    assert (answer.data[0] == 1) is compressed
    body = gzip.decompress(answer.data[5:]) if compressed else answer.data[5:]
    assert body == b"a" * 1000


def test_tiny_answers_are_not_compressed() -> None:
    world, client = served()
    number = client.call(fields=[("grpc-encoding", "gzip")])
    world.call.reply(b"tiny", more=False)
    world.turn()
    assert client.answer(number).data == framed(b"tiny")


# ------------------------------------------------------------------------------------- the answer


def test_a_last_message_is_a_whole_ok_answer() -> None:
    world, client = served()
    number = client.call()
    world.call.reply(b"ho", more=False)
    world.turn()
    answer = client.answer(number)
    assert answer.head == {":status": "200", "content-type": "application/grpc"}
    assert answer.messages == [b"ho"]
    assert answer.trailers == {"grpc-status": "0"}
    assert world.front.in_flight.finished == 1


def test_head_messages_and_end_come_as_the_worker_sends_them() -> None:
    world, client = served()
    number = client.call()
    world.call.initial([("x-a", "1"), ("x-b-bin", b"\xff\0")])
    world.call.reply(b"one")
    world.call.reply(b"two")
    world.call.end(9, "no", b"rich", [("x-c", "3")])
    world.turn()
    answer = client.answer(number)
    assert answer.head["x-a"] == "1"
    assert base64.b64decode(answer.head["x-b-bin"] + "==") == b"\xff\0"
    assert answer.messages == [b"one", b"two"]
    assert answer.trailers == {
        "grpc-status": "9", "grpc-message": "no", "x-c": "3",
        "grpc-status-details-bin": base64.b64encode(b"rich").decode().rstrip("="),
    }  # fmt: skip


def test_an_end_alone_is_one_header_block() -> None:
    world, client = served()
    number = client.call()
    world.call.end(5, "not here")
    world.turn()
    answer = client.answer(number)
    assert answer.ended
    assert answer.trailers == {}
    assert (answer.status, answer.text) == (5, "not here")


def test_an_end_without_a_context_is_ok() -> None:
    world, client = served()
    number = client.call()
    world.call.reply(b"ho")
    world.call.data(b"", more=False)
    world.turn()
    assert client.answer(number).trailers == {"grpc-status": "0"}


def test_messages_of_a_status_are_percent_encoded() -> None:
    world, client = served()
    number = client.call()
    world.call.end(2, " 100% ☺\n")
    world.turn()
    assert client.answer(number).text == "%20100%25 %E2%98%BA%0A"


def test_equal_ends_are_equal_and_of_no_others_doing() -> None:
    world, client = served()
    for code, text in ((5, "a"), (5, "a"), (6, "a"), (5, "b")):
        number = client.call()
        world.call.end(code, text)
        world.turn()
        answer = client.answer(number)
        assert (answer.status, answer.text) == (code, text)


def test_metadata_that_cannot_be_sent_is_left_out_and_told() -> None:
    world, client = served()
    number = client.call()
    pairs = [
        ("x-good", "1"),
        ("x-bad", "a\nb"),
        ("grpc-status", "0"),
        ("content-type", "x"),
        ("bad key", "1"),
    ]
    world.call.initial(pairs)
    world.call.end(0, metadata=[("te", "x")])
    world.turn()
    answer = client.answer(number)
    assert answer.head == {":status": "200", "content-type": "application/grpc", "x-good": "1"}
    assert answer.trailers == {"grpc-status": "0"}
    assert len(world.log("warn")) == 2


def test_a_message_above_the_limit_is_not_sent() -> None:
    world, client = served(max_send_msg_size=10)
    number = client.call()
    call = world.call
    call.reply(b"x" * 11)
    world.turn()
    answer = client.answer(number)
    assert (answer.status, answer.text) == (8, "trying to send message larger than max (11 vs. 10)")
    assert call.cancelled == "client"


@pytest.mark.parametrize(
    "nonsense",
    [
        lambda call: call.data(b"bytes"),
        lambda call: call.data(b"", more=True),
        lambda call: call.message_as_text(),
        lambda call: call.head(CODEC_MSGPACK, encode_grpc_head(CODEC_MSGPACK, []), b"body"),
        lambda call: (call.initial([]), call.initial([])),
        lambda call: call.head(CODEC_MSGPACK, b"\xc1"),
        lambda call: call.answer(CODEC_MSGPACK, b"\xc1"),
    ],
)
def test_what_makes_no_sense_is_the_workers_end(nonsense: Any) -> None:
    world, client = served()
    number = client.call()
    call = world.call
    call.worker = object()
    call.message_as_text = lambda: call.to.message(b"", True, True)  # type: ignore[attr-defined]
    with pytest.raises(FrameError):
        nonsense(call)
    call.to.failed(WorkerDied(7, "bad frame"))
    world.turn()
    assert client.answer(number).status == 13


# ------------------------------------------------------------------------------------- failures


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (NoFreeWorker(60.0), 14, "no free worker after 60.0 s"),
        (QueueFull(3), 14, "max queue size reached (3)"),
        (Draining(), 14, "the server is draining"),
        (ExecTimeout(2.0), 4, "no answer within 2 s (pool.supervisor.exec_ttl)"),
        (ApplicationError("boom"), 2, "boom"),
    ],
)
def test_a_call_without_an_answer_has_a_status_that_says_why(error: Any, status: int, text: str) -> None:
    world, client = served()
    number = client.call()
    world.call.fail(error)
    world.turn()
    answer = client.answer(number)
    assert (answer.status, answer.text) == (status, text)
    assert world.front.in_flight.count() == 0


def test_a_worker_that_died_may_have_begun_only_when_it_had_the_call() -> None:
    world, client = served()
    number = client.call()
    world.call.worker = object()
    world.call.fail(WorkerDied(7, "signal 9"))
    other = client.call()
    world.call.worker = object()
    world.call.id = 0  # its open was never handed over
    world.call.fail(WorkerDied(7, "signal 9"))
    world.turn()
    assert client.answer(number).status == 13
    assert client.answer(other).status == 14


def test_a_failure_after_messages_is_told_in_the_trailers() -> None:
    world, client = served()
    number = client.call()
    world.call.reply(b"one")
    world.call.fail(ApplicationError("boom"))
    world.turn()
    answer = client.answer(number)
    assert answer.messages == [b"one"]
    assert answer.trailers["grpc-status"] == "2"


def test_load_is_told_once_a_second_and_failures_each() -> None:
    world, client = served()
    for _ in range(5):
        client.call()
        world.call.fail(NoFreeWorker(1.0))
    client.call()
    world.call.fail(ApplicationError("boom"))
    assert len(world.log("error")) == 1
    world.advance(1.0)
    assert world.log("warn") == ["5 calls were turned away: NoFreeWorker"]


# ------------------------------------------------------------------------- deadlines and cancelling


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("5S", 5000), ("1500m", 1500), ("2M", 120000), ("1H", 3600000), ("2000000u", 2000), ("99999999n", 99)],
)
def test_a_deadline_is_told_to_the_worker(text: str, milliseconds: int) -> None:
    world, client = served()
    client.call(fields=[("grpc-timeout", text)])
    assert world.call.opened[3] == pytest.approx(milliseconds, abs=1)


def test_what_has_passed_while_a_call_waited_is_not_told_again() -> None:
    world, client = served()
    client.call(fields=[("grpc-timeout", "5S")])
    world.advance(2.0)
    assert world.call.opened[3] == 3000


def test_a_call_ends_at_its_deadline() -> None:
    world, client = served()
    number = client.call(fields=[("grpc-timeout", "500m")])
    call = world.call
    world.advance(0.49)
    assert client.answer(number).status is None
    world.advance(0.03)
    answer = client.answer(number)
    assert (answer.status, answer.text) == (4, "Deadline Exceeded")
    assert call.cancelled == "deadline"


def test_an_answer_in_time_has_no_deadline_left() -> None:
    world, client = served()
    number = client.call(fields=[("grpc-timeout", "500m")])
    world.call.reply(b"ho", more=False)
    world.turn()
    world.advance(5.0)
    assert client.answer(number).status == 0


def test_a_deadline_after_centuries_is_none() -> None:
    world, client = served()
    client.call(fields=[("grpc-timeout", "99999999H")])
    assert world.call.opened[3] is None


def test_no_time_at_all_is_over_soon() -> None:
    world, client = served()
    number = client.call(fields=[("grpc-timeout", "0n")])
    world.advance(0.02)
    assert client.answer(number).status == 4


def test_a_client_that_cancels_cancels_the_call() -> None:
    world, client = served()
    number = client.call()
    client.cancel(number)
    assert world.call.cancelled == "client"
    assert world.front.in_flight.lost == 1


def test_a_client_that_is_gone_cancels_its_calls() -> None:
    world, client = served()
    client.call()
    client.call()
    client.lose()
    assert [call.cancelled for call in world.pool.calls] == ["client", "client"]
    assert world.front.in_flight.lost == 2
    assert world.front.connections == {}


# ------------------------------------------------------------------------------- back-pressure


def test_a_worker_is_held_while_its_client_does_not_take() -> None:
    world, client = served()
    number = client.call()
    call = world.call
    for _ in range(20):
        call.reply(b"x" * 10000)
        world.turn()
    assert call.paused
    client.grant(0, 1 << 20)
    client.grant(number, 1 << 20)
    assert not call.paused
    assert len(client.answer(number).messages) == 20


def test_a_client_is_held_while_its_worker_does_not_take() -> None:
    world, client = served()
    number = client.call(message=None, end=False)
    call = world.call
    call.room = False
    client.data(number, framed(b"a") + framed(b"b"))
    assert call.messages == [b"a"]
    client.data(number, framed(b"c"))
    assert call.messages == [b"a"]
    call.drained()
    assert call.messages == [b"a", b"b", b"c"]
    client.data(number, b"", end=True)
    assert call.complete


def test_the_window_is_given_back_only_for_what_the_worker_took() -> None:
    world, client = served()
    number = client.call(message=None, end=False)
    call = world.call
    call.room = False
    for _ in range(12):
        client.data(number, framed(b"x" * 15000))
    stream = next(iter(next(iter(world.front.connections)).streams.values()))
    assert stream.held == 12 * 15005
    call.drained()
    assert stream.held == 0


def test_an_end_waits_behind_messages_that_wait() -> None:
    world, client = served()
    number = client.call(message=None, end=False)
    call = world.call
    call.room = False
    client.data(number, framed(b"a") + framed(b"b"), end=True)
    assert not call.complete
    call.drained()
    assert call.messages == [b"a", b"b"]
    assert call.complete


# --------------------------------------------------------------------------------------- others


def test_each_call_is_counted_and_logged_when_asked() -> None:
    world, client = served(access_logs=True)
    client.call(fields=[("user-agent", "tests")])
    world.advance(0.3)
    world.call.reply(b"four", more=False)
    world.turn()
    client.cancel(client.call())
    lines = world.host.log("access").lines("info")
    assert lines == [
        "192.168.1.1:54321 /rr.test.Echo/Say OK 1/1 4 0.300 tests",
        "192.168.1.1:54321 /rr.test.Echo/Say Canceled 1/0 0 0.000 - (incomplete)",
    ]
    samples = {(name, labels.get("status_code"), labels.get("le")): value
               for name, _, _, labels, value in world.front.metrics.samples()}  # fmt: skip
    assert samples[("rr_grpc_request_total", "OK", None)] == 1
    assert samples[("rr_grpc_request_total", "Canceled", None)] == 1
    assert samples[("rr_grpc_request_duration_seconds_bucket", None, "0.25")] == 1
    assert samples[("rr_grpc_request_duration_seconds_bucket", None, "0.5")] == 2
    assert samples[("rr_grpc_request_duration_seconds_count", None, None)] == 2
    assert samples[("rr_grpc_requests_queue", None, None)] == 0


def test_a_client_cannot_make_up_labels_without_end() -> None:
    world, client = served()
    for number in range(3):
        client.call(f"/made.up{number}/")
    labels = {labels.get("grpc_method") for _, _, _, labels, _ in world.front.metrics.samples()}
    assert labels == {"other", None}


def methods_of(world: World) -> set[str]:
    """The methods that have a label."""
    return {
        labels["grpc_method"]
        for _, _, _, labels, _ in world.front.metrics.samples()
        if "grpc_method" in labels
    }


def test_calls_that_no_worker_answered_get_no_label_of_their_own() -> None:
    world, client = served()
    client.call("/made.up/Refused", te="")
    client.cancel(client.call("/made.up/Cancelled"))
    client.call("/made.up/Late", fields=[("grpc-timeout", "1S")])
    world.advance(2)
    client.call("/made.up/Lost")
    world.call.fail(NoFreeWorker(1.0))
    client.call("/made.up/Unknown")
    world.call.end(12)
    world.turn()
    assert methods_of(world) == {"other"}
    client.call("/real.Service/Fails")
    world.call.end(5)
    client.call("/real.Service/Raises")
    world.call.fail(ApplicationError("no"))
    world.turn()
    assert methods_of(world) == {"other", "/real.Service/Fails", "/real.Service/Raises"}


def test_methods_of_a_proto_file_have_their_label_from_the_first_call(tmp_path: Path) -> None:
    (tmp_path / "a.proto").write_text(
        'syntax = "proto3"; package a; message M {} service S { rpc Do(M) returns (M); }'
    )
    world, client = served(proto=ProtoFiles((str(tmp_path / "a.proto"),)))
    client.cancel(client.call("/a.S/Do"))
    client.call("/a.S/Other")
    assert methods_of(world) == {"/a.S/Do", "other"}


def test_a_method_that_a_worker_has_answered_keeps_its_label_whatever_its_calls_end_with() -> None:
    world, client = served()
    client.call()
    world.call.reply(b"", more=False)
    world.turn()
    client.cancel(client.call())
    client.call(te="")
    assert methods_of(world) == {"/rr.test.Echo/Say"}


@pytest.mark.parametrize("code", [-1, 1 << 31, 1 << 32])
def test_a_code_that_cannot_be_one_becomes_unknown(code: int) -> None:
    world, client = served()
    number = client.call()
    world.call.end(code, "odd")
    world.turn()
    assert (client.answer(number).status, client.answer(number).text) == (2, "odd")


def test_a_fault_of_ours_ends_the_call_and_no_other() -> None:
    world, client = served()
    good = world.pool.open
    world.pool.open = lambda *args: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    number = client.call(message=None, end=False)
    world.pool.open = good  # type: ignore[method-assign]
    other = client.call()
    assert client.answer(number).status == 13
    assert client.answer(other).status is None
    assert len(world.log("critical")) == 1


def test_a_connection_that_breaks_the_protocol_takes_no_other_with_it() -> None:
    world = World().start()
    bad, good = world.connect(), world.connect()
    number = good.call()
    bad.send(b"\0\0\1\0\0\0\0\0\0x")
    assert bad.read().goaways[-1][1] == 1
    world.call.reply(b"ho", more=False)
    world.turn()
    assert good.answer(number).status == 0
    assert len(world.log("debug")) == 1
