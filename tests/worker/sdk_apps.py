"""Applications for the worker tests."""

from __future__ import annotations

import asyncio
import contextvars
import os
import subprocess
import sys
import threading
import time
from typing import Any
from wsgiref.validate import validator

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="none")
started: contextvars.ContextVar[str] = contextvars.ContextVar("started", default="not started")

# ------------------------------------------------------------------------------------- ASGI


async def answer(send: Any, body: bytes, status: int = 200, headers: Any = ()) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(b"content-type", b"text/plain"), *headers],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def read_all(receive: Any) -> bytes:
    body = b""
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            return body
        body += event["body"]
        if not event["more_body"]:
            return body


async def hello(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    await answer(send, b"hello")


class Site:
    """An ASGI application with a path for each rule."""

    def __init__(self) -> None:
        self.log = sys.stderr

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.lifespan(scope, receive, send)
            return
        name = scope["path"].strip("/").partition("/")[0] or "index"
        await getattr(self, "do_" + name)(scope, receive, send)

    async def lifespan(self, scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "lifespan.startup"
        scope["state"]["made"] = "at startup"
        started.set("by lifespan")
        await send({"type": "lifespan.startup.complete"})
        assert (await receive())["type"] == "lifespan.shutdown"
        print("shutting down", file=self.log)
        await send({"type": "lifespan.shutdown.complete"})

    async def do_index(self, scope: Any, receive: Any, send: Any) -> None:
        await answer(send, b"hello")

    async def do_scope(self, scope: Any, receive: Any, send: Any) -> None:
        shown = {name: value for name, value in scope.items() if name != "state"}
        await answer(send, repr(shown).encode())

    async def do_state(self, scope: Any, receive: Any, send: Any) -> None:
        scope["state"].setdefault("count", 0)
        scope["state"]["count"] += 1
        made, count = scope["state"]["made"], scope["state"]["count"]
        await answer(send, f"{made} {count} {started.get()} {request_id.get()}".encode())
        request_id.set("leaked")

    async def do_echo(self, scope: Any, receive: Any, send: Any) -> None:
        await answer(send, await read_all(receive))

    async def do_count(self, scope: Any, receive: Any, send: Any) -> None:
        events = 0
        size = 0
        more = True
        while more:
            event = await receive()
            events += 1
            size += len(event["body"])
            more = event["more_body"]
        await answer(send, f"{size} {events > 1}".encode())

    async def do_stream(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(3):
            await send({"type": "http.response.body", "body": b"%d;" % number, "more_body": True})
        await receive()  # the last piece waits for the caller
        await send({"type": "http.response.body", "body": b"end"})

    async def do_big(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 10_000_000, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def do_endless(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        sent = 0
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
                sent += 65536
                self.sent = sent
                await asyncio.sleep(0)
        finally:
            print("endless is over", file=self.log)

    async def do_busy(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})

    async def do_sent(self, scope: Any, receive: Any, send: Any) -> None:
        await answer(send, str(self.sent).encode())

    async def do_wait(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"waiting", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        print("disconnected", file=self.log)
        await send({"type": "http.response.body", "body": b"to nobody", "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        print("sent to nobody", file=self.log)

    async def do_slow(self, scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.3)
        await answer(send, b"slow")

    async def do_boom(self, scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("boom goes the handler")

    async def do_fork(self, scope: Any, receive: Any, send: Any) -> None:
        """The child comes back to the SDK, in the way that the query names."""
        pid = os.fork()
        if pid == 0:
            if scope["query_string"] == b"raise":
                raise ValueError("in the child")
            if scope["query_string"] == b"exit":
                sys.exit(9)
            return
        _, status = os.waitpid(pid, 0)
        await answer(send, b"the child ended with %d" % os.waitstatus_to_exitcode(status))

    async def do_exit(self, scope: Any, receive: Any, send: Any) -> None:
        sys.exit(7)

    async def do_late(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ValueError("boom in the middle")

    async def do_nothing(self, scope: Any, receive: Any, send: Any) -> None:
        """No answer at all."""

    async def do_trailers(self, scope: Any, receive: Any, send: Any) -> None:
        assert "http.response.trailers" in scope["extensions"]
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"trailer", b"x-sum")],
                "trailers": True,
            }
        )
        await send({"type": "http.response.body", "body": b"body"})
        await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"1")], "more_trailers": True})
        await send({"type": "http.response.trailers", "headers": [(b"x-more", b"2")]})

    async def do_group(self, scope: Any, receive: Any, send: Any) -> None:
        import anyio

        results: list[int] = []

        async def work(number: int) -> None:
            await anyio.sleep(0.01)
            results.append(number)

        async with asyncio.timeout(5):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(work(1))
            async with anyio.create_task_group() as group:
                group.start_soon(work, 2)
        await answer(send, repr(sorted(results)).encode())

    async def do_draining(self, scope: Any, receive: Any, send: Any) -> None:
        event = scope["state"]["twisted_rr.draining"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"serving;", "more_body": True})
        await event.wait()
        await send({"type": "http.response.body", "body": b"draining"})

    async def do_noise(self, scope: Any, receive: Any, send: Any) -> None:
        make_noise()
        await answer(send, b"quiet")


