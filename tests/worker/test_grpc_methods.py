"""gRPC calls through a worker process: all kinds of method, for threads, a loop, and threads beside a loop."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rpc_rig import GrpcRelay, Rpc
from worker_rig import Process

from twisted_rr.wire.control import MuxOffer
from twisted_rr.wire.grpc_context import decode_status

Start = Callable[..., Process]

KINDS = ("sync", "async", "mixed")


@pytest.fixture(params=KINDS)
def relay(request: pytest.FixtureRequest, start: Start) -> GrpcRelay:
    """A worker of each kind, ten threads where it has threads."""
    return GrpcRelay(start("--interface", "grpc", f"grpc_app:register_{request.param}"))


@pytest.fixture(params=("sync", "mixed"))
def threaded(request: pytest.FixtureRequest, start: Start) -> GrpcRelay:
    return GrpcRelay(start("--interface", "grpc", f"grpc_app:register_{request.param}"))


@pytest.fixture
def looped(start: Start) -> GrpcRelay:
    return GrpcRelay(start("--interface", "grpc", "grpc_app:register_async"))


def heard(relay: GrpcRelay, text: str) -> None:
    """Wait until the worker has said *text* on its standard error."""
    relay.until(lambda: text in relay.process.stderr)


# ---------------------------------------------------------------------------- kinds of method


def test_unary_answer_is_one_frame_without_a_context(relay: GrpcRelay) -> None:
    rpc = relay.rpc("t.S/Upper", b"abc").wait()
    assert rpc.messages == [b"ABC"]
    assert rpc.head is None and rpc.status == (0, "")


def test_unary_message_may_be_empty(relay: GrpcRelay) -> None:
    assert relay.rpc("t.S/Upper", b"").wait().messages == [b""]


def test_unary_message_and_half_close_may_come_apart(relay: GrpcRelay) -> None:
    rpc = relay.begin("t.S/Upper")
    relay.step(0.1)
    rpc.send(b"abc", more=True)
    relay.until(lambda: rpc.done)  # it does not wait for the half-close, as it has what it needs
    assert rpc.messages == [b"ABC"]


def test_unary_without_a_message_is_unimplemented(relay: GrpcRelay) -> None:
    rpc = relay.rpc("t.S/Upper").wait()
    assert rpc.status == (12, '"/t.S/Upper" requires exactly one request message.')


def test_server_stream_ends_with_its_own_frame(relay: GrpcRelay) -> None:
    assert relay.rpc("t.S/Repeat", b"3").wait().messages == [b"0", b"1", b"2"]
    assert relay.rpc("t.S/Repeat", b"0").wait().messages == []


def test_client_stream_is_an_iterator(relay: GrpcRelay) -> None:
    assert relay.rpc("t.S/Join", b"a", b"", b"c").wait().messages == [b"a,,c"]
    assert relay.rpc("t.S/Join").wait().messages == [b""]


def test_both_streams_go_on_at_once(relay: GrpcRelay) -> None:
    rpc = relay.begin("t.S/Chat")
    for number, word in enumerate((b"a", b"b", b"c"), 1):
        rpc.send(word, more=True)
        relay.until(lambda: len(rpc.messages) == number)  # noqa: B023
    rpc.close().wait()
    assert rpc.messages == [b"<a>", b"<b>", b"<c>"]


def test_message_may_be_larger_than_window_and_frame(relay: GrpcRelay) -> None:
    body = b"x" * 6_000_000
    assert relay.rpc("t.S/Slurp", body).wait().messages == [b"6000000"]


def test_large_answer_comes_whole(relay: GrpcRelay) -> None:
    assert relay.rpc("t.S/Upper", b"x" * 1_000_000).wait().messages == [b"X" * 1_000_000]


def test_unknown_methods_are_unimplemented(relay: GrpcRelay) -> None:
    for path in ("t.S/No", "t.No/Upper", "t.S/"):
        assert relay.rpc(path, b"x").wait().status == (12, "Method not found!")
    assert relay.rpc("t.S/Upper", b"x").wait().messages == [b"X"]


def test_calls_run_at_the_same_time(relay: GrpcRelay, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    held = [relay.rpc("t.S/Touch", str(flag).encode()) for _ in range(5)]
    assert relay.rpc("t.S/Upper", b"x").wait().messages == [b"X"]
    assert not any(rpc.done for rpc in held)
    flag.touch()
    assert [rpc.wait().messages for rpc in held] == [[b"there"]] * 5


def test_quick_calls_overtake_slow_ones_of_a_batch(relay: GrpcRelay, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    calls = [
        relay.rpc("t.S/Upper", b"x"),
        relay.rpc("t.S/Touch", str(flag).encode()),
        relay.rpc("t.S/Upper", b"y"),
    ]
    relay.until(lambda: calls[0].done and calls[2].done)
    flag.touch()
    assert calls[1].wait().messages == [b"there"]


def test_many_calls_are_all_answered(relay: GrpcRelay) -> None:
    for _ in range(30):
        calls = [relay.rpc("t.S/Upper", b"%d" % number) for number in range(10)]
        assert [rpc.wait().messages for rpc in calls] == [[b"%d" % number] for number in range(10)]


@pytest.mark.parametrize("threads", ["1", "2"])
@pytest.mark.parametrize("kind", KINDS)
def test_messages_of_a_burst_do_not_wait_for_the_next(
    start: Start, kind: str, threads: str, tmp_path: Path
) -> None:
    relay = GrpcRelay(start("--interface", "grpc", "--threads", threads, f"grpc_app:register_{kind}"))
    for number in range(20):
        flag = tmp_path / str(number)
        rpc = relay.rpc("t.S/Burst", str(flag).encode())
        relay.until(lambda: len(rpc.messages) == 45)  # noqa: B023
        flag.touch()
        assert rpc.wait().messages[-1] == b"there"


# ------------------------------------------------------------------------------ back-pressure


def test_answer_waits_for_a_client_that_takes_nothing(relay: GrpcRelay) -> None:
    rpc = relay.rpc("t.S/Endless", b"x" * 10_000)
    rpc.call.pauseProducing()
    relay.until(lambda: len(rpc.messages) >= 20)
    for _ in range(20):
        relay.step(0.01)
    came = sum(map(len, rpc.messages))
    assert came <= relay.end.settings.window
    assert relay.rpc("t.S/Upper", b"x").wait().messages == [b"X"]  # others go on meanwhile
    rpc.call.resumeProducing()
    relay.until(lambda: sum(map(len, rpc.messages)) > 3 * came)
    rpc.call.cancel("client")
    heard(relay, "closed")


def test_answers_that_are_held_go_on_each_time(relay: GrpcRelay) -> None:
    for _ in range(40):
        rpc = relay.rpc("t.S/Endless", b"x" * 10_000)
        rpc.call.pauseProducing()
        relay.until(lambda: len(rpc.messages) >= 10)  # noqa: B023
        rpc.call.resumeProducing()
        relay.until(lambda: len(rpc.messages) >= 80)  # noqa: B023
        rpc.call.cancel("client")


def test_client_is_held_while_the_handler_takes_nothing(relay: GrpcRelay) -> None:
    rpc = relay.begin("t.S/Upper")  # which takes no stream, and so only the first message
    chat = relay.begin("t.S/Chat")
    chat.call.pauseProducing()
    sent = 0
    while chat.room and sent < 10_000_000:
        sent += 20_000
        chat.send(b"y" * 20_000, more=True)
        relay.step(0.0)
    assert not chat.room  # its answers are not taken, so it takes no requests
    rpc.send(b"x")
    assert rpc.wait().messages == [b"X"]
    chat.call.resumeProducing()
    relay.until(lambda: chat.room)
    chat.close().wait()
    assert sum(len(message) - 2 for message in chat.messages) == sent


# ------------------------------------------------------------------------ status and metadata


def test_code_details_and_trailers_are_sent(relay: GrpcRelay) -> None:
    rpc = relay.rpc("t.S/Status", b"5 not there").wait()
    assert rpc.status == (5, "not there") and rpc.messages == []
    assert rpc.trailers == [("t", "1"), ("b-bin", b"\xff\x00")]


def test_message_goes_with_the_trailers_of_ok(relay: GrpcRelay) -> None:
    rpc = relay.rpc("t.S/Status", b"0 fine").wait()
    assert rpc.messages == [b"kept"] and rpc.status == (0, "fine")
    assert rpc.trailers == [("t", "1"), ("b-bin", b"\xff\x00")]


def test_abort_ends_with_its_status_and_no_traceback(relay: GrpcRelay) -> None:
    rpc = relay.rpc("t.S/Abort", b"16").wait()
    assert rpc.status == (16, "said so") and rpc.trailers == [("t", "1")]
    rpc = relay.rpc("t.S/AbortLate", b"").wait()
    assert rpc.messages == [b"one"] and rpc.status == (9, "after one")
    assert "Traceback" not in relay.process.stderr


def test_abort_with_ok_is_unknown(relay: GrpcRelay) -> None:
    assert relay.rpc("t.S/Abort", b"0").wait().status == (2, "")


def test_rich_status_has_a_place_of_its_own(relay: GrpcRelay) -> None:
    rpc = relay.rpc("t.S/Rich", b"").wait()
    assert rpc.status == (3, "bad") and rpc.trailers == [("k", "v")]
    assert rpc.details is not None and decode_status(rpc.details) == (3, "bad", [b"\n\x01x"])


def test_exception_is_unknown_with_a_traceback(relay: GrpcRelay) -> None:
    assert relay.rpc("t.S/Boom", b"").wait().status == (2, "Exception calling application: boom")
    rpc = relay.rpc("t.S/BoomLate", b"").wait()
    assert rpc.messages == [b"one"] and rpc.status == (2, "Exception iterating responses: late")
    assert relay.process.stderr.count("Traceback") == 2
    assert "grpc_app.py" in relay.process.stderr and "/t.S/Boom:" in relay.process.stderr


def test_exception_keeps_the_status_that_was_set(relay: GrpcRelay) -> None:
    assert relay.rpc("t.S/BoomWithCode", b"").wait().status == (7, "mine")


def test_system_exit_in_a_handler_ends_its_call_only(relay: GrpcRelay) -> None:
    assert relay.rpc("t.S/Exit", b"").wait().status == (2, "Exception calling application: 3")
    assert relay.rpc("t.S/Upper", b"x").wait().messages == [b"X"]


@pytest.mark.parametrize(("how", "code"), [(b"return", b"0"), (b"exit", b"9"), (b"raise", b"1")])
def test_a_fork_that_comes_back_ends_and_says_nothing_to_the_server(
    relay: GrpcRelay, how: bytes, code: bytes
) -> None:
    assert relay.rpc("t.S/Fork", how).wait().messages == [code]
    assert relay.rpc("t.S/Upper", b"x").wait().messages == [b"X"]
    assert ("ValueError: in the child" in relay.process.stderr) is (how == b"raise")
    assert relay.process.stop() == 0


def test_answer_that_is_no_bytes_is_internal(relay: GrpcRelay) -> None:
    assert relay.rpc("t.S/None", b"").wait().status == (13, "Failed to serialize response!")
    assert "should be bytes, not NoneType" in relay.process.stderr


def test_handler_that_sets_a_code_need_not_return_a_message(relay: GrpcRelay) -> None:
    rpc = relay.rpc("t.S/Fail", b"").wait()
    assert rpc.status == (5, "no such") and rpc.messages == []
    assert "cannot be serialized" not in relay.process.stderr


def test_what_a_coroutine_has_not_set_is_empty_and_what_it_was_given_is_read(looped: GrpcRelay) -> None:
    rpc = looped.rpc("t.S/Unset", b"").wait()
    assert rpc.status == (0, "") and rpc.trailers == [("t", "")] and rpc.messages == [b"end"]


def test_metadata_peer_and_identity_reach_the_handler(relay: GrpcRelay) -> None:
    rpc = relay.rpc(
        "t.S/Meta",
        b"",
        metadata=[("a", "1"), ("a", "2"), ("b-bin", b"\x00\xff")],
        peer="[::1]:9",
        attributes={":authority": "host", ":peer.auth-type": "tls"},
    ).wait()
    assert rpc.head == [("got", "3")]
    assert rpc.messages == [
        b"a='1'|a='2'|b-bin=b'\\x00\\xff'|ipv6:[::1]:9|{'transport_security_type': [b'tls']}"
    ]
    assert "Initial metadata no longer allowed!" in relay.process.stderr


def test_initial_metadata_after_a_message_is_refused(relay: GrpcRelay) -> None:
    rpc = relay.rpc("t.S/MetaLate", b"").wait()
    assert rpc.status == (2, "Exception iterating responses: Initial metadata no longer allowed!")


@pytest.mark.parametrize("key", [b"Upper", b"sp ace", b"", b"ok"])
def test_metadata_that_grpc_does_not_allow_is_refused(looped: GrpcRelay, key: bytes) -> None:
    code, text = looped.rpc("t.S/BadMeta", key).wait().status
    assert code == 2 and "metadata:" in text


def test_compression_is_accepted_and_left_to_the_server(relay: GrpcRelay) -> None:
    assert relay.rpc("t.S/Compress", b"").wait().messages == [b"%d" % relay.process.pid]


def test_context_variables_do_not_leak_between_calls(relay: GrpcRelay) -> None:
    for _ in range(3):
        assert relay.rpc("t.S/Variable", b"set").wait().messages == [b"unset"]


# ------------------------------------------------------------------------- cancel and deadline


def test_deadline_is_told(relay: GrpcRelay) -> None:
    assert relay.rpc("t.S/Time", b"").wait().messages == [b"none"]
    left = float(relay.rpc("t.S/Time", b"", deadline_ms=60_000).wait().messages[0])
    assert 30 < left <= 60


def test_what_a_handler_returns_after_its_deadline_is_no_answer(relay: GrpcRelay) -> None:
    # It may have seen that the time was over, and given up; its client's clock may be late.
    rpc = relay.rpc("t.S/Time", b"", deadline_ms=0).wait()
    assert (rpc.code, rpc.messages) == (4, [])


def test_deadline_ends_a_stream_that_its_handler_goes_on_with(relay: GrpcRelay) -> None:
    rpc = relay.rpc("t.S/Expire", b"", deadline_ms=400).wait()
    assert rpc.messages == [b"one"] and rpc.status == (4, "Deadline Exceeded")


def test_cancel_reaches_a_thread(threaded: GrpcRelay) -> None:
    rpc = threaded.rpc("t.S/Wait", b"")
    heard(threaded, "active True")
    rpc.call.cancel("client")
    heard(threaded, "late False")
    threaded.until(lambda: threaded.end.load == 0)
    said = threaded.process.stderr
    assert "added True" in said and "active False" in said and "Traceback" not in said


def test_cancel_reaches_a_thread_that_reads(threaded: GrpcRelay) -> None:
    rpc = threaded.begin("t.S/WaitRead").send(b"x", more=True)
    heard(threaded, "got one")
    rpc.call.cancel("deadline")
    heard(threaded, "read raised CallOver: the call was cancelled (deadline)")
    threaded.until(lambda: threaded.end.load == 0)
    assert "Traceback" not in threaded.process.stderr


def test_cancel_reaches_a_task(looped: GrpcRelay) -> None:
    rpc = looped.rpc("t.S/Wait", b"")
    heard(looped, "active True")
    rpc.call.cancel("client")
    heard(looped, "task cancelled")
    heard(looped, "done True True")
    looped.until(lambda: looped.end.load == 0)
    assert "Traceback" not in looped.process.stderr


def test_cancel_reaches_a_task_that_reads(looped: GrpcRelay) -> None:
    rpc = looped.begin("t.S/WaitRead").send(b"x", more=True)
    heard(looped, "got one")
    rpc.call.cancel("client")
    heard(looped, "read raised")
    looped.until(lambda: looped.end.load == 0)
    assert "Traceback" not in looped.process.stderr


def test_cancel_before_the_message_frees_the_call(relay: GrpcRelay) -> None:
    rpc = relay.begin("t.S/Upper")
    relay.step(0.05)
    rpc.call.cancel("client")
    relay.until(lambda: relay.end.load == 0)
    assert relay.rpc("t.S/Upper", b"x").wait().messages == [b"X"]


def test_cancel_closes_a_stream_of_answers(relay: GrpcRelay) -> None:
    rpc = relay.rpc("t.S/Endless", b"x" * 100)
    relay.until(lambda: len(rpc.messages) > 100)
    rpc.call.cancel("client")
    heard(relay, "closed")
    relay.until(lambda: relay.end.load == 0)


def test_handler_may_cancel_its_own_call(relay: GrpcRelay) -> None:
    rpc = relay.rpc("t.S/Cancel", b"").wait()
    assert rpc.status == (1, "the call was cancelled by its handler")
    heard(relay, "active False")


def test_callbacks_run_at_the_end_and_one_that_fails_stops_no_other(relay: GrpcRelay) -> None:
    relay.rpc("t.S/Callback", b"").wait()
    heard(relay, "and again")
    assert re.search("called back.*ZeroDivisionError.*and again", relay.process.stderr, re.DOTALL)


# --------------------------------------------------------------------------------- the process


def test_answers_to_the_handshake_name_services_and_calls_at_once(start: Start) -> None:
    relay = GrpcRelay(start("--interface", "grpc", "grpc_app:register_sync"))
    assert relay.accepted.streams == 10 and relay.accepted.services == ("t.S",)
    relay = GrpcRelay(start("--interface", "grpc", "--threads", "3", "grpc_app:register_sync"))
    assert relay.accepted.streams == 3
    relay = GrpcRelay(start("--interface", "grpc", "grpc_app:register_mixed"))
    assert relay.accepted.streams == 1000 and relay.accepted.services == ("t.S", "t.A")


def test_quick_unary_methods_get_calls_ahead_until_one_is_slow(start: Start) -> None:
    relay = GrpcRelay(start("--interface", "grpc", "--threads", "3", "grpc_app:register_unary"))
    assert relay.accepted.streams == relay.end.limit == 12
    naps = [relay.rpc("t.S/Nap", b"0.05") for _ in range(6)]
    assert all(rpc.wait().messages == [b"0.05"] for rpc in naps)
    assert relay.end.limit == 3
    for _ in range(2000):  # on a busy machine not every one is seen as quick
        relay.rpc("t.S/Nap", b"0").wait()
        if relay.end.limit == 12:
            break
    assert relay.end.limit == 12


def test_json_contexts_do_as_well(start: Start) -> None:
    process = start("--interface", "grpc", "grpc_app:register_sync")
    relay = GrpcRelay(process, MuxOffer(codecs=("json",)))
    rpc = relay.rpc("t.S/Status", b"5 no", metadata=[("x-bin", b"\xff")]).wait()
    assert rpc.status == (5, "no") and rpc.trailers == [("t", "1"), ("b-bin", b"\xff\x00")]


def test_function_handlers_run_in_threads_beside_a_loop(start: Start) -> None:
    relay = GrpcRelay(start("--interface", "grpc", "grpc_app:register_mixed"))
    assert relay.rpc("t.S/Thread", b"").wait().messages[0].startswith(b"rr-grpc-")
    assert relay.rpc("t.A/Upper", b"x").wait().messages == [b"X"]


def test_one_thread_is_the_main_thread(start: Start) -> None:
    relay = GrpcRelay(start("--interface", "grpc", "--threads", "1", "grpc_app:register_sync"))
    for _ in range(3):
        assert relay.rpc("t.S/Thread", b"").wait().messages == [b"MainThread"]


def test_stop_waits_for_open_calls_and_ends_with_0(relay: GrpcRelay, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    rpc = relay.rpc("t.S/Touch", str(flag).encode())
    relay.step(0.05)
    relay.end.control({"stop": True})
    relay.step(0.05)
    assert relay.process.process.poll() is None
    flag.touch()
    rpc.wait()
    assert rpc.messages == [b"there"] and relay.process.wait() == 0


def test_sigterm_waits_for_open_calls_too(relay: GrpcRelay, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    rpc = relay.rpc("t.S/Touch", str(flag).encode())
    relay.step(0.05)
    relay.process.term()
    flag.touch()
    assert rpc.wait().messages == [b"there"] and relay.process.wait() == 0


def test_what_the_server_sends_before_it_knows_of_a_sigterm_is_given_back(relay: GrpcRelay) -> None:
    relay.rpc("t.S/Upper", b"x").wait()
    relay.process.term()
    relay.until(lambda: {"retire": True} in relay.said_all)
    relay.rpc("t.S/Upper", b"x")
    relay.until(lambda: len(relay.refusals) == 1)
    assert relay.process.stop() == 0


def test_worker_ends_when_the_server_is_gone(relay: GrpcRelay) -> None:
    relay.rpc("t.S/Upper", b"x").wait()
    relay.process.hang_up()
    assert relay.process.wait() == 1


def test_unreadable_call_is_an_error_of_that_call(relay: GrpcRelay) -> None:
    rpc = Rpc(relay)
    from twisted_rr.errors import ApplicationError
    from twisted_rr.wire.call import Call

    rpc.call = Call(None, rpc, None)
    relay.end.open(rpc.call, b"\xc1", b"", True)
    with pytest.raises(ApplicationError, match="cannot be read"):
        rpc.wait()
    assert relay.rpc("t.S/Upper", b"x").wait().messages == [b"X"]


def test_no_methods_at_all_are_said(start: Start) -> None:
    relay = GrpcRelay(start("--interface", "grpc", "grpc_app:register_nothing"))
    assert relay.rpc("t.S/Upper", b"x").wait().status == (12, "Method not found!")
    assert "no gRPC method is registered" in relay.process.stderr


@pytest.mark.parametrize(
    ("target", "text"),
    [("grpc_app:register_broken", "adding its services failed: ValueError"), ("grpc_app:KINDS", "there is no"),
     ("grpc_app:os", "neither a function nor a Services object")],
)  # fmt: skip
def test_what_cannot_be_loaded_is_explained(start: Start, target: str, text: str) -> None:
    process = start("--interface", "grpc", target)
    assert process.wait() == 3
    assert text in process.stderr
