"""Our workers: ``servicer``, of generated classes as grpcio serves it too, or ``bytes``, without any classes."""

import sys

from twisted_rr.worker import Worker

worker = Worker()


def say(message, context):
    return message


def count(message, context):
    answer = b"\x0a\x62" + b"x" * 98
    for _ in range(int(message[2:])):
        yield answer


if sys.argv[1] == "servicer":
    from echo_pb2_grpc import add_EchoServicer_to_server
    from servicer import Echo

    add_EchoServicer_to_server(Echo(), worker.grpc)
else:
    worker.grpc.method("echo.Echo/Say", say)
    worker.grpc.method("echo.Echo/Count", count, "unary_stream")

# The pool is told of as many calls as there are threads: 10, the default, is what grpcio is given.
worker.run(threads=32)
