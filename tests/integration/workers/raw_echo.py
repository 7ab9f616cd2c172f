"""A one-call worker on bare goridge frames, the standard library alone: it answers what the body asks.

Bodies: ``sleep N``, ``exit N``, ``stop`` (asks to be replaced), ``pid``, ``env NAME``, ``fds``, ``error TEXT``, else an echo.
"""

import json
import os
import struct
import sys
import time
from zlib import crc32

CONTROL, RAW, ERROR = 1, 4, 0x40


def read_exactly(fd, size):
    data = b""
    while len(data) < size:
        piece = os.read(fd, size - len(data))
        if not piece:
            sys.exit(0)
        data += piece
    return data


def write_all(fd, data):
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def read_frame(fd):
    first = read_exactly(fd, 12)
    hl, flags, length = first[0] & 15, first[1], struct.unpack("<I", first[2:6])[0]
    options = struct.unpack(f"<{hl - 3}I", read_exactly(fd, 4 * (hl - 3)))
    return flags, first[10], options, read_exactly(fd, length)


def frame(flags, bits, options, payload):
    head = struct.pack("<BBI", 0x10 | 3 + len(options), flags, len(payload))
    return head + struct.pack(f"<IBB{len(options)}I", crc32(head), bits, 0, *options) + payload


def open_fds():
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            pass
    return {fd: path for fd, path in found.items() if not path.startswith("/proc/")}


def answer(body):
    word, _, rest = body.decode("latin-1").partition(" ")
    if word == "sleep":
        time.sleep(float(rest))
        return body
    if word == "exit":
        os._exit(int(rest))
    if word == "pid":
        return str(os.getpid()).encode()
    if word == "env":
        return os.environ.get(rest, "-").encode()
    if word == "fds":
        return json.dumps(open_fds()).encode()
    return body


def serve(read_fd, write_fd):
    while True:
        flags, bits, options, payload = read_frame(read_fd)
        if flags & CONTROL:
            message = json.loads(payload)
            if message.get("stop"):
                sys.exit(0)
            write_all(write_fd, frame(CONTROL, 0, (), json.dumps({"pid": os.getpid()}).encode()))
            continue
        if bits & 2:
            continue
        body = payload[options[0] :]
        if body == b"stop":
            write_all(write_fd, frame(RAW, 0, (13,), b'{"stop":true}'))
        elif body.startswith(b"error "):
            write_all(write_fd, frame(ERROR, 0, (), body[6:]))
        else:
            write_all(write_fd, frame(RAW, 0, (2,), b"{}" + answer(body)))


def connect():
    import socket

    relay = os.environ["RR_RELAY"]
    scheme, _, rest = relay.partition("://")
    if scheme == "unix":
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(rest)
    else:
        host, _, port = rest.rpartition(":")
        sock = socket.create_connection((host, int(port)))
    return sock.detach()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(sys.argv[1], file=sys.stderr, flush=True)
    if os.environ["RR_RELAY"] == "pipes":
        serve(0, 1)
    else:
        fd = connect()
        serve(fd, fd)
