"""Where the admin socket is, so that a command finds it from the same configuration as the server made it for.

Used by the command line too, hence the standard library alone and nothing slow. Who may connect is the service's
subject.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from typing import NamedTuple

_ABSTRACT = "twisted_rr"
_SUFFIX = ".sock"
_STATE = ".state"


class Place(NamedTuple):
    """A socket, and the file that tells how its server fares.

    :ivar socket: a path, or ``@name`` in the abstract namespace.
    :ivar state: the path of the state file, empty where none can be.
    """

    socket: str
    state: str

    def second(self, pid: int) -> Place:
        """The place of a server whose own place is taken by another one: with the process id in its name."""
        base = self.socket.removesuffix(_SUFFIX)
        suffix = self.socket[len(base) :]
        return at(f"{base}.{pid}{suffix}", bool(self.state))


def at(socket: str, with_state: bool = True) -> Place:
    """The place with the socket at that path."""
    return Place(socket, socket + _STATE if with_state and not socket.startswith("@") else "")


# ------------------------------------------------------------------------------- names


def name_of_file(path: str) -> str:
    """The name of a server that runs configuration *path*: symbolic links are followed."""
    real = os.path.realpath(path)
    return _name(os.path.basename(os.path.dirname(real)), real)


def name_of_application(folder: str, application: str) -> str:
    """The name of a server that runs ``module:attribute`` in *folder*, without a configuration."""
    real = os.path.realpath(folder)
    return _name(os.path.basename(real), f"{real}\n{application}")


def _name(word: str, key: str) -> str:
    """Something people recognise, and something that is unique."""
    return f"{_readable(word)}-{hashlib.sha256(key.encode('utf-8', 'surrogateescape')).hexdigest()[:10]}"


def _readable(word: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]+", "-", word).strip("-")[:16] or "rr"


# ----------------------------------------------------------------------------- folders


def places(name: str, environ: Mapping[str, str], uid: int) -> list[Place]:
    """Where the server may make its socket, the best first; the last is always possible.

    ``$RUNTIME_DIRECTORY`` (systemd's), ``$XDG_RUNTIME_DIR/twisted_rr``, a folder of the user's in the temporary
    directory; where none of them can be written to (a container with a read-only root) a name in the abstract
    namespace, which is no file: there only the check of the peer's user protects it.
    """
    found = [at(os.path.join(folder, name + _SUFFIX)) for folder in _folders(environ, uid)]
    return [*found, at(abstract(name, uid))]


def abstract(name: str, uid: int) -> str:
    """The abstract name: of this user and of this mount namespace, because containers of a pod share the network's."""
    try:
        namespace = os.stat("/proc/self/ns/mnt").st_ino
    except OSError:
        namespace = 0
    return f"@{_ABSTRACT}/{uid}/{namespace}/{name}"


def temporary_folder(environ: Mapping[str, str], uid: int) -> str:
    """The folder of a user in the temporary directory."""
    return os.path.join(environ.get("TMPDIR") or "/tmp", f"twisted_rr-{uid}")


def _folders(environ: Mapping[str, str], uid: int) -> Iterator[str]:
    # systemd lists several, separated by colons; the first is as good as any.
    given = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    if given and _is_safe(given, uid, private=False):
        yield given
    session = environ.get("XDG_RUNTIME_DIR", "")
    if session and _is_safe(session, uid, private=True):
        yield from _made(os.path.join(session, "twisted_rr"), uid)
    yield from _made(temporary_folder(environ, uid), uid)


def _made(folder: str, uid: int) -> Iterator[str]:
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        pass
    except OSError:
        return
    if _is_safe(folder, uid, private=True):
        yield folder


def _is_safe(folder: str, uid: int, private: bool) -> bool:
    """Whether nobody else can have put something there: ours, no link, no one else may write (or look)."""
    try:
        found = os.lstat(folder)
    except OSError:
        return False
    forbidden = 0o077 if private else 0o022
    owned = found.st_uid == uid or (not private and found.st_uid == 0)
    safe = stat.S_ISDIR(found.st_mode) and owned and not found.st_mode & forbidden
    return safe and os.access(folder, os.W_OK | os.X_OK)


# ---------------------------------------------------------------------- for the command


def find(name: str, environ: Mapping[str, str], uid: int) -> list[str]:
    """The sockets of servers called *name* that *uid* may use; more than one when several run side by side."""
    return _first_found(environ, uid, f"{name}{_SUFFIX}", f"{name}.*{_SUFFIX}", name)


def find_in_folder(folder: str, environ: Mapping[str, str], uid: int) -> list[str]:
    """The sockets of servers that work in *folder* without a configuration file, by their state files."""
    real = os.path.realpath(folder)
    found = [one for one in _first_found(environ, uid, f"*{_SUFFIX}", "", "") if _runs_in(one, real)]
    if found:
        return found
    # An abstract name has no file beside it: the folder's own name has to do, and that to its end.
    word = _readable(os.path.basename(real))
    whole = re.compile(re.escape(abstract(word, uid)) + r"-[0-9a-f]{10}(\.\d+)?")
    return [each for each in _abstract_names(uid, f"{word}-") if whole.fullmatch(each)]


def _runs_in(socket: str, folder: str) -> bool:
    if socket.startswith("@"):
        return False
    try:
        with open(socket + _STATE, encoding="utf-8") as file:
            return bool(json.load(file).get("folder") == folder)
    except (OSError, ValueError, AttributeError):
        return False


def _first_found(environ: Mapping[str, str], uid: int, one: str, other: str, name: str) -> list[str]:
    found: list[str] = []
    for folder in _searched(environ, uid):
        for pattern in filter(None, (one, other)):
            found += [path for path in sorted(glob.glob(f"{folder}/{pattern}")) if _is_ours(path, uid)]
    if name:
        found += _abstract_names(uid, name)
    return list(dict.fromkeys(found))


def _searched(environ: Mapping[str, str], uid: int) -> list[str]:
    """Glob patterns of folders: as the server chooses, and where it would with another environment than ours."""
    runtime = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    session = environ.get("XDG_RUNTIME_DIR", "")
    known = [runtime, session and os.path.join(session, "twisted_rr"), temporary_folder(environ, uid)]
    # A unit's folder is known to the unit alone, and root may be after another user's server.
    others = "*" if uid == 0 else str(uid)
    guessed = ["/run/*", f"/run/user/{others}/twisted_rr", f"/tmp/twisted_rr-{others}"]
    return [*(glob.escape(folder) for folder in known if folder), *guessed]


def _is_ours(path: str, uid: int) -> bool:
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISSOCK(found.st_mode) and (uid == 0 or found.st_uid == uid)


def _abstract_names(uid: int, name: str) -> list[str]:
    """Names in the abstract namespace that begin as *name* would, as the kernel lists them."""
    prefix = abstract(name, uid)
    try:
        with open("/proc/net/unix", encoding="utf-8", errors="replace") as file:
            listed = [line.rstrip("\n").rpartition(" ")[2] for line in file]
    except OSError:
        return []
    return list(dict.fromkeys(path for path in listed if path.startswith(prefix)))
