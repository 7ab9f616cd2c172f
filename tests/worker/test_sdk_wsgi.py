"""One WSGI request, without a relay."""

from __future__ import annotations

import functools
import io
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from twisted_rr.wire import frame
from twisted_rr.wire.call import Call
from twisted_rr.wire.context import encode_head
from twisted_rr.wire.mux_server import MuxServerEnd
from twisted_rr.wire.mux_settings import MuxSettings
from twisted_rr.wire.mux_worker import MuxWorkerEnd
from twisted_rr.wire.reader import Frame, FrameReader
from twisted_rr.worker.blocking import BlockingCall
from twisted_rr.worker.thread_call import ThreadCall
from twisted_rr.worker.threads import Draining
from twisted_rr.worker.wsgi import Disconnected, Heads, encode_headers, input_stream, parse_status, run

Sent = tuple[Any, bytes, bool]


class RecordingChannel:
    """Takes an answer; the client goes away after *patience* pieces."""

    def __init__(self, patience: int = 1000) -> None:
        self.sent: list[Sent] = []
        self.errors: list[str] = []
        self.stopped = 0
        self.patience = patience
        self.ending = False

    @property
    def gone(self) -> bool:
        return len(self.sent) >= self.patience

    def send(self, context: Any, data: bytes, more: bool) -> None:
        if not self.gone:
            self.sent.append((context, data, more))

    def read(self) -> bytes:
        raise Disconnected

    def error(self, text: str) -> None:
        self.errors.append(text)

    def stop(self) -> None:
        self.stopped += 1


def serve(application: Any, channel: RecordingChannel | None = None) -> RecordingChannel:
    channel = channel or RecordingChannel()
    run(
        application,
        {"REQUEST_METHOD": "GET", "PATH_INFO": "/x"},
        channel,
        Heads(lambda status, headers: (status, headers)),  # type: ignore[arg-type, return-value]
    )
    return channel


HEAD = (200, [(b"X-A", b"1")])


def respond(result: Any) -> Any:
    def application(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("X-A", "1")])
        return result

    return application


def test_a_list_is_one_piece() -> None:
    assert serve(respond([b"a", b"b"])).sent == [(HEAD, b"ab", False)]
    assert serve(respond([b"a"])).sent == [(HEAD, b"a", False)]
    assert serve(respond([])).sent == [(HEAD, b"", False)]


def test_a_generator_leaves_piece_by_piece_before_the_next_is_asked_for() -> None:
    channel = RecordingChannel()

    def pieces() -> Iterator[bytes]:
        yield b""
        yield b"a"
        assert channel.sent == [(HEAD, b"a", True)]
        yield b"b"
        assert len(channel.sent) == 2

    serve(respond(pieces()), channel)
    assert channel.sent == [(HEAD, b"a", True), (b"", b"b", True), (b"", b"", False)]
    assert channel.errors == []


def test_the_piece_that_completes_content_length_ends_the_answer() -> None:
    after: list[str] = []

    def pieces() -> Iterator[bytes]:
        yield b"ab"
        yield b"c"
        after.append("ran on")

    def application(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("content-length", "3")])
        return pieces()

    sent = serve(application).sent
    assert [part[1:] for part in sent] == [(b"ab", True), (b"c", False)]
    assert after == ["ran on"]


def test_start_response_may_be_called_in_the_iteration() -> None:
    def application(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("X-A", "1")])
        yield b"a"

    assert serve(application).sent == [(HEAD, b"a", True), (b"", b"", False)]


def test_write_sends_at_once_and_before_the_result() -> None:
    channel = RecordingChannel()

    def application(environ: Any, start_response: Any) -> Any:
        write = start_response("200 OK", [("X-A", "1")])
        write(b"w")
        assert channel.sent == [(HEAD, b"w", True)]
        return [b"r"]

    assert serve(application, channel).sent[1:] == [(b"", b"r", False)]


def test_close_is_called_once_whatever_happens() -> None:
    class Result:
        def __init__(self, fails: bool) -> None:
            self.closed = 0
            self.fails = fails

        def __iter__(self) -> Iterator[bytes]:
            yield b"a"
            if self.fails:
                raise ValueError("boom")

        def close(self) -> None:
            self.closed += 1

    for fails in (False, True):
        result = Result(fails)
        assert bool(serve(respond(result)).errors) is fails
        assert result.closed == 1


def test_an_exception_before_the_head_is_an_error_with_its_traceback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def application(environ: Any, start_response: Any) -> Any:
        raise ValueError("boom")

    channel = serve(application)
    assert (channel.sent, channel.errors) == ([], ["ValueError: boom"])
    printed = capsys.readouterr().err
    assert printed.startswith("The WSGI application failed in GET /x\nTraceback")
    assert printed.count("ValueError: boom") == 1
    assert "wsgi.py" not in printed.replace("test_sdk_wsgi.py", "")


