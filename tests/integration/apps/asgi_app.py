"""An ASGI application without a framework, with one path for each behaviour a test needs."""

import asyncio
import hashlib
import os
import sys
import time
from urllib.parse import parse_qs


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    name = scope["path"].strip("/").split("/")[0] or "hello"
    query = {key: values[-1] for key, values in parse_qs(scope["query_string"].decode()).items()}
    await PATHS.get(name, missing)(scope, receive, send, query)


async def lifespan(receive, send):
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def answer(send, body, status=200, headers=()):
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(b"content-type", b"text/plain"), *headers],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def hello(scope, receive, send, query):
    await answer(send, b"hello")


async def pid(scope, receive, send, query):
    await answer(send, str(os.getpid()).encode())


async def wait(scope, receive, send, query):
    await asyncio.sleep(float(query.get("seconds", "1")))
    await answer(send, str(os.getpid()).encode() + b" " + scope["path"].encode())


async def busy(scope, receive, send, query):
    """Holds the loop with pure computation."""
    end = time.monotonic() + float(query.get("seconds", "1"))
    while time.monotonic() < end:
        hashlib.sha256(b"x" * 4096).digest()
    await answer(send, b"done")


async def echo(scope, receive, send, query):
    """Sends back what it gets, piece by piece."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        await send({"type": "http.response.body", "body": message["body"], "more_body": message["more_body"]})
        if not message["more_body"]:
            return


async def digest(scope, receive, send, query):
    """The size and the SHA-256 of the body."""
    total, check = 0, hashlib.sha256()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        total += len(message["body"])
        check.update(message["body"])
        if not message["more_body"]:
            break
    await answer(send, f"{total} {check.hexdigest()}".encode())


async def big(scope, receive, send, query):
    """A body of `size` bytes made of one repeated block, sent as it is made."""
    size = int(query["size"])
    block = bytes(range(256)) * 256
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(size).encode())]}
    )
    while size:
        piece = block[: min(size, len(block))]
        size -= len(piece)
        await send({"type": "http.response.body", "body": piece, "more_body": bool(size)})


async def stream(scope, receive, send, query):
    """An event stream without end; ends when the client leaves."""
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}
    )
    gone = asyncio.ensure_future(disconnected(receive))
    number = 0
    while not gone.done():
        await send({"type": "http.response.body", "body": f"data: {number}\n\n".encode(), "more_body": True})
        number += 1
        await asyncio.wait([gone], timeout=float(query.get("pause", "0.05")))
    print("stream ended: client gone", flush=True)


async def disconnected(receive):
    while (await receive())["type"] != "http.disconnect":
        pass


async def crash(scope, receive, send, query):
    os._exit(int(query.get("code", "1")))


async def fail(scope, receive, send, query):
    raise RuntimeError("the application failed on purpose")


async def noise(scope, receive, send, query):
    print("printed by the application")
    sys.stdout.write("written to stdout\n")
    os.system("echo said by a shell")
    os.write(1, b"raw bytes on fd 1\n")
    await answer(send, b"quiet")


async def missing(scope, receive, send, query):
    await answer(send, b"no such path", 404)


PATHS = {
    function.__name__: function
    for function in (hello, pid, wait, busy, echo, digest, big, stream, crash, fail, noise)
}
