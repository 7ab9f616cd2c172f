"""grpcio's own client, in a process of its own: ``client.py ADDRESS CASE...`` prints the cases' results as JSON.

A case is ``name`` or ``name:argument``. Results are what happened; what should have happened the tests know.
"""

import json
import os
import sys
import threading
import time
import traceback

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc
import interop_pb2 as pb
import interop_pb2_grpc as stubs
from grpc_health.v1 import health_pb2, health_pb2_grpc

LIMIT = 64 << 20
OPTIONS = [
    ("grpc.max_receive_message_length", LIMIT),
    ("grpc.max_send_message_length", LIMIT),
    ("grpc.enable_retries", int(os.environ.get("RETRIES", "0"))),
]
CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


def say(**event):
    print(json.dumps({"at": time.monotonic(), **event}), flush=True)


def error(failure):
    return {"code": failure.code().name, "details": failure.details()}


@case
def empty_unary(channel, argument):
    return stubs.InteropStub(channel).EmptyCall(pb.Empty()) == pb.Empty()


@case
def unary(channel, argument):
    answer = stubs.InteropStub(channel).UnaryCall(pb.Request(size=int(argument or 10)))
    return {"size": len(answer.body), "text": answer.text}


@case
def large_unary(channel, argument):
    sent, wanted = (int(part) for part in (argument or "271828,314159").split(","))
    try:
        answer = stubs.InteropStub(channel).UnaryCall(pb.Request(size=wanted, body=bytes(sent)))
    except grpc.RpcError as failure:
        return error(failure)
    return len(answer.body)


@case
def gzip(channel, argument):
    call = stubs.InteropStub(channel).UnaryCall
    answer, done = call.with_call(
        pb.Request(size=100000, body=bytes(100000)), compression=grpc.Compression.Gzip
    )
    return len(answer.body)


@case
def client_streaming(channel, argument):
    sizes = [27182, 8, 1828, 45904]
    answer = stubs.InteropStub(channel).StreamingInputCall(pb.Request(body=bytes(size)) for size in sizes)
    return answer.total


@case
def server_streaming(channel, argument):
    sizes = [31415, 9, 2653, 58979]
    return [len(one.body) for one in stubs.InteropStub(channel).StreamingOutputCall(pb.Request(sizes=sizes))]


@case
def ping_pong(channel, argument):
    turn = threading.Semaphore(1)

    def requests():
        for size in (31415, 9, 2653, 58979):
            turn.acquire()
            yield pb.Request(sizes=[size], body=bytes(size))

    seen = []
    for one in stubs.InteropStub(channel).FullDuplexCall(requests()):
        seen.append(len(one.body))
        turn.release()
    return seen


@case
def empty_stream(channel, argument):
    return list(stubs.InteropStub(channel).FullDuplexCall(iter(())))


@case
def speaks_first(channel, argument):
    """The client says nothing before its deadline: initial metadata or not, the call has to reach a worker."""
    forever = threading.Event()

    def requests():
        forever.wait(5)
        return
        yield

    call = stubs.InteropStub(channel).FullDuplexCall(requests(), metadata=(("x-echo", "hello"),), timeout=3)
    try:
        return dict(call.initial_metadata())
    finally:
        forever.set()
        call.cancel()


@case
def cancel_after_begin(channel, argument):
    call = stubs.InteropStub(channel).StreamingInputCall.future(iter_forever())
    time.sleep(0.2)
    call.cancel()
    return call.code().name


def iter_forever():
    while True:
        time.sleep(0.05)
        yield pb.Request(body=b"x")


@case
def cancel_after_first_response(channel, argument):
    call = stubs.InteropStub(channel).FullDuplexCall(iter([pb.Request(sizes=[10]), pb.Request(sleep=20)]))
    next(call)
    call.cancel()
    try:
        next(call)
    except grpc.RpcError as failure:
        return failure.code().name


@case
def timeout_on_sleeping_server(channel, argument):
    try:
        stubs.InteropStub(channel).UnaryCall(pb.Request(sleep=20), timeout=0.3)
    except grpc.RpcError as failure:
        return error(failure)