def test_an_exception_after_the_head_is_an_error_too() -> None:
    def pieces() -> Iterator[bytes]:
        yield b"a"
        raise ValueError("boom")

    channel = serve(respond(pieces()))
    assert channel.sent == [(HEAD, b"a", True)]
    assert channel.errors == ["ValueError: boom"]


def test_an_exception_after_the_answer_is_only_printed(capsys: pytest.CaptureFixture[str]) -> None:
    class Result(list[bytes]):
        def close(self) -> None:
            raise ValueError("boom in close")

    channel = serve(respond(Result([b"a"])))
    assert (channel.sent, channel.errors) == ([(HEAD, b"a", False)], [])
    assert "boom in close" in capsys.readouterr().err


def test_exc_info_replaces_a_head_that_has_not_left() -> None:
    def application(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("X-A", "1")])
        try:
            raise ValueError("boom")
        except ValueError:
            start_response("500 Oops", [], sys.exc_info())
        return [b"sorry"]

    assert serve(application).sent == [((500, []), b"sorry", False)]


def test_exc_info_after_the_head_has_left_is_raised_again() -> None:
    def application(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("X-A", "1")])
        yield b"a"
        try:
            raise ValueError("boom")
        except ValueError:
            start_response("500 Oops", [], sys.exc_info())

    channel = serve(application)
    assert channel.sent == [(HEAD, b"a", True)]
    assert channel.errors == ["ValueError: boom"]


def twice(environ: Any, start_response: Any) -> Any:
    start_response("200 OK", [])
    start_response("200 OK", [])


@pytest.mark.parametrize(
    ("application", "error"),
    [
        (twice, "start_response was called twice"),
        (lambda environ, start_response: [b"a"], "before it called start_response"),
        (lambda environ, start_response: None, "NoneType"),
        (respond(["text"]), "a WSGI body is bytes, not str"),
        (respond("text"), "a WSGI body is bytes, not str"),
        (respond(iter(["text"])), "a WSGI body is bytes, not str"),
        (lambda environ, start_response: start_response(200, []), "the status should be a str"),
        (lambda environ, start_response: start_response("2", []), "the status should be a str"),
        (
            lambda environ, start_response: start_response("200 OK", [("a", b"b")]),
            "response headers should be",
        ),
        (
            lambda environ, start_response: start_response("200 OK", [("a", "\u20ac")]),
            "response headers should",
        ),
        (lambda environ, start_response: start_response("200 OK", [("a",)]), "response headers should"),
    ],
)
def test_what_breaks_pep_3333_is_named(application: Any, error: str) -> None:
    channel = serve(application)
    assert channel.sent == []
    assert error in channel.errors[0]


def test_an_answer_to_nobody_stops_the_iteration_and_closes_it(capsys: pytest.CaptureFixture[str]) -> None:
    closed: list[str] = []

    def pieces() -> Iterator[bytes]:
        try:
            while True:
                yield b"a"
        finally:
            closed.append("closed")

    channel = serve(respond(pieces()), RecordingChannel(patience=3))
    assert len(channel.sent) == 3
    assert closed == ["closed"]
    assert (channel.stopped, channel.errors) == (1, [])
    assert capsys.readouterr().err == ""


def test_a_body_whose_client_left_is_no_failure_to_report(capsys: pytest.CaptureFixture[str]) -> None:
    channel = RecordingChannel(patience=0)

    def application(environ: Any, start_response: Any) -> Any:
        channel.read()

    serve(application, channel)
    assert (channel.stopped, channel.errors, capsys.readouterr().err) == (1, [], "")


@pytest.mark.parametrize(("status", "code"), [("200 OK", 200), ("404", 404), ("599 Any Thing", 599)])
def test_a_status_is_its_code(status: str, code: int) -> None:
    assert parse_status(status) == code


@pytest.mark.parametrize(
    "status", ["", "20", "200OK", "abc def", "099 X", "103 Early Hints", "600 X", "²00 X"]
)
def test_a_malformed_status_is_refused(status: str) -> None:
    with pytest.raises(RuntimeError):
        parse_status(status)


def test_headers_are_latin_1() -> None:
    assert encode_headers([("X", "é")]) == [(b"X", b"\xe9")]


def stream(*pieces: bytes, first: bytes = b"") -> Any:
    rest = iter(pieces)
    return input_stream(first, lambda: next(rest, b""))


def test_the_input_reads_across_pieces() -> None:
    assert stream(b"bc", b"d", first=b"a").read() == b"abcd"
    assert stream(b"abc", b"def").read(4) == b"abcd"
    assert stream(b"abc").read(0) == b""
    assert stream().read(10) == b""


def test_the_input_reads_lines_across_pieces() -> None:
    source = stream(b"on", b"e\ntwo\nthr", b"ee")
    assert source.readline() == b"one\n"
    assert source.readline(2) == b"tw"
    assert list(source) == [b"o\n", b"three"]
    assert stream(b"a\nb").readlines() == [b"a\n", b"b"]


