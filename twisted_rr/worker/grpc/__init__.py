"""gRPC in the worker: servicers as grpcio-tools generates them, and handlers of plain bytes.

grpcio is needed by generated code only and not imported here. Nothing is loaded before ``Worker.grpc`` is used.
"""

from twisted_rr.worker.grpc.services import Services

__all__ = ["Services"]
