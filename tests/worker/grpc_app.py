"""Handlers of every kind, of plain bytes, for the tests of gRPC workers; ``sync`` or ``async`` is asked for."""

from __future__ import annotations

import asyncio
import contextvars
import os
import sys
import threading
import time
from pathlib import Path

variable = contextvars.ContextVar("variable", default="unset")


def note(text: str) -> None:
    """To be read by the test: the standard error is kept."""
    sys.stderr.write(f"{text}\n")


def forked(how):
    """The child comes back to the SDK, in the way *how*; its exit code."""
    pid = os.fork()
    if pid == 0:
        if how == b"raise":
            raise ValueError("in the child")
        if how == b"exit":
            sys.exit(9)
        return b"the child"
    _, status = os.waitpid(pid, 0)
    return b"%d" % os.waitstatus_to_exitcode(status)


def register_unary(grpc):
    @grpc.method("t.S/Nap")
    def nap(request, context):
        time.sleep(float(request))
        return request


def register_sync(grpc):
    method = grpc.method

    @method("t.S/Upper")
    def upper(request, context):
        return request.upper()

    @method("t.S/Repeat", kind="unary_stream")
    def repeat(request, context):
        count, _, word = request.partition(b" ")
        for number in range(int(count)):
            yield word or b"%d" % number

    @method("t.S/Join", kind="stream_unary")
    def join(requests, context):
        return b",".join(requests)

    @method("t.S/Chat", kind="stream_stream")
    def chat(requests, context):
        for request in requests:
            yield b"<" + request + b">"

    @method("t.S/Slurp", kind="stream_unary")
    def slurp(requests, context):
        return b"%d" % sum(len(request) for request in requests)

    @method("t.S/Status")
    def status(request, context):
        code, _, text = request.decode().partition(" ")
        context.set_code(int(code))
        context.set_details(text)
        context.set_trailing_metadata([("t", "1"), ("b-bin", b"\xff\x00")])
        return b"ignored" if int(code) else b"kept"

    @method("t.S/Abort")
    def abort(request, context):
        context.set_trailing_metadata([("t", "1")])
        context.abort(int(request), "said so")

    @method("t.S/AbortLate", kind="unary_stream")
    def abort_late(request, context):
        yield b"one"
        context.abort(9, "after one")

    @method("t.S/Rich")
    def rich(request, context):
        class Status:
            code = 3
            details = "bad"
            trailing_metadata = (
                ("grpc-status-details-bin", b"\x08\x03\x12\x03bad\x1a\x03\n\x01x"),
                ("k", "v"),
            )

        context.abort_with_status(Status)

    @method("t.S/Boom")
    def boom(request, context):
        raise ValueError("boom")

    @method("t.S/BoomWithCode")
    def boom_with_code(request, context):
        context.set_code(7)
        context.set_details("mine")
        raise ValueError("boom")

    @method("t.S/BoomLate", kind="unary_stream")
    def boom_late(request, context):
        yield b"one"
        raise ValueError("late")

    @method("t.S/Fork")
    def fork(request, context):
        return forked(request)

    @method("t.S/Exit")
    def exits(request, context):
        raise SystemExit(3)

    @method("t.S/None")
    def nothing(request, context):
        return None

    @method("t.S/Fail")
    def fail(request, context):
        context.set_code(5)
        context.set_details("no such")

    @method("t.S/Meta")
    def meta(request, context):
        context.send_initial_metadata((("got", str(len(context.invocation_metadata()))),))
        try:
            context.send_initial_metadata(())
        except ValueError as error:
            note(str(error))
        found = [f"{pair.key}={pair.value!r}" for pair in context.invocation_metadata()]
        return "|".join([*found, context.peer(), repr(dict(context.auth_context()))]).encode()

    @method("t.S/MetaLate", kind="unary_stream")
    def meta_late(request, context):
        yield b"one"
        context.send_initial_metadata((("a", "b"),))

    @method("t.S/BadMeta")
    def bad_meta(request, context):
        context.set_trailing_metadata([(request.decode("latin-1"), "a\nb")])
        return b""

    @method("t.S/Time")
    def remaining(request, context):
        left = context.time_remaining()
        return b"none" if left is None else b"%.3f" % left

    @method("t.S/Expire", kind="unary_stream")
    def expire(request, context):
        yield b"one"
        while context.is_active():
            time.sleep(0.005)
        yield b"late"

    @method("t.S/Wait")
    def wait(request, context):
        ended = threading.Event()
        note(f"added {context.add_callback(ended.set)}")
        note(f"active {context.is_active()}")
        ended.wait(20)
        note(f"active {context.is_active()}")
        note(f"late {context.add_callback(ended.set)}")
        return b"nobody"

    @method("t.S/WaitRead", kind="stream_unary")
    def wait_read(requests, context):
        try:
            for _ in requests:
                note("got one")
        except Exception as error:
            note(f"read raised {type(error).__name__}: {error}")
            raise
        return b""

    @method("t.S/Endless", kind="unary_stream")
    def endless(request, context):
        try:
            while True:
                yield request
        finally:
            note("closed")

    @method("t.S/Cancel")
    def cancel(request, context):
        context.cancel()
        note(f"active {context.is_active()}")
        return b""

    @method("t.S/Callback")
    def callback(request, context):
        context.add_callback(lambda: note("called back"))
        context.add_callback(lambda: 1 / 0)
        context.add_callback(lambda: note("and again"))
        return b""

    @method("t.S/Variable")
    def read_variable(request, context):
        before = variable.get()
        variable.set(request.decode())
        return before.encode()

    @method("t.S/Thread")
    def thread(request, context):
        return threading.current_thread().name.encode()

    @method("t.S/Burst", kind="unary_stream")
    def burst(request, context):
        """A while of nothing, many messages at once, and then none until a file is there."""
        time.sleep(0.02)
        for _ in range(45):
            yield b"x"
        yield touch(request, context)

    @method("t.S/Touch")
    def touch(request, context):
        """Waits for a file: how a test holds a handler, without a clock."""
        path = Path(request.decode())
        deadline = time.monotonic() + 20
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.002)
        return b"there" if path.exists() else b"missing"

    @method("t.S/Compress")
    def compress(request, context):
        context.set_compression(2)
        context.disable_next_message_compression()
        return b"%d" % os.getpid()