def test_the_input_takes_no_more_than_it_needs() -> None:
    taken: list[int] = []

    def read() -> bytes:
        taken.append(1)
        return b"x" * 65536

    assert len(input_stream(b"", read).read(10)) == 10
    assert len(taken) == 1


def test_a_whole_body_is_in_memory_already() -> None:
    assert isinstance(input_stream(b"abc", None), io.BytesIO)


def test_an_endless_stream_is_closed_and_ended_properly_when_the_server_stops() -> None:
    channel = RecordingChannel()
    closed = []

    def events() -> Iterator[bytes]:
        try:
            yield b"1"
            channel.ending = True
            while True:
                yield b"2"
        finally:
            closed.append(True)

    def application(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/event-stream; charset=utf-8")])
        return events()

    serve(application, channel)
    assert [(data, more) for _, data, more in channel.sent] == [(b"1", True), (b"2", True), (b"", False)]
    assert closed == [True]


def test_a_download_is_not_ended_early_because_it_would_look_complete() -> None:
    channel = RecordingChannel()
    channel.ending = True
    assert [data for _, data, _ in serve(respond(iter([b"1", b"2", b"3"])), channel).sent] == [
        b"1",
        b"2",
        b"3",
        b"",
    ]


def test_a_head_like_the_last_one_is_made_once_and_any_other_anew() -> None:
    made: list[tuple[int, Any]] = []

    def encode(status: int, headers: Any) -> bytes:
        made.append((status, list(headers)))
        return b"%d" % len(made)

    heads = Heads(encode)
    wanted = [("Content-Length", "3")]
    assert (
        heads.make("200 OK", wanted) == heads.make("200 OK", wanted) == (b"1", [(b"Content-Length", b"3")], 3)
    )
    wanted[0] = ("X", "y")  # the application may change its list afterwards
    assert heads.make("200 OK", wanted) == (b"2", [(b"X", b"y")], -1)
    assert heads.make("404 Not Found", wanted)[0] == b"3"
    with pytest.raises(RuntimeError):
        heads.make("404 Not Found", [("X", 1)])  # type: ignore[list-item]
    assert heads.make("404 Not Found", wanted)[0] == b"3"


def test_headers_that_can_be_read_once_are_nobody_elses() -> None:
    heads = Heads(lambda status, headers: repr(headers).encode())
    assert heads.make("200 OK", iter([("Set-Cookie", "mine")]))[0] == b"[(b'Set-Cookie', b'mine')]"  # type: ignore[arg-type]
    assert heads.make("200 OK", [])[0] == b"[]"


class Threads:
    """The server of one thread, which has nothing to wait for."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.draining = Draining()

    def flush(self) -> None:
        pass


class MuxCalls:
    """Both ends of a mux relay, and the last call that was opened."""

    def __init__(self) -> None:
        self.over: list[Any] = []
        self.server = MuxServerEnd(self, MuxSettings())
        self.worker = MuxWorkerEnd(self, MuxSettings())

    def dirty(self) -> None:
        pass

    def freed(self, call: Any) -> None:
        self.over.append(call)

    def failed(self, error: Exception) -> None:
        pass

    def opened(self, stream: Any, codec: int, context: bytes, body: bytes, more: bool) -> None:
        self.channel = stream.to = ThreadCall(Threads(), stream, codec, context, body, more)  # type: ignore[arg-type]

    def open(self) -> Any:
        call = Call(None, self, self.server)
        self.server.open(call, b"\x90", b"", False)
        self.worker.feed(self.server.take())
        return call


@pytest.mark.parametrize("result", [[], [b"a"], (b"a", b"b"), iter(())])
def test_a_call_given_up_before_its_answer_ends_whatever_the_application_returns(result: Any) -> None:
    calls = MuxCalls()
    call = calls.open()

    def application(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        call.cancel("client")
        calls.worker.feed(calls.server.take())
        return result

    run(application, {}, calls.channel, Heads(functools.partial(encode_head, calls.channel.codec)))
    calls.server.feed(calls.worker.take())
    assert calls.over == [call]
    assert not calls.worker.streams


class OneCallRelay:
    """A relay on which the server stops every stream."""

    stopping = False

    def __init__(self) -> None:
        self.frames: list[Frame] = []

    def interrupted(self) -> bool:
        return True

    def write(self, data: bytes) -> None:
        self.frames += FrameReader(1 << 20).feed(data)


def test_a_stream_that_is_stopped_at_its_last_piece_gets_its_last_frame() -> None:
    relay = OneCallRelay()

    def application(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        yield b"first"
        yield b"last"

    channel = BlockingCall(relay, frame.CODEC_JSON)  # type: ignore[arg-type]
    run(application, {}, channel, Heads(lambda status, headers: b"{}"))
    assert [bool(got.bits & frame.STREAM) for got in relay.frames] == [True, False]
    assert relay.frames[-1].payload == b""
