"""An image without a Docker engine: the Dockerfile's user, environment and command on a folder of its own.

The folder holds what the Dockerfile's last stage holds (/opt/venv, /etc/twisted-rr, /app), on the machine's own
system libraries. It runs in new mount, process and network namespaces, read-only but for /tmp, as the image's
user, without capabilities. What is left out: layers, the base image's own files, cgroups, seccomp.
"""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

from rig import children

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"

SYSTEM_FOLDERS = ("usr", "bin", "sbin", "lib", "lib32", "lib64")

# Of the base image.
BASE_PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"

# As the container's runtime does it: everything is prepared as root, then the command runs with nothing left.
ENTER = """
set -e
mount --make-rprivate /
mount --bind "$1" "$1"
for folder in {folders}; do mount --rbind /$folder "$1/$folder"; mount -o remount,bind,ro "$1/$folder"; done
for device in null zero random urandom; do touch "$1/dev/$device"; mount --bind /dev/$device "$1/dev/$device"; done
mount -t proc proc "$1/proc"
mount -t tmpfs -o mode=1777,size=64m tmpfs "$1/tmp"
ip link set lo up
mount -o remount,bind,ro "$1"
if touch "$1/app/probe" 2>/dev/null; then echo "the root is writable" >&2; exit 90; fi
folder=$1; shift
exec chroot "$folder" "$@"
"""


def dockerfile() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile's last stage, in order."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.M)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    found = [(line.split(" ", 1)[0], line.split(" ", 1)[1].strip()) for line in lines if " " in line]
    last = max(index for index, (word, _) in enumerate(found) if word == "FROM")
    return found[last:]


def instruction(word: str) -> str:
    """The last one of that name."""
    return [text for name, text in dockerfile() if name == word][-1]


def image_environ() -> dict[str, str]:
    """ENV."""
    pairs = (pair.partition("=") for name, text in dockerfile() if name == "ENV" for pair in text.split())
    return {name: value.replace("$PATH", BASE_PATH) for name, _, value in pairs}


def image_command() -> list[str]:
    """ENTRYPOINT and CMD."""
    return [*json.loads(instruction("ENTRYPOINT")), *json.loads(instruction("CMD"))]


def health_check() -> list[str]:
    """HEALTHCHECK's command."""
    return list(json.loads(instruction("HEALTHCHECK").partition(" CMD ")[2]))


def why_not() -> str | None:
    """Why no container can be emulated here; None when it can."""
    missing = [tool for tool in ("unshare", "setpriv", "nsenter", "ip", "chroot") if not shutil.which(tool)]
    if missing:
        return f"not on this machine: {', '.join(missing)}"
    if os.getuid() != 0:
        return "needs root, to become another user and to mount"
    probe = "mount --make-rprivate / && mount -t tmpfs tmpfs /mnt && ip link set lo up"
    tried = subprocess.run(["unshare", "-mpnf", "sh", "-c", probe], capture_output=True, text=True)
    if tried.returncode:
        return f"the sandbox forbids new namespaces or mounts: {tried.stderr.strip()}"
    python = system_python()
    if python is None:
        return (
            f"no system-wide Python {sys.version_info[0]}.{sys.version_info[1]} that another user could run"
        )
    return None


def system_python() -> str | None:
    """An interpreter under /usr whose minor version is ours, so that our installed packages fit it."""
    name = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    for folder in ("/usr/bin", "/usr/local/bin"):
        if (Path(folder) / name).exists():
            return f"{folder}/{name}"
    return None


class Image:
    """The folder. `close` removes it."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="rr-image-"))
        # Another user has to pass.
        self.root.chmod(0o755)
        for folder in ("proc", "dev", "tmp", "etc/twisted-rr", "app", "opt/venv/bin"):
            (self.root / folder).mkdir(parents=True)
        self._system()
        self._venv()
        self._user()
        self._files()
        self._plugin_cache()

    def _system(self) -> None:
        self.bound = []
        for name in SYSTEM_FOLDERS:
            path = Path("/", name)
            if path.is_symlink():
                (self.root / name).symlink_to(os.readlink(path))
            elif path.is_dir():
                (self.root / name).mkdir()
                self.bound.append(name)

    def _venv(self) -> None:
        python = system_python()
        assert python is not None
        venv = self.root / "opt" / "venv"
        (venv / "pyvenv.cfg").write_text(
            f"home = {Path(python).parent}\ninclude-system-site-packages = false\n"
        )
        (venv / "bin" / "python").symlink_to(python)
        script = venv / "bin" / "twisted-rr"
        script.write_text(console_script())
        script.chmod(0o755)
        self.site = venv / "lib" / Path(python).name / "site-packages"
        self.site.mkdir(parents=True)
        for name in sorted(requirements("twisted_rr") - {"twisted_rr"}):
            copy_distribution(name, self.site)
        shutil.copytree(ROOT / "twisted_rr", self.site / "twisted_rr")
        shutil.copy(ROOT / "twisted" / "plugins" / "rr_plugin.py", self.site / "twisted" / "plugins")

    def _user(self) -> None:
        user, group = instruction("USER").split(":")
        (self.root / "etc" / "passwd").write_text(f"rr:x:{user}:{group}::/app:/usr/sbin/nologin\n")
        (self.root / "etc" / "group").write_text(f"rr:x:{group}:\n")

    def _files(self) -> None:
        """COPY, but for what the build stage made."""
        for name, text in dockerfile():
            if name == "COPY" and not text.startswith("--from"):
                source, target = text.split()
                shutil.copy(ROOT / source, self.root / target.lstrip("/"))

    def _plugin_cache(self) -> None:
        """The step of the build stage that writes Twisted's plugin cache, as it is written there."""
        step = re.search(r"^RUN (python -c \".*getPlugins.*\")$", DOCKERFILE.read_text(), re.M)
        assert step is not None
        here = f"chroot {self.root} /opt/venv/bin/{step.group(1)}"
        binds = " && ".join(f"mount --rbind /{name} {self.root}/{name}" for name in self.bound)
        script = f"mount --make-rprivate / && {binds} && {here}"
        subprocess.run(["unshare", "-m", "sh", "-c", script], check=True, timeout=60)

    def close(self) -> None:
        """Remove the folder; mounts were only in the container's namespace."""
        shutil.rmtree(self.root, ignore_errors=True)


