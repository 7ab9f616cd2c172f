"""A WSGI application in a worker process, over a mux relay."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from worker_rig import MuxRelay, Process

from twisted_rr.errors import ApplicationError
from twisted_rr.wire.control import MuxOffer

Mux = Callable[..., MuxRelay]


def test_one_thread_is_the_default_and_it_is_the_main_one(mux: Mux) -> None:
    relay = mux("sdk_apps:wsgi_site")
    assert relay.accepted.streams == 1
    assert relay.get("/thread").body == b"True False"


def test_the_capacity_is_the_number_of_threads(mux: Mux) -> None:
    relay = mux("--threads", "3", "sdk_apps:wsgi_site")
    assert relay.accepted.streams == 3
    assert relay.get("/thread").body.endswith(b" True")


@pytest.mark.parametrize("application", ["sdk_apps:valid", "sdk_apps:valid_echo"])
def test_wsgiref_finds_no_fault(mux: Mux, application: str) -> None:
    relay = mux("--interface", "wsgi", application)
    for more in (False, True):
        answer = relay.open("/p?q=1", b"hel", more=more, method="POST", headers=[(b"content-length", b"5")])
        answer.call.send(b"lo", False)
        assert answer.wait().body == (b"hello" if more or application == "sdk_apps:valid" else b"hel")
    assert relay.process.stop() == 0
    assert relay.process.stderr == ""


@pytest.mark.parametrize("codec", ["msgpack", "json"])
def test_the_environ_arrives(start: Callable[..., Process], codec: str) -> None:
    relay = MuxRelay(start("sdk_apps:wsgi_site"), MuxOffer(codecs=[codec]))
    headers = [(b"x-test", b"caf\xe9"), (b"cookie", b"a=1"), (b"cookie", b"b=2")]
    environ = eval(relay.get("/environ/%C3%A9?x", headers=headers).body)
    assert environ["PATH_INFO"] == "/environ/é".encode().decode("latin-1")
    assert environ["HTTP_X_TEST"] == "café"
    assert environ["HTTP_COOKIE"] == "a=1; b=2"
    assert environ["REMOTE_ADDR"] == "192.0.2.7"
    assert environ["wsgi.multithread"] is False


def test_a_streamed_body_is_read_as_it_comes(mux: Mux) -> None:
    relay = mux("sdk_apps:wsgi_site")
    answer = relay.open("/echo", b"start", more=True, method="POST")
    for _ in range(30):
        answer.room = answer.call.send(b"y" * 100_000, True)
        if not answer.room:
            relay.until(lambda: answer.room)
    answer.call.send(b"", False)
    assert len(answer.wait().body) == 3_000_005


@pytest.mark.parametrize("threads", ["1", "3"])
def test_bodies_flow_both_ways_at_once_without_a_pause(mux: Mux, threads: str) -> None:
    relay = mux("--threads", threads, "sdk_apps:wsgi_site")
    data = bytes(range(256)) * 4000
    answers = [relay.open("/pump", data[:100], more=True, method="POST") for _ in range(int(threads))]
    sent = [100] * len(answers)

    def push() -> None:
        for number, answer in enumerate(answers):
            while answer.room and sent[number] < len(data):
                piece = data[sent[number] : sent[number] + 50_000]
                sent[number] += len(piece)
                answer.room = answer.call.send(piece, sent[number] < len(data))

    while not all(answer.done for answer in answers):
        push()
        begun = time.monotonic()
        relay.step()
        assert time.monotonic() - begun < 0.9  # else the watcher had to come to the rescue
    assert all(answer.body == data for answer in answers)


def test_lines_are_read_across_frames(mux: Mux) -> None:
    relay = mux("sdk_apps:wsgi_site")
    answer = relay.open("/lines", b"on", more=True, method="POST")
    relay.step(0.05)
    answer.call.send(b"e\ntwo\nthr", True)
    relay.step(0.05)
    answer.call.send(b"ee", False)
    assert answer.wait().body == b"[b'one\\n', b'two\\n', b'three']"


def test_a_client_that_expects_100_is_invited_at_the_first_read(mux: Mux) -> None:
    relay = mux("sdk_apps:wsgi_site")
    answer = relay.open("/echo", more=True, method="POST", headers=[(b"expect", b"100-continue")])
    relay.until(lambda: bool(answer.heads))
    assert answer.heads == [(100, [])]
    answer.call.send(b"body", False)
    assert answer.wait().body == b"body"


@pytest.mark.parametrize("threads", ["1", "4"])
def test_a_large_answer_streams_out(mux: Mux, threads: str) -> None:
    relay = mux("--threads", threads, "sdk_apps:wsgi_site")
    answer = relay.get("/big")
    assert len(answer.body) == 10_000_000


def test_write_and_file_wrapper(mux: Mux) -> None:
    relay = mux("sdk_apps:wsgi_site")
    assert relay.get("/write").body == b"one;two;three"
    assert relay.get("/file").body.startswith(b'"""Applications for the worker tests.')


@pytest.mark.parametrize("threads", ["1", "2"])
@pytest.mark.parametrize(("query", "code"), [("", 0), ("exit", 9), ("raise", 1)])
def test_a_fork_that_comes_back_ends_and_says_nothing_to_the_server(
    mux: Mux, threads: str, query: str, code: int
) -> None:
    relay = mux("sdk_apps:wsgi_site", "--threads", threads)
    assert relay.get(f"/fork?{query}").body == b"the child ended with %d" % code
    assert relay.get("/").body == b"hello"
    assert relay.process.stop() == 0


