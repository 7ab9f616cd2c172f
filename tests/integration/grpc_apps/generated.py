"""Makes the classes of interop.proto and testing.proto in a folder, once a test session; run by the tests with grpcio-tools."""

import os
import sys
from pathlib import Path


def make(folder):
    """interop_pb2, interop_pb2_grpc and the same of testing in *folder*."""
    import grpc_tools
    from grpc_tools import protoc

    here = Path(__file__).parent
    own = Path(grpc_tools.__file__).parent / "_proto"
    arguments = ["protoc", f"-I{here}", f"-I{own}", f"--python_out={folder}", f"--grpc_python_out={folder}"]
    return protoc.main([*arguments, str(here / "interop.proto"), str(here / "testing.proto")])


if __name__ == "__main__":
    os.makedirs(sys.argv[1], exist_ok=True)
    sys.exit(make(sys.argv[1]))
