"""Streams of messages without a byte, each thousandth with its number; ``async`` as argument: with coroutines.

``Give`` notes how many it has given, ``Take`` begins to take when the file GO is there and answers with what it took.
"""

import asyncio
import os
import sys
import time
from pathlib import Path

from twisted_rr.worker import Worker

worker = Worker()
NOTES, GO = Path(os.environ["NOTES"]), Path(os.environ["GO"])


def numbered(number):
    return b"" if number % 1000 else b"%d" % number


def give(request, context):
    for number in range(int(request)):
        if not number % 1000:
            NOTES.write_text(str(number))
        yield numbered(number)


async def give_async(request, context):
    for message in give(request, context):
        yield message


def take(requests, context):
    while not GO.exists():
        time.sleep(0.05)
    taken = 0
    for message in requests:
        if message != numbered(taken):
            return b"%d: %r" % (taken, message)
        taken += 1
    return b"%d" % taken


async def take_async(requests, context):
    while not GO.exists():
        await asyncio.sleep(0.05)
    taken = 0
    async for message in requests:
        if message != numbered(taken):
            return b"%d: %r" % (taken, message)
        taken += 1
    return b"%d" % taken


coroutines = "async" in sys.argv
worker.grpc.method("test.Empties/Give", give_async if coroutines else give, "unary_stream")
worker.grpc.method("test.Empties/Take", take_async if coroutines else take, "stream_unary")
worker.run()
