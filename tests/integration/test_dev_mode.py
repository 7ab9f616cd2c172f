"""Dev mode as a person meets it: a page with the traceback, also for what cannot be imported, until it is mended."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import contextmanager

import pytest
from rig import BIN, free_port, until

pytest.importorskip("watchfiles")
pytestmark = pytest.mark.integration

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}

ASGI = """
{first}
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        {startup}
        raise RuntimeError("no lifespan")
    if scope["path"] == "/fail":
        secret_token = "s3cr3t"
        user = "<Smith & Sons>"
        raise ValueError("no such user: " + user)
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": b"it works"}})
"""

WSGI = """
def app(environ, start_response):
    if environ["PATH_INFO"] == "/fail":
        return 1 / 0
    start_response("200 OK", [])
    return [b"it works"]
"""


def asgi(first="", startup="pass"):
    return ASGI.format(first=first, startup=startup)


class Served:
    def __init__(self, port, folder):
        self.port = port
        self.folder = folder

    def get(self, path="/", headers=BROWSER):
        import http.client

        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.getheader("Content-Type", ""), answer.read().decode()
        except OSError:
            return 0, "", ""
        finally:
            connection.close()

    def write(self, text):
        (self.folder / "myapp.py").write_text(text)


@contextmanager
def serving(folder, text, *options, env=None):
    served = Served(free_port(), folder)
    served.write(text)
    command = [str(BIN / "twisted-rr"), "serve", "myapp:app", "--port", str(served.port), "--workers", "1"]
    command += ["--status", "127.0.0.1:0", *options]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **(env or {})},
        )
    try:
        until(lambda: process.poll() is not None or served.get()[0], 30, 0.05)
        yield served
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(30)


@pytest.mark.parametrize("text, error", [(asgi(), "ValueError"), (WSGI, "ZeroDivisionError")])
def test_a_failure_is_a_page_for_browsers_and_text_for_others(tmp_path, text, error):
    with serving(tmp_path, text, "--reload") as served:
        status, kind, body = served.get("/fail")
        assert (status, kind) == (500, "text/html; charset=utf-8")
        assert f"<h1>{error}</h1>" in body and "myapp.py" in body
        assert "<Smith" not in body
        status, kind, body = served.get("/fail", {"Accept": "*/*"})
        assert (status, kind) == (500, "text/plain; charset=utf-8")
        assert "Traceback (most recent call last):" in body and error in body
        assert served.get("/")[2] == "it works"
    log = (tmp_path / "server.log").read_text()
    assert error in log  # the log has it as ever


@pytest.mark.parametrize("text", [asgi(), WSGI])
def test_no_traceback_leaves_a_server_that_does_not_reload(tmp_path, text):
    with serving(tmp_path, text, env={"RR_DEV": "1"}) as served:
        for headers in (BROWSER, {}):
            status, _, body = served.get("/fail", headers)
            assert status == 500
            assert "Traceback" not in body and "Error" not in body and "myapp" not in body


@pytest.mark.parametrize(
    "broken, shown",
    [
        (asgi(first="import no_such_module"), "no_such_module"),
        ("def app(:\n", "SyntaxError"),
        (
            asgi(
                startup='await receive(); await send({"type": "lifespan.startup.failed", "message": "no database"}); return'
            ),
            "no database",
        ),
    ],
    ids=["import", "syntax", "startup"],
)
def test_what_cannot_be_started_is_shown_until_it_is_mended(tmp_path, broken, shown):
    with serving(tmp_path, broken, "--reload") as served:
        status, kind, body = served.get()
        assert (status, kind) == (500, "text/html; charset=utf-8") and shown in body
        time.sleep(1.1)  # a file's time in its compiled form has whole seconds
        served.write(asgi())
        until(lambda: served.get()[2] == "it works", 20, 0.1, "the mended application was not loaded")
        time.sleep(1.1)
        served.write(broken)
        until(lambda: shown in served.get()[2], 20, 0.1, "the broken application is not shown")


def test_a_broken_application_is_no_server_outside_of_dev_mode(tmp_path):
    with serving(tmp_path, "import no_such_module") as served:
        assert served.get()[0] == 0
