"""The smallest gRPC worker: it answers each message with itself, and needs no generated classes."""

from twisted_rr.worker import Worker

worker = Worker()
worker.grpc.method("echo.Echo/Say", lambda message, context: message)
worker.run()
