"""gRPC: calls a second and latency against grpcio, grpclib and Go RoadRunner, a server stream, and idle connections."""