site = Site()


def make_noise() -> None:
    print("noise by print")
    sys.__stdout__.write("noise by __stdout__\n")
    os.write(1, b"noise by descriptor 1\n")
    os.system("echo noise by os.system")
    subprocess.run(["sh", "-c", "echo noise by subprocess; cat 2>/dev/null || true"], check=True, timeout=10)
    sys.stdout.flush()


def noisy() -> Any:
    """A factory that makes noise at import and at exit, and hurts the standard descriptors."""
    import atexit
    import faulthandler

    make_noise()
    faulthandler.dump_traceback(file=1)
    atexit.register(lambda: print("noise at exit"))
    os.close(0)
    return site


async def fails_to_start(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "the database is away"})


async def never_shuts_down(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.failed", "message": "cannot let go"})
    else:
        await answer(send, b"hello")


# ------------------------------------------------------------------------------------- WSGI


def plain(environ: Any, start_response: Any) -> Any:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"hello"]


class WsgiSite:
    """A WSGI application with a path for each rule."""

    def __call__(self, environ: Any, start_response: Any) -> Any:
        name = environ["PATH_INFO"].strip("/").partition("/")[0] or "index"
        return getattr(self, "do_" + name)(environ, start_response)

    def text(self, start_response: Any, body: bytes) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [body]

    def do_index(self, environ: Any, start_response: Any) -> Any:
        return self.text(start_response, b"hello")

    def do_environ(self, environ: Any, start_response: Any) -> Any:
        shown = {name: value for name, value in environ.items() if isinstance(value, (str, bool, tuple))}
        return self.text(start_response, repr(shown).encode())

    def do_echo(self, environ: Any, start_response: Any) -> Any:
        return self.text(start_response, environ["wsgi.input"].read())

    def do_pump(self, environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        return iter(lambda: environ["wsgi.input"].read(10_000), b"")

    def do_lines(self, environ: Any, start_response: Any) -> Any:
        stream = environ["wsgi.input"]
        first = stream.readline()
        return self.text(start_response, repr([first, *stream]).encode())

    def do_thread(self, environ: Any, start_response: Any) -> Any:
        main = threading.current_thread() is threading.main_thread()
        return self.text(start_response, f"{main} {environ['wsgi.multithread']}".encode())

    def do_slow(self, environ: Any, start_response: Any) -> Any:
        time.sleep(0.3)
        return self.text(start_response, b"slow")

    def do_boom(self, environ: Any, start_response: Any) -> Any:
        raise ValueError("boom goes the handler")

    def do_cancelled(self, environ: Any, start_response: Any) -> Any:
        raise asyncio.CancelledError("in a thread")

    def do_fork(self, environ: Any, start_response: Any) -> Any:
        """The child comes back to the SDK, in the way that the query names."""
        pid = os.fork()
        if pid == 0:
            if environ["QUERY_STRING"] == "raise":
                raise ValueError("in the child")
            if environ["QUERY_STRING"] == "exit":
                sys.exit(9)
            return self.text(start_response, b"the child")
        _, status = os.waitpid(pid, 0)
        return self.text(start_response, b"the child ended with %d" % os.waitstatus_to_exitcode(status))

    def do_exit(self, environ: Any, start_response: Any) -> Any:
        sys.exit(7)

    def do_late(self, environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"half"
        raise ValueError("boom in the middle")

    def do_write(self, environ: Any, start_response: Any) -> Any:
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        write(b"one;")
        write(b"two;")
        return [b"three"]

    def do_endless(self, environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        try:
            while True:
                yield b"x" * 65536
        finally:
            print("endless is over", file=environ["wsgi.errors"])

    def do_big(self, environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        return (b"x" * 100_000 for _ in range(100))

    def do_file(self, environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return environ["wsgi.file_wrapper"](open(__file__, "rb"))

    def do_noise(self, environ: Any, start_response: Any) -> Any:
        make_noise()
        return self.text(start_response, b"quiet")


wsgi_site = WsgiSite()
valid = validator(plain)


def valid_echo_app(environ: Any, start_response: Any) -> Any:
    body = environ["wsgi.input"].read(3) + environ["wsgi.input"].read(100000)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return iter([body])


valid_echo = validator(valid_echo_app)
