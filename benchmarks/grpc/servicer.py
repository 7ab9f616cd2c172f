"""The servicer of every contender that takes generated classes."""

# ruff: noqa: N802

import echo_pb2
import echo_pb2_grpc


class Echo(echo_pb2_grpc.EchoServicer):
    def Say(self, request, context):
        return echo_pb2.Message(text=request.text)

    def Count(self, request, context):
        for _ in range(int(request.text)):
            yield echo_pb2.Message(text="x" * 98)


class AsyncEcho(echo_pb2_grpc.EchoServicer):
    async def Say(self, request, context):
        return echo_pb2.Message(text=request.text)

    async def Count(self, request, context):
        for _ in range(int(request.text)):
            yield echo_pb2.Message(text="x" * 98)
