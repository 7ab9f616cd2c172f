"""A one-call HTTP worker on bare goridge frames and JSON contexts, the standard library alone.

Paths: ``/context`` (the context back, as JSON), ``/body`` (length and SHA-256 of the body), ``/form`` (tree, uploads
and the files' contents), ``/big?N`` (N bytes in one frame), ``/stream`` (pieces), ``/slow?N`` (after N seconds, or half a one),
``/error`` (an ERROR frame), ``/die``, ``/codec`` (an answer in no codec).
"""

import hashlib
import json
import os
import struct
import sys
import time
from zlib import crc32

CONTROL, JSON, GOB, ERROR = 0x01, 0x08, 0x20, 0x40
STREAM = 0x01


def read_exactly(size):
    data = bytearray()
    while len(data) < size:
        piece = os.read(0, min(size - len(data), 1 << 20))
        if not piece:
            sys.exit(0)
        data += piece
    return bytes(data)


def read_frame():
    first = read_exactly(12)
    words, flags, length = first[0] & 15, first[1], struct.unpack("<I", first[2:6])[0]
    options = struct.unpack(f"<{words - 3}I", read_exactly(4 * (words - 3)))
    return flags, first[10], options, read_exactly(length)


def write_frame(flags, bits, options, payload):
    head = struct.pack("<BBI", 0x10 | 3 + len(options), flags, len(payload))
    data = memoryview(head + struct.pack(f"<IBB{len(options)}I", crc32(head), bits, 0, *options) + payload)
    while data:
        data = data[os.write(1, data) :]


def answer(body, status=200, headers=None, bits=0, flags=JSON):
    context = json.dumps({"status": status, "headers": headers or {"Content-Type": ["text/plain"]}}).encode()
    write_frame(flags, bits, (len(context),), context + body)


def tree_files(tree):
    if isinstance(tree, list):
        return [tree_files(item) for item in tree]
    if "tmpName" in tree:
        content = b""
        if tree["tmpName"]:
            with open(tree["tmpName"], "rb") as file:
                content = file.read()
        return {**tree, "sha256": hashlib.sha256(content).hexdigest()}
    return {name: tree_files(item) for name, item in tree.items()}


def handle(context, body):
    path = context["uri"].partition("://")[2].partition("/")[2].partition("?")[0]
    if path == "context":
        answer(json.dumps({**context, "body": body.decode("latin-1")}).encode())
    elif path == "body":
        answer(f"{len(body)} {hashlib.sha256(body).hexdigest()}".encode())
    elif path == "form":
        uploads = tree_files(context["uploads"]) if context["uploads"] is not None else None
        answer(json.dumps({"tree": json.loads(body or b"{}"), "uploads": uploads}).encode())
    elif path == "big":
        answer(b"x" * int(context["rawQuery"]))
    elif path == "stream":
        answer(b"a", bits=STREAM)
        for piece in (b"b", b"c"):
            write_frame(0, STREAM, (0,), piece)
        write_frame(0, 0, (0,), b"")
    elif path == "slow":
        time.sleep(float(context["rawQuery"] or 0.5))
        answer(b"slow")
    elif path == "error":
        write_frame(ERROR, 0, (), b"the secret reason")
    elif path == "die":
        os._exit(3)
    elif path == "codec":
        answer(b"", flags=GOB)
    else:
        answer(b"not found", 404)


def main():
    while True:
        flags, bits, options, payload = read_frame()
        if flags & CONTROL:
            if json.loads(payload).get("stop"):
                return
            write_frame(CONTROL, 0, (), json.dumps({"pid": os.getpid()}).encode())
        elif not bits:
            handle(json.loads(payload[: options[0]]), payload[options[0] :])


if __name__ == "__main__":
    main()