@case
def cancelled_unary(channel, argument):
    call = stubs.InteropStub(channel).UnaryCall.future(pb.Request(sleep=20))
    time.sleep(0.5)
    call.cancel()
    return call.code().name


@case
def status_code_and_message(channel, argument):
    text = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n 100%"
    found = []
    stub = stubs.InteropStub(channel)
    try:
        stub.UnaryCall(pb.Request(code=2, message=text))
    except grpc.RpcError as failure:
        found.append(failure.code() is grpc.StatusCode.UNKNOWN and failure.details() == text)
    try:
        list(stub.FullDuplexCall(iter([pb.Request(sizes=[1]), pb.Request(code=5, message="gone")])))
    except grpc.RpcError as failure:
        found.append(error(failure))
    return found


@case
def raises(channel, argument):
    try:
        stubs.InteropStub(channel).UnaryCall(pb.Request(message="boom"))
    except grpc.RpcError as failure:
        return error(failure)


@case
def unimplemented_method(channel, argument):
    try:
        stubs.InteropStub(channel).UnimplementedCall(pb.Empty())
    except grpc.RpcError as failure:
        return error(failure)


@case
def unimplemented_service(channel, argument):
    call = channel.unary_unary("/no.such.Service/Method")
    try:
        call(b"")
    except grpc.RpcError as failure:
        return error(failure)


@case
def custom_metadata(channel, argument):
    metadata = (("x-echo", "test_initial_metadata_value"), ("x-echo-bin", b"\xab\xab\xab"))
    stub = stubs.InteropStub(channel)
    _, call = stub.UnaryCall.with_call(pb.Request(size=1), metadata=metadata)
    found = [
        dict(call.initial_metadata()).get("x-echo"),
        dict(call.trailing_metadata()).get("x-echo-bin").hex(),
    ]
    stream = stub.FullDuplexCall(iter([pb.Request(sizes=[1])]), metadata=metadata)
    list(stream)
    found += [
        dict(stream.initial_metadata()).get("x-echo"),
        dict(stream.trailing_metadata())["x-echo-bin"].hex(),
    ]
    return found


@case
def health(channel, argument):
    stub = health_pb2_grpc.HealthStub(channel)
    found = {}
    for name in ("", "rr.interop.Interop", "readiness", "liveness", "startup", "no.such"):
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(service=name))
            found[name] = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
        except grpc.RpcError as failure:
            found[name] = failure.code().name
    watch = stub.Watch(health_pb2.HealthCheckRequest(service="no.such"))
    found["watch"] = health_pb2.HealthCheckResponse.ServingStatus.Name(next(watch).status)
    watch.cancel()
    listed = stub.List(health_pb2.HealthListRequest())
    found["list"] = sorted(listed.statuses)
    return found


@case
def reflection(channel, argument):
    from google.protobuf.descriptor_pool import DescriptorPool
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

    database = ProtoReflectionDescriptorDatabase(channel)
    pool = DescriptorPool(database)
    service = pool.FindServiceByName("rr.interop.Interop")
    method = service.FindMethodByName("UnaryCall")
    health = pool.FindServiceByName("grpc.health.v1.Health")
    return {
        "services": sorted(database.get_services()),
        "methods": [one.name for one in service.methods],
        "input": sorted(field.name for field in method.input_type.fields),
        "health": [one.name for one in health.methods],
    }


@case
def reflection_v1(channel, argument):
    """The newer package has the same messages: only its name differs."""
    from grpc_reflection.v1alpha import reflection_pb2 as messages

    call = channel.stream_stream(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        request_serializer=messages.ServerReflectionRequest.SerializeToString,
        response_deserializer=messages.ServerReflectionResponse.FromString,
    )
    questions = [
        messages.ServerReflectionRequest(list_services=""),
        messages.ServerReflectionRequest(file_containing_symbol="no.such"),
    ]
    answers = list(call(iter(questions)))
    return [len(answers[0].list_services_response.service), answers[1].error_response.error_code]


@case
def watch(channel, argument):
    """Prints every status until the server ends the Watch."""
    call = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=argument or ""))
    try:
        for answer in call:
            say(watch=health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))
    except grpc.RpcError as failure:
        say(watch="ended", **error(failure))
        return failure.code().name


