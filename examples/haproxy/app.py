"""The smallest WSGI application; `twisted-rr serve app:application` serves it."""

import os


def application(environ, start_response):
    body = (
        "Hello from twisted_rr!\n\n"
        f"This answer was made by worker process {os.getpid()}.\n"
        f"You asked for {environ['REQUEST_METHOD']} {environ['PATH_INFO']}.\n\n"
        "Try: curl http://127.0.0.1:2114/ready\n"
    ).encode()
    start_response(
        "200 OK", [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
    )
    return [body]
