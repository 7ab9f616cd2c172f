"""``idle.py PORT COUNT``: opens so many HTTP/2 connections, makes one call on each, says ``idle`` and keeps them."""

import socket
import sys

from h2.connection import H2Connection
from h2.events import DataReceived, StreamEnded

REQUEST = b"\0\0\0\0\x64\x0a\x62" + b"x" * 98


def connection(port):
    sock = socket.create_connection(("127.0.0.1", port), 10)
    session = H2Connection()
    session.initiate_connection()
    head = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/echo.Echo/Say"),
        (":authority", "bench"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ]
    session.send_headers(1, head)
    session.send_data(1, REQUEST, end_stream=True)
    answer, ended = b"", False
    while not ended:
        sock.sendall(session.data_to_send())
        received = sock.recv(65536)
        if not received:
            sys.exit("closed")
        for event in session.receive_data(received):
            if isinstance(event, DataReceived):
                answer += event.data
            ended = ended or isinstance(event, StreamEnded)
    if answer != REQUEST:
        sys.exit("a wrong answer")
    sock.sendall(session.data_to_send())
    return sock


port, count = (int(word) for word in sys.argv[1:])
kept = [connection(port) for _ in range(count)]
print("idle", flush=True)
sys.stdin.read()