@case
def sleep(channel, argument):
    say(call="begun")
    try:
        stubs.InteropStub(channel).UnaryCall(pb.Request(sleep=float(argument)))
    except grpc.RpcError as failure:
        return error(failure)
    say(call="over")
    return "OK"


@case
def slow_stream(channel, argument):
    count, pause = argument.split(",")
    say(call="begun")
    seen = 0
    try:
        request = pb.Request(sizes=[10] * int(count), sleep=float(pause))
        for _ in stubs.InteropStub(channel).StreamingOutputCall(request):
            seen += 1
            if seen == 1:
                say(call="first")
    except grpc.RpcError as failure:
        return {"seen": seen, **error(failure)}
    return {"seen": seen}


@case
def many(channel, argument):
    """``count,least,most``: so many calls at once, of so many seconds, on ten connections."""
    words = argument.split(",")
    count, least, most = int(words[0]), float(words[1]), float(words[2])
    options = [*OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.insecure_channel(sys.argv[1], options=options) for _ in range(10)]
    found = []

    def one(number):
        seconds = least + (most - least) * number / count
        try:
            stubs.InteropStub(channels[number % 10]).UnaryCall(pb.Request(sleep=seconds))
            found.append("OK")
        except grpc.RpcError as failure:
            found.append(f"{failure.code().name} {failure.details()}")

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    say(call="begun")
    for thread in threads:
        thread.join()
    for one_channel in channels:
        one_channel.close()
    return {code: found.count(code) for code in sorted(set(found))}


@case
def never_reads(channel, argument):
    """Asks for much and takes the first message only; then others have to be served all the same."""
    stub = stubs.InteropStub(channel)
    call = stub.StreamingOutputCall(pb.Request(sizes=[100000] * 2000))
    next(call)
    time.sleep(0.5)
    other = stub.EmptyCall(pb.Empty(), timeout=5) == pb.Empty()
    rest = sum(1 for _ in call)
    return [other, rest]


@case
def throughput(channel, argument):
    started = time.monotonic()
    count = sum(1 for _ in stubs.InteropStub(channel).StreamingOutputCall(pb.Request(sizes=[100] * 20000)))
    return [count, time.monotonic() - started]


@case
def push(channel, argument):
    total = (
        stubs.InteropStub(channel)
        .StreamingInputCall(pb.Request(body=bytes(100000)) for _ in range(500))
        .total
    )
    return total


@case
def raw(channel, argument):
    """A call of bytes to a method, with an answer of bytes: ``raw:/pkg.Service/Method,text``."""
    path, _, text = argument.partition(",")
    call = channel.unary_unary(path)
    metadata = (("x-one", "1"), ("x-one", "2"), ("x-data-bin", b"\x00\xff"))
    try:
        answer, done = call.with_call(text.encode(), metadata=metadata, timeout=10)
    except grpc.RpcError as failure:
        rich = dict(failure.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
        return {**error(failure), "rich": rich.hex()}
    return {
        "answer": answer.decode("latin-1"),
        "initial": [list(map(str, pair)) for pair in done.initial_metadata()],
        "trailing": [list(map(str, pair)) for pair in done.trailing_metadata()],
    }


def channel_to(address):
    certificate = os.environ.get("ROOT_CA")
    if not certificate:
        return grpc.insecure_channel(address, options=OPTIONS)

    def read(name):
        path = os.environ.get(name)
        return open(path, "rb").read() if path else None

    credentials = grpc.ssl_channel_credentials(read("ROOT_CA"), read("CLIENT_KEY"), read("CLIENT_CERT"))
    return grpc.secure_channel(address, credentials, options=OPTIONS)


def main():
    results = {}
    for wanted in sys.argv[2:]:
        name, _, argument = wanted.partition(":")
        with channel_to(sys.argv[1]) as channel:
            try:
                results[name] = CASES[name](channel, argument)
            except grpc.RpcError as failure:
                results[name] = {"failed": failure.code().name, "details": failure.details()}
            except Exception:
                results[name] = {"raised": traceback.format_exc()}
    print(json.dumps({"results": results}), flush=True)


main()
