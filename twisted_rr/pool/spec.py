"""What a worker is started with: the launcher's arguments, the environment, the user (protocol.md 2.2).

Made once a pool; starting is `twisted_rr.pool.process`'s subject.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import sys
from collections.abc import Mapping
from typing import Final

import attrs

from twisted_rr.errors import ConfigError, ConfigProblem
from twisted_rr.pool import launch
from twisted_rr.pool.settings import PoolSettings, ServerSettings

#: What a service manager says to us is not for our workers: they would answer it in our name.
PRIVATE: Final = (
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "LISTEN_PIDFDID",
)
#: Where the interpreter of this process is, and what was installed beside it.
OWN_FOLDER: Final = os.path.dirname(sys.executable)
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


@attrs.frozen
class LaunchSpec:
    """A worker's start.

    :ivar executable: the Python that runs the launcher.
    :ivar argv: the launcher's arguments, the worker's own last.
    :ivar env: the whole environment.
    :ivar command: the worker's own command line, for people.
    :ivar folder: where the worker works; empty: where the server does.
    :ivar preload: it is forked from a template that gets so many seconds to import the application; 0: it is not.
    """

    executable: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    command: str
    preload: float = 0.0
    folder: str = ""


@attrs.frozen
class PoolPlan:
    """What a pool runs by: its own section, the section ``server``, and the environment workers inherit."""

    settings: PoolSettings
    server: ServerSettings
    environ: Mapping[str, str]


@attrs.frozen
class Identity:
    """Whom a worker runs as; all None: as the server does."""

    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] | None = None


def launch_spec(
    command: tuple[str, ...],
    server: ServerSettings,
    identity: Identity,
    env: Mapping[str, str],
    parent: int | None = None,
) -> LaunchSpec:
    """The start of *command*; *parent* is the server's pid, without which the worker dies."""
    steps = [f"parent={os.getpid() if parent is None else parent}"]
    if server.directory:
        steps.append(f"chdir={server.directory}")
    steps += [f"rlimit={name}:{value}" for name, value in server.rlimits.items()]
    if server.nice:
        steps.append(f"nice={server.nice}")
    if server.affinity:
        steps.append("affinity=" + ",".join(map(str, server.affinity)))
    if server.oom_score_adj is not None:
        steps.append(f"oom={server.oom_score_adj}")
    if identity.groups is not None:
        steps.append("groups=" + ",".join(map(str, identity.groups)))
    if identity.gid is not None:
        steps.append(f"gid={identity.gid}")
    if identity.uid is not None:
        steps.append(f"uid={identity.uid}")
    python = sys.executable or "python3"
    argv = (python, "-I", "-S", launch.__file__, *steps, "--", *command)
    return LaunchSpec(python, argv, env, " ".join(command), folder=server.directory)


def preload_patience(settings: PoolSettings, server: ServerSettings, auto: bool) -> float:
    """`LaunchSpec.preload` of a pool's workers; *auto*: ``--preload`` in their command is enough.

    A worker that connects to a listener by its pid (``server.relay``) is never preloaded, nor is one that is to have
    fresh code for its one call (``debug``).
    """
    return settings.allocate_timeout if why_no_preload(settings, server, auto) == "" else 0.0


def why_no_preload(settings: PoolSettings, server: ServerSettings, auto: bool) -> str | None:
    """Why a pool's workers are not preloaded although that is asked for; empty: they are; None: nobody asks."""
    asked = server.preload if settings.preload is None else settings.preload
    command = settings.command or server.command
    flag = "--preload" in command and "twisted_rr.worker" in command
    if asked is False or (asked is None and not flag):
        return None
    if settings.debug:
        return "with debug each call gets the code of the moment"
    if server.relay != "pipes":
        return f"workers connect to server.relay {server.relay} by themselves"
    if asked is None and not auto:
        return "in a program that embeds the server only server.preload: true asks for it"
    return ""


def worker_env(
    environ: Mapping[str, str],
    server: ServerSettings,
    mode: str,
    version: str,
    rpc: str | None = None,
    extra: Mapping[str, str] | None = None,
    folder: str = OWN_FOLDER,
) -> dict[str, str]:
    """The environment of a worker, in RoadRunner's order: a later entry wins.

    PATH ends with *folder*, where our own ``python`` is: a server that is started by its full path out of a virtual
    environment, as service managers do, then finds what ``command: [python, …]`` means.
    """
    env = {name: value for name, value in environ.items() if name not in PRIVATE}
    env["RR_RELAY"] = server.relay
    if rpc:
        env["RR_RPC"] = rpc
    env.update({name.upper(): expand(str(value), environ) for name, value in server.env.items()})
    env["RR_VERSION"] = version
    env["RR_MODE"] = mode
    env.update({name.upper(): value for name, value in (extra or {}).items()})
    folders = env.get("PATH", os.defpath).split(os.pathsep)
    if folder and folder not in folders:
        env["PATH"] = os.pathsep.join([*folders, folder])
    return env


def expand(value: str, environ: Mapping[str, str]) -> str:
    """``$NAME`` and ``${NAME}`` replaced; a variable that is not set is empty, as in RoadRunner."""
    return _VARIABLE.sub(lambda match: environ.get(match[1] or match[2], ""), value)


def resolve_identity(user: str, group: str, where: str = "server") -> Identity:
    """Whom to run workers as. Raises ConfigError: unknown names, or another user without being root."""
    if not user and not group:
        return Identity()
    uid = gid = None
    groups: tuple[int, ...] | None = None
    if user:
        uid, gid, groups = _user(user, f"{where}.user")
    if group:
        gid = _group(group, f"{where}.group")
        groups = tuple(sorted({*(groups or ()), gid}))
    same = uid in (None, os.geteuid()) and gid in (None, os.getegid())
    if os.geteuid() != 0:
        if same:
            return Identity()  # nothing to change, which is all that we may
        raise _problem(
            f"{where}.user" if user else f"{where}.group", "only root can start workers as another user"
        )
    return Identity(uid, gid, groups)


def _user(name: str, path: str) -> tuple[int, int, tuple[int, ...]]:
    try:
        entry = pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
    except KeyError:
        if name.isdigit():  # containers run as numbers that no file knows
            return int(name), int(name), (int(name),)
        raise _problem(path, f"there is no user {name!r}") from None
    groups = tuple(sorted(os.getgrouplist(entry.pw_name, entry.pw_gid)))
    return entry.pw_uid, entry.pw_gid, groups


def _group(name: str, path: str) -> int:
    if name.isdigit():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise _problem(path, f"there is no group {name!r}") from None


def _problem(path: str, reason: str) -> ConfigError:
    return ConfigError([ConfigProblem(path, reason)])
