"""A WSGI application without a framework, with one path for each behaviour a test needs."""

import hashlib
import os
import time
from urllib.parse import parse_qs

KEPT = []


def app(environ, start_response):
    name = environ["PATH_INFO"].strip("/").split("/")[0] or "hello"
    query = {key: values[-1] for key, values in parse_qs(environ["QUERY_STRING"]).items()}
    return PATHS.get(name, missing)(environ, start_response, query)


def answer(start_response, body, status="200 OK"):
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def hello(environ, start_response, query):
    return answer(start_response, b"hello")


def pid(environ, start_response, query):
    return answer(start_response, str(os.getpid()).encode())


def wait(environ, start_response, query):
    time.sleep(float(query.get("seconds", "1")))
    return answer(start_response, f"{os.getpid()} {environ['PATH_INFO']}".encode())


def grow(environ, start_response, query):
    """Keep so many MiB more for good."""
    KEPT.append(b"x" * (int(query["mib"]) << 20))
    return answer(start_response, b"grown")


def digest(environ, start_response, query):
    total, check = 0, hashlib.sha256()
    while piece := environ["wsgi.input"].read(65536):
        total += len(piece)
        check.update(piece)
    return answer(start_response, f"{total} {check.hexdigest()}".encode())


def big(environ, start_response, query):
    size = int(query["size"])
    block = bytes(range(256)) * 256
    start_response("200 OK", [("Content-Length", str(size))])

    def pieces(left):
        while left:
            piece = block[: min(left, len(block))]
            left -= len(piece)
            yield piece

    return pieces(size)


def fail(environ, start_response, query):
    raise RuntimeError("the application failed on purpose")


def missing(environ, start_response, query):
    return answer(start_response, b"no such path", "404 Not Found")


PATHS = {function.__name__: function for function in (hello, pid, wait, grow, digest, big, fail)}
