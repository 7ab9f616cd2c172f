"""A request of the admin socket, read: path, parameters, and what is wrong with them in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import attrs

from twisted_rr.config.kinds.units import parse_duration
from twisted_rr.errors import RRError

_YES_NO = {"1": True, "true": True, "yes": True, "": True, "0": False, "false": False, "no": False}


class Refusal(RRError):
    """A request that is not carried out.

    :ivar status: the HTTP status.
    :ivar reason: why, and what was expected.
    """

    def __init__(self, status: int, reason: str, **more: Any) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason
        self.more = more

    def __str__(self) -> str:
        return self.reason


@attrs.frozen(kw_only=True)
class Asked:
    """The parameters of a verb.

    :ivar wait: answer when it is done.
    :ivar deadline: answer after so many seconds at the latest; asking for one asks to wait.
    :ivar quiet: for so many seconds nothing must have been in flight.
    :ivar force: do not wait for what is in flight.
    :ivar pool: the name of one pool.
    :ivar workers: replace the workers in any case.
    """

    wait: bool = False
    deadline: float | None = None
    quiet: float = 0.0
    force: bool = False
    pool: str = ""
    workers: bool = False

    @property
    def waits(self) -> bool:
        """Whether the answer comes later."""
        return self.wait or self.deadline is not None


def split(target: bytes) -> tuple[str, str]:
    """Path and query of a target in origin form."""
    path, _, query = target.decode("latin-1").partition("?")
    return path.rstrip("/") or "/", query


def parameters(query: str, allowed: tuple[str, ...]) -> Asked:
    """Read *query*; raises `Refusal` with status 400 for anything that is not *allowed* or makes no sense."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=32)
    except ValueError:
        raise Refusal(400, "too many parameters") from None
    found: dict[str, Any] = {}
    for name, text in pairs:
        if name not in allowed:
            known = f"expected {', '.join(allowed)}" if allowed else "there are none here"
            raise Refusal(400, f"unknown parameter {name!r}: {known}")
        if name in found:
            raise Refusal(400, f"{name} is given twice")
        found[name] = _READERS[name](name, text)
    return Asked(**found)


def _yes_no(name: str, text: str) -> bool:
    if text.lower() not in _YES_NO:
        raise Refusal(400, f"{name} is {text!r}, expected 1 or 0")
    return _YES_NO[text.lower()]


def _duration(name: str, text: str) -> float:
    try:
        # A bare number cannot mean anything but seconds in a URL.
        seconds = (
            float(text) if text.replace(".", "", 1).isdecimal() and text.isascii() else parse_duration(text)
        )
    except ValueError:
        raise Refusal(400, f"{name} is {text!r}, expected a duration such as 20s or 1m30s") from None
    if seconds > 86400:
        raise Refusal(400, f"{name} is {text!r}, expected at most 24h")
    return seconds


def _text(name: str, text: str) -> str:
    return text


_READERS: Mapping[str, Any] = {
    "wait": _yes_no,
    "force": _yes_no,
    "deadline": _duration,
    "quiet": _duration,
    "pool": _text,
    "workers": _yes_no,
}
