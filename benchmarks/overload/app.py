"""The applications of the overload cells: a call takes SERVICE_MS milliseconds, of sleep or of the CPU."""

import asyncio
import os
import time

SECONDS = float(os.environ.get("SERVICE_MS", "20")) / 1000
HEAD = [(b"content-type", b"text/plain"), (b"content-length", b"5")]


def wsgi(environ, start_response):
    """Holds its worker, as one that waits for a database does."""
    time.sleep(SECONDS)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"hello"]


async def asgi(scope, receive, send):
    """The same, on an event loop that it does not block."""
    if scope["type"] == "http":
        await asyncio.sleep(SECONDS)
        await send({"type": "http.response.start", "status": 200, "headers": HEAD})
        await send({"type": "http.response.body", "body": b"hello"})


async def busy(scope, receive, send):
    """Computes on the event loop: nothing else of this worker runs meanwhile."""
    if scope["type"] == "http":
        until = time.thread_time() + SECONDS
        while time.thread_time() < until:
            pass
        await send({"type": "http.response.start", "status": 200, "headers": HEAD})
        await send({"type": "http.response.body", "body": b"hello"})
