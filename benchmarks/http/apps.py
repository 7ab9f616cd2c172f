"""The applications every contender runs: the same answer by WSGI and by ASGI."""

import asyncio

BODY = b"Hello, world! This is the answer.\n"
HEADERS = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(BODY)).encode())]
WSGI_HEADERS = [(name.decode(), value.decode()) for name, value in HEADERS]
BIG = b"x" * 100_000
HUGE = b"x" * 1048576
BODIES = {"/big": BIG, "/huge": HUGE}


def wsgi(environ, start_response):
    if environ["PATH_INFO"] == "/read":
        size = str(len(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))).encode()
        start_response("200 OK", [("Content-Length", str(len(size)))])
        return [size]
    body = BODIES.get(environ["PATH_INFO"], BODY)
    start_response("200 OK", WSGI_HEADERS if body is BODY else [("Content-Length", str(len(body)))])
    return [body]


async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    body, headers = BODY, HEADERS
    if scope["path"] == "/read":
        size = 0
        while True:
            message = await receive()
            size += len(message["body"])
            if not message["more_body"]:
                break
        body = str(size).encode()
    elif scope["path"] == "/wait":
        await asyncio.sleep(0.01)
    else:
        body = BODIES.get(scope["path"], BODY)
    if body is not BODY:
        headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
