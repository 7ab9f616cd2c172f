"""Runs the suite in several ways and parts side by side: ``suites.py pure compiled newest=PYTHON``, any of them.

``pure`` is this Python with the source, ``compiled`` the same Python with the compiled wheel, ``newest=PYTHON`` the source
with another Python. A part is what one pytest process runs (tests/parts.cfg). One lane computes, two lanes wait for
servers most of the time, and what judges times runs when all else is over. What failed beside a busy neighbour is
run once more, alone: a real fault fails again. Exits with 0 only when every part of every suite has passed.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOGS = ROOT / ".pytest_cache" / "suites"
LIMIT = 45 * 60.0
"""Seconds after which a part is ended, and has failed: something hangs."""

FAILED_TESTS, NO_TESTS, NO_COMPILER = 1, 5, 3
"""Exit codes: of pytest, of pytest, of compiled_environment.py."""

COMPUTE, WAIT, ALONE = "compute", "wait", "alone"
SLOTS = {COMPUTE: 1, WAIT: 2}
COMPUTING = 5
"""Niceness of what only computes, so that servers answer in time beside it. The compiler has a higher one."""

FUZZ = os.environ.get("RR_FUZZ_HTTP2", "120")
"""Seconds of fuzzing HTTP/2, half for each of both fuzzers; what fails names its seed."""

FUZZERS = ["tests/http2/test_http2_fuzz.py", "tests/http1/test_http1_fuzz.py"]
"""In a process of their own: to look at what they cover would take as long again, and they cover nothing new."""

NO_PYTHONS_BUSINESS = [
    *(f"--ignore={file}" for file in FUZZERS),
    "--ignore=tests/http1/test_http1_properties.py",
    "--ignore=tests/draintest",
]
"""The long comparisons with other parsers and of the rig with itself: left out on a second Python."""

NOT_COMPILED = (
    "tests/draintest/test_command.py",
    "tests/draintest/test_mutants.py",
    "tests/integration/test_admin.py",
    "tests/integration/test_bad_input.py",
    "tests/integration/test_dev_mode.py",
    "tests/integration/test_drain_requests.py",
    "tests/integration/test_embedding.py",
    "tests/integration/test_examples.py",
    "tests/integration/test_faults.py",
    "tests/integration/test_haproxy.py",
    "tests/integration/test_pool_crash_loop.py",
    "tests/integration/test_pool_on_init.py",
    "tests/integration/test_pool_preload.py",
    "tests/integration/test_pool_spawner.py",
    "tests/integration/test_reload.py",
    "tests/integration/test_signals.py",
    "tests/integration/test_socket_activation.py",
    "tests/integration/test_stop_without_output.py",
    "tests/integration/test_twistd.py",
    "tests/test_packaging.py",
)
"""Real servers whose subject is in modules that are never compiled: once is enough. So are those that judge times, and
most faults of the drain: test_invariants.py has one cell of each kind."""

NOT_IN_THE_WHEEL = ("tests/test_deploy.py",)
"""What is about the checkout alone: the image, and what is copied into it."""

COUNTED = re.compile(r"(\d+) (passed|failed|error|errors|skipped|xfailed|xpassed)\b")


@dataclass
class Suite:
    """One way to run the tests: the Python, where, and whether it is ready."""

    name: str
    label: str
    python: Path
    home: Path = ROOT
    path: bool = False
    ready: threading.Event = field(default_factory=threading.Event)
    left_out: str = ""
    broken: str = ""

    def environ(self) -> dict[str, str]:
        """The environment of its processes."""
        if not self.path:
            return dict(os.environ)
        kept = {
            name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")
        }
        return {**kept, "PATH": f"{self.python.parent}{os.pathsep}{os.environ['PATH']}"}


@dataclass
class Part:
    """What one process runs, and what became of it."""

    suite: Suite
    name: str
    lane: str
    arguments: list[str]
    runner: tuple[str, ...] = ("-m", "pytest")
    environ: dict[str, str] = field(default_factory=dict)
    nice: int = 0
    code: int | None = None
    took: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def title(self) -> str:
        return f"{self.suite.name} {self.name}"

    @property
    def log(self) -> Path:
        return LOGS / f"{self.suite.name}-{self.name}.log"

    def command(self, again: bool) -> list[str]:
        """Its command; *again* of what failed in the first run."""
        cache = ["-o", f"cache_dir={LOGS / 'cache' / f'{self.suite.name}-{self.name}'}"]
        more = ["--last-failed", "--last-failed-no-failures", "none"] if again else ["--durations=15"]
        runner = ("-m", "pytest") if again else self.runner
        return [str(self.suite.python), *runner, "-q", *cache, *more, *self.arguments]


class Runs:
    """Starts processes and keeps them, so that none outlives this one."""

    def __init__(self) -> None:
        self.begun = time.monotonic()
        self.over = False
        self._lock = threading.Lock()
        self._told = self.begun
        self._processes: dict[subprocess.Popen[bytes], Path] = {}

    def say(self, text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - self.begun), 60)
        print(f"{minutes:02}:{seconds:02} {text}", flush=True)

    def call(self, command: list[str], log: Path, cwd: Path, environ: dict[str, str], nice: int = 0) -> int:
        """Run it to its end, in a process group of its own, with all it says in *log*."""
        with log.open("wb") as out, self._lock:
            if self.over:
                return -signal.SIGINT
            process = subprocess.Popen(
                ["nice", "-n", str(nice), *command] if nice else command,
                cwd=cwd,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
            self._processes[process] = log
        try:
            return process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.say(f"{log.stem}: ended after {LIMIT / 60:g} minutes")
            end(process)
            return process.returncode or 1
        finally:
            with self._lock:
                self._processes.pop(process, None)

    def tell_running(self) -> None:
        """Say what runs, about once a minute."""
        now = time.monotonic()
        if now - self._told > 59:
            self._told = now
            with self._lock:
                names = sorted(log.stem for log in self._processes.values())
            if names:
                self.say(f"... {', '.join(names)}")

    def stop(self) -> None:
        """End what runs, and start nothing more."""
        with self._lock:
            self.over = True
            left = list(self._processes)
        for process in left:
            end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Interrupt it, as Ctrl-C would, so that its servers end too; kill its group if it does not obey."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


# ------------------------------------------------------------------------------------------ what there is


def pure() -> Suite:
    suite = Suite("pure", f"pure {version(Path(sys.executable))}", Path(sys.executable))
    suite.ready.set()
    return suite


def version(python: Path) -> str:
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    return subprocess.run(
        [str(python), "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def compiled(runs: Runs, scratch: Path) -> tuple[Suite, Callable[[], None]]:
    """The suite, and what makes it ready: the wheel and its environment, and the tests away from the source."""
    suite = Suite(
        "compiled", f"compiled {version(Path(sys.executable))}", Path(), scratch / "compiled", path=True
    )

    def prepare() -> None:
        kept = os.environ.get("RR_COMPILED")
        log = LOGS / "compiled-build.log"
        command = [
            sys.executable,
            str(ROOT / "scripts" / "compiled_environment.py"),
            *([kept] if kept else []),
        ]
        code = runs.call(command, log, ROOT, dict(os.environ), nice=15)
        said = log.read_text(errors="replace").strip().splitlines() or ["nothing was said"]
        if code == NO_COMPILER:
            suite.left_out = said[-1]
        elif code:
            suite.broken = "the wheel could not be built:\n" + "\n".join(said[-40:])
        else:
            suite.python = Path(said[-1]) / "env" / "bin" / "python"
            tests_alone(suite.home)

    return suite, prepare


def tests_alone(into: Path) -> None:
    """All of the checkout but the packages, which must not be found in place of the wheel's."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if name.split("/")[0] not in ("twisted_rr", "twisted") and (ROOT / name).is_file():
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, into / name)


