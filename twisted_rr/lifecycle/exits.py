"""Exit codes: what the process says when it ends, under twistd too.

twistd ends with 0 after any orderly shutdown and swallows SystemExit in its triggers, so a non-zero
outcome is delivered by an atexit hook. Never installed by an embedded server: the process is not ours.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable

EXIT_DRAINED = 0
EXIT_FAILED = 1
EXIT_CUT = 3
EXIT_FORCED = 4
EXIT_KILLED = 5


class Exits:
    """The exit code of this process.

    :param leave: ends the process with a code.
    :param hush: called first by the hook: no signal may end the process from here on.
    """

    def __init__(
        self, leave: Callable[[int], object] = os._exit, hush: Callable[[], object] = lambda: None
    ) -> None:
        self._leave = leave
        self._hush = hush
        self._outcome: Callable[[], int] = lambda: EXIT_DRAINED
        self._failed = False
        self._zero = False

    def install(self, register: Callable[[Callable[[], None]], object] = atexit.register) -> None:
        """Register the hook. Hooks run last-registered first, so this has to be the first of all."""
        register(self.leave)

    def follow(self, outcome: Callable[[], int], zero: bool = False) -> None:
        """Ask *outcome* for the code at the end; for a server ``lambda: server.code``.

        *zero* (``drain.exit_code: zero``): only a failure is told, no other outcome of a drain.
        """
        self._outcome = outcome
        self._zero = zero

    def fail(self) -> None:
        """The start failed: 1, whatever the outcome says."""
        self._failed = True

    @property
    def code(self) -> int:
        """The code as it stands now."""
        return self.code_or(EXIT_DRAINED)

    def code_or(self, otherwise: int) -> int:
        """The same, with *otherwise* in the place of a good end."""
        code = EXIT_FAILED if self._failed else self._outcome() or otherwise
        return EXIT_DRAINED if self._zero and code != EXIT_FAILED else code

    def leave(self) -> None:
        """The hook: flush, then end the process at once if the code is not 0."""
        # The interpreter's own end gives signals back their default, and a SIGTERM sent again would be the exit code.
        self._hush()
        code = self.code
        if code == EXIT_DRAINED:
            # Python's own code stands: it may be that of a sys.exit we know nothing of.
            return
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (AttributeError, OSError, ValueError):
                continue  # Closed, or its reader is gone: nobody is left to tell.
        self._leave(code)
