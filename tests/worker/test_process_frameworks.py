"""Applications of the frameworks people use, in worker processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from worker_rig import MuxRelay

Mux = Callable[..., MuxRelay]

FASTAPI = """
from contextlib import asynccontextmanager
from fastapi import BackgroundTasks, FastAPI, Request, UploadFile
from fastapi.responses import StreamingResponse
import sys

@asynccontextmanager
async def lifespan(app):
    print("up", file=sys.stderr)
    yield {"db": "open"}
    print("down", file=sys.stderr)

app = FastAPI(lifespan=lifespan)

@app.middleware("http")
async def add_header(request, call_next):
    response = await call_next(request)
    response.headers["x-middleware"] = "yes"
    return response

@app.get("/items/{number}")
async def item(number: int, request: Request, tasks: BackgroundTasks):
    tasks.add_task(print, "in the background", file=sys.stderr)
    return {"number": number, "db": request.state.db, "client": request.client.host}

@app.get("/sync")
def sync():
    return "from a thread"

@app.post("/upload")
async def upload(file: UploadFile):
    return {"name": file.filename, "size": len(await file.read())}

@app.get("/stream")
async def stream(request: Request):
    async def pieces():
        try:
            for number in range(1000000):
                yield b"%d;" % number * 1000
        finally:
            print("stream is over", file=sys.stderr)
    return StreamingResponse(pieces())
"""

FLASK = """
from flask import Flask, request, stream_with_context
app = Flask(__name__)

@app.route("/hello/<name>")
def hello(name):
    return f"hello {name} {request.args['q']} {request.remote_addr}"

@app.post("/form")
def form():
    file = request.files["file"]
    return {"title": request.form["title"], "size": len(file.read())}

@app.get("/stream")
def stream():
    return app.response_class(stream_with_context(str(n) for n in range(5)))
"""

DJANGO = """
import os, django
from django.conf import settings
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

settings.configure(SECRET_KEY="x", ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__,
                   MIDDLEWARE=["django.middleware.common.CommonMiddleware"])

def hello(request, name):
    return HttpResponse(f"hello {name} {request.GET['q']} {request.META['REMOTE_ADDR']}")

def form(request):
    return JsonResponse({"title": request.POST["title"], "size": request.FILES["file"].size})

urlpatterns = [path("hello/<name>", hello), path("form", form)]

from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
wsgi = get_wsgi_application()
asgi = get_asgi_application()
"""

BOUNDARY = b"limit"
FORM = (
    b'--limit\r\nContent-Disposition: form-data; name="title"\r\n\r\ntitle\r\n'
    b'--limit\r\nContent-Disposition: form-data; name="file"; filename="f.bin"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\n" + b"x" * 300_000 + b"\r\n--limit--\r\n"
)


def post(relay: MuxRelay, path: str) -> bytes:
    headers = [
        (b"content-type", b"multipart/form-data; boundary=limit"), (b"content-length", b"%d" % len(FORM)),
    ]  # fmt: skip
    answer = relay.open(path, FORM[:100], more=True, method="POST", headers=headers)
    for start in range(100, len(FORM), 10_000):
        answer.call.send(FORM[start : start + 10_000], True)
    answer.call.send(b"", False)
    answer.wait()
    assert answer.status == 200, answer.body
    return answer.body


@pytest.fixture
def site(mux: Mux, tmp_path: Path) -> Callable[..., MuxRelay]:
    def begin(source: str, *arguments: str) -> MuxRelay:
        (tmp_path / "site_module.py").write_text(source)
        return mux(*arguments, cwd=tmp_path)

    return begin


def test_fastapi(site: Callable[..., MuxRelay]) -> None:
    relay = site(FASTAPI, "site_module:app")
    answer = relay.get("/items/7")
    assert answer.body == b'{"number":7,"db":"open","client":"192.0.2.7"}'
    assert answer.headers["x-middleware"] == "yes"
    assert relay.get("/items/x").status == 422
    assert relay.get("/sync").body == b'"from a thread"'
    assert post(relay, "/upload") == b'{"name":"f.bin","size":300000}'
    stream = relay.open("/stream")
    relay.until(lambda: len(stream.body) > 10_000)
    stream.call.cancel("client")
    relay.until(lambda: relay.end.load == 0)
    assert relay.process.stop() == 0
    # When the generator is finalized is Starlette's and the garbage collector's affair.
    assert sorted(relay.process.stderr.splitlines()) == ["down", "in the background", "stream is over", "up"]


def test_flask(site: Callable[..., MuxRelay]) -> None:
    relay = site(FLASK, "--threads", "2", "site_module:app")
    answer = relay.get("/hello/world?q=1")
    assert (answer.status, answer.body) == (200, b"hello world 1 192.0.2.7")
    assert len(answer.pieces) == 1
    assert relay.get("/nowhere").status == 404
    assert b'"size":300000' in post(relay, "/form")
    assert relay.get("/stream").body == b"01234"
    assert relay.process.stop() == 0


@pytest.mark.parametrize("interface", ["wsgi", "asgi"])
def test_django(site: Callable[..., MuxRelay], interface: str) -> None:
    relay = site(DJANGO, f"site_module:{interface}")
    assert relay.get("/hello/world?q=1").body == b"hello world 1 192.0.2.7"
    assert b'"size": 300000' in post(relay, "/form")
    assert relay.get("/nowhere").status == 404
    assert relay.process.stop() == 0
    assert "Traceback" not in relay.process.stderr


def test_an_asgi_2_application_can_be_wrapped_with_asgiref(site: Callable[..., MuxRelay]) -> None:
    source = (
        "from asgiref.compatibility import guarantee_single_callable\n"
        "class Old:\n"
        "    def __init__(self, scope): self.scope = scope\n"
        "    async def __call__(self, receive, send):\n"
        "        await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "        await send({'type': 'http.response.body', 'body': self.scope['method'].encode()})\n"
        "app = guarantee_single_callable(Old)\n"
    )
    assert site(source, "site_module:app").get("/").body == b"GET"


def test_a_wsgi_application_in_asgirefs_adapter(site: Callable[..., MuxRelay]) -> None:
    source = (
        "from asgiref.wsgi import WsgiToAsgi\n"
        "def old(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Type', 'text/plain')])\n"
        "    return [environ['PATH_INFO'].encode()]\n"
        "app = WsgiToAsgi(old)\n"
    )
    relay = site(source, "site_module:app")
    answers = [relay.open(f"/{number}") for number in range(20)]
    assert [answer.wait().body for answer in answers] == [b"/%d" % number for number in range(20)]
