"""One exchange: every way from a head to the end, told by a session that records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from front_world import UNIX, RecordingSession, World, request
from hypothesis import given
from hypothesis import strategies as st

from twisted_rr.errors import (
    ApplicationError,
    Cancelled,
    Draining,
    ExecTimeout,
    FrameError,
    NoFreeWorker,
    PoolError,
    QueueFull,
    WorkerDied,
)
from twisted_rr.http1.response import BadResponse
from twisted_rr.plugins.http import forms
from twisted_rr.plugins.http.uploads import UploadPolicy
from twisted_rr.pool.settings import PoolSettings
from twisted_rr.wire.context import (
    decode_request,
    decode_single_request,
    encode_head,
    encode_single_response,
    encode_trailers,
)
from twisted_rr.wire.frame import CODEC_GOB, CODEC_JSON, CODEC_MSGPACK, CODEC_PROTO
from twisted_rr.wire.single_context import HttpRequest, as_text, encode_single_request

MSGPACK = CODEC_MSGPACK
FAILED = b"the application failed\n"
OK = encode_head(MSGPACK, 200, [(b"content-type", b"text/plain")])
PLAIN: Any = {"status": 200, "headers": {"Content-Type": ["text/plain"]}}
POST = [(b"host", b"example.org")]


def single(status: int = 200, headers: list[tuple[bytes, bytes]] | None = None) -> bytes:
    return encode_single_response(CODEC_JSON, status, headers or [])


# ------------------------------------------------------------------------- mux: the request


def test_a_request_without_content_is_one_open() -> None:
    world = World()
    world.exchange()
    assert world.call.complete
    assert world.call.body == b""


def test_the_context_is_in_asgi_shapes() -> None:
    world = World()
    headers = [(b"host", b"example.org"), (b"x-a", b"1"), (b"x-a", b"\xff")]
    world.exchange(request("PUT", b"/p%20q?r", headers, version="1.0"))
    for codec in (MSGPACK, CODEC_JSON):
        found = decode_request(codec, world.call.context(codec))
        client, server = ("203.0.113.7", 5555), ("192.0.2.1", 80)
        assert found == ("PUT", b"/p%20q?r", "1.0", "http", client, server, headers, None)


def test_a_repeated_header_block_is_packed_once_and_reads_the_same() -> None:
    world = World()
    session = RecordingSession()
    wanted = request()
    contexts = []
    for _ in range(4):
        again = request()
        again.head = wanted.head
        world.front.begin(session, again)
        contexts.append(world.call.context(MSGPACK))
    assert len(set(contexts)) == 1
    assert wanted.head.derived._packed is not None


def test_a_repeated_request_has_its_context_already() -> None:
    world = World()
    session = RecordingSession()
    wanted = request()
    world.front.begin(session, wanted)
    first = world.call.context(MSGPACK)
    world.front.begin(session, wanted)
    assert world.call.context(MSGPACK) is first
    assert decode_request(CODEC_JSON, world.call.context(CODEC_JSON)) == decode_request(MSGPACK, first)


def test_the_context_of_a_one_call_worker_is_made_once() -> None:
    world = World(mux=False)
    world.exchange(request())
    spool = world.call.call_head.spool()
    assert spool.finish()[1] is spool.finish()[1]


@pytest.mark.parametrize(
    "last", [(b"x-a", b"2"), (b"x-b", b"\xff"), (b"cookie", b'a="1"; b=%20; c=d-e; f=g')]
)
def test_fields_for_one_call_workers_are_the_same_however_often_they_come(last: tuple[bytes, bytes]) -> None:
    headers = [(b"host", b"h"), (b"x-a", b'1"'), last]
    found = []
    for _ in range(2):
        world = World(mux=False)
        world.exchange(request(headers=headers))
        found.append(decode_single_request(CODEC_JSON, world.call.call_head.spool().finish()[1]))
    assert found[0] == found[1]
    values: dict[str, list[bytes]] = {}
    for name, value in headers[1:]:
        values.setdefault(name.title().decode(), []).append(value)
    told = {name: [as_text(value) for value in several] for name, several in values.items()}
    assert {name: [value.decode() for value in several] for name, several in found[0].headers.items()} == told
    cookies = {"a": "1", "b": " ", "c": "d-e", "f": "g"} if last[0] == b"cookie" else {}
    assert found[0].cookies == cookies


def test_names_with_an_underscore_reach_no_worker() -> None:
    world = World()
    world.exchange(request(headers=[(b"host", b"h"), (b"x_real_ip", b"1.1.1.1"), (b"x-b", b"2")]))
    assert decode_request(MSGPACK, world.call.context(MSGPACK))[6] == [(b"host", b"h"), (b"x-b", b"2")]
    assert b"1.1.1.1" not in world.call.call_head.spool().finish()[1]


def test_content_that_came_with_the_head_is_in_the_open() -> None:
    world = World()
    _, exchange = world.exchange(request("POST", length=5))
    assert not world.pool.calls
    assert exchange.body(b"hello", False)
    assert (world.call.pieces, world.call.complete) == ([b"hello"], True)
    world.host.turn.end()
    assert len(world.pool.calls) == 1


def test_a_client_that_waits_with_its_content_gets_its_worker_in_the_same_turn() -> None:
    world = World()
    session, exchange = world.exchange(request("POST", length=-1, expect=True))
    world.host.turn.end()
    assert not world.call.complete
    assert session.events == []
    world.call.head(MSGPACK, encode_head(MSGPACK, 100, []))
    assert session.words() == ["expect_continue"]
    exchange.body(b"a", True)
    exchange.body(b"", False)
    assert (world.call.body, world.call.complete) == (b"a", True)


def test_a_full_call_holds_the_client_until_it_has_room() -> None:
    world = World()
    session, exchange = world.exchange(request("POST", length=-1))
    exchange.body(b"a", True)
    world.call.room = False
    assert not exchange.body(b"b", True)
    world.call.drained()
    assert session.words() == ["resume_body"]


def test_content_after_the_answer_is_dropped() -> None:
    world = World()
    _, exchange = world.exchange(request("POST", length=-1))
    exchange.body(b"a", True)
    world.call.answer(MSGPACK, OK, b"x")
    assert exchange.body(b"b", True)
    exchange.sent()
    assert exchange.body(b"c", False)
    assert world.call.pieces == [b"a"]


# -------------------------------------------------------------------------- mux: the answer


def test_a_small_answer_is_one_respond() -> None:
    world = World()
    session, exchange = world.exchange()
    world.call.answer(MSGPACK, OK, b"hi")
    assert session.events == [("respond", 200, b"hi", False)]
    assert world.front.in_flight.count() == 1
    exchange.sent()
    assert world.front.in_flight.count() == 0
    assert world.front.in_flight.finished == 1
    assert world.call.cancelled is None


def test_a_streamed_answer_passes_piece_by_piece() -> None:
    world = World()
    session, _ = world.exchange()
    world.call.head(MSGPACK, OK, b"")
    world.call.data(b"1")
    world.call.data(b"2", more=False)
    assert session.events == [
        ("respond", 200, b"", True),
        ("send", b"1", True),
        ("send", b"2", False),
    ]


def test_json_heads_and_trailers() -> None:
    world = World()
    session, _ = world.exchange()
    world.call.head(CODEC_JSON, encode_head(CODEC_JSON, 201, [(b"trailer", b"x-t")]), b"a")
    world.call.head(CODEC_JSON, encode_trailers(CODEC_JSON, [(b"x-t", b"1")]), b"b", more=False)
    assert session.events == [
        ("respond", 201, b"a", True),
        ("send", b"b", True),
        ("trailers", [(b"x-t", b"1")]),
    ]


def test_interim_heads_pass_and_100_asks_for_the_content() -> None:
    world = World()
    session, _ = world.exchange()
    world.call.head(MSGPACK, encode_head(MSGPACK, 103, [(b"link", b"</a>")]))
    world.call.head(MSGPACK, encode_head(MSGPACK, 100, []))
    world.call.answer(MSGPACK, OK)
    assert session.words() == ["interim", "expect_continue", "respond"]


def test_a_client_that_does_not_take_holds_only_its_call() -> None:
    world = World()
    _, exchange = world.exchange()
    world.call.head(MSGPACK, OK, b"x")
    exchange.pause()
    assert world.call.paused
    exchange.resume()
    assert not world.call.paused


def test_trailers_that_cannot_be_sent_do_not_lose_the_answer() -> None:
    world = World()
    session, _ = world.exchange()
    world.call.head(MSGPACK, OK, b"a")
    session.raises = BadResponse("a name that is no token")
    world.call.head(MSGPACK, encode_trailers(MSGPACK, [(b"a b", b"1")]), more=False)
    assert session.events[-1] == ("send", b"", False)
    assert "trailers cannot be sent" in world.log("warn")[0]


@pytest.mark.parametrize("more", [True, False])
@pytest.mark.parametrize(
    ("codec", "context", "status", "body", "line"),
    [
        (MSGPACK, b"\xc1", 500, FAILED, "cannot be read"),
        (CODEC_JSON, b"[1]", 500, FAILED, "cannot be read"),
        (CODEC_GOB, b"x", 500, FAILED, "no known codec (flags 0x20)"),
        (MSGPACK, encode_head(MSGPACK, 99, []), 500, b"unknown status code from worker: 99\n", "99"),
        (MSGPACK, encode_head(MSGPACK, 600, []), 500, b"unknown status code from worker: 600\n", "600"),
        (MSGPACK, encode_head(MSGPACK, 101, []), 500, FAILED, "101"),
        (MSGPACK, encode_head(MSGPACK, 200, [(b"a b", b"")]), 500, FAILED, "cannot be sent"),
        (MSGPACK, encode_head(MSGPACK, 200, [(b"a", b"b\r\nc: d")]), 500, FAILED, "cannot be sent"),
    ],
)
def test_an_answer_that_cannot_be_sent_is_a_500_with_a_line(
    codec: int, context: bytes, status: int, body: bytes, line: str, more: bool
) -> None:
    world = World()
    session, exchange = world.exchange()
    world.call.head(codec, context, b"ignored", more=more)
    assert session.events == [("simple", status, body, {})]
    assert line in world.log("error")[0]
    assert (world.call.cancelled is not None) is more
    exchange.sent()
    assert world.front.in_flight.count() == 0


def test_content_that_contradicts_its_length_is_a_500_while_nothing_was_sent() -> None:
    world = World()
    session, _ = world.exchange()
    session.raises = BadResponse("1 bytes of content for a content-length of 5")
    world.call.answer(MSGPACK, OK, b"x")
    assert session.events == [("simple", 500, FAILED, {})]


@pytest.mark.parametrize(
    "act",
    [
        lambda call: call.data(b"x"),
        lambda call: call.message(b"x"),
        lambda call: (call.head(MSGPACK, OK), call.head(MSGPACK, OK)),
        lambda call: (call.head(MSGPACK, OK), call.head(MSGPACK, b"\xc1", more=False)),
    ],
)
def test_a_worker_that_breaks_the_protocol_is_reported_to_the_pool(act: Any) -> None:
    world = World()
    world.exchange()
    with pytest.raises(FrameError):
        act(world.call)


def test_a_call_that_ends_without_a_head_is_a_500() -> None:
    world = World()
    session, _ = world.exchange()
    world.call.data(b"", more=False)
    assert session.events == [("simple", 500, b"unknown status code from worker: 0\n", {})]


def test_an_interim_head_is_no_answer() -> None:
    world = World()
    session, _ = world.exchange()
    world.call.answer(MSGPACK, encode_head(MSGPACK, 103, []))
    assert session.events == [("simple", 500, FAILED, {})]


def test_answer_heads_are_kept_but_none_with_a_cookie() -> None:
    world = World()
    cookie = encode_head(MSGPACK, 200, [(b"Set-Cookie", b"secret")])
    for context in (OK, cookie):
        world.exchange()
        world.call.answer(MSGPACK, context)
    cache = world.front.answers.cache
    assert OK in cache.young
    assert cookie not in cache.young
    assert world.front.answers.head(MSGPACK, OK) is world.front.answers.head(MSGPACK, OK)


def test_equal_bytes_in_another_codec_are_another_answer() -> None:
    answers = World().front.answers
    assert answers.head(0, single(204)).status == 204
    assert answers.head(CODEC_JSON, single(204)).codec == CODEC_JSON


# -------------------------------------------------------------------------------- failures

FAILURES: list[tuple[PoolError, int, bytes, dict[bytes, bytes]]] = [
    (WorkerDied(7, "signal 9"), 502, b"the worker was lost\n", {}),
    (NoFreeWorker(1.0), 503, b"no worker is free\n", {b"retry-after": b"1", b"no-workers": b"true"}),
    (QueueFull(5), 503, b"too many requests are waiting\n", {b"retry-after": b"1"}),
    (Draining(), 503, b"the server is stopping\n", {b"retry-after": b"1"}),
    (Cancelled("drain"), 503, b"the server is stopping\n", {b"retry-after": b"1"}),
    (Cancelled("timeout"), 504, b"no answer in time\n", {}),
    (ExecTimeout(3), 504, b"no answer in time\n", {}),
    (ApplicationError("secret traceback"), 500, FAILED, {}),
]


@pytest.mark.parametrize(("error", "status", "body", "fields"), FAILURES)
def test_each_failure_has_its_own_status(
    error: PoolError, status: int, body: bytes, fields: dict[bytes, bytes]
) -> None:
    world = World()
    session, _ = world.exchange()
    world.call.fail(error)
    assert session.events == [("simple", status, body, fields)]


@pytest.mark.parametrize("error", [failure[0] for failure in FAILURES])
def test_after_the_head_the_connection_is_cut(error: PoolError) -> None:
    world = World()
    session, _ = world.exchange()
    world.call.head(MSGPACK, OK, b"part")
    world.call.fail(error)
    assert session.words() == ["respond", "cut"]
    assert world.front.in_flight.cut == 1


def test_debug_shows_the_text() -> None:
    world = World(pool=PoolSettings(debug=True))
    session, _ = world.exchange()
    world.call.fail(ApplicationError("boom <b>"))
    assert session.events == [("simple", 500, b"boom <b>\n", {})]


def test_internal_error_code_stands_for_the_application_only() -> None:
    world = World(internal_error_code=599)
    for error, status in ((ApplicationError("x"), 599), (WorkerDied(1, "x"), 502)):
        session, _ = world.exchange()
        world.call.fail(error)
        assert session.events[0][1] == status


def test_a_failure_is_one_line_and_overload_one_a_second() -> None:
    world = World().start()
    world.exchange(request("GET", b"/x?secret=1"))
    world.call.fail(WorkerDied(7, "signal 9"))
    assert world.log("error") == ["GET /x failed after 0.00 s: worker 7 died: signal 9"]
    for _ in range(100):
        world.exchange()
        world.call.fail(QueueFull(5))
    assert len(world.log("error", "warn")) == 1
    world.clock.advance(1)
    assert world.log("warn") == ["100 requests were turned away: QueueFull"]
    world.clock.advance(1)
    assert len(world.log("warn")) == 1


@pytest.mark.parametrize(
    ("reason", "told"), [("client", "client"), ("timeout", "timeout"), ("too large", "client")]
)
def test_a_client_that_is_gone_cancels_its_call(reason: str, told: str) -> None:
    world = World()
    session, exchange = world.exchange()
    exchange.lost(reason)
    assert world.call.cancelled == told
    assert world.front.in_flight.lost == 1
    assert session.events == []


def test_a_length_that_lies_is_cut_with_a_line() -> None:
    world = World()
    _, exchange = world.exchange()
    world.call.head(MSGPACK, OK, b"x")
    exchange.lost("length")
    assert world.call.cancelled
    assert world.front.in_flight.cut == 1
    assert "content-length" in world.log("error")[0]


def test_hurry_answers_503_where_nothing_was_sent_and_cuts_the_rest() -> None:
    world = World()
    waiting, _ = world.exchange()
    waiting.simple = (
        lambda *arguments: (  # type: ignore[method-assign]
            waiting.events.append(("simple", *arguments[:2])),
            waiting.exchange.sent(),
        )[0]
    )
    first = world.call
    started, _ = world.exchange()
    world.call.head(MSGPACK, OK, b"x")
    world.front.hurry()
    assert waiting.events == [("simple", 503, b"the server is stopping\n")]
    assert started.words() == ["respond", "cut"]
    assert (first.cancelled, world.call.cancelled) == ("deadline", "deadline")
    assert (world.front.in_flight.count(), world.front.in_flight.cut) == (0, 2)


# ------------------------------------------------------------------ one-call workers: requests


def finished(world: World) -> tuple[int, Any, bytes]:
    codec, context, body, length = world.call.call_head.spool().finish()
    data = body if isinstance(body, bytes) else body.read(length)
    assert len(data) == length
    return codec, decode_single_request(codec, context), data


def send(world: World, wanted: Any, *pieces: bytes) -> RecordingSession:
    session, exchange = world.exchange(wanted)
    for number, piece in enumerate(pieces):
        assert not world.pool.calls
        assert exchange.body(piece, number < len(pieces) - 1)
    return session


@pytest.mark.parametrize(("name", "codec"), [("json", CODEC_JSON), ("proto", CODEC_PROTO)])
def test_the_context_of_one_call_workers(name: str, codec: int) -> None:
    world = World(mux=False, codec=name)
    headers = [
        (b"host", b"example.org:81"),
        (b"x-forwarded-for", b"9.9.9.9"),
        (b"x-two", b"1"),
        (b"x-two", b"2"),
        (b"cookie", b'a=1; b=%20x+y; bad=%zz; a=2; q="quoted"; no"name=1'),
    ]
    world.exchange(request("GET", b"/p?q=%zz;1", headers))
    used, found, body = finished(world)
    assert used == codec
    assert body == b""
    assert found.remote_addr == "203.0.113.7"
    assert found.protocol == "HTTP/1.1"
    assert found.uri == "http://example.org:81/p?q=%zz;1"
    assert found.raw_query == "q=%zz;1"
    assert set(found.headers) == {"X-Forwarded-For", "X-Two", "Cookie"}
    assert found.headers["X-Two"] == [b"1", b"2"]
    assert {name: str(value) for name, value in found.cookies.items()} == {
        "a": "2",
        "b": " x y",
        "q": "quoted",
    }
    assert (found.parsed, found.uploads) == (False, None)


BYTES = st.binary(max_size=8) | st.text('ab=; "\\%+,é', max_size=12).map(str.encode)


@given(st.sampled_from((("json", CODEC_JSON), ("proto", CODEC_PROTO))), BYTES, BYTES, BYTES, BYTES)
def test_a_context_that_is_put_together_is_what_the_encoder_makes_of_the_whole(
    used: tuple[str, int], target: bytes, cookie: bytes, more: bytes, value: bytes
) -> None:
    host = b"h\xc3" if value[:1] == b"a" else b"h"
    world = World(mux=False, codec=used[0])
    headers = [
        (b"host", host),
        (b"cookie", b"a=1; b_=c-d.e; " + cookie),
        (b"x-v", value),
        (b"cookie", more),
    ]
    for fields in (headers, headers[:3], headers[:1]):
        world.exchange(request("GET", b"/" + target, fields))
        head = world.call.call_head
        derived = head.derived()
        path = "/" + target.decode("latin-1")
        whole = HttpRequest(
            "203.0.113.7",
            "HTTP/1.1",
            "GET",
            f"http://{host.decode('latin-1')}{path}",
            derived.canonical(),
            derived.cookies(),
            path.partition("?")[2],
        )
        assert head.spool().finish()[1] == encode_single_request(used[1], whole)


def test_the_json_context_has_the_keys_of_roadrunner() -> None:
    world = World(mux=False)
    world.exchange(request(headers=[(b"host", b"h"), (b"x-l", b"\xe9")]))
    _, context, _, _ = world.call.call_head.spool().finish()
    assert json.loads(context) == {
        "remoteAddr": "203.0.113.7",
        "protocol": "HTTP/1.1",
        "method": "GET",
        "uri": "http://h/path?q=1",
        "headers": {"X-L": ["é"]},
        "cookies": {},
        "rawQuery": "q=1",
        "parsed": False,
        "uploads": None,
        "attributes": {},
    }


def test_raw_content_waits_for_its_end_before_a_worker_is_asked() -> None:
    world = World(mux=False)
    session = send(world, request("POST", length=6), b"abc", b"", b"def")
    assert world.call.complete
    assert finished(world)[2] == b"abcdef"
    assert session.words() == ["expect_continue"]


def test_big_content_lies_in_a_file_and_reads_the_same_twice(tmp_path: Path) -> None:
    world = World(mux=False)
    piece = bytes(range(256)) * 256
    send(world, request("PUT", length=-1), *[piece] * 8)
    first = finished(world)[2]
    assert first == piece * 8
    assert finished(world)[2] == first
    assert not isinstance(world.call.call_head.spool().finish()[2], bytes)


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
def test_content_of_head_and_options_is_not_read(method: str) -> None:
    world = World(mux=False)
    session, exchange = world.exchange(request(method, length=5))
    assert world.call.complete
    assert exchange.body(b"hello", False)
    assert finished(world)[2] == b""
    assert session.events == []


FORM = [(b"host", b"h"), (b"content-type", b"application/x-www-form-urlencoded; charset=utf-8")]


def test_a_form_becomes_a_tree() -> None:
    world = World(mux=False)
    send(world, request("POST", headers=FORM, length=9), b"a[]=1", b"&b=2")
    _, found, body = finished(world)
    assert (found.parsed, found.uploads, body) == (True, None, b'{"a":["1"],"b":"2"}')


def test_an_empty_form_is_an_empty_tree() -> None:
    world = World(mux=False)
    world.exchange(request("POST", headers=FORM))
    _, found, body = finished(world)
    assert (found.parsed, body) == (True, b"{}")


def test_a_form_by_get_or_delete_is_lost() -> None:
    world = World(mux=False)
    _, exchange = world.exchange(request("DELETE", headers=FORM, length=3))
    exchange.body(b"a=1", False)
    _, found, body = finished(world)
    assert (found.parsed, body) == (True, b"{}")


def test_raw_body_leaves_forms_alone() -> None:
    world = World(mux=False, raw_body=True)
    send(world, request("POST", headers=FORM, length=3), b"a=1")
    _, found, body = finished(world)
    assert (found.parsed, body) == (False, b"a=1")


def test_mux_workers_get_forms_as_they_are() -> None:
    world = World()
    _, exchange = world.exchange(request("POST", headers=FORM, length=3))
    exchange.body(b"a=1", False)
    assert world.call.body == b"a=1"


@pytest.mark.parametrize(
    ("target", "content", "status"),
    [(b"/?a=%zz", b"a=1", 400), (b"/?a;b", b"a=1", 400), (b"/", b"a=%zz", 400), (b"/", b"a=1&a[b]=2", 400)],
)
def test_a_broken_form_is_a_400_and_reaches_no_worker(target: bytes, content: bytes, status: int) -> None:
    world = World(mux=False)
    session, exchange = world.exchange(request("POST", target, FORM, len(content)))
    exchange.body(content, False)
    assert session.events[-1][:2] == ("simple", status)
    assert session.events[-1][2]
    assert not world.pool.calls
    exchange.sent()
    assert world.front.in_flight.count() == 0
    assert not world.log("error", "warn")


def test_a_form_above_its_limit_is_a_413_and_the_rest_of_it_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(forms, "MAX_FORM", 10)
    world = World(mux=False)
    session, exchange = world.exchange(request("POST", headers=FORM, length=-1))
    for _ in range(4):
        assert exchange.body(b"a=12345&", True)
    assert [event[1] for event in session.events if event[0] == "simple"] == [413]


def test_content_that_cannot_be_stored_is_a_507() -> None:
    world = World(mux=False)
    session, exchange = world.exchange(request("POST", length=-1))

    class Full:
        def write(self, data: bytes) -> None:
            raise OSError(28, "No space left on device")

        def close(self) -> None: ...

    exchange._collecting._bytes = Full()
    exchange.body(b"x", True)
    assert session.events[-1][:2] == ("simple", 507)
    assert "No space left" in world.log("error")[0]


# ----------------------------------------------------------------- one-call workers: multipart

MULTIPART = [(b"host", b"h"), (b"content-type", b"multipart/form-data; boundary=B")]
PARTS = (
    b'--B\r\nContent-Disposition: form-data; name="a[x]"\r\n\r\n1\r\n'
    b'--B\r\nContent-Disposition: form-data; name="f"; filename="n.txt"\r\nContent-Type: t/p\r\n\r\nfile\r\n'
    b"--B--\r\n"
)


def multipart_world(tmp_path: Path) -> World:
    return World(mux=False, uploads=UploadPolicy(str(tmp_path)))


def test_a_multipart_form_becomes_two_trees_and_its_files_go_after_the_answer(tmp_path: Path) -> None:
    world = multipart_world(tmp_path)
    send(world, request("POST", headers=MULTIPART, length=-1), *[bytes([byte]) for byte in PARTS])
    _, found, body = finished(world)
    leaf = json.loads(found.uploads)["f"]
    assert (found.parsed, body) == (True, b'{"a":{"x":"1"}}')
    assert (leaf["name"], leaf["mime"], leaf["size"], leaf["error"]) == ("n.txt", "t/p", 4, 0)
    assert Path(leaf["tmpName"]).read_bytes() == b"file"
    world.call.answer(0, single())
    assert len(list(tmp_path.iterdir())) == 1
    world.call.call_head.spool().close()
    assert not list(tmp_path.iterdir())


def test_a_multipart_form_without_files_has_an_empty_tree_of_uploads(tmp_path: Path) -> None:
    world = multipart_world(tmp_path)
    send(world, request("POST", headers=MULTIPART, length=-1), PARTS.split(b"\r\n--B")[0] + b"\r\n--B--")
    _, found, _ = finished(world)
    assert found.uploads == b"{}"


@pytest.mark.parametrize("ending", ["lost", "refused by the pool", "broken"])
def test_files_never_outlive_an_exchange_that_got_no_worker(tmp_path: Path, ending: str) -> None:
    world = multipart_world(tmp_path)
    session, exchange = world.exchange(request("POST", headers=MULTIPART, length=-1))
    exchange.body(PARTS[:-6], True)
    assert len(list(tmp_path.iterdir())) == 1
    if ending == "lost":
        exchange.lost("client")
    elif ending == "broken":
        exchange.body(b"", False)
        assert session.events[-1][1] == 400
        exchange.sent()
    else:
        exchange.body(PARTS[-6:], False)
        world.call.fail(QueueFull(1))
        exchange.sent()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content_type", "length"), [(b"multipart/form-data", 5), (b"multipart/form-data; boundary=B", 0)]
)
def test_multipart_without_boundary_or_content_is_a_400(content_type: bytes, length: int) -> None:
    world = World(mux=False)
    session, exchange = world.exchange(
        request("POST", headers=[(b"content-type", content_type)], length=length)
    )
    assert session.events[-1][:2] == ("simple", 400)
    assert exchange.body(b"hello", False)
    assert not world.pool.calls


# ------------------------------------------------------------------- one-call workers: answers


@pytest.mark.parametrize(
    ("codec", "context"),
    [
        (0, single(201)),
        (CODEC_JSON, single(201)),
        (CODEC_PROTO, encode_single_response(CODEC_PROTO, 201, [])),
    ],
)
def test_answers_of_either_codec_and_of_none(codec: int, context: bytes) -> None:
    world = World(mux=False)
    session, _ = world.exchange()
    world.call.answer(codec, context, b"x")
    assert session.events == [("respond", 201, b"x", False)]


@pytest.mark.parametrize(
    ("codec", "context", "body"),
    [
        (CODEC_GOB, b"x", FAILED),
        (0, b"not json", FAILED),
        (CODEC_PROTO, b"\xff", FAILED),
        (0, single(0), b"unknown status code from worker: 0\n"),
        (0, single(1000), b"unknown status code from worker: 1000\n"),
    ],
)
def test_what_a_one_call_worker_says_wrong_is_a_500(codec: int, context: bytes, body: bytes) -> None:
    world = World(mux=False)
    session, _ = world.exchange()
    world.call.answer(codec, context, b"x")
    assert session.events == [("simple", 500, body, {})]
    assert world.log("error")


def test_an_answer_without_a_context_has_status_0() -> None:
    world = World(mux=False)
    session, _ = world.exchange()
    world.call.data(b"x", more=False)
    assert session.events == [("simple", 500, b"unknown status code from worker: 0\n", {})]


def test_the_trailer_header_moves_fields_behind_the_content() -> None:
    world = World(mux=False)
    session, _ = world.exchange()
    headers = [(b"Trailer", b"X-A, x-b"), (b"X-A", b"1"), (b"X-B", b"2"), (b"X-C", b"3")]
    world.call.answer(0, single(200, headers), b"x")
    assert session.events == [
        ("respond", 200, b"x", True),
        ("trailers", [(b"X-A", b"1"), (b"X-B", b"2")]),
    ]


def test_the_trailer_header_of_a_stream() -> None:
    world = World(mux=False)
    session, _ = world.exchange()
    world.call.head(0, single(200, [(b"Trailer", b"X-A"), (b"X-A", b"1")]), b"x")
    world.call.data(b"y", more=False)
    assert session.events == [
        ("respond", 200, b"x", True),
        ("send", b"y", True),
        ("trailers", [(b"X-A", b"1")]),
    ]


def test_a_repeated_context_in_a_stream_is_only_content() -> None:
    world = World(mux=False)
    session, _ = world.exchange()
    world.call.head(0, single(200), b"a")
    world.call.head(0, single(404), b"b")
    world.call.data(b"", more=False)
    assert session.events == [
        ("respond", 200, b"a", True),
        ("send", b"b", True),
        ("send", b"", False),
    ]


def test_an_early_hint_of_a_one_call_worker_passes_without_its_body() -> None:
    world = World(mux=False)
    session, _ = world.exchange()
    world.call.head(0, single(103, [(b"Link", b"</a>")]), b"dropped")
    world.call.answer(0, single(404), b"x")
    assert session.events == [("interim", 103), ("respond", 404, b"x", False)]


# ------------------------------------------------------------------------------ access log


def test_the_access_log_is_off_without_its_key() -> None:
    world = World()
    _, exchange = world.exchange()
    world.call.answer(MSGPACK, OK, b"hi")
    exchange.sent()
    assert not world.host.logs.get("access")


def test_the_access_log_has_one_line_for_each_exchange() -> None:
    world = World(access_logs=True)
    headers = [(b"host", b"h"), (b"user-agent", b"curl/8")]
    _, exchange = world.exchange(request("GET", b"/p?secret", headers))
    world.call.head(MSGPACK, OK, b"hi")
    world.clock.advance(0.25)
    world.call.data(b"yo", more=False)
    exchange.sent()
    _, exchange = world.exchange(request("HEAD", b"/h", headers))
    world.call.answer(MSGPACK, OK, b"hi")
    exchange.sent()
    _, exchange = world.exchange(request())
    exchange.lost("client")
    assert world.host.log("access").lines() == [
        "203.0.113.7 GET /p 200 4 0.250 curl/8",
        "203.0.113.7 HEAD /h 200 0 0.000 curl/8",
        "203.0.113.7 GET /path 499 0 0.000 - (incomplete)",
    ]


def test_the_access_log_has_the_status_that_the_session_gave_to_bad_content() -> None:
    world = World(access_logs=True).start()
    transport = world.connect()
    transport.send(b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
    assert transport.out.startswith(b"HTTP/1.1 400 ")
    assert world.host.log("access").lines() == [
        "203.0.113.7 refused 400 a malformed chunk size",
        "203.0.113.7 POST /x 400 0 0.000 - (incomplete)",
    ]


def test_the_access_log_has_the_status_that_the_session_gave_to_trailers_that_are_too_large() -> None:
    world = World(access_logs=True).start()
    transport = world.connect()
    transport.send(b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
    transport.send(b"X: a\r\n" * 1000 + b"\r\n")
    assert transport.out.startswith(b"HTTP/1.1 431 ")
    assert world.host.log("access").lines() == [
        "203.0.113.7 refused 431 too many trailer fields",
        "203.0.113.7 POST /x 431 0 0.000 - (incomplete)",
    ]


def test_a_client_that_leaves_with_the_head_it_asked_for_has_had_everything() -> None:
    """An application that streams is not done then; curl -I does not wait for it."""
    world = World(access_logs=True)
    _, exchange = world.exchange(request("HEAD"))
    world.call.head(MSGPACK, OK, b"hi")
    exchange.lost("client")
    assert world.call.cancelled == "client"
    assert (world.front.in_flight.finished, world.front.in_flight.lost) == (1, 0)
    assert world.host.log("access").lines() == ["203.0.113.7 HEAD /path 200 0 0.000 -"]


def test_what_is_refused_before_it_is_a_request_has_a_line_too() -> None:
    world = World(access_logs=True).start()
    world.connect().send(b"GET /x\r\n\r\n")
    world.connect(UNIX).send(b"GET / HTTP/2.0\r\n\r\n")
    assert world.host.log("access").lines() == [
        "203.0.113.7 refused 400 a malformed request line",
        "unix refused 505 a protocol version other than 1.x",
    ]


def test_a_websocket_is_told_once_and_stays_a_request() -> None:
    from twisted_rr.http1.head import UPGRADING

    world = World()
    for upgrade in (b"h2c", b"WebSocket", b"websocket"):
        wanted = request()
        wanted.head.upgrade = upgrade
        wanted.head.options = UPGRADING
        world.exchange(wanted)
        assert world.call is not None
    [told] = world.log("warn")
    assert "asks for a WebSocket" in told and "/path" in told
