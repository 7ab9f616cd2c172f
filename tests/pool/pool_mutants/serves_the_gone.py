"""A pool that leaves a call in its queue although its caller has gone."""

from twisted_rr.pool.pool import WorkerPool


def apply(monkeypatch):
    monkeypatch.setattr(WorkerPool, "_left", lambda pool, call: None)
