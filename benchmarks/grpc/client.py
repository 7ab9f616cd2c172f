"""A C-core client in a process of its own: unary echo by grpcio's core, as fast as it can.

``client.py PORT CONNECTIONS STREAMS SECONDS`` prints one JSON object. Every answer is compared. It drives the core below grpcio's public API (of the pinned version), because that API costs a Python
client more than a call costs most of the servers: what is measured is to be the server.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time

os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from grpc._cython import cygrpc

MESSAGE = b"\x0a\x62" + b"x" * 98
#: Each connection is a TCP connection; without the option channels to one target share one.
OPTIONS = ((b"grpc.use_local_subchannel_pool", 1), (b"grpc.enable_retries", 0))


class Connection(threading.Thread):
    """So many calls outstanding on one connection, until *over*."""

    def __init__(self, port: int, streams: int, over: float) -> None:
        super().__init__()
        self.channel = cygrpc.Channel(f"127.0.0.1:{port}".encode(), OPTIONS, None)
        self.streams = streams
        self.over = over
        self.latencies: list[float] = []
        self.wrong = 0

    def run(self) -> None:
        for _ in range(self.streams):
            self.begin()
        open_calls = self.streams
        next_event = self.channel.next_call_event
        while open_calls:
            event = next_event()
            if event.completion_type == cygrpc.CompletionType.queue_timeout:
                continue
            event.tag(event)
            if time.perf_counter() < self.over:
                self.begin()
            else:
                open_calls -= 1
        self.channel.close(cygrpc.StatusCode.cancelled, "")

    def begin(self) -> None:
        received = cygrpc.ReceiveMessageOperation(0)
        status = cygrpc.ReceiveStatusOnClientOperation(0)
        operations = (
            cygrpc.SendInitialMetadataOperation(None, 0),
            cygrpc.SendMessageOperation(MESSAGE, 0),
            cygrpc.SendCloseFromClientOperation(0),
            cygrpc.ReceiveInitialMetadataOperation(0),
            received,
            status,
        )
        begun = time.perf_counter()

        def ended(event: object) -> bool:
            self.latencies.append(time.perf_counter() - begun)
            if received.message() != MESSAGE or status.code() != 0:
                self.wrong += 1
            return True

        self.channel.integrated_call(
            0, b"/echo.Echo/Say", None, None, None, None, ((operations, ended),), None, None
        )


def unary(port: int, connections: int, streams: int, seconds: float) -> dict:
    begun = time.perf_counter()
    clients = [Connection(port, streams, begun + seconds) for _ in range(connections)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    took = time.perf_counter() - begun
    latencies = sorted(one for client in clients for one in client.latencies)
    return {
        "rate": len(latencies) / took,
        "calls": len(latencies),
        "p50": latencies[len(latencies) // 2] * 1000,
        "p99": latencies[int(len(latencies) * 0.99)] * 1000,
        "failed": bool(sum(client.wrong for client in clients)),
    }


if __name__ == "__main__":
    port, connections, streams = (int(word) for word in sys.argv[1:4])
    print(json.dumps(unary(port, connections, streams, float(sys.argv[4]))))
