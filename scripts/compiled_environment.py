"""Makes an environment with the compiled build of this checkout, once for each state of the source: prints where it is.

``compiled_environment.py [FOLDER]`` looks in FOLDER for the build of the same files by the same Python, and makes it
where there is none; without FOLDER, in the user's cache. In the environment the package comes from the compiled wheel
alone; everything else is found in the environment that runs this. Where there is no C compiler it says so in one line
and exits with 3; ``--check`` does only that.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILT_FROM = (
    "twisted_rr",
    "twisted",
    "setup.py",
    "setup.cfg",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "MANIFEST.in",
)
KEPT = 3
"""Builds that stay in the folder: this one and those used last before it."""

NO_COMPILER = 3


class Failed(Exception):
    """Why there is no such environment, and the exit code for it."""


def cache() -> Path:
    """Where builds are kept if nothing else is said."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "twisted_rr" / "compiled"


def check() -> None:
    """Refuse where what setuptools would run does not compile a file with Python's header."""
    words = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "gcc").split()
    headers = [f"-I{sysconfig.get_path(name)}" for name in ("include", "platinclude")]
    try:
        done = subprocess.run(
            [*words, "-fsyntax-only", *headers, "-x", "c", "-"],
            input=b"#include <Python.h>\n",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    except OSError:
        raise Failed("there is no C compiler", NO_COMPILER) from None
    if done.returncode:
        raise Failed("the C compiler finds no Python.h (Debian: python3-dev)", NO_COMPILER)


def files() -> list[Path]:
    """What the wheel is made of, in order."""
    found: list[Path] = []
    for name in BUILT_FROM:
        path = ROOT / name
        found += sorted(path.rglob("*")) if path.is_dir() else [path]
    return [
        path
        for path in found
        if path.is_file() and path.suffix in ("", ".py", ".cfg", ".toml", ".md", ".in", ".typed")
    ]


def key(chosen: list[Path]) -> str:
    """A name for the state of these files, the Python that runs and where its packages are."""
    found = hashlib.sha256(f"{sys.version}\0{sys.prefix}\0{os.environ.get('RR_MYPYC_OPT', '')}".encode())
    for path in chosen:
        found.update(str(path.relative_to(ROOT)).encode() + b"\0")
        found.update(hashlib.sha256(path.read_bytes()).digest())
    tag = "py%d.%d" % sys.version_info[:2]
    return f"{tag}-{found.hexdigest()[:16]}"


def run(command: list[str], log: Path, **settings: object) -> None:
    """Run it with its output in *log*; what it said at last is the error's text."""
    with log.open("ab") as out:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, **settings)  # type: ignore[call-overload]
    if done.returncode:
        raise Failed("\n".join(log.read_text(errors="replace").splitlines()[-40:]), 1)


def wheel(chosen: list[Path], folder: Path) -> Path:
    """The compiled wheel in *folder*. The checkout itself stays as it is: a copy is built."""
    source = folder / "source"
    for path in chosen:
        copy = source / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    # What compiles is fetched by pip into a place of its own, unless it is here already.
    here = all(importlib.util.find_spec(name) for name in ("mypyc", "mypy_zope", "setuptools"))
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--disable-pip-version-check",
        "--no-deps",
        "-w",
        str(folder),
    ]
    command += ["--no-build-isolation"] if here else []
    run([*command, str(source)], folder / "build.log", env={**os.environ, "RR_MYPYC": "1"}, cwd=source)
    shutil.rmtree(source)
    return next(folder.glob("*.whl"))


def environment(package: Path, folder: Path) -> None:
    """An environment in *folder* with the wheel *package*, that finds all else where this Python does."""
    log = folder / "build.log"
    run([sys.executable, "-m", "venv", "--without-pip", str(folder / "env")], log)
    python = folder / "env" / "bin" / "python"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--disable-pip-version-check",
        "--no-deps",
    ]
    run([*pip, str(package)], log)
    # A folder that is named in a .pth file is searched, but the .pth files in it (an editable install is one) are not read.
    into = python.parent.parent / "lib" / ("python%d.%d" % sys.version_info[:2]) / "site-packages"
    (into / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    commands(python)
    said = subprocess.run(
        [str(python), "-m", "twisted_rr.cli.entry", "--version"],
        capture_output=True,
        text=True,
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")},
    )
    if "\ncompiled, " not in said.stdout:
        raise Failed(f"the wheel's modules are not loaded compiled: {said.stdout}{said.stderr}", 1)
    print(said.stdout.strip().splitlines()[-1], file=sys.stderr)


def commands(python: Path) -> None:
    """The commands of the other packages, such as twistd, beside *python* and run by it."""
    for entry in importlib.metadata.entry_points(group="console_scripts"):
        file = python.parent / entry.name
        if not file.exists():
            name = entry.value.partition(":")[2].partition(" ")[0]
            file.write_text(
                f"#!{python}\nimport sys\nfrom {entry.module} import {name.partition('.')[0]}\nsys.exit({name}())\n"
            )
            file.chmod(0o755)


def forget(folder: Path, keep: Path) -> None:
    """Remove the builds that were not used for longest."""
    others = [path for path in folder.glob("py3.*-*") if path.is_dir() and path != keep]
    for path in sorted(others, key=lambda path: path.stat().st_mtime)[: -(KEPT - 1) or None]:
        shutil.rmtree(path, ignore_errors=True)


def made(folder: Path) -> Path:
    """The folder with ``env`` and the wheel, of the source as it is now."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        # Who comes second waits for the build of the first.
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _made(folder, files())


def _made(folder: Path, chosen: list[Path]) -> Path:
    found = folder / key(chosen)
    if (found / "complete").exists():
        os.utime(found)
        return found
    check()
    print("compiling with mypyc, which takes some minutes", file=sys.stderr)
    shutil.rmtree(found, ignore_errors=True)
    found.mkdir(parents=True)
    try:
        with tempfile.TemporaryDirectory(prefix="twisted_rr-") as name:
            building = Path(name)
            package = Path(shutil.copy(wheel(chosen, building), found))
        environment(package, found)
    except BaseException:
        shutil.rmtree(found, ignore_errors=True)
        raise
    (found / "complete").touch()
    forget(folder, found)
    return found


if __name__ == "__main__":
    asked = sys.argv[1:] or [str(cache())]
    if len(asked) > 1:
        raise SystemExit("usage: compiled_environment.py [FOLDER | --check]")
    try:
        if asked == ["--check"]:
            check()
        else:
            print(made(Path(asked[0]).resolve()))
    except Failed as error:
        print(error.args[0], file=sys.stderr)
        raise SystemExit(error.args[1]) from None
