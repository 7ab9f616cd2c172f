"""What the servers under test serve."""

from __future__ import annotations

import asyncio
import time
from typing import Any


async def app(scope: Any, receive: Any, send: Any) -> None:
    """ASGI: a small answer, after ?SECONDS."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["query_string"]:
        await asyncio.sleep(float(scope["query_string"]))
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})


def blocking(environ: Any, start_response: Any) -> list[bytes]:
    """WSGI: the same, and the worker is busy meanwhile."""
    if environ["QUERY_STRING"]:
        time.sleep(float(environ["QUERY_STRING"]))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]