def newest(runs: Runs, scratch: Path, python: str) -> tuple[Suite, Callable[[], None]]:
    """The suite with another Python, and what makes its environment."""
    found = scratch / "newest" / "bin" / "python"
    suite = Suite("newest", f"pure {version(Path(python))}", found, path=True)

    def prepare() -> None:
        log = LOGS / "newest-environment.log"
        for command in (
            [python, "-m", "venv", str(found.parent.parent)],
            [str(found), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-e", ".[test]"],
        ):
            if runs.call(command, log, ROOT, suite.environ()):
                suite.broken = (
                    "its environment could not be made:\n" + log.read_text(errors="replace")[-3000:]
                )
                return

    return suite, prepare


def parts(suite: Suite) -> list[Part]:
    """What is run of it, in the order in which it begins."""
    real = ["-m", "integration"]
    if suite.name == "newest":
        few = [f"tests/integration/{name}.py" for name in ("test_plain_worker", "test_pool_processes")]
        return [
            Part(suite, "units", COMPUTE, ["-m", "not integration", *NO_PYTHONS_BUSINESS], nice=COMPUTING),
            Part(suite, "real", WAIT, few),
        ]
    units = ["-m", "not integration"]
    if suite.name == "compiled":
        units += [f"--ignore={file}" for file in NOT_IN_THE_WHEEL]
        real += [f"--ignore={file}" for file in (*NOT_COMPILED, *NOT_IN_THE_WHEEL)]
    found = [
        Part(suite, "units", COMPUTE, units, nice=COMPUTING),
        Part(suite, "cells", WAIT, [*real, "--part=cells"]),
        Part(suite, "first", WAIT, [*real, "--part=1/2"]),
        Part(suite, "second", WAIT, [*real, "--part=2/2"]),
    ]
    if suite.name == "pure":
        found.append(Part(suite, "alone", ALONE, [*real, "--part=alone"]))
        found[0].runner = ("-m", "coverage", "run", "-m", "pytest")
        found[0].arguments += [f"--ignore={file}" for file in FUZZERS]
        seed = os.environ.get("RR_FUZZ_SEED") or seed_of_the_tree()
        environ = {"RR_FUZZ_HTTP2": FUZZ, "RR_FUZZ_SEED": seed}
        # As long as the machine has nothing better to do.
        found.append(Part(suite, "fuzz", "fuzz", FUZZERS, environ=environ, nice=19))
    return found


def seed_of_the_tree() -> str:
    """Another seed for each state of the source, and the same for the same: a failure can be had again."""
    found = subprocess.run(["git", "rev-parse", "HEAD^{tree}"], cwd=ROOT, capture_output=True, text=True)
    return str(int(found.stdout[:7] or "1", 16))


# ------------------------------------------------------------------------------------------ the runs


def run(part: Part, runs: Runs, again: bool = False) -> None:
    """Run it, note what became of it, and say so."""
    suite = part.suite
    log = part.log.with_suffix(".again.log") if again else part.log
    begun = time.monotonic()
    part.code = runs.call(
        part.command(again), log, suite.home, {**suite.environ(), **part.environ}, part.nice
    )
    part.took += time.monotonic() - begun
    text = log.read_text(errors="replace")
    last = next((line for line in reversed(text.splitlines()) if COUNTED.search(line)), "it said nothing")
    counts = Counter({word: int(number) for number, word in COUNTED.findall(last)})
    if again:
        # What failed before is what this was about; the rest has passed already.
        for word in ("failed", "error", "errors"):
            part.counts.pop(word, None)
    part.counts += counts
    runs.say(f"{part.title}{', again, alone' if again else ''}: {last.strip('= ')}")
    if part.code:
        shown = text[max(0, text.find("= FAILURES =")) :] if "= FAILURES =" in text else text
        print("\n".join(shown.splitlines()[-400:]), flush=True)
        if part.code != FAILED_TESTS:
            runs.say(f"{part.title}: pytest exited with {part.code}")


def lane(queue: list[Part], lock: threading.Lock, runs: Runs) -> None:
    """Take the first part that is ready, as long as there are any."""
    while not runs.over:
        with lock:
            if not queue:
                return
            part = next((each for each in queue if each.suite.ready.is_set()), None)
            if part is not None:
                queue.remove(part)
        if part is None:
            time.sleep(0.5)
        elif not (part.suite.left_out or part.suite.broken):
            run(part, runs)


def prepared(suite: Suite, prepare: Callable[[], None], runs: Runs) -> None:
    """Make it ready, or say why it is not."""
    try:
        prepare()
    except BaseException as error:
        suite.broken = repr(error)
        if not isinstance(error, Exception):
            raise
    finally:
        why = suite.left_out or suite.broken
        runs.say(f"{suite.label}: {why or 'ready'}")
        suite.ready.set()


def all_lanes(chosen: list[Part], runs: Runs) -> None:
    """What may run side by side, then the rest one by one, then what failed once more."""
    lock = threading.Lock()
    threads = []
    for name in dict.fromkeys(part.lane for part in chosen if part.lane != ALONE):
        queue = [part for part in chosen if part.lane == name]
        for _ in range(SLOTS.get(name, 1)):
            threads.append(threading.Thread(target=lane, args=(queue, lock, runs)))
            threads[-1].start()
    for thread in threads:
        while thread.is_alive():
            thread.join(60)
            runs.tell_running()
    lane([part for part in chosen if part.lane == ALONE], lock, runs)
    for part in chosen:
        if part.code == FAILED_TESTS and not runs.over:
            run(part, runs, again=True)


def report(suites: list[Suite], chosen: list[Part], runs: Runs) -> bool:
    """Which suite ran how; whether all is well."""
    well = not runs.over
    print()
    for part in chosen:
        if part.code is not None:
            print(f"  {part.title:18} {part.took:5.0f} s  {'passed' if part.code == 0 else 'FAILED'}")
    for suite in suites:
        mine = [part for part in chosen if part.suite is suite]
        if suite.left_out:
            print(f"{suite.label}: skipped, {suite.left_out}")
            continue
        counts: Counter[str] = sum((part.counts for part in mine), Counter())
        bad = bool(suite.broken) or any(part.code != 0 for part in mine)
        well = well and not bad
        told = ", ".join(
            f"{counts[word]} {word}" for word in ("passed", "failed", "errors", "skipped") if counts[word]
        )
        print(f"{suite.label}: {told or 'nothing ran'}{'  FAILED' if bad else ''}")
    runs.say("all is well" if well else "FAILED")
    return well


def erase(suites: list[Suite]) -> None:
    """Forget what earlier units covered."""
    if any(suite.name == "pure" for suite in suites):
        subprocess.run([sys.executable, "-m", "coverage", "erase"], cwd=ROOT, check=False)


def coverage(suites: list[Suite]) -> None:
    """What the units of the source covered."""
    if any(suite.name == "pure" for suite in suites):
        command = [sys.executable, "-m", "coverage"]
        subprocess.run([*command, "combine", "-q"], cwd=ROOT, stderr=subprocess.DEVNULL)
        done = subprocess.run(
            [*command, "report", "--format=total"], cwd=ROOT, capture_output=True, text=True
        )
        print(f"coverage of the units, in percent with branches: {done.stdout.strip() or 'unknown'}")


def main(asked: list[str], arguments: list[str] | None) -> int:
    runs = Runs()
    if arguments is None:
        shutil.rmtree(LOGS, ignore_errors=True)
    LOGS.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, interrupted)
    signal.signal(signal.SIGHUP, interrupted)
    with tempfile.TemporaryDirectory(prefix="suites-") as name:
        found = [suite_of(word, runs, Path(name)) for word in asked]
        if arguments is None:
            return whole(found, runs)
        try:
            return only(*found[0], arguments, runs)
        except KeyboardInterrupt:
            return 130
        finally:
            runs.stop()


