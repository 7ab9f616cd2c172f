"""A pool that leaves a call in its queue although its caller has gone."""

from twisted_rr.pool.placement import Placement


def apply(monkeypatch):
    monkeypatch.setattr(Placement, "_left", lambda placement, call: None)
