"""Applications that behave well and badly in a drain: one path for each."""

import asyncio
import time


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    await PATHS[scope["path"]](scope, receive, send)


async def start(send, kind=b"text/plain"):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})


async def piece(send, body=b"", more=False):
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def hello(scope, receive, send):
    await start(send)
    await piece(send, b"hello")


async def slow(scope, receive, send):
    await asyncio.sleep(60)


async def polite(scope, receive, send):
    """An event stream that leaves when its client seems to have left."""
    await start(send, b"text/event-stream")
    await piece(send, b"data: 0\n\n", True)
    while (await receive())["type"] != "http.disconnect":
        pass


async def stubborn(scope, receive, send):
    """An event stream that listens to nobody."""
    await start(send, b"text/event-stream")
    while True:
        await piece(send, b"data: x\n\n", True)
        await asyncio.sleep(0.1)


async def told(scope, receive, send):
    """A long poll that ends when it is told of the drain, with the seconds that are left."""
    event = scope["state"]["twisted_rr.draining"]
    await event.wait()
    await start(send)
    await piece(send, f"{event.remaining():.1f}".encode())


async def export(scope, receive, send):
    """A download of some seconds, which a cut would spoil; it listens for a client that leaves."""
    await start(send, b"text/csv")
    gone = asyncio.ensure_future(disconnected(receive))
    for number in range(20):
        if gone.done():
            return
        await piece(send, b"%d\n" % number, True)
        await asyncio.sleep(0.1)
    await piece(send, b"end\n")


async def disconnected(receive):
    while (await receive())["type"] != "http.disconnect":
        pass


PATHS = {f"/{function.__name__}": function for function in (hello, slow, polite, stubborn, told, export)}


def wsgi_events(environ, start_response):
    """The same stream for WSGI."""
    if environ["PATH_INFO"] != "/events":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"hello"]
    start_response("200 OK", [("Content-Type", "text/event-stream")])
    return events()


def events():
    try:
        while True:
            yield b"data: x\n\n"
            time.sleep(0.1)
    finally:
        print("stream closed", flush=True)
