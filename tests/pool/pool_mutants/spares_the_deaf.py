"""A worker that does not heed the stop, nor SIGTERM, and is left at that."""

from twisted_rr.pool.worker import Worker


def apply(monkeypatch):
    monkeypatch.setattr(Worker, "_force", lambda worker: None)