@pytest.mark.parametrize("threads", ["1", "2"])
@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/boom", "ValueError: boom goes the handler"),
        ("/exit", "SystemExit: 7"),
        ("/cancelled", "CancelledError: in a thread"),
    ],
)
def test_a_failing_application_is_an_error_and_the_worker_lives(
    mux: Mux, threads: str, path: str, error: str
) -> None:
    relay = mux("sdk_apps:wsgi_site", "--threads", threads)
    with pytest.raises(ApplicationError, match=error):
        relay.get(path)
    assert relay.get("/").body == b"hello"
    relay.process.stop()
    assert relay.process.stderr.startswith(f"The WSGI application failed in GET {path}\nTraceback")
    assert relay.process.stderr.endswith(f"{error}\n")


def test_a_failure_after_the_head_fails_the_call(mux: Mux) -> None:
    answer = mux("sdk_apps:wsgi_site").open("/late")
    with pytest.raises(ApplicationError, match="boom in the middle"):
        answer.wait()
    assert (answer.status, answer.body) == (200, b"half")


def test_threads_run_side_by_side_and_keep_to_their_number(mux: Mux) -> None:
    relay = mux("--threads", "4", "sdk_apps:wsgi_site")
    begun = time.monotonic()
    for _ in range(2):
        answers = [relay.open("/slow") for _ in range(4)]
        for answer in answers:
            assert answer.wait().body == b"slow"
    assert time.monotonic() - begun < 1.8  # one after the other it would be 2.4 s


@pytest.mark.parametrize("threads", ["1", "2"])
def test_a_cancel_stops_the_iteration_and_closes_it(mux: Mux, threads: str) -> None:
    relay = mux("--threads", threads, "sdk_apps:wsgi_site")
    answer = relay.open("/endless")
    relay.until(lambda: len(answer.body) > 1_000_000)
    answer.call.cancel("client")
    relay.until(lambda: relay.end.load == 0)
    assert relay.get("/").body == b"hello"
    relay.process.stop()
    assert relay.process.stderr == "endless is over\n"


def test_a_reader_whose_client_leaves_is_freed(mux: Mux) -> None:
    relay = mux("sdk_apps:wsgi_site")
    answer = relay.open("/echo", b"start", more=True, method="POST")
    relay.step(0.1)
    answer.call.cancel("client")
    relay.until(lambda: relay.end.load == 0)
    assert relay.get("/").body == b"hello"
    relay.process.stop()
    assert relay.process.stderr == ""


def test_a_slow_reader_holds_only_its_own_thread(mux: Mux) -> None:
    relay = mux("--threads", "2", "sdk_apps:wsgi_site")
    slow = relay.open("/endless")
    relay.until(lambda: bool(slow.pieces))
    slow.call.pauseProducing()
    for _ in range(50):
        assert relay.get("/").body == b"hello"
    before = len(slow.body)
    slow.call.resumeProducing()
    relay.until(lambda: len(slow.body) > before + 1_000_000)
    slow.call.cancel("client")
    relay.until(lambda: relay.end.load == 0)


def test_heartbeats_are_answered_while_all_threads_are_busy(mux: Mux) -> None:
    from twisted_rr.wire.mux_frames import PING_FRAME

    relay = mux("sdk_apps:wsgi_site")
    answer = relay.open("/lines", b"x", more=True, method="POST")
    relay.step(0.1)
    relay.process.write(PING_FRAME)
    relay.step(5)  # the PONG, which the end takes
    assert not answer.done
    answer.call.send(b"", False)
    answer.wait()


@pytest.mark.parametrize("threads", ["1", "3"])
def test_stop_finishes_the_open_calls(mux: Mux, threads: str) -> None:
    relay = mux("--threads", threads, "sdk_apps:wsgi_site")
    answer = relay.open("/slow")
    relay.step(0.05)
    relay.end.control({"stop": True})
    assert answer.wait().body == b"slow"
    assert relay.process.wait() == 0
    assert relay.process.stderr == ""


@pytest.mark.parametrize("threads", ["1", "3"])
def test_sigterm_ends_the_worker_idle_or_after_its_calls(mux: Mux, threads: str) -> None:
    relay = mux("--threads", threads, "sdk_apps:wsgi_site")
    answer = relay.open("/slow")
    relay.step(0.05)
    relay.process.term()
    assert answer.wait().body == b"slow"
    assert relay.process.wait() == 0
    idle = mux("--threads", threads, "sdk_apps:wsgi_site")
    idle.get("/")
    idle.process.term()
    assert idle.process.wait() == 0


@pytest.mark.parametrize("threads", ["1", "3"])
def test_what_the_server_sends_before_it_knows_of_a_sigterm_is_given_back(mux: Mux, threads: str) -> None:
    relay = mux("--threads", threads, "sdk_apps:wsgi_site")
    relay.get("/")
    relay.process.term()
    relay.until(lambda: {"retire": True} in relay.said_all)
    relay.open("/")
    relay.until(lambda: len(relay.refusals) == 1)
    assert relay.process.stop() == 0


@pytest.mark.parametrize("threads", ["1", "3"])
def test_the_end_of_the_relay_ends_the_worker(mux: Mux, threads: str) -> None:
    relay = mux("--threads", threads, "sdk_apps:wsgi_site")
    answer = relay.open("/endless")
    relay.until(lambda: bool(answer.pieces))
    relay.process.hang_up()
    assert relay.process.wait() == 1
    assert sorted(relay.process.stderr.splitlines()) == [
        "endless is over", "twisted_rr.worker: the server has closed the relay",
    ]  # fmt: skip
