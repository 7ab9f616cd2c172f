"""The application that the embedded server's workers run."""

import os


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send(
        {
            "type": "http.response.body",
            "body": b"served inside another Twisted program, by worker %d\n" % os.getpid(),
        }
    )
