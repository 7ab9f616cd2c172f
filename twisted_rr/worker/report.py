"""What the SDK says on the standard error, which the server writes to its log line by line."""

from __future__ import annotations

import os
import sys
import traceback
from types import TracebackType

_OURS = os.path.dirname(__file__)
_COMPILED = os.path.join(*__name__.split(".")[:-1], "")
"""What mypyc says of a file of ours: where it was when it was compiled, from the root of the source."""


def say(text: str) -> None:
    """One line."""
    sys.stderr.write(f"twisted_rr.worker: {text}\n")


def tell_failure(headline: str, error: BaseException) -> None:
    """*headline*, then the traceback of *error* from the application's first frame on, in one write."""
    try:
        text = "".join(traceback.format_exception(type(error), error, without_us(error)))
    except Exception:  # an exception may fail to print itself
        text = f"{type(error).__name__} (which cannot be printed)\n"
    sys.stderr.write(f"{headline}\n{text}")


def without_us(error: BaseException) -> TracebackType | None:
    """The traceback of *error* without the frames of this package that lead to the application's."""
    at = error.__traceback__
    while at is not None and _leads(at.tb_frame.f_code.co_filename):
        at = at.tb_next
    if at is None and not isinstance(error, (ImportError, SyntaxError)):
        return error.__traceback__  # ours from end to end
    return at


def _leads(filename: str) -> bool:
    return filename.startswith((_OURS, _COMPILED, "<frozen importlib")) or filename.endswith(
        os.path.join("importlib", "__init__.py")
    )
