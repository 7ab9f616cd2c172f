"""The section ``status`` (features.md 2.10, drain.md 5)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

import attrs

from twisted_rr.config import key, kinds
from twisted_rr.plugins.status.checks.settings import Checks, CheckSettings

#: What ``status.answers`` may name: the states, ``stuck`` in whatever state, and ``draining`` for all of a stop.
ANSWERED: Final = (
    "booting",
    "starting",
    "running",
    "drained",
    "draining",
    "announce",
    "finish",
    "force",
    "stopping",
    "stuck",
)

#: States in which a platform that still asks for liveness would kill a server that is doing what it should.
_INNOCENT: Final = frozenset(ANSWERED) - {"stuck"}

_MOMENT: Final = 1.0

#: ``check_timeout`` where it is not told, and where it is 0, RoadRunner's word for that.
PATIENCE: Final = 1.0

_FRAMING: Final = frozenset(
    ("connection", "content-length", "content-type", "date", "transfer-encoding", "upgrade", "trailer", "te")
)
_FIELD: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def is_success(code: int) -> bool:
    """Whether a probe takes *code* for a yes (as the kubelet does)."""
    return 200 <= code <= 399


@attrs.frozen(kw_only=True)
class AnswerSettings:
    """``status.answers.<state>``: what is told in that state."""

    health: int | None = key(kinds.integer(min=200, max=599), default=None, doc="The status of /health.")
    ready: int | None = key(
        kinds.integer(min=200, max=599), default=None, doc="The status of /ready where the state decides it."
    )
    headers: Mapping[str, str] = key(
        kinds.map_of(kinds.string("a header's value", r"[\x20-\x7e]*"), _FIELD.pattern),
        factory=dict,
        doc="Headers of every answer; {state} stands for the state.",
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        """Headers that are not the user's to set."""
        for name in self.headers:
            if name.lower() in _FRAMING:
                yield "headers", f"{name} is set by the server"


@attrs.frozen(kw_only=True)
class SaturationSettings:
    """``status.on_saturation``: what /ready says when every worker is busy. It is a warning at once in any case."""

    mode: str = key(
        kinds.choice("lasting", "at_once", "never"),
        default="lasting",
        doc="lasting: no when it has lasted; at_once: no at once, as RoadRunner; never: yes.",
    )
    after: float = key(kinds.duration(), default=5.0, doc="How long it has to last.")
    recover: float = key(
        kinds.duration(), default=2.0, doc="How long it has to be over until /ready is yes again."
    )


@attrs.frozen(kw_only=True)
class StatusSettings:
    """``status``: where health is told, and how."""

    address: str = key(kinds.address(), required=True, doc="Where /health, /ready and /startup answer.")
    unavailable_status_code: int = key(
        kinds.integer(min=100, max=599), default=503, doc="The status of an answer that says no."
    )
    check_timeout: float = key(
        kinds.seconds(),
        default=PATIENCE,
        doc="How long a client may take to send its question, and a check of yours to run (seconds; 0: as by default).",
    )
    stuck_after: float = key(
        kinds.duration(), default=10.0, doc="How long evidence has to last before /health says no."
    )
    liveness: str = key(
        kinds.choice("alive", "strict", "always"),
        default="alive",
        doc="alive: no only on proof that nothing can go on; strict: also without any sign of progress; always: yes.",
    )
    on_saturation: SaturationSettings = key(kinds.section(SaturationSettings), factory=SaturationSettings)
    checks: tuple[CheckSettings, ...] = key(
        Checks(), default=(), doc="Checks of your own, by name or as a list."
    )
    answers: Mapping[str, AnswerSettings] = key(
        kinds.map_of(kinds.section(AnswerSettings), "|".join(ANSWERED)),
        factory=dict,
        doc=f"Codes and headers by state: {', '.join(ANSWERED)}.",
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
    max_connections: int = key(
        kinds.integer(min=1, max=65536),
        default=256,
        doc="At once; for one more the longest open one without a question makes room, and when there is none it gets a 503.",
    )
    max_waiting: int = key(
        kinds.integer(min=0, max=65536), default=64, doc="Long polls at once; more are answered at once."
    )

    @property
    def patience(self) -> float:
        """``check_timeout``, 0 read as what it stands for."""
        return self.check_timeout or PATIENCE

    def warnings(self) -> Iterator[tuple[str, str]]:
        """What gets a server killed that is draining, or well."""
        if self.stuck_after < _MOMENT and self.liveness != "always":
            yield (
                "stuck_after",
                f"{self.stuck_after:g}s is no evidence: a worker that waits for its disk for a moment would get the "
                "server killed; from 1s on that is told apart",
            )
        for state, answer in self.answers.items():
            if answer.health is not None and not is_success(answer.health) and state in _INNOCENT:
                yield (
                    f"answers.{state}.health",
                    f"a platform that still asks takes {answer.health} for death and kills the server while it is "
                    f"{'draining' if state in _LEAVING else state}: keep /health at 200 and let /ready say no",
                )


_LEAVING: Final = ("draining", "announce", "finish", "force", "stopping")
