"""The section ``status`` (features.md 2.10, drain.md 5)."""

from __future__ import annotations

import attrs

from twisted_rr.config import key, kinds


@attrs.frozen(kw_only=True)
class StatusSettings:
    """``status``: where health is told, and how."""

    address: str = key(kinds.address(), required=True, doc="Where /health, /ready and /startup answer.")
    unavailable_status_code: int = key(
        kinds.integer(min=100, max=599), default=503, doc="The status of an answer that says no."
    )
    check_timeout: float = key(
        kinds.seconds(), default=1.0, doc="How long a client may take to send its question (seconds)."
    )
    stuck_after: float = key(
        kinds.duration(), default=10.0, doc="How long evidence has to last before /health says no."
    )
    liveness: str = key(
        kinds.choice("alive", "strict", "always"),
        default="alive",
        doc="alive: no only on proof that nothing can go on; strict: also when nothing is completed; always: yes.",
    )
    lifecycle_entry: bool = key(
        kinds.boolean(), default=True, doc="Whether the list holds the entry named lifecycle."
    )
    rr_text_plain: bool = key(
        kinds.boolean(), default=False, doc="Send the list as text/plain, as RoadRunner does."
    )
    rr_strict_shutdown_body: bool = key(
        kinds.boolean(), default=False, doc="While draining, answer with RoadRunner's fixed text."
    )
    max_connections: int = key(kinds.integer(min=1, max=65536), default=256, doc="More are closed at once.")
    max_waiting: int = key(
        kinds.integer(min=0, max=65536), default=64, doc="Long polls at once; more are answered at once."
    )
