"""Since when each part of the server has said that it cannot go on.

What counts as bad is said by the providers, which give a reason only when it has lasted (drain.md 5.2 a to d).
"""

from __future__ import annotations


class Evidence:
    """Reasons by name, with the time since when each is given without a break.

    :param lasting: after how many seconds a reason is evidence.
    """

    def __init__(self, lasting: float) -> None:
        self._lasting = lasting
        self._since: dict[str, float] = {}

    def observe(self, now: float, name: str, reason: str | None) -> float | None:
        """*name* gives *reason* now; for how many seconds it has been evidence-worthy, None when fine."""
        if reason is None:
            self._since.pop(name, None)
            return None
        return now - self._since.setdefault(name, now)

    def proves(self, age: float | None) -> bool:
        """Whether a reason of that age is enough to say no."""
        return age is not None and age >= self._lasting

    def forget(self) -> None:
        """Start anew."""
        self._since.clear()


class Standstill:
    """For ``liveness: strict``: whether nothing at all moves while something is in flight."""

    def __init__(self) -> None:
        self._signs: tuple[int, ...] = ()

    def observe(self, in_flight: int, signs: tuple[int, ...]) -> str | None:
        """A reason when something is in flight and all *signs* (completions, bytes, CPU time) stood still."""
        moved, self._signs = signs != self._signs, signs
        return None if moved or not in_flight else "no completion, byte, heartbeat or CPU time"


class Saturation:
    """Whether being busy counts against readiness: it has to last, and then to be over for a while.

    Asked at every probe and once a second; one look at which a call would have run at once ends a stretch, so a pool
    that keeps up under full load is not taken for one that does not.

    :param after: how long it has to last. :param recover: how long it has to be over.
    """

    def __init__(self, after: float, recover: float) -> None:
        self._after = after
        self._recover = recover
        self._busy_since: float | None = None
        self._free_since: float | None = None
        self._unready = False

    def observe(self, now: float, busy: bool) -> bool:
        """It is *busy* now; whether that makes it unready."""
        if busy:
            self._free_since = None
            if self._busy_since is None:
                self._busy_since = now
            if now - self._busy_since >= self._after:
                self._unready = True
        else:
            self._busy_since = None
            if self._free_since is None:
                self._free_since = now
            if now - self._free_since >= self._recover:
                self._unready = False
        return self._unready
