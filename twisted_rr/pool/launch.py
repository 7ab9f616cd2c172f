"""What runs in a worker's process before the worker's own program: it makes the process ours, then execs.

``python -I -S launch.py key=value ... -- command argument ...``, the standard library only, and little of
that, because every start of a worker pays for it. It never forks, so the worker keeps this process id.
How it is started, and what becomes of its report, is `twisted_rr.pool.process`'s subject.

Keys, each optional: ``parent`` (the server's pid: die with it), ``chdir``, ``nice``, ``oom`` (oom_score_adj),
``affinity`` (CPU numbers), ``rlimit`` (``name:soft[:hard]``, repeatable), ``groups``, ``gid``, ``uid``.
Descriptor 3, if open, is where a failure is reported as ``step errno``; it closes at a successful exec.
"""

import os
import sys

TYPE_CHECKING = False  # as typing's, which is not worth its import here
if TYPE_CHECKING:
    from typing import Any

STATUS_FD = 3
_PR_SET_PDEATHSIG = 1
_SIGKILL = 9
_NAME_TOO_MANY = 1 << 20


def _prctl(option: int, value: int) -> None:
    """One call of prctl(2). Where Python has no ctypes, the relay's end is what tells a worker to go."""
    try:
        import _ctypes  # all that is needed of ctypes, at a third of its import
    except ImportError:
        return
    library: Any = _ctypes
    try:
        address = library.dlsym(library.dlopen(None, 2), "prctl")
    except OSError:
        return  # not Linux
    if library.call_function(address, (option, value, 0, 0, 0)) != 0:
        raise OSError(22, "prctl")


def _die_with(parent: int) -> None:
    _prctl(_PR_SET_PDEATHSIG, _SIGKILL)
    if os.getppid() != parent:  # it died before the call above
        os._exit(1)


def _default_signals() -> None:
    """Nothing ignored (Python ignores SIGPIPE), nothing blocked: what an exec'ed program expects."""
    import _signal  # type: ignore[import-not-found]  # the signal module costs an import of enum

    for number in _signal.valid_signals():
        if _signal.getsignal(number) not in (_signal.SIG_DFL, None):
            _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, [])


def _limit(text: str) -> None:
    import resource

    name, _, value = text.partition(":")
    soft, _, hard = value.partition(":")
    kind = getattr(resource, "RLIMIT_" + name.upper())
    resource.setrlimit(kind, (int(soft), int(hard or soft)))


def _score(text: str) -> None:
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write(text)


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


def _close_others() -> None:
    """Whatever came along, a listener above all, ends here; the status descriptor ends at exec."""
    try:
        os.set_inheritable(STATUS_FD, False)
    except OSError:
        pass  # started by hand, without one
    os.closerange(STATUS_FD + 1, _NAME_TOO_MANY)


def _exec(argv: list[str]) -> None:
    """As execvp, but a command that is there and cannot be run is told from one that is not."""
    command = argv[0]
    if "/" in command:
        os.execv(command, argv)
    found: OSError = FileNotFoundError(2, command)
    for folder in os.environ.get("PATH", os.defpath).split(":"):
        try:
            os.execv(os.path.join(folder, command), argv)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            found = error
    raise found


def _prepare(step: str, value: str, parent: int) -> None:
    if step == "parent":
        _die_with(parent)
    elif step == "chdir":
        os.chdir(value)
    elif step == "rlimit":
        _limit(value)
    elif step == "nice":
        os.nice(int(value))
    elif step == "affinity":
        os.sched_setaffinity(0, _numbers(value))
    elif step == "oom":
        _score(value)
    elif step == "groups":
        os.setgroups(_numbers(value))
    elif step == "gid":
        os.setgid(int(value))
    elif step == "uid":
        os.setuid(int(value))
        if parent:
            _die_with(parent)  # a change of uid has cleared it
    else:
        raise OSError(22, step)


def main(arguments: list[str]) -> None:
    """Do the steps in the order given, then exec; on failure report ``step errno`` and exit with 127."""
    split = arguments.index("--")
    steps = [argument.partition("=")[::2] for argument in arguments[:split]]
    parent = int(dict(steps).get("parent", "0"))
    step = "setpgid"
    try:
        os.setpgid(0, 0)  # the terminal's Ctrl-C is for the server alone
        for step, value in steps:
            _prepare(step, value, parent)
        step = "signals"
        _default_signals()
        step = "close"
        _close_others()
        step = "exec"
        _exec(arguments[split + 1 :])
    except (OSError, ValueError, AttributeError) as error:
        number = getattr(error, "errno", None) or 22
        try:
            os.write(STATUS_FD, f"{step} {number}".encode())
        finally:
            os._exit(127)


if __name__ == "__main__":
    main(sys.argv[1:])
