"""What a browser is shown in dev mode: escaped, complete, and only where nothing else has left."""

from __future__ import annotations

import asyncio

import pytest

from twisted_rr.worker import devpage


def failure(value="<script>alert(1)</script>", password="hunter2"):
    try:
        raise ValueError(f"bad {value}")
    except ValueError as error:
        return error


def run_asgi(application, accept=b"text/html", method="GET"):
    sent = []
    raised = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "method": method, "path": "/x<y>", "headers": [(b"accept", accept)]}

    async def main():
        try:
            await application(scope, receive, send)
        except Exception as error:
            raised.append(error)

    asyncio.run(main())
    return sent, raised


def run_wsgi(application, accept="text/html"):
    started = []

    def start_response(status, headers, exc_info=None):
        started.append((status, dict(headers)))

    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/x<y>", "HTTP_ACCEPT": accept}
    return started, b"".join(application(environ, start_response))


@pytest.mark.parametrize(
    "accept, html",
    [
        (b"text/html,application/xhtml+xml,*/*;q=0.8", True),
        (b"application/xhtml+xml", True),
        (b"TEXT/HTML;q=0.5", True),
        (b"text/html;q=0, */*", False),
        (b"*/*", False),
        (b"application/json", False),
        (b"", False),
    ],
)
def test_only_who_asks_for_html_gets_it(accept, html):
    assert devpage.wants_html(accept) is html
    fields, body = devpage.answer(failure(), "it failed", accept)
    assert dict(fields)[b"content-type"].startswith(b"text/html" if html else b"text/plain")
    assert dict(fields)[b"content-length"] == str(len(body)).encode()
    assert body.startswith(b"<!doctype html>") is html


def test_everything_on_the_page_is_escaped_and_secrets_are_left_out():
    page = devpage.page(failure(), "GET /<b>")
    assert "<script>" not in page and "<b>" not in page
    assert "bad &lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "GET /&lt;b&gt;" in page
    assert "hunter2" not in page.partition("<h2>As text")[0].partition("Variables")[2]
    assert "(not shown)" in page


def test_the_line_that_failed_is_marked_with_the_lines_around_it():
    page = devpage.page(failure(), "")
    marked = page.partition("<span class=hit>")[2].partition("</span>")[0]
    assert "raise ValueError(f&quot;bad {value}&quot;)" in marked
    assert "except ValueError as error:" in page


def test_what_led_to_an_error_is_shown_below_it():
    def chained():
        try:
            raise KeyError("first")
        except KeyError as error:
            raise RuntimeError("second") from error

    try:
        chained()
    except RuntimeError as error:
        page = devpage.page(error, "")
    assert page.index("RuntimeError") < page.index("caused by KeyError")


def test_a_syntax_error_shows_its_line(tmp_path):
    file = tmp_path / "broken.py"
    file.write_text("good = 1\ndef f(:\n    pass\n")
    try:
        compile(file.read_text(), str(file), "exec")
    except SyntaxError as error:
        page = devpage.page(error, "")
    assert "<span class=hit>    2  def f(:</span>" in page


def test_errors_and_values_that_cannot_be_printed_do_no_harm():
    class Nasty(Exception):
        def __str__(self):
            raise RuntimeError("no")

    class Value:
        def __repr__(self):
            raise RuntimeError("no")

    def fail(value, text):
        raise Nasty

    try:
        fail(Value(), "lone surrogate \udcff")
    except Nasty as error:
        page = devpage.page(error, "")
    assert "(it cannot be printed)" in page and "(its repr failed: RuntimeError)" in page


def test_deep_recursion_is_cut():
    def deep():
        deep()

    try:
        deep()
    except RecursionError as error:
        page = devpage.page(error, "")
    assert "frames are not shown" in page
    assert page.count("<section>") < 70


# ------------------------------------------------------------------ around applications


def test_an_asgi_application_that_raises_is_shown_and_raises_to_the_log():
    async def application(scope, receive, send):
        raise failure()

    sent, raised = run_asgi(devpage.ShownAsgi(application))
    assert sent[0]["status"] == 500
    assert b"ValueError" in sent[1]["body"] and b"GET /x&lt;y&gt;" in sent[1]["body"]
    assert isinstance(raised[0], ValueError)


def test_a_frameworks_own_500_gives_way_to_the_traceback_it_raises_afterwards():
    async def application(scope, receive, send):
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body", "body": b"Internal Server Error"})
        raise failure()

    sent, _ = run_asgi(devpage.ShownAsgi(application), accept=b"*/*")
    assert len(sent) == 2
    assert b"Internal Server Error" not in sent[1]["body"] and b"ValueError: bad" in sent[1]["body"]


@pytest.mark.parametrize("more", [[], [False], [True, False]])
def test_an_answer_of_500_without_an_error_passes_as_it_is(more):
    messages = [{"type": "http.response.start", "status": 500, "headers": []}]
    messages += [{"type": "http.response.body", "body": b"x", "more_body": each} for each in more]

    async def application(scope, receive, send):
        for message in messages:
            await send(message)

    assert run_asgi(devpage.ShownAsgi(application)) == (messages, [])


def test_what_has_left_already_is_not_followed_by_a_page():
    async def application(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise failure()

    sent, raised = run_asgi(devpage.ShownAsgi(application))
    assert [message["type"] for message in sent] == ["http.response.start"]
    assert len(raised) == 1


def test_a_lifespan_is_left_alone():
    seen = []

    async def application(scope, receive, send):
        seen.append((scope, receive, send))

    asyncio.run(devpage.ShownAsgi(application)({"type": "lifespan"}, 1, 2))
    assert seen == [({"type": "lifespan"}, 1, 2)]


def test_a_wsgi_application_that_raises_is_shown(capsys):
    def application(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        raise failure()

    started, body = run_wsgi(devpage.ShownWsgi(application))
    assert started[-1][0] == "500 Internal Server Error"
    assert started[-1][1]["content-type"].startswith("text/html")
    assert b"GET /x&lt;y&gt;" in body
    assert "The WSGI application failed in GET /x<y>" in capsys.readouterr().err


def test_a_wsgi_answer_passes_and_is_closed():
    closed = []

    class Result(list):
        def close(self):
            closed.append(True)

    def application(environ, start_response):
        start_response("200 OK", [])
        return Result([b"a", b"", b"b"])

    assert run_wsgi(devpage.ShownWsgi(application)) == ([("200 OK", {})], b"ab")
    assert closed == [True]


def test_a_wsgi_failure_after_a_piece_is_not_shown():
    def application(environ, start_response):
        start_response("200 OK", [])
        yield b"a"
        raise failure()

    with pytest.raises(ValueError):
        run_wsgi(devpage.ShownWsgi(application))


def test_in_the_place_of_an_application_stands_why_there_is_none():
    sent, raised = run_asgi(devpage.Broken(ImportError("no module x"), "cannot load it"), accept=b"*/*")
    assert sent[0]["status"] == 500 and b"ImportError: no module x" in sent[1]["body"]
    assert raised == []


def test_grpc_services_are_not_wrapped():
    services = object()
    assert devpage.shown(services, "grpc") is services
