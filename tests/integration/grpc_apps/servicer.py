"""The servicer of interop.proto under the worker SDK, with ordinary functions; ``async`` as argument: with coroutines."""

import asyncio
import os
import sys
import time

from twisted_rr.worker import Worker

worker = Worker()

import grpc  # noqa: E402
import interop_pb2 as pb  # noqa: E402
import interop_pb2_grpc as stubs  # noqa: E402

EVENTS = os.environ.get("EVENTS", os.devnull)


def tell(event):
    with open(EVENTS, "a") as file:
        file.write(event + "\n")


def doze(seconds, context):
    """Sleep; a cancelled call wakes up."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and context.is_active():
        time.sleep(0.01)


def answer_metadata(context):
    given = dict(context.invocation_metadata())
    if "x-echo" in given:
        context.send_initial_metadata((("x-echo", given["x-echo"]),))
    if "x-echo-bin" in given:
        context.set_trailing_metadata((("x-echo-bin", given["x-echo-bin"]),))


async def async_metadata(context):
    given = dict(context.invocation_metadata())
    if "x-echo" in given:
        await context.send_initial_metadata((("x-echo", given["x-echo"]),))
    if "x-echo-bin" in given:
        context.set_trailing_metadata((("x-echo-bin", given["x-echo-bin"]),))


class Interop(stubs.InteropServicer):
    def EmptyCall(self, request, context):
        return pb.Empty()

    def UnaryCall(self, request, context):
        answer_metadata(context)
        if request.code:
            context.abort(grpc.StatusCode(_code(request.code)), request.message)
        if request.sleep:
            tell("started")
            left = context.time_remaining()
            tell(f"remaining {left:.1f}" if left is not None and left < 1e6 else "no deadline")
            doze(request.sleep, context)
            tell("done" if context.is_active() else "cancelled")
        if request.message == "boom":
            raise RuntimeError("boom")
        return pb.Response(body=bytes(request.size), text=f"{os.getpid()} {context.peer()}")

    def StreamingOutputCall(self, request, context):
        tell("started")
        try:
            for size in request.sizes:
                doze(request.sleep, context)
                yield pb.Response(body=bytes(size))
        finally:
            tell("closed" if context.is_active() else "cancelled")

    def StreamingInputCall(self, requests, context):
        return pb.Response(total=sum(len(request.body) for request in requests))

    def FullDuplexCall(self, requests, context):
        answer_metadata(context)
        for request in requests:
            if request.code:
                context.abort(grpc.StatusCode(_code(request.code)), request.message)
            doze(request.sleep, context)
            for size in request.sizes:
                yield pb.Response(body=bytes(size))


class AsyncInterop(stubs.InteropServicer):
    async def EmptyCall(self, request, context):
        return pb.Empty()

    async def UnaryCall(self, request, context):
        await async_metadata(context)
        if request.code:
            await context.abort(grpc.StatusCode(_code(request.code)), request.message)
        if request.message == "boom":
            raise RuntimeError("boom")
        if request.sleep:
            try:
                tell("started")
                await asyncio.sleep(request.sleep)
            except asyncio.CancelledError:
                tell("cancelled")
                raise
        return pb.Response(body=bytes(request.size), text=f"{os.getpid()} {context.peer()}")

    async def StreamingOutputCall(self, request, context):
        for size in request.sizes:
            if request.sleep:
                await asyncio.sleep(request.sleep)
            yield pb.Response(body=bytes(size))

    async def StreamingInputCall(self, requests, context):
        total = 0
        async for request in requests:
            total += len(request.body)
        return pb.Response(total=total)

    async def FullDuplexCall(self, requests, context):
        await async_metadata(context)
        async for request in requests:
            if request.code:
                await context.abort(grpc.StatusCode(_code(request.code)), request.message)
            if request.sleep:
                await asyncio.sleep(request.sleep)
            for size in request.sizes:
                yield pb.Response(body=bytes(size))


def _code(number):
    return next(code.value for code in grpc.StatusCode if code.value[0] == number)


servicer = AsyncInterop() if "async" in sys.argv else Interop()
stubs.add_InteropServicer_to_server(servicer, worker.grpc)
worker.run(threads=120)
