"""What the system lets a worker have: nice value, CPUs, limits of resources, oom_score_adj.

Read here, checked here before anything starts, applied by the launcher (`twisted_rr.pool.launch`).
"""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from twisted_rr.errors import ConfigProblem

if TYPE_CHECKING:
    from twisted_rr.pool.settings import PoolSettings, ServerSettings

UNLIMITED: Final = ("infinity", "unlimited", "-1")
SIZES: Final = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
CAP_SYS_NICE: Final = 23
CAP_SYS_RESOURCE: Final = 24
KEYS: Final = ("nice", "oom_score_adj", "affinity", "rlimits")


def parse_rlimit(text: str) -> str:
    """``4096``, ``64M``, ``infinity`` or ``soft:hard``, as systemd writes it -> ``soft:hard`` in numbers, -1 for none.

    Raises ValueError.
    """
    soft, colon, hard = text.partition(":")
    low = _number(soft)
    high = _number(hard) if colon else low
    if high >= 0 and not 0 <= low <= high:
        raise ValueError("the soft limit is above the hard one")
    return f"{low}:{high}"


def _number(text: str) -> int:
    text = text.strip().lower()
    if text in UNLIMITED:
        return -1
    factor = SIZES.get(text[-1:], 1)
    return int(text[:-1] if factor > 1 else text) * factor if text.rstrip("kmgt").isdigit() else _refuse()


def _refuse() -> int:
    raise ValueError("a number, such as 4096 or 64M, or infinity")


def confined(server: ServerSettings, pool: PoolSettings) -> ServerSettings:
    """*server* with what *pool* says instead; its limits of resources one by one."""
    changes = {name: value for name in KEYS[:3] if (value := getattr(pool, name)) not in (None, ())}
    if pool.rlimits:
        changes["rlimits"] = {**server.rlimits, **pool.rlimits}
    return attrs.evolve(server, **changes) if changes else server


@attrs.frozen(kw_only=True)
class System:
    """What this process has itself, and may give to others.

    :ivar capabilities: the effective set, as a bit mask.
    :ivar cpus: those that are online.
    :ivar nice: its nice value; ``lowest``: the one that it may go down to without CAP_SYS_NICE.
    """

    capabilities: int = -1
    cpus: frozenset[int] = frozenset()
    nice: int = 0
    lowest: int = 0
    oom_score_adj: int = 0

    @classmethod
    def here(cls) -> System:
        """Of this process, as far as the system tells."""
        capabilities = -1 if os.geteuid() == 0 else 0
        with contextlib.suppress(OSError, ValueError, IndexError):
            status = Path("/proc/self/status").read_text()
            capabilities = int(status.split("CapEff:")[1].split()[0], 16)
        score = 0
        with contextlib.suppress(OSError, ValueError):
            score = int(Path("/proc/self/oom_score_adj").read_text())
        own = os.getpriority(os.PRIO_PROCESS, 0)
        room = resource.getrlimit(resource.RLIMIT_NICE)[0] if hasattr(resource, "RLIMIT_NICE") else 0
        lowest = -20 if room == resource.RLIM_INFINITY else min(own, 20 - room)
        return cls(
            capabilities=capabilities, cpus=frozenset(_online()), nice=own, lowest=lowest, oom_score_adj=score
        )

    def may(self, capability: int) -> bool:
        return bool(self.capabilities >> capability & 1)


def _online() -> Iterator[int]:
    try:
        text = Path("/sys/devices/system/cpu/online").read_text().strip()
    except OSError:
        text = f"0-{(os.cpu_count() or 1) - 1}"
    for part in text.split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def problems(
    server: ServerSettings, pool: PoolSettings, where: str, system: System | None = None
) -> list[ConfigProblem]:
    """Why workers of the pool whose settings are at *where* cannot have what is asked for them; empty when they can."""
    system = System.here() if system is None else system
    both = confined(server, pool)
    found = [
        ("nice", _nice(both.nice, system)),
        ("oom_score_adj", _score(both.oom_score_adj, system)),
        ("affinity", _cpus(both.affinity, system)),
        *((f"rlimits.{name}", _rlimit(name, str(value), system)) for name, value in both.rlimits.items()),
    ]
    return [ConfigProblem(f"{_holder(key, pool, where)}.{key}", reason) for key, reason in found if reason]


def _holder(key: str, pool: PoolSettings, where: str) -> str:
    name, _, entry = key.partition(".")
    own = entry in pool.rlimits if entry else getattr(pool, name) not in (None, ())
    return where if own else "server"


def _nice(value: int, system: System) -> str:
    wanted = max(-20, min(19, system.nice + value))
    if wanted >= system.lowest or system.may(CAP_SYS_NICE):
        return ""
    return f"{value} would make it {wanted}; below {system.lowest} needs CAP_SYS_NICE (LimitNICE= in a systemd unit)"


def _score(value: int | None, system: System) -> str:
    if value is None or value >= min(0, system.oom_score_adj) or system.may(CAP_SYS_RESOURCE):
        return ""
    return f"{value} is below the server's own {system.oom_score_adj}, which needs CAP_SYS_RESOURCE"


def _cpus(wanted: tuple[int, ...], system: System) -> str:
    missing = sorted(set(wanted) - system.cpus)
    if not missing:
        return ""
    online = ", ".join(map(str, sorted(system.cpus)))
    return f"there is no CPU {', '.join(map(str, missing))}; online are {online}"


def _rlimit(name: str, value: str, system: System) -> str:
    kind = getattr(resource, "RLIMIT_" + name.upper(), None)
    if kind is None:
        return "this system has no such limit"
    hard = int(value.rpartition(":")[2])
    own = resource.getrlimit(kind)[1]
    if own == resource.RLIM_INFINITY or 0 <= hard <= own or system.may(CAP_SYS_RESOURCE):
        return ""
    asked = "infinity" if hard < 0 else str(hard)
    return f"{asked} is above the server's own hard limit of {own}, which needs CAP_SYS_RESOURCE"
