"""A registry as a server would have it, small enough to be read at a glance."""

import attrs

from twisted_rr.config import Registry, key, kinds


@attrs.frozen(kw_only=True)
class SampleSupervisor:
    """Limits."""

    ttl: float = key(kinds.duration(), default=0.0)


@attrs.frozen(kw_only=True)
class SamplePool:
    """Workers."""

    num_workers: int = key(kinds.integer(min=0, max=2048), default=0, doc="How many workers.")
    debug: bool = key(kinds.boolean(), default=False)
    command: tuple = key(kinds.command(), default=())
    allocate_timeout: float = key(kinds.duration(), default=60.0)
    supervisor: SampleSupervisor | None = key(kinds.section(SampleSupervisor))

    def problems(self):
        if self.debug and self.num_workers:
            yield "num_workers", "makes no sense with debug"


@attrs.frozen(kw_only=True)
class SampleHttp:
    """The HTTP front."""

    address: str = key(kinds.address(), required=True, doc="Where to listen.")
    max_request_size: int = key(kinds.size_mb(), default=1000 << 20)
    middleware: tuple = key(kinds.list_of(kinds.string()), default=())
    headers: dict = key(kinds.map_of(kinds.string()), factory=dict)
    pool: SamplePool = key(kinds.section(SamplePool), factory=SamplePool)
    old: str = key(kinds.string(), default="", ignored="nobody uses it")


@attrs.frozen(kw_only=True)
class SampleServer:
    """How workers are started."""

    command: tuple = key(kinds.command(), required=True)
    env: dict = key(kinds.environment(), factory=dict)
    token: str = key(kinds.string(), default="")
    plain: str = key(kinds.string(), default="", secret=True)
    key_file: str = key(kinds.path(), default="", name="key")


def registry():
    made = Registry()
    made.add("server", SampleServer)
    made.add("http", SampleHttp, requires=["server"])
    made.add("kv", kinds.map_of(kinds.any_value()), "Stores.")
    return made
