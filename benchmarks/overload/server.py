"""The server that both subjects of this benchmark put under stress."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.contender import BIN, ROOT, Contender


def contender(
    folder: Path, name: str, app: str, options: Sequence[str], service_ms: float, pool: Mapping[str, Any]
) -> Contender:
    """*app* of app.py, under the SDK's *options*, whose calls take *service_ms* milliseconds, in a *pool* of such keys."""
    worker = [sys.executable, "-m", "twisted_rr.worker", *options, f"benchmarks.overload.app:{app}"]

    def config(port: int) -> str:
        return json.dumps(
            {
                "version": "3",
                "server": {"command": worker, "env": {"SERVICE_MS": f"{service_ms:g}"}},
                "http": {"address": f"127.0.0.1:{port}", "pool": pool},
                "logs": {"mode": "none"},
                "admin": {"socket": str(folder / f"{port}.sock")},
            }
        )

    return Contender(name, [str(BIN / "twisted-rr"), "serve", "-c", "{folder}/{name}.yaml"], ROOT, config)
