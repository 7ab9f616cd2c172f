"""Applications whose requests hang, each in a way of its own."""

import asyncio
import time


async def waits_in_vain():
    await asyncio.sleep(60)


async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        raise RuntimeError("no lifespan")
    if scope["path"] == "/await":
        await waits_in_vain()
    if scope["path"] == "/block":
        holds_the_loop()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"fine"})


def holds_the_loop():
    time.sleep(60)


def wsgi(environ, start_response):
    if environ["PATH_INFO"] == "/block":
        holds_the_loop()
    start_response("200 OK", [])
    return [b"fine"]
