"""A mux worker without threads: it echoes bodies; ``sleep N`` waits without holding up other calls, ``exit N`` exits."""

import heapq
import itertools
import os
import select
import signal
import sys
import time

from twisted_rr.wire.control import (
    MuxAnswer,
    encode_pid_reply,
    parse_control,
    parse_pid_request,
    worker_settings,
)
from twisted_rr.wire.mux_worker import MuxWorkerEnd
from twisted_rr.wire.reader import FrameReader


class Echo:
    """One call."""

    def __init__(self, worker, stream):
        self.worker = worker
        self.stream = stream
        self.body = b""

    def data(self, body, more):
        self.body += body
        self.stream.consumed(len(body))
        if not more:
            self.worker.complete(self)

    def message(self, body, text, more):
        self.data(body, more)

    def finished(self, context):
        self.data(b"", False)

    def cancelled(self, reason):
        if b"stubborn" not in self.body:
            self.stream.stop()

    def writable(self):
        pass


class Worker:
    def __init__(self):
        self.due = []
        self.count = itertools.count()
        self.end = None

    def handshake(self):
        reader = FrameReader(65536)
        frame = None
        while frame is None:
            frame = reader.first(os.read(0, 65536))
        _, offer = parse_pid_request(parse_control(frame.payload))
        answer = MuxAnswer(streams=int(os.environ.get("STREAMS", "100")))
        os.write(1, encode_pid_reply(os.getpid(), answer))
        self.end = MuxWorkerEnd(self, worker_settings(offer, answer))
        rest = reader.rest()
        if rest:
            self.end.feed(rest)

    def dirty(self):
        pass

    def said(self, message):
        pass

    def opened(self, stream, codec, context, body, more):
        stream.to = Echo(self, stream)
        stream.to.data(body, more)

    def complete(self, call):
        body = call.body
        if body.startswith(b"exit "):
            os._exit(int(body[5:]))
        if body.startswith(b"kill "):
            os.kill(os.getpid(), int(body[5:]))
        if body.startswith(b"garbage"):
            os.write(1, b"Hello, I print to stdout\n")
        wait = float(body.split()[1]) if body.startswith(b"sleep ") else 0.0
        if body == b"pid":
            call.body = str(os.getpid()).encode()
        heapq.heappush(self.due, (time.monotonic() + wait, next(self.count), call))

    def run(self):
        self.handshake()
        while not (self.end.stopping and not self.end.streams):
            self.answer()
            self.flush()
            timeout = max(0.0, self.due[0][0] - time.monotonic()) if self.due else 1.0
            if self.end.stopping and not self.end.streams:
                break
            if select.select([0], [], [], timeout)[0]:
                data = os.read(0, 65536)
                if not data:
                    sys.exit(0)
                self.end.feed(data)
            self.end.tick(time.monotonic())
        self.flush()

    def answer(self):
        while self.due and self.due[0][0] <= time.monotonic():
            call = heapq.heappop(self.due)[2]
            # The context's shape is the front's and the SDK's affair: any bytes do here.
            call.stream.send(b"\x92\xcc\xc8\x90", call.body, False)

    def flush(self):
        while data := self.end.take():
            view = memoryview(data)
            while view:
                view = view[os.write(1, view) :]


if __name__ == "__main__":
    if "deaf" in sys.argv:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Worker().run()
    if "deaf" in sys.argv:
        time.sleep(60)