def register_async(grpc):
    method = grpc.method

    @method("t.S/Upper")
    async def upper(request, context):
        return request.upper()

    @method("t.S/Repeat", kind="unary_stream")
    async def repeat(request, context):
        count, _, word = request.partition(b" ")
        for number in range(int(count)):
            yield word or b"%d" % number

    @method("t.S/Join", kind="stream_unary")
    async def join(requests, context):
        return b",".join([request async for request in requests])

    @method("t.S/Chat", kind="stream_stream")
    async def chat(requests, context):
        async for request in requests:
            yield b"<" + request + b">"

    @method("t.S/Slurp", kind="stream_unary")
    async def slurp(requests, context):
        return b"%d" % sum([len(request) async for request in requests])

    @method("t.S/ReadWrite", kind="stream_stream")
    async def read_write(requests, context):
        while isinstance(request := await context.read(), bytes):
            await context.write(request.upper())
        context.set_details(f"end {getattr(request, '__name__', request)}")

    @method("t.S/Status")
    async def status(request, context):
        code, _, text = request.decode().partition(" ")
        context.set_code(int(code))
        context.set_details(text)
        context.set_trailing_metadata([("t", "1"), ("b-bin", b"\xff\x00")])
        return b"ignored" if int(code) else b"kept"

    @method("t.S/Abort")
    async def abort(request, context):
        await context.abort(int(request), "said so", (("t", "1"),))

    @method("t.S/AbortLate", kind="unary_stream")
    async def abort_late(request, context):
        yield b"one"
        await context.abort(9, "after one")

    @method("t.S/Rich")
    async def rich(request, context):
        class Status:
            code = 3
            details = "bad"
            trailing_metadata = (
                ("grpc-status-details-bin", b"\x08\x03\x12\x03bad\x1a\x03\n\x01x"),
                ("k", "v"),
            )

        await context.abort_with_status(Status)

    @method("t.S/Boom")
    async def boom(request, context):
        raise ValueError("boom")

    @method("t.S/BoomWithCode")
    async def boom_with_code(request, context):
        context.set_code(7)
        context.set_details("mine")
        raise ValueError("boom")

    @method("t.S/BoomLate", kind="unary_stream")
    async def boom_late(request, context):
        yield b"one"
        raise ValueError("late")

    @method("t.S/Fork")
    async def fork(request, context):
        return forked(request)

    @method("t.S/Exit")
    async def exits(request, context):
        raise SystemExit(3)

    @method("t.S/None")
    async def nothing(request, context):
        return None

    @method("t.S/Fail")
    async def fail(request, context):
        context.set_code(5)
        context.set_details("no such")

    @method("t.S/Unset")
    async def unset(request, context):
        context.set_trailing_metadata(context.trailing_metadata() + (("t", context.details()),))
        return b"end" if not isinstance(await context.read(), bytes) else b"a message"

    @method("t.S/Meta")
    async def meta(request, context):
        await context.send_initial_metadata((("got", str(len(context.invocation_metadata()))),))
        try:
            await context.send_initial_metadata(())
        except ValueError as error:
            note(str(error))
        found = [f"{pair.key}={pair.value!r}" for pair in context.invocation_metadata()]
        return "|".join([*found, context.peer(), repr(dict(context.auth_context()))]).encode()

    @method("t.S/MetaLate", kind="unary_stream")
    async def meta_late(request, context):
        yield b"one"
        await context.send_initial_metadata((("a", "b"),))

    @method("t.S/BadMeta")
    async def bad_meta(request, context):
        context.set_trailing_metadata([(request.decode("latin-1"), "a\nb")])
        return b""

    @method("t.S/Time")
    async def remaining(request, context):
        left = context.time_remaining()
        return b"none" if left is None else b"%.3f" % left

    @method("t.S/Expire", kind="unary_stream")
    async def expire(request, context):
        yield b"one"
        while context.is_active():
            await asyncio.sleep(0.005)
        yield b"late"

    @method("t.S/Wait")
    async def wait(request, context):
        context.add_done_callback(lambda context: note(f"done {context.done()} {context.cancelled()}"))
        note(f"active {not context.done()}")
        try:
            await asyncio.sleep(1000)
        finally:
            note("task cancelled")

    @method("t.S/WaitRead", kind="stream_unary")
    async def wait_read(requests, context):
        try:
            async for _ in requests:
                note("got one")
        except BaseException as error:
            note(f"read raised {type(error).__name__}: {error}")
            raise
        return b""

    @method("t.S/Endless", kind="unary_stream")
    async def endless(request, context):
        try:
            while True:
                yield request
        finally:
            note("closed")

    @method("t.S/Cancel")
    async def cancel(request, context):
        context.cancel()
        note(f"active {context.is_active()}")
        return b""

    @method("t.S/Callback")
    async def callback(request, context):
        context.add_done_callback(lambda _: note("called back"))
        context.add_done_callback(lambda _: 1 / 0)
        context.add_done_callback(lambda _: note("and again"))
        return b""

    @method("t.S/Variable")
    async def read_variable(request, context):
        before = variable.get()
        variable.set(request.decode())
        return before.encode()

    @method("t.S/Thread")
    async def thread(request, context):
        return threading.current_thread().name.encode()

    @method("t.S/Burst", kind="unary_stream")
    async def burst(request, context):
        """A while of nothing, many messages at once, and then none until a file is there."""
        await asyncio.sleep(0.02)
        for _ in range(45):
            yield b"x"
        yield await touch(request, context)

    @method("t.S/Touch")
    async def touch(request, context):
        path = Path(request.decode())
        deadline = time.monotonic() + 20
        while not path.exists() and time.monotonic() < deadline:
            await asyncio.sleep(0.002)
        return b"there" if path.exists() else b"missing"

    @method("t.S/Compress")
    async def compress(request, context):
        context.set_compression(2)
        context.disable_next_message_compression()
        return b"%d" % os.getpid()


def register_mixed(grpc):
    """Ordinary functions beside a loop, which one coroutine function brings about."""
    register_sync(grpc)

    @grpc.method("t.A/Upper")
    async def upper(request, context):
        return request.upper()


def register_nothing(grpc):
    """A worker that forgot its servicers."""


def register_broken(grpc):
    grpc.method("no path", lambda request, context: request)
