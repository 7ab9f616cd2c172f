"""The other Python servers, one process each: ``peers.py sync|aio|grpclib PORT``."""

import asyncio
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

from echo_pb2 import Message
from echo_pb2_grpc import add_EchoServicer_to_server
from servicer import AsyncEcho, Echo


def sync(address):
    import grpc

    server = grpc.server(ThreadPoolExecutor(10))
    add_EchoServicer_to_server(Echo(), server)
    server.add_insecure_port(address)
    server.start()
    signal.signal(signal.SIGTERM, lambda *_: server.stop(1))
    server.wait_for_termination()


async def aio(address):
    import grpc

    server = grpc.aio.server()
    add_EchoServicer_to_server(AsyncEcho(), server)
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


class Mapping:
    """What grpclib's generator would write for these two methods."""

    async def say(self, stream):
        request = await stream.recv_message()
        await stream.send_message(Message(text=request.text))

    async def count(self, stream):
        request = await stream.recv_message()
        for _ in range(int(request.text)):
            await stream.send_message(Message(text="x" * 98))

    def __mapping__(self):
        from grpclib.const import Cardinality, Handler

        return {
            "/echo.Echo/Say": Handler(self.say, Cardinality.UNARY_UNARY, Message, Message),
            "/echo.Echo/Count": Handler(self.count, Cardinality.UNARY_STREAM, Message, Message),
        }


async def grpclib(address):
    from grpclib.server import Server

    server = Server([Mapping()])
    host, _, port = address.partition(":")
    # More than its default of 100, because 1,000 clients come at once.
    await server.start(host, int(port), backlog=1024)
    await server.wait_closed()


kind, port = sys.argv[1:]
if kind == "sync":
    sync(f"127.0.0.1:{port}")
else:
    asyncio.run({"aio": aio, "grpclib": grpclib}[kind](f"127.0.0.1:{port}"))