def suite_of(word: str, runs: Runs, scratch: Path) -> tuple[Suite, Callable[[], None] | None]:
    """The suite of that name, and what makes it ready."""
    kind, _, value = word.partition("=")
    if kind == "pure":
        return pure(), None
    return compiled(runs, scratch) if kind == "compiled" else newest(runs, scratch, value)


def only(suite: Suite, prepare: Callable[[], None] | None, arguments: list[str], runs: Runs) -> int:
    """Run pytest with these arguments in the foreground."""
    if prepare is not None:
        prepared(suite, prepare, runs)
    if suite.left_out or suite.broken:
        return 1 if suite.broken else 0
    command = [
        str(suite.python),
        "-m",
        "pytest",
        *(["-p", "no:cacheprovider"] if suite.path else []),
        *arguments,
    ]
    return subprocess.run(command, cwd=suite.home, env=suite.environ()).returncode


def whole(found: list[tuple[Suite, Callable[[], None] | None]], runs: Runs) -> int:
    """Run all parts of these suites and tell how they went; 0 when all of it passed."""
    suites = [suite for suite, _ in found]
    chosen = [part for suite in suites for part in parts(suite)]
    preparations = [
        threading.Thread(target=prepared, args=(suite, prepare, runs)) for suite, prepare in found if prepare
    ]
    erase(suites)
    try:
        for thread in preparations:
            thread.start()
        all_lanes(chosen, runs)
    except KeyboardInterrupt:
        runs.stop()
        runs.say("interrupted")
    coverage(suites)
    return 0 if report(suites, chosen, runs) else 1


def interrupted(*_: object) -> None:
    """As Ctrl-C."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    kinds = ("pure", "compiled", "newest")
    words = sys.argv[1:]
    more = words[words.index("--") + 1 :] if "--" in words else None
    words = words[: words.index("--")] if more is not None else words
    if (
        not words
        or (more is not None and len(words) > 1)
        or any(word.partition("=")[0] not in kinds for word in words)
    ):
        raise SystemExit(
            f"usage: suites.py {' '.join(kinds)}=PYTHON, any of them; or one of them, -- and pytest's arguments"
        )
    raise SystemExit(main(words, more))
