"""The Python worker SDK: serves WSGI and ASGI applications, and custom loops, in the worker's process.

It loads the standard library and msgspec only; no Twisted.
"""

from twisted_rr.worker.api import Worker
from twisted_rr.worker.hooks import after_fork, on_start, on_stop
from twisted_rr.worker.payload import Payload

__all__ = ["Payload", "Worker", "after_fork", "on_start", "on_stop"]
