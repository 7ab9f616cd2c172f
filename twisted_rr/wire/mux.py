"""Both ends of a mux relay under one name. A worker imports mux_worker alone, to load less."""

from __future__ import annotations

from twisted_rr.wire.mux_server import MuxServerEnd, MuxServerOwner
from twisted_rr.wire.mux_settings import MuxSettings
from twisted_rr.wire.mux_worker import MuxWorkerEnd, MuxWorkerOwner, Stream, StreamReceiver

__all__ = [
    "MuxServerEnd", "MuxServerOwner", "MuxSettings", "MuxWorkerEnd", "MuxWorkerOwner", "Stream", "StreamReceiver",
]  # fmt: skip
