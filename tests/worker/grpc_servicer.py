"""A servicer of generated code, as examples/grpc has it, ``grpc_servicer.py sync|async|generic|serve``."""

from __future__ import annotations

import asyncio
import sys

from twisted_rr.worker import Worker

worker = Worker()

import grpc  # noqa: E402

kind = sys.argv[1]
pb, services = grpc.protos_and_services("echo.proto")


class SyncEcho(services.EchoServicer):
    def Say(self, request, context):
        text = request.text
        if text == "abort":
            try:
                context.abort(grpc.StatusCode.NOT_FOUND, "not there")
            except grpc.aio.AbortError as error:
                print("an AbortError, as in grpcio:", type(error).__name__)
                raise
        if text == "code":
            context.set_code(grpc.StatusCode.DATA_LOSS)
            context.set_details("lost")
            print("code", context.code(), context.details())
        if text == "rich":
            context.abort_with_status(Status())
        if text == "isinstance":
            text = f"{isinstance(context, grpc.ServicerContext)}"
        return pb.Message(text=text)

    def Count(self, request, context):
        for number in range(int(request.text)):
            yield pb.Message(text=str(number))

    def Join(self, requests, context):
        try:
            return pb.Message(text=" ".join(request.text for request in requests))
        except grpc.RpcError as error:
            print("an RpcError, as in grpcio:", type(error).__name__)
            raise

    def Chat(self, requests, context):
        for request in requests:
            yield pb.Message(text=request.text.upper())


class AsyncEcho(services.EchoServicer):
    async def Say(self, request, context):
        if request.text == "abort":
            await context.abort(grpc.StatusCode.NOT_FOUND, "not there")
        if request.text == "code":
            context.set_code(grpc.StatusCode.DATA_LOSS)
            context.set_details("lost")
        text = (
            f"{isinstance(context, grpc.aio.ServicerContext)}"
            if request.text == "isinstance"
            else request.text
        )
        return pb.Message(text=text)

    async def Count(self, request, context):
        for number in range(int(request.text)):
            yield pb.Message(text=str(number))

    async def Join(self, requests, context):
        return pb.Message(text=" ".join([request.text async for request in requests]))

    async def Chat(self, requests, context):
        while (request := await context.read()) is not grpc.aio.EOF:
            await context.write(pb.Message(text=request.text.upper()))


class Status(grpc.Status):
    code = grpc.StatusCode.OUT_OF_RANGE
    details = "too far"
    trailing_metadata = ()


class Generic(grpc.GenericRpcHandler):
    """One that is asked about each call."""

    def service(self, handler_call_details):
        if handler_call_details.method == "/echo.Generic/Say":
            return grpc.unary_unary_rpc_method_handler(lambda request, context: request[::-1])
        return None


services.add_EchoServicer_to_server(AsyncEcho() if kind == "async" else SyncEcho(), worker.grpc)
if kind == "generic":
    worker.grpc.add_generic_rpc_handlers((Generic(),))
if kind == "serve":
    asyncio.run(worker.serve(concurrency=7))
else:
    worker.run(threads=4)
