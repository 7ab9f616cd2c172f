"""The section ``admin``."""

from __future__ import annotations

import attrs

from twisted_rr.config import key, kinds


@attrs.frozen(kw_only=True)
class AdminSettings:
    """``admin``: the operator's socket. It is always there in a process that is ours."""

    socket: str | None = key(
        kinds.path(),
        doc="Path of the socket, or @name in the abstract namespace (in RUNTIME_DIRECTORY, "
        "XDG_RUNTIME_DIR or a private folder of the temporary directory).",
    )
