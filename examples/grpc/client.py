"""Calls the example: ``python client.py [host:port]``."""

import sys

import grpc

echo_pb2, echo_pb2_grpc = grpc.protos_and_services("echo.proto")


def main(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        echo = echo_pb2_grpc.EchoStub(channel)
        message = echo_pb2.Message
        answer, call = echo.Say.with_call(message(text="hello"), timeout=10)
        print(answer.text, dict(call.trailing_metadata())["length"])
        print([one.text for one in echo.Count(message(text="3"), timeout=10)])
        words = [message(text=word) for word in ("a", "b", "c")]
        print(echo.Join(iter(words), timeout=10).text)
        print([one.text.partition(",")[0] for one in echo.Chat(iter(words), timeout=10)])
        try:
            echo.Say(message(), timeout=10)
        except grpc.RpcError as error:
            print(error.code().name, error.details())


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9001")
