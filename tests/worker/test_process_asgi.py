"""An ASGI application in a worker process, over a mux relay."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from worker_rig import MuxRelay, Process

from twisted_rr.errors import ApplicationError, Cancelled
from twisted_rr.wire.control import MuxOffer, draining

Mux = Callable[..., MuxRelay]


def test_the_worker_accepts_mux_with_its_concurrency(mux: Mux) -> None:
    answer = mux("--concurrency", "7", "sdk_apps:site").accepted
    assert (answer.streams, answer.codec, answer.caps) == (7, "msgpack", ("heartbeat", "draining"))


@pytest.mark.parametrize("codec", ["msgpack", "json"])
def test_a_request_is_answered_in_either_codec(start: Callable[..., Process], codec: str) -> None:
    relay = MuxRelay(start("sdk_apps:site"), MuxOffer(codecs=[codec]))
    answer = relay.get("/")
    assert (answer.status, answer.headers, answer.body) == (200, {"content-type": "text/plain"}, b"hello")


def test_the_scope_has_what_asgi_asks_for(mux: Mux) -> None:
    scope = eval(
        mux("sdk_apps:site")
        .get("/scope/%C3%A9?a=1&b=%20", headers=[(b"x-a", b"1"), (b"x-a", b"2")], attributes={"user": "me"})
        .body
    )
    assert scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/scope/é",
        "raw_path": b"/scope/%C3%A9",
        "query_string": b"a=1&b=%20",
        "root_path": "",
        "headers": [(b"host", b"example.com"), (b"x-a", b"1"), (b"x-a", b"2")],
        "client": ("192.0.2.7", 4711),
        "server": ("127.0.0.1", 8080),
        "extensions": {"http.response.trailers": {}, "twisted_rr.attributes": {"user": "me"}},
    }


def test_each_request_starts_from_the_state_and_context_of_the_lifespan(mux: Mux) -> None:
    relay = mux("sdk_apps:site")
    for _ in range(3):
        assert relay.get("/state").body == b"at startup 1 by lifespan none"


@pytest.mark.parametrize(("query", "code"), [("", 0), ("exit", 9), ("raise", 1)])
def test_a_fork_that_comes_back_ends_and_says_nothing_to_the_server(mux: Mux, query: str, code: int) -> None:
    relay = mux("sdk_apps:site")
    assert relay.get(f"/fork?{query}").body == b"the child ended with %d" % code
    assert relay.get("/").body == b"hello"
    assert ("ValueError: in the child" in relay.process.stderr) is (query == "raise")
    assert relay.process.stop() == 0


def test_tasks_are_real_tasks(mux: Mux) -> None:
    assert mux("sdk_apps:site").get("/group").body == b"[1, 2]"


def test_a_large_body_streams_in(mux: Mux) -> None:
    relay = mux("sdk_apps:site")
    answer = relay.open("/count", b"x" * 1000, more=True, method="POST")
    for _ in range(40):
        answer.room = answer.call.send(b"y" * 100_000, True)
        if not answer.room:
            relay.until(lambda: answer.room)
    answer.call.send(b"", False)
    assert answer.wait().body == b"4001000 True"


def test_a_large_answer_streams_out(mux: Mux) -> None:
    answer = mux("sdk_apps:site").get("/big")
    assert len(answer.body) == 10_000_000
    assert len(answer.pieces) > 100


def test_the_first_piece_leaves_before_the_last_is_made(mux: Mux) -> None:
    relay = mux("sdk_apps:site")
    answer = relay.open("/stream", b"", more=True)
    relay.until(lambda: answer.body == b"0;1;2;")
    assert not answer.done
    answer.call.send(b"go", False)
    assert answer.wait().body == b"0;1;2;end"


def test_trailers_arrive(mux: Mux) -> None:
    answer = mux("sdk_apps:site").get("/trailers")
    assert answer.body == b"body"
    assert answer.trailers == [(b"x-sum", b"1"), (b"x-more", b"2")]


def test_a_client_that_expects_100_is_invited_when_the_body_is_wanted(mux: Mux) -> None:
    relay = mux("sdk_apps:site")
    answer = relay.open("/echo", more=True, method="POST", headers=[(b"expect", b"100-continue")])
    relay.until(lambda: bool(answer.heads))
    assert answer.heads == [(100, [])]
    answer.call.send(b"body", False)
    assert answer.wait().body == b"body"
    assert [status for status, _ in answer.heads] == [100, 200]


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/boom", "ValueError: boom goes the handler"),
        ("/exit", "SystemExit: 7"),
        ("/nothing", "the application returned where it should have sent http.response.start"),
    ],
)
def test_a_failing_application_is_an_error_and_the_worker_lives(mux: Mux, path: str, error: str) -> None:
    relay = mux("sdk_apps:site")
    with pytest.raises(ApplicationError, match=error):
        relay.get(path)
    assert relay.get("/").body == b"hello"
    assert relay.process.stop() == 0
    assert relay.process.stderr.count(error.partition(": ")[2] or error) >= 1


def test_the_traceback_is_printed_once_from_the_application_on(mux: Mux) -> None:
    relay = mux("sdk_apps:site")
    with pytest.raises(ApplicationError):
        relay.get("/boom")
    relay.process.stop()
    printed = relay.process.stderr
    assert printed.startswith(
        "The ASGI application failed in GET /boom\nTraceback (most recent call last):\n"
    )
    assert printed.count("ValueError: boom goes the handler\n") == 1
    assert "twisted_rr/worker" not in printed


def test_a_failure_after_the_head_fails_the_call(mux: Mux) -> None:
    relay = mux("sdk_apps:site")
    answer = relay.open("/late")
    with pytest.raises(ApplicationError, match="boom in the middle"):
        answer.wait()
    assert answer.status == 200


def test_a_cancel_is_a_disconnect_and_frees_the_slot(mux: Mux) -> None:
    relay = mux("sdk_apps:site")
    answer = relay.open("/wait")
    relay.until(lambda: answer.body == b"waiting")
    answer.call.cancel("client")
    assert isinstance(answer.error, Cancelled)
    relay.until(lambda: relay.end.load == 0)
    assert relay.get("/").body == b"hello"
    relay.process.stop()
    assert relay.process.stderr.splitlines() == ["disconnected", "sent to nobody", "shutting down"]


def test_a_slow_reader_holds_only_its_own_call(mux: Mux) -> None:
    relay = mux("sdk_apps:site")
    slow = relay.open("/endless")
    relay.until(lambda: bool(slow.pieces))
    slow.call.pauseProducing()
    for _ in range(50):
        assert relay.get("/").body == b"hello"
    sent = int(relay.get("/sent").body)
    assert sent < 4_000_000
    for _ in range(20):
        assert relay.get("/").body == b"hello"
    assert int(relay.get("/sent").body) == sent
    before = len(slow.body)
    slow.call.resumeProducing()
    relay.until(lambda: len(slow.body) > before + 1_000_000)


def test_a_stream_to_nobody_does_not_hold_the_loop(mux: Mux) -> None:
    relay = mux("sdk_apps:site")
    answer = relay.open("/busy")
    relay.until(lambda: bool(answer.pieces))
    answer.call.cancel("client")
    for _ in range(5):
        assert relay.get("/").body == b"hello"


def test_a_hundred_calls_run_side_by_side(mux: Mux) -> None:
    relay = mux("sdk_apps:site")
    begun = time.monotonic()
    answers = [relay.open("/slow") for _ in range(100)]
    for answer in answers:
        assert answer.wait().body == b"slow"
    assert time.monotonic() - begun < 10


def test_a_websocket_is_refused(mux: Mux) -> None:
    relay = mux("sdk_apps:site")
    answer = relay.open("/", scheme="ws", more=True)
    relay.until(lambda: answer.done)
    assert answer.status == 501


def test_draining_is_seen_by_the_application(mux: Mux) -> None:
    relay = mux("sdk_apps:site")
    answer = relay.open("/draining")
    relay.until(lambda: answer.body == b"serving;")
    relay.end.control(draining(1000))
    assert answer.wait().body == b"serving;draining"


def test_stop_finishes_the_open_calls_and_refuses_new_ones(mux: Mux) -> None:
    relay = mux("sdk_apps:site")
    answer = relay.open("/slow")
    relay.get("/")
    relay.end.control({"stop": True})
    late = relay.open("/")
    relay.until(lambda: late.done)
    assert relay.refusals == [late.call]
    assert answer.wait().body == b"slow"
    assert relay.process.wait() == 0
    assert relay.process.stderr == "shutting down\n"


def test_sigterm_finishes_the_open_calls(mux: Mux) -> None:
    relay = mux("sdk_apps:site")
    answer = relay.open("/slow")
    relay.get("/")
    relay.process.term()
    assert answer.wait().body == b"slow"
    assert relay.process.wait() == 0
    assert relay.process.stderr == "shutting down\n"


def test_what_the_server_sends_before_it_knows_of_a_sigterm_is_given_back(mux: Mux) -> None:
    relay = mux("sdk_apps:site")
    relay.get("/")
    relay.process.term()
    relay.until(lambda: {"retire": True} in relay.said_all)
    relay.open("/")
    relay.until(lambda: len(relay.refusals) == 1)
    assert relay.process.stop() == 0


def test_an_answer_that_waits_for_credit_is_finished_before_the_exit(mux: Mux) -> None:
    relay = mux("sdk_apps:site")
    answer = relay.open("/big")
    relay.until(lambda: bool(answer.pieces))
    relay.end.control({"stop": True})
    assert len(answer.wait().body) == 10_000_000
    assert relay.process.wait() == 0


def test_the_end_of_the_relay_ends_the_worker(mux: Mux) -> None:
    relay = mux("sdk_apps:site")
    answer = relay.open("/endless")
    relay.until(lambda: bool(answer.pieces))
    relay.process.hang_up()
    assert relay.process.wait() == 1
    assert "shutting down\n" in relay.process.stderr
    assert "twisted_rr.worker: the server has closed the relay\n" in relay.process.stderr
    assert "Traceback" not in relay.process.stderr


def test_a_failed_startup_is_told_before_the_handshake_is_answered(start: Callable[..., Process]) -> None:
    process = start("sdk_apps:fails_to_start")
    with pytest.raises(AssertionError, match="the relay ended"):
        process.hello(MuxOffer())
    assert process.wait() == 4
    assert process.stderr == "twisted_rr.worker: the application failed to start: the database is away\n"


def test_a_failed_shutdown_is_told(mux: Mux) -> None:
    relay = mux("sdk_apps:never_shuts_down")
    assert relay.process.stop() == 0
    assert "failed to shut down: cannot let go" in relay.process.stderr


def test_uvloop_is_optional(mux: Mux) -> None:
    relay = mux("--loop", "uvloop", "sdk_apps:site")
    assert relay.get("/").body == b"hello"
    assert relay.process.stop() == 0
