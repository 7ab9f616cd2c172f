"""What an idle keep-alive connection costs a server in memory."""

from __future__ import annotations

import resource
import socket

from benchmarks.contender import Contender

REQUEST = b"GET /%d HTTP/1.1\r\nHost: bench.example\r\nUser-Agent: idle\r\nAccept: */*\r\n\r\n"
SPARE = 200
"""Descriptors that the client needs for other things."""


def idle_cost(contender: Contender, wanted: int) -> dict[str, float]:
    """Open *wanted* connections, have one request answered on each, and divide the growth of the server's PSS.

    Fewer where the limit of descriptors is lower; the server gets the same limit as the client.
    """
    count = max(1, min(wanted, descriptors() - SPARE))
    before = contender.pss()["server"]
    held: list[socket.socket] = []
    try:
        for number in range(count):
            held.append(_asked(contender.port, number))
        after = contender.pss()["server"]
    finally:
        for connection in held:
            connection.close()
    return {"connections": count, "kib": round((after - before) * 1024 / count, 2)}


def descriptors() -> int:
    """Raise the soft limit to the hard one: for this process, and for those it starts from now on."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def _asked(port: int, number: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), 10)
    connection.sendall(REQUEST % number)
    answer = b""
    while b"answer.\n" not in answer:
        piece = connection.recv(4096)
        if not piece:
            raise SystemExit("a connection was closed before it was answered")
        answer += piece
    return connection
