"""Facts for the tests of the status answers: one for each row of the table of states."""

from __future__ import annotations

from typing import Any

import msgspec

from twisted_rr.plugins.status.answers import Answer, answer, read
from twisted_rr.plugins.status.config import StatusSettings
from twisted_rr.plugins.status.facts import Facts, PluginFacts, ProtocolFacts

FINE = (PluginFacts(name="grpc"), PluginFacts(name="http"))
DEAD = (
    PluginFacts(name="grpc"),
    PluginFacts(
        name="http",
        not_alive="no worker can be started",
        not_alive_for=10.4,
        proved=True,
        not_ready="no worker is alive",
    ),
)
BUSY = (ProtocolFacts(name="grpc"), ProtocolFacts(name="http", count=3, oldest=8.14))


def facts(state: str = "running", **changed: Any) -> Facts:
    """A server in *state*, with two healthy plugins unless *changed*."""
    draining = state.startswith("draining") or state == "stopping"
    plain: dict[str, Any] = {
        "state": state,
        "state_age": 8.12,
        "draining": draining,
        "flipped": draining,
        "was_ready": state not in ("booting", "starting"),
        "remaining": 13.87,
        "plugins": FINE,
        "protocols": BUSY if draining else (),
    }
    return Facts(**{**plain, **changed})


def settings(**changed: Any) -> StatusSettings:
    return StatusSettings(address="127.0.0.1:2114", **changed)


def ask(
    target: str, now: Facts, *, method: str = "GET", headers: dict[str, str] | None = None, **changed: Any
) -> Answer:
    """The answer to a request."""
    fields = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
    return answer(read(method, target.encode(), fields), now, settings(**changed))


def listed(found: Answer) -> list[tuple[str, str, int]]:
    """The entries of RoadRunner's list."""
    return [
        (each["plugin_name"], each["error_message"], each["status_code"])
        for each in msgspec.json.decode(found.body)
    ]


def header(found: Answer, name: str) -> str | None:
    return dict(found.headers).get(name.encode(), b"").decode() or None
