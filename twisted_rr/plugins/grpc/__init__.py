"""The gRPC front: `config`, `service` (listener, connections), `exchange` (one call), `health`, `reflection`, `protos`."""