def console_script() -> str:
    """What pip would write for `twisted-rr`."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    module, _, function = (
        settings["options.entry_points"]["console_scripts"].partition("=")[2].strip().partition(":")
    )
    return f"#!/opt/venv/bin/python\nfrom {module} import {function}\n\n{function}()\n"


def requirements(name: str) -> set[str]:
    """A distribution's name and those of all it needs here."""
    found: set[str] = set()
    waiting = [name, "service-identity", "idna"]
    while waiting:
        each = re.split(r"[^A-Za-z0-9._-]", waiting.pop(), maxsplit=1)[0].lower().replace("-", "_")
        if each in found:
            continue
        try:
            needed = metadata.requires(each) or []
        except metadata.PackageNotFoundError:
            continue
        found.add(each)
        waiting += [line for line in needed if "extra ==" not in line]
    return found


def copy_distribution(name: str, target: Path) -> None:
    """Copy the installed files of one distribution, but for its scripts."""
    for file in metadata.files(name) or []:
        if ".." in file.parts:
            continue
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        # With its times, so that the compiled files beside it stay valid.
        shutil.copy2(file.locate(), target / file)


class Container:
    """One run of the image's command; `end` kills what is left."""

    def __init__(self, image: Image, command: list[str], **environ: str) -> None:
        user, group = instruction("USER").split(":")
        self.image = image
        self.environ = {**image_environ(), **environ}
        as_user = ["setpriv", "--reuid", user, "--regid", group, "--clear-groups", "--no-new-privs"]
        as_user += ["--bounding-set=-all", "--inh-caps=-all"]
        self._in_folder = ["sh", "-c", f'cd {instruction("WORKDIR")} && exec "$@"', "-", *as_user]
        script = ENTER.format(folders=" ".join(image.bound))
        self.process = subprocess.Popen(
            [
                "unshare",
                "-m",
                "-p",
                "-n",
                "-f",
                "--kill-child",
                "sh",
                "-c",
                script,
                "-",
                str(image.root),
                *self._in_folder,
                *command,
            ],
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.pid = self._first_child()

    def _first_child(self) -> int:
        """The container's process 1, as we see it."""
        until = time.monotonic() + 10
        while time.monotonic() < until and self.process.poll() is None:
            found = children(self.process.pid)
            if found:
                return found[0]
            time.sleep(0.01)
        raise AssertionError(self.process.communicate()[0])

    def begin(self, command: list[str]) -> subprocess.Popen[str]:
        """A command in the running container, as `docker exec` and HEALTHCHECK start it."""
        enter = ["nsenter", "-t", str(self.pid), "-m", "-p", "-n", f"--root=/proc/{self.pid}/root"]
        return subprocess.Popen(
            [*enter, *self._in_folder, *command],
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        """The same until its end."""
        with self.begin(command) as process:
            out, err = process.communicate(timeout=30)
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def get(self, port: int, path: str) -> int:
        """The status of an answer, 0 when there is none."""
        ask = (
            "import http.client; c = http.client.HTTPConnection('127.0.0.1', %d, timeout=3); "
            "c.request('GET', %r); print(c.getresponse().status)" % (port, path)
        )
        told = self.run(["python", "-c", ask])
        return int(told.stdout) if told.returncode == 0 else 0

    def wait_for(self, port: int, path: str, status: int = 200, seconds: float = 30.0) -> None:
        """Ask until the answer is *status*."""
        until = time.monotonic() + seconds
        while self.get(port, path) != status:
            if time.monotonic() > until or self.process.poll() is not None:
                raise AssertionError(f"{path} never was {status}: {self.end()}")

    def children(self) -> list[int]:
        """The processes of process 1, as we see them."""
        return children(self.pid)

    def signal(self, number: signal.Signals) -> None:
        """To process 1, as the kubelet's runtime sends it."""
        os.kill(self.pid, number)

    def end(self) -> str:
        """Everything it wrote; it is killed if it still runs."""
        if self.process.poll() is None:
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                self.process.kill()
        return self.process.communicate(timeout=30)[0]
