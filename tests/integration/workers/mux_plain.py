"""A mux worker written from docs/worker-protocol.md alone: the standard library, JSON contexts, one thread.

It answers with method, target and body. ``/slow`` answers after 0.2 s, ``/big?N`` with N bytes, ``/error`` fails,
``/refuse`` is given back once, ``/never`` waits to be cancelled, ``/told`` says how many calls were cancelled.
"""

import heapq
import json
import os
import select
import struct
import sys
import time
import zlib

CONTROL, RAW, JSON, ERROR = 0x01, 0x04, 0x08, 0x40
STREAM, STOP, PING, PONG, CREDIT, MESSAGE, PART = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40


def frame(flags, bits, options, payload=b""):
    head = struct.pack("<BBI", 0x10 | 3 + len(options), flags, len(payload))
    return head + struct.pack(f"<IBB{len(options)}I", zlib.crc32(head), bits, 0, *options) + payload


class Call:
    def __init__(self, request, credit):
        self.method, self.target = request[0], request[1]
        self.body, self.taken = b"", 0
        self.head, self.answer, self.credit = None, b"", credit


class Worker:
    def __init__(self):
        self.calls, self.due, self.data = {}, [], b""
        self.offer, self.stopping, self.cancelled = None, False, 0

    def write(self, *words):
        data = memoryview(frame(*words))
        while data:
            data = data[os.write(1, data) :]

    def run(self):
        while not (self.stopping and not self.calls):
            wait = max(0.0, self.due[0][0] - time.monotonic()) if self.due else None
            if select.select([0], [], [], wait)[0]:
                data = os.read(0, 65536)
                if not data:
                    return
                self.data += data
                while self.one():
                    pass
            while self.due and self.due[0][0] <= time.monotonic():
                self.complete(heapq.heappop(self.due)[1])

    def one(self):
        """One frame out of the bytes so far; False when it is not there yet."""
        if len(self.data) < 12:
            return False
        first, flags, length, crc, bits, _ = struct.unpack("<BBIIBB", self.data[:12])
        start = 4 * (first & 15)
        if crc != zlib.crc32(self.data[:6]) or first >> 4 != 1:
            sys.exit("no frame")
        if len(self.data) < start + length:
            return False
        options = struct.unpack(f"<{(first & 15) - 3}I", self.data[12:start])
        payload, self.data = self.data[start : start + length], self.data[start + length :]
        if not options:
            self.relay(flags, bits, payload)
        else:
            self.of_call(bits, options, payload)
        return True

    def relay(self, flags, bits, payload):
        if bits == PING:
            self.write(0, PONG, ())
        elif flags & CONTROL:
            message = json.loads(payload)
            if "mux" in message:
                self.offer = message["mux"]
                mux = {
                    "v": 1,
                    "streams": 50,
                    "window": 65536,
                    "max_frame": 16384,
                    "codec": "json",
                    "caps": ["heartbeat"],
                }
                answer = json.dumps({"pid": os.getpid(), "mux": mux}).encode()
                self.write(CONTROL | JSON, 0, (), answer)
            self.stopping = self.stopping or message.get("stop", False)

    def of_call(self, bits, options, payload):
        split, id = options[0], options[1]
        call = self.calls.get(id)
        if call is None:
            if bits & (STOP | CREDIT) or not split:
                return  # it crossed our end
            call = self.calls[id] = Call(json.loads(payload[:split]), self.offer["window"])
            if self.stopping or call.target == "/refuse" and not os.path.exists(os.environ["MARK"]):
                open(os.environ["MARK"], "a").close()
                del self.calls[id]
                self.write(RAW, STOP, (0, id))
                return
        if bits == STOP:
            self.cancelled += 1
            del self.calls[id]
            self.write(RAW, STOP, (0, id))
        elif bits == CREDIT:
            call.credit += options[2]
            self.send(id)
        else:
            call.body += payload[split:]
            call.taken += len(payload) - split or int(bits & (MESSAGE | PART) == MESSAGE)
            if bits & STREAM and call.taken >= 32768:
                self.write(RAW, CREDIT, (0, id, call.taken))
                call.taken = 0
            if not bits & STREAM:
                heapq.heappush(self.due, (time.monotonic() + 0.2 * (call.target == "/slow"), id))

    def complete(self, id):
        call = self.calls.get(id)
        if call is None or call.target == "/never":
            return
        if call.target == "/error":
            del self.calls[id]
            self.write(ERROR, 0, (0, id), b"it was asked to fail")
            return
        call.answer = f"{call.method} {call.target} ".encode() + call.body
        if call.target == "/told":
            call.answer = str(self.cancelled).encode()
        if call.target.startswith("/big?"):
            call.answer = bytes(int(call.target[5:]))
        call.head = json.dumps([200, [["content-type", "text/plain"]]]).encode()
        self.send(id)

    def send(self, id):
        call = self.calls[id]
        while call.head is not None:  # else it is not to be answered yet
            piece = call.answer[: min(16384, call.credit)]
            if call.answer and not piece:
                return  # a CREDIT wakes it
            call.answer = call.answer[len(piece) :]
            call.credit -= len(piece)
            context, more = call.head, bool(call.answer)
            self.write(JSON if context else RAW, STREAM if more else 0, (len(context), id), context + piece)
            call.head = b""
            if not more:
                del self.calls[id]
                return


if __name__ == "__main__":
    Worker().run()
