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


class Progress:
    """For ``liveness: strict``: whether anything was completed while something was in flight."""

    def __init__(self) -> None:
        self._done = -1

    def observe(self, in_flight: int, done: int) -> str | None:
        """A reason when something is in flight and *done*, the number of completions, stood still."""
        moved, self._done = done != self._done, done
        return None if moved or not in_flight else "nothing was completed"
