"""A WSGI application whose thread can be blocked on a socket that says nothing."""

import socket
from urllib.parse import parse_qs


def app(environ, start_response):
    query = parse_qs(environ["QUERY_STRING"])
    seconds = float(query.get("seconds", ["0"])[0])
    if seconds:
        ours, theirs = socket.socketpair()
        ours.settimeout(seconds)
        try:
            ours.recv(1)
        except TimeoutError:
            pass
        theirs.close()
    start_response("200 OK", [("Content-Length", "4")])
    return [b"done"]
