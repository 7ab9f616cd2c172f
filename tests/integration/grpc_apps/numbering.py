"""grpcio's client: numbered calls until its input closes; ``numbering.py ADDRESS THREADS RATE``, results as JSON.

It retries nothing of itself. A call that ends UNAVAILABLE is made once more, and counted; whether it had begun in
a worker the worker's notes tell.
"""

import json
import os
import sys
import threading
import time

os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc

OPTIONS = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]


class Load:
    def __init__(self, address, threads, rate):
        self.channels = [grpc.insecure_channel(address, options=OPTIONS) for _ in range(4)]
        self.pause = threads / rate
        self.over = threading.Event()
        self.numbers = iter(range(10**9))
        self.lock = threading.Lock()
        self.done, self.retried, self.failed = 0, [], []
        self.threads = [threading.Thread(target=self.run, args=(number,)) for number in range(threads)]

    def run(self, number):
        call = self.channels[number % len(self.channels)].unary_unary("/echo.Echo/Say")
        due = time.monotonic()
        while not self.over.is_set():
            self.one(call)
            due = max(due + self.pause, time.monotonic() - 1)
            time.sleep(max(0.0, due - time.monotonic()))

    def one(self, call):
        with self.lock:
            message = b"%d" % next(self.numbers)
        for last in (False, True):
            try:
                answer = call(message, timeout=15)
            except grpc.RpcError as failure:
                told = [int(message), failure.code().name, failure.details(), time.time()]
                if last or failure.code() is not grpc.StatusCode.UNAVAILABLE:
                    self.failed.append(told)
                    return
                self.retried.append(told)
            else:
                if answer != message:
                    self.failed.append([int(message), "WRONG", repr(answer)])
                with self.lock:
                    self.done += 1
                return


load = Load(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
for thread in load.threads:
    thread.start()
print(json.dumps({"begun": True}), flush=True)
sys.stdin.read()
load.over.set()
for thread in load.threads:
    thread.join()
print(json.dumps({"done": load.done, "retried": load.retried, "failed": load.failed}), flush=True)
