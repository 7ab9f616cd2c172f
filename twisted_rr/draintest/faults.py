"""The faults that can be injected from outside: what each does, when it makes sense, and what it excuses.

Those that need the application's help are named in `ELSEWHERE`, with the reason.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from twisted_rr.draintest import processes
from twisted_rr.draintest.clients import can_vanish
from twisted_rr.draintest.grpc_clients import REFLECTION, WATCH
from twisted_rr.draintest.records import ANNOUNCE, FINISH, PHASES, RUNNING, STOP
from twisted_rr.draintest.wire import Ended, Malformed, Wire, request

if TYPE_CHECKING:
    from twisted_rr.draintest.run import Run

# What a fault entitles the server to, or takes from what can be judged.
LOSES_CALLS = "calls of a lost worker may be answered 502"
UNANSWERED = "no worker can be had: calls may be answered 503"
CUTS = "work is in flight at the deadline: exit code 3 is right"
NEW_WORKERS = "workers were lost: new ones may come"
KILLS = "a worker has to be killed: exit code 5 is right"
STUCK = "all workers that hold calls are stopped: /health has to fail"
HELD = "the server process was held: it answers late"
FORCED = "the operator forces the stop"
KILLED = "the server is killed"
NO_REPORT = "the log cannot be written"
EARLY = "the listeners may close earlier than planned"
FLOOD = "the machine is busy: latencies say nothing"
STARVED = "the server has no descriptors: nobody can be accepted"

# More than a server accepts in one turn of its loop, so that some still wait when its timer says close.
_QUEUE = 300

_WATCHES = 100

Inject = Callable[["Run"], Awaitable[None]]


@attrs.frozen
class Fault:
    """One fault.

    :ivar inject: does it; the phase has begun when it is called.
    :ivar phases: where it says something.
    :ivar effects: the constants above.
    :ivar missing: why it cannot be injected here, empty when it can.
    :ivar environ: for the server's process.
    :ivar overrides: of the server's configuration.
    :ivar usual: the phase when none is asked for; empty: in the middle of the drain.
    :ivar protocol: what its clients speak, ``http`` or ``grpc``; empty: it has none.
    :ivar gentle: only clients misbehave: several such faults go together in one run.
    """

    id: str
    text: str
    inject: Inject
    phases: tuple[str, ...] = PHASES
    effects: frozenset[str] = frozenset()
    missing: Callable[[Run], str] = lambda run: ""
    environ: Callable[[str], Mapping[str, str]] = lambda scratch: {}
    overrides: tuple[str, ...] = ()
    piped: bool = False
    gentle: bool = False
    protocol: str = ""
    usual: str = ""


# -------------------------------------------------------------------------------- workers


async def _crash_one(run: Run) -> None:
    pid = run.some_worker()
    if pid:
        run.kill(pid, signal.SIGSEGV)


async def _kill_one(run: Run) -> None:
    pid = run.some_worker()
    if pid:
        run.kill(pid, signal.SIGKILL)


async def _kill_all(run: Run) -> None:
    for pid in run.target.workers():
        run.kill(pid, signal.SIGKILL)


async def _no_worker_to_be_had(run: Run) -> None:
    gate = Path(run.launch.gate)
    gate.rename(gate.with_suffix(".away"))
    run.at_end(lambda: gate.with_suffix(".away").rename(gate))
    run.outage_begins()
    await _kill_all(run)


async def _stop_one(run: Run) -> None:
    pid = run.some_worker()
    if pid:
        run.kill(pid, signal.SIGSTOP)
        run.evidence.hangs.append(time.monotonic())


async def _stop_all(run: Run) -> None:
    workers = run.target.workers()
    for pid in workers:
        run.kill(pid, signal.SIGSTOP)
    run.outage_begins()
    if run.phase == RUNNING:
        # Long enough to be noticed, then they go on: the stop itself is another matter.
        await run.wait(run.launch.terms.stuck_after + 1.5)
        for pid in workers:
            run.kill(pid, signal.SIGCONT)
        run.outage_ends()
        await run.wait(1.0)


# ---------------------------------------------------------------------------------- clients


async def _slow_reader(run: Run) -> None:
    run.clients.spawn(run.clients.slow_reader(8 << 20))


async def _slow_writers(run: Run) -> None:
    run.clients.spawn(run.clients.slow_head())
    run.clients.spawn(run.clients.slow_body(run.spare() * 0.5))


async def _idle(run: Run) -> None:
    for _ in range(5):
        run.clients.spawn(run.clients.idle())


async def _at_the_close(run: Run) -> None:
    """Kept connections that ask again and again while the listener closes: faster than the ordinary load."""
    run.clients.load(100)


async def _half_closing(run: Run) -> None:
    for _ in range(3):
        run.clients.spawn(run.clients.half_closing())


async def _vanish(run: Run) -> None:
    for _ in range(3):
        run.clients.spawn(run.clients.vanishing(run.launch.terms.total * 2))


async def _silent(run: Run) -> None:
    for _ in range(5):
        run.clients.spawn(run.clients.silent())


async def _long_poll(run: Run) -> None:
    run.clients.long(run.launch.terms.total * 2, "long poll", by_plan=True)


async def _endless(run: Run) -> None:
    run.clients.spawn(run.clients.streaming())


async def _crossing(run: Run) -> None:
    assert run.grpc is not None
    run.grpc.spawn(run.grpc.crossing(run.spare() * 0.6))


async def _unruly(run: Run) -> None:
    """Clients that ignore GOAWAY and PING, do not read, or reset what they began."""
    clients = run.grpc
    assert clients is not None
    for client in (
        clients.ignoring(acknowledge=True),
        clients.ignoring(acknowledge=False),
        clients.not_reading(),
        clients.deaf(),
        clients.storm(),
    ):
        clients.spawn(client)


async def _without_end(run: Run) -> None:
    """A stream both ways, a hundred that watch, and one that asks about types."""
    clients = run.grpc
    assert clients is not None
    methods = [WATCH] * _WATCHES + [REFLECTION]
    if clients.methods.stream is not None:
        methods.append(clients.methods.stream)
    for method in methods:
        clients.spawn(clients.endless(method))


async def _queued_at_close(run: Run) -> None:
    """The server is held over the end of its announce, while clients connect and ask."""
    end = run.since_signal_at(run.launch.terms.announce_max)
    await run.wait(end - time.monotonic() - 0.05)
    over = asyncio.Event()

    async def until_over() -> None:
        await over.wait()

    begun = run.hold_begins()
    queued = asyncio.ensure_future(run.clients.together(_QUEUE, until_over))
    await run.wait(0.25)
    run.hold_ends(begun)
    over.set()
    await queued


async def _flood(run: Run) -> None:
    run.clients.spawn(run.clients.knocking(lambda: run.over, clients=16))


# ------------------------------------------------------------------------- signals, admin


async def _term_again(run: Run) -> None:
    for _ in range(20):
        run.signal(signal.SIGTERM)
        await asyncio.sleep(0.005)


async def _force(run: Run) -> None:
    # Something has to be in flight, or the stop would end by itself meanwhile.
    run.long(run.launch.terms.total * 2, "forced")
    await run.wait(0.05)
    run.signal(signal.SIGTERM)
    await run.wait(0.05)
    run.evidence.forced = run.signal(signal.SIGINT)


async def _reload(run: Run) -> None:
    run.signal(signal.SIGHUP)
    run.signal(signal.SIGUSR2)
    await run.wait(0.05)


async def _freeze(run: Run) -> None:
    """Held past its deadline."""
    begun = run.hold_begins()
    await run.wait(max(0.5, run.since_signal_at(run.launch.terms.cut + 0.5) - time.monotonic()))
    run.hold_ends(begun)


async def _hiccup(run: Run) -> None:
    begun = run.hold_begins()
    await run.wait(min(3.0, max(0.5, run.launch.terms.cut / 4)))
    run.hold_ends(begun)


async def _kill_server(run: Run) -> None:
    run.evidence.forced = run.signal(signal.SIGKILL)


async def _break_output(run: Run) -> None:
    run.target.break_pipe()


async def _rotate(run: Run) -> None:
    run.signal(signal.SIGUSR1)


async def _group(run: Run) -> None:
    run.note(f"SIGTERM to the process group {run.target.pid}")
    run.target.signal_group(signal.SIGTERM)


async def _clock(run: Run) -> None:
    """An hour forward, then two back: wall time only."""
    for offset in ("+3600s", "-3600s"):
        _set_clock(run.scratch, offset)
        await run.wait(0.3)


def _set_clock(scratch: Path, offset: str) -> Path:
    """In one step: the library reads the file at every look at the clock, and an empty one is no time."""
    file = scratch / "clock"
    fresh = scratch / "clock.new"
    fresh.write_text(offset)
    return fresh.rename(file)


def _faked(scratch: str) -> Mapping[str, str]:
    return {
        "LD_PRELOAD": _faketime_library(),
        "FAKETIME_TIMESTAMP_FILE": str(_set_clock(Path(scratch), "+0s")),
        "FAKETIME_NO_CACHE": "1",
        "DONT_FAKE_MONOTONIC": "1",
        # Its way round a fault of old C libraries lets no wait of the interpreter lock last: a second thread
        # that wants it takes the CPU from the one that has it.
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",
    }


def _faketime_library() -> str:
    folders = ("/usr/lib", "/usr/local/lib", "/usr/lib64")
    names = ("*/faketime/libfaketime.so.1", "faketime/libfaketime.so.1")
    found = (match for folder in folders for name in names for match in Path(folder).glob(name))
    return str(next(found, ""))


async def _probe_flood(run: Run) -> None:
    async def ask() -> None:
        while not run.over:
            try:
                wire = await Wire.open(run.launch.status, 1.0)
                wire.write(request("GET", "/ready", "flood"))
                async with asyncio.timeout(1.0):
                    await wire.answer()
                wire.close()
            except (OSError, Ended, Malformed, TimeoutError):
                await asyncio.sleep(0.05)

    for _ in range(8):
        run.clients.spawn(ask())


async def _no_descriptors(run: Run) -> None:
    """The server may open no more descriptors, and clients keep connecting."""
    pid = run.target.pid
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = processes.descriptors(pid)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 2, limits[1]))
    held = [run.clients.spawn(run.clients.silent()) for _ in range(20)]
    await run.wait(0.4)
    for task in held:
        task.cancel()
    resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)


async def _undrain(run: Run) -> None:
    """An admin drains, takes it back, and drains again while a signal comes."""
    if run.phase == RUNNING:
        for verb in ("drain", "undrain"):
            run.facts.setdefault("verbs", []).append(
                (verb, time.monotonic(), await run.verb(verb), time.monotonic())
            )
            await run.wait(0.3)
        return
    codes = await asyncio.gather(run.verb("drain"), run.verb("undrain"), run.verb("drain"))
    run.facts["undrain while stopping"] = codes[1]


async def _wait_for_drain(run: Run) -> None:
    """A preStop hook waits for the drain while the signal comes."""
    waiting = asyncio.ensure_future(run.verb("drain", "--wait"))
    run.facts["drain --wait"] = waiting
    await run.wait(0.3)


async def _odd_probes(run: Run) -> None:
    """Health clients of every kind: kept connections, HEAD, Expect, absolute form, HTTP/1.0, one that stays."""
    run.clients.spawn(run.odd_probes())


async def _busy_neighbour(run: Run) -> None:
    hogs = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", "while True: pass")
        for _ in range(os.cpu_count() or 1)
    ]

    def end() -> None:
        for hog in hogs:
            if hog.returncode is None:
                hog.kill()

    run.at_end(end)


def _needs_gate(run: Run) -> str:
    return "" if run.launch.gate else "needs a configuration: nothing else can be kept from starting workers"


def _needs_admin(run: Run) -> str:
    return "" if run.launch.admin else "needs a configuration: the admin socket of this server is not known"


def _needs_big(run: Run) -> str:
    return "" if run.clients.paths.big else "needs --big-path, where the application answers with many bytes"


def _needs_method(run: Run) -> str:
    known = run.grpc is not None and run.grpc.methods.unary is not None
    return "" if known else "needs --grpc-call, a method that answers an empty message"


def _needs_long(run: Run) -> str:
    return (
        ""
        if run.clients.paths.long
        else "needs --long-path, where the application answers after some seconds"
    )


def _needs_stream(run: Run) -> str:
    return (
        "" if run.clients.paths.stream else "needs --stream-path, where the application streams without end"
    )


def _needs_repair(run: Run) -> str:
    return "" if can_vanish() else "needs CAP_NET_ADMIN"


def _needs_faketime(run: Run) -> str:
    return "" if _faketime_library() else "needs libfaketime (Debian's package faketime)"


_DRAIN = (ANNOUNCE, FINISH)
_LATE = (ANNOUNCE, FINISH, STOP)
_EARLY = (RUNNING, ANNOUNCE)

_ALL = (
    Fault("F1", "a worker crashes (SIGSEGV)", _crash_one, PHASES, frozenset({LOSES_CALLS, NEW_WORKERS})),
    Fault("F2", "all workers crash", _kill_all, (RUNNING, *_DRAIN), frozenset({LOSES_CALLS, NEW_WORKERS})),
    Fault(
        "F3",
        "all workers are dead and none can be started",
        _no_worker_to_be_had,
        (RUNNING, *_DRAIN),
        frozenset({LOSES_CALLS, NEW_WORKERS, UNANSWERED, KILLS, CUTS}),
        _needs_gate,
    ),
    Fault("F4", "one worker is stopped (SIGSTOP)", _stop_one, PHASES, frozenset({CUTS, KILLS})),
    Fault("F5", "all workers are stopped", _stop_all, (RUNNING, *_DRAIN), frozenset({CUTS, KILLS, STUCK}), usual=RUNNING),
    Fault("F6", "a worker does not react to its stop", _stop_one, (FINISH, STOP), frozenset({CUTS, KILLS})),
    Fault("F10", "a worker is killed (SIGKILL, as by the OOM killer)", _kill_one, PHASES, frozenset({LOSES_CALLS, NEW_WORKERS})),
    Fault("F12", "a client reads slowly", _slow_reader, _EARLY, frozenset({CUTS}), _needs_big, gentle=True, protocol="http"),
    Fault("F13", "clients send slowly", _slow_writers, _EARLY, gentle=True, protocol="http"),
    Fault("F14", "idle kept connections", _idle, _EARLY, gentle=True, protocol="http"),
    Fault("F15", "kept connections ask at the close", _at_the_close, (ANNOUNCE,), gentle=True, protocol="http"),
    Fault("F16", "clients shut their sending side early", _half_closing, (RUNNING, ANNOUNCE), gentle=True, protocol="http"),
    Fault("F17", "peers vanish without a FIN", _vanish, _EARLY, frozenset({CUTS}), _needs_repair, gentle=True, protocol="http"),
    Fault("F18", "clients that never send a byte", _silent, _EARLY, gentle=True),
    Fault("F19", "a long poll beyond the deadline", _long_poll, _EARLY, frozenset({CUTS}), _needs_long, protocol="http"),
    Fault("F20", "a stream without end", _endless, _EARLY, frozenset({CUTS}), _needs_stream, gentle=True, protocol="http"),
    Fault("F22", "HTTP/2 with many streams, new ones cross GOAWAY", _crossing, _EARLY, frozenset(), _needs_method,
          overrides=("grpc.max_concurrent_streams=200",), protocol="grpc"),
    Fault("F23", "HTTP/2 clients that ignore GOAWAY, do not read, or reset what they began", _unruly, _EARLY,
          frozenset({CUTS}), protocol="grpc"),
    Fault("F24", "gRPC streams without end, Watch and reflection open", _without_end, _EARLY, frozenset({CUTS}),
          protocol="grpc"),
    Fault("F26", "connections queue while the listener closes", _queued_at_close, (ANNOUNCE,), frozenset({HELD}), protocol="http"),
    Fault("F27", "a flood of connections", _flood, _EARLY, frozenset({FLOOD}), protocol="http"),
    Fault("F29", "SIGTERM again and again", _term_again, _LATE),
    Fault("F29:int", "SIGTERM, then SIGINT", _force, (ANNOUNCE,), frozenset({FORCED, CUTS})),
    Fault("F30", "reload signals", _reload, PHASES, frozenset({NEW_WORKERS})),
    Fault("F31", "the server is stopped past its deadline", _freeze, _DRAIN, frozenset({HELD, CUTS, KILLS, EARLY})),
    Fault("F32", "the server is killed", _kill_server, PHASES, frozenset({KILLED, NO_REPORT})),
    Fault("F33", "nobody reads its output", _break_output, PHASES, frozenset({NO_REPORT}), piped=True),
    Fault(
        "F34", "the disk is full, logs rotate", _rotate, PHASES, frozenset({NO_REPORT}), _needs_gate,
        overrides=("logs.output=/dev/full",),
    ),
    Fault("F35", "the wall clock jumps by hours", _clock, PHASES, frozenset({FLOOD}), _needs_faketime, _faked),
    Fault("F36", "the server's loop is blocked for a while", _hiccup, (RUNNING, *_DRAIN), frozenset({HELD, EARLY})),
    Fault("F40", "a flood of probes", _probe_flood, PHASES, frozenset({FLOOD})),
    Fault("F41", "SIGTERM to the whole process group", _group, _LATE),
    Fault("F42", "no descriptors are left", _no_descriptors, _EARLY, frozenset({FLOOD, STARVED})),
    Fault("F44", "an admin drains and takes it back", _undrain, (RUNNING, *_DRAIN), frozenset(), _needs_admin, usual=RUNNING),
    Fault("F45", "a preStop hook waits for the drain", _wait_for_drain, _EARLY, frozenset({EARLY}), _needs_admin),
    Fault("F46", "health clients of every kind", _odd_probes, PHASES, gentle=True),
    Fault("F47", "a busy neighbour takes the CPU", _busy_neighbour, _EARLY, frozenset({FLOOD})),
)  # fmt: skip

FAULTS: Mapping[str, Fault] = {fault.id: fault for fault in _ALL}

#: Faults of the list that cannot be injected from outside.
ELSEWHERE: Mapping[str, str] = {
    "F7": "needs an application that forks",
    "F8": "needs an application that writes to its relay",
    "F9": "needs an application that looks at its relay",
    "F11": "needs a user of its own with a process limit",
    "F21": "WebSocket",
    "F25": "TCP",
    "F28": "is a run of its own: always done",
    "F37": "needs a collector",
    "F38": "jobs",
    "F39": "jobs",
    "F43": "needs a memory cgroup of its own",
    "F48": "needs a TLS handshake held in its middle",
}
