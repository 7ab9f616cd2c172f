"""A one-call gRPC worker on bare goridge frames, the standard library alone (protocol.md 5)."""

import base64
import json
import os
import struct
import sys
import time
from zlib import crc32

CONTROL, RAW, JSON, ERROR = 1, 4, 8, 0x40
STREAM, STOP = 1, 2


def read_exactly(size):
    data = b""
    while len(data) < size:
        piece = os.read(0, size - len(data))
        if not piece:
            sys.exit(0)
        data += piece
    return data


def write(flags, bits, options, payload):
    head = struct.pack("<BBI", 0x10 | 3 + len(options), flags, len(payload))
    data = memoryview(head + struct.pack(f"<IBB{len(options)}I", crc32(head), bits, 0, *options) + payload)
    while data:
        data = data[os.write(1, data) :]


def respond(context, body, bits=0):
    data = json.dumps(context).encode() if context else b""
    write(JSON, bits, (len(data),), data + body)


def answer(request, body):
    word, _, rest = body.decode("latin-1").partition(" ")
    if word == "context":
        respond({}, json.dumps(request, sort_keys=True).encode())
    elif word == "metadata":
        headers, trailers = {"x-head": "1", "skipped": ["list"]}, {"x-trail": "2"}
        respond({"headers": json.dumps(headers), "trailers": json.dumps(trailers)}, b"ok")
    elif word == "status":
        status = b"\x08\x05\x12\x04gone\x1a\x03\x0a\x01x"
        respond({"error": base64.b64encode(status).decode()}, b"")
    elif word == "error":
        write(ERROR, 0, (), rest.encode())
    elif word == "sleep":
        with open(os.environ.get("EVENTS", os.devnull), "a") as file:
            file.write("started")
        time.sleep(float(rest))
        respond({}, b"slept")
    elif word == "big":
        respond({}, bytes(int(rest)))
    elif word == "stream":
        respond({}, b"one", STREAM)
        respond({}, b"two", STREAM)
        respond({}, b"", 0)
    else:
        respond({}, body)


while True:
    head = read_exactly(12)
    flags, length, bits = head[1], struct.unpack("<I", head[2:6])[0], head[10]
    count = (head[0] & 15) - 3
    options = struct.unpack(f"<{count}I", read_exactly(4 * count))
    payload = read_exactly(length)
    if flags & CONTROL:
        if json.loads(payload).get("stop"):
            sys.exit(0)
        write(CONTROL, 0, (), json.dumps({"pid": os.getpid()}).encode())
    elif not bits & STOP:
        answer(json.loads(payload[: options[0]]), payload[options[0] :])
