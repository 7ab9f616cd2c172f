"""A gRPC servicer as grpcio-tools generates it, in a worker: all four kinds of method, sync and async mixed.

    pip install grpcio grpcio-tools
    twisted-rr serve

Here the classes are generated when the worker starts. Run protoc instead where it is built, and import them:

    python -m grpc_tools.protoc -I. --python_out=. --grpc_python_out=. echo.proto
"""

from twisted_rr.worker import Worker

worker = Worker()

import grpc  # noqa: E402, after Worker, which takes the relay before anything can print to it

echo_pb2, echo_pb2_grpc = grpc.protos_and_services("echo.proto")


class Echo(echo_pb2_grpc.EchoServicer):
    def Say(self, request, context):  # noqa: N802, the service's name
        """An ordinary method runs in a thread."""
        if not request.text:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "there is nothing to say")
        context.set_trailing_metadata((("length", str(len(request.text))),))
        return echo_pb2.Message(text=request.text)

    def Count(self, request, context):  # noqa: N802
        """A generator is read no faster than the client reads."""
        for number in range(int(request.text)):
            yield echo_pb2.Message(text=str(number))

    async def Join(self, requests, context):  # noqa: N802
        """A coroutine runs on the worker's event loop, beside a thousand others."""
        return echo_pb2.Message(text=" ".join([request.text async for request in requests]))

    async def Chat(self, requests, context):  # noqa: N802
        """Cancelled when the client leaves or the deadline passes."""
        async for request in requests:
            yield echo_pb2.Message(text=f"{request.text}, {context.peer()}")


echo_pb2_grpc.add_EchoServicer_to_server(Echo(), worker.grpc)

if __name__ == "__main__":
    worker.run()
