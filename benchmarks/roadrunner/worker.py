"""A minimal one-call worker on bare goridge frames: answers HTTP requests with hello, gRPC calls with their message.

It reads and writes with one system call each and looks at no request, so that what is measured is the server.
The argument is ``http`` or ``grpc``.
"""

import json
import os
import struct
import sys
from zlib import crc32

CONTROL, JSON, PROTO, STOP = 1, 8, 128, 2
BODY = b"Hello, world! This is the answer.\n"
PAIRS = ((b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(BODY)).encode()))


def frame(flags, options, payload):
    head = struct.pack("<BBI", 0x10 | 3 + len(options), flags, len(payload))
    return head + struct.pack(f"<IBB{len(options)}I", crc32(head), 0, 0, *options) + payload


def field(number, data):
    return bytes((number << 3 | 2, len(data))) + data


def response_context():
    """http.v1.Response: status 200 and the two headers."""
    headers = b"".join(field(2, field(1, name) + field(2, field(1, value))) for name, value in PAIRS)
    return b"\x08\xc8\x01" + headers


CONTEXT = response_context()
ANSWER = frame(PROTO, (len(CONTEXT),), CONTEXT + BODY)


def hello(head, payload):
    return ANSWER


def echo(head, payload):
    return frame(JSON, (0,), payload[int.from_bytes(head[12:16], "little") :])


def size_of(buffer):
    """Bytes of the frame at the start, as far as that can be told."""
    return 4 * (buffer[0] & 15) + int.from_bytes(buffer[2:6], "little") if len(buffer) >= 12 else 12


def serve(answer):
    buffer = b""
    while True:
        while len(buffer) < (size := size_of(buffer)):
            piece = os.read(0, 65536)
            if not piece:
                return
            buffer += piece
        head, payload, buffer = buffer[:16], buffer[4 * (buffer[0] & 15) : size], buffer[size:]
        if head[1] & CONTROL:
            if json.loads(payload).get("stop"):
                return
            os.write(1, frame(CONTROL, (), json.dumps({"pid": os.getpid()}).encode()))
        elif not head[10] & STOP:
            data = answer(head, payload)
            while data:
                data = data[os.write(1, data) :]


serve({"http": hello, "grpc": echo}[sys.argv[1]])
