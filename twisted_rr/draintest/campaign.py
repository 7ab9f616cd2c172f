"""Which runs there are for what was asked, made one after another within the time, and their verdicts together."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import attrs

from twisted_rr.draintest.clients import HttpClients, Paths
from twisted_rr.draintest.faults import FAULTS, FLOOD, Fault
from twisted_rr.draintest.grpc_clients import Methods
from twisted_rr.draintest.invariants import INVARIANTS
from twisted_rr.draintest.records import ANNOUNCE, COMPLETE, FINISH, PHASES, RUNNING, STOP, Evidence
from twisted_rr.draintest.run import Failed, Load, Run, start_up
from twisted_rr.draintest.target import Launch, Target
from twisted_rr.draintest.verdicts import BROKEN, Verdict, together

#: What is injected when nobody says what: one fault of each kind, in less than two minutes.
USUAL = (
    "F1",
    "F5",
    "F13",
    "F14",
    "F16",
    "F18",
    "F22",
    "F23",
    "F24",
    "F26",
    "F29",
    "F29:int",
    "F33",
    "F41",
    "F44",
    "F46",
)

#: What a busy machine can break by itself: nothing but moments are judged.
TIMED = frozenset(("I2", "I9", "I10", "I13"))

# Runs whose every record is kept: a page with more would not load.
_SHOWN = 60

Step = tuple[str, tuple[tuple[Fault, str], ...]]


@attrs.frozen(kw_only=True)
class Asked:
    """What a campaign is to do.

    :ivar launch: makes the launch of one run; its argument is a folder for the run.
    :ivar faults: their ids.
    :ivar phases: only these; empty for each fault's usual one.
    :ivar soak: repeat at random for so many seconds, None: each once.
    :ivar seed: of the randomness.
    :ivar rate: requests a second.
    :ivar at_once: runs side by side, where each has ports of its own.
    :ivar starts: at how many moments of the start a signal is tried.
    """

    launch: Callable[[str], Launch]
    faults: tuple[str, ...] = USUAL
    phases: tuple[str, ...] = ()
    soak: float | None = None
    seed: int = 1
    rate: float = 60.0
    at_once: int = 2
    starts: int = 4
    paths: Paths = Paths()
    methods: Methods = Methods()


@attrs.frozen
class Outcome:
    """A run and its verdicts by invariant."""

    evidence: Evidence
    verdicts: dict[str, Verdict]

    @property
    def broken(self) -> list[str]:
        """The invariants that did not hold."""
        return [name for name, verdict in self.verdicts.items() if verdict.word == BROKEN]


@attrs.define(eq=False)
class Results:
    """All runs of a campaign.

    :ivar errors: runs that could not be made.
    :ivar requests: of all runs; probes likewise.
    """

    seed: int
    outcomes: list[Outcome] = attrs.field(factory=list)
    errors: list[str] = attrs.field(factory=list)
    took: float = 0.0
    requests: int = 0
    probes: int = 0

    def add(self, outcome: Outcome) -> None:
        """One run more. Of the many of a soak only the verdicts are kept, unless one is broken."""
        self.outcomes.append(outcome)
        self.requests += len(outcome.evidence.exchanges)
        self.probes += len(outcome.evidence.probes)
        if len(self.outcomes) > _SHOWN and not outcome.broken:
            outcome.evidence.forget()

    def shown(self) -> list[Outcome]:
        """Those whose records are there."""
        return [each for each in self.outcomes if each.evidence.probes or each.broken]

    def verdicts(self) -> dict[str, Verdict]:
        """One verdict for each invariant."""
        return {
            name: together([(each.evidence.name, each.verdicts[name]) for each in self.outcomes])
            for name in INVARIANTS
        }

    @property
    def broken(self) -> bool:
        """Whether anything was broken, or could not be tried at all."""
        return bool(self.errors) or any(each.word == BROKEN for each in self.verdicts().values())


def judge(evidence: Evidence) -> Outcome:
    """The verdicts of one run."""
    return Outcome(evidence, {name: invariant.of(evidence) for name, invariant in INVARIANTS.items()})


def usual_phase(fault: Fault) -> str:
    """Where a fault says most: as it says itself, else in the middle of the drain."""
    suited = (
        phase for phase in (FINISH, ANNOUNCE, RUNNING, STOP) if phase in fault.phases and _fits(fault, phase)
    )
    return fault.usual or next(suited)


def _fits(fault: Fault, phase: str) -> bool:
    # A client has to be there before the listener closes.
    return phase != FINISH or not fault.gentle


def choose(asked: Asked, protocols: frozenset[str]) -> tuple[Asked, str]:
    """*asked* without the faults of clients that have nobody to speak to, and a line about those."""
    out = [name for name in asked.faults if FAULTS[name].protocol not in {"", *protocols}]
    kept = tuple(name for name in asked.faults if name not in out)
    told = (
        f"{', '.join(out)}: not run, this server speaks {' and '.join(sorted(protocols))} only" if out else ""
    )
    return attrs.evolve(asked, faults=kept), told


def steps(asked: Asked) -> list[Step]:
    """The runs: one without faults, the gentle faults together, then each of the others alone."""
    chosen = [FAULTS[name] for name in asked.faults]
    found: list[Step] = [("a plain stop", ())]
    gentle: dict[str, list[Fault]] = {}
    for fault in chosen:
        for phase in _phases_of(fault, asked.phases):
            if fault.gentle:
                gentle.setdefault(phase, []).append(fault)
            else:
                found.append((f"{fault.id} in {phase}", ((fault, phase),)))
    for phase, together_ in gentle.items():
        name = f"{', '.join(fault.id for fault in together_)} in {phase}"
        found.insert(1, (name, tuple((fault, phase) for fault in together_)))
    return found


def _phases_of(fault: Fault, wanted: Sequence[str]) -> list[str]:
    if not wanted:
        return [usual_phase(fault)]
    return [phase for phase in fault.phases if phase in wanted]


def random_steps(asked: Asked) -> Iterator[Step]:
    """Endless: one to three faults at random, each in a phase that suits it."""
    dice = random.Random(asked.seed)
    pool = [FAULTS[name] for name in asked.faults]
    while True:
        count = dice.choice((1, 1, 1, 2, 2, 3))
        chosen = dice.sample(pool, min(count, len(pool)))
        placed = tuple(
            (
                fault,
                dice.choice(
                    [each for each in fault.phases if not asked.phases or each in asked.phases]
                    or [usual_phase(fault)]
                ),
            )
            for fault in chosen
        )
        yield " + ".join(f"{fault.id} in {phase}" for fault, phase in placed), placed


async def carry_out(asked: Asked, tell: Callable[[str], None]) -> Results:
    """Make all the runs; *tell* hears a line for each."""
    results = Results(asked.seed)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="drain-test-") as scratch:
        launch = asked.launch(scratch)
        asked, told = choose(asked, launch.protocols)
        if told:
            tell(told)
        if launch.http:
            asked = attrs.evolve(asked, paths=await discover(launch, asked.paths))
    if asked.soak is not None:
        await _soak(results, asked, tell, begun + asked.soak)
    else:
        # Two lives of a foreign server would want the same ports.
        await _each_once(results, asked, tell, asked.at_once if launch.config else 1)
        if asked.starts:
            await _starts(results, asked, tell)
    results.took = time.monotonic() - begun
    return results


async def _soak(results: Results, asked: Asked, tell: Callable[[str], None], end: float) -> None:
    for step in random_steps(asked):
        if time.monotonic() >= end:
            return
        _note(results, await _one(asked, step, tell))


async def _each_once(results: Results, asked: Asked, tell: Callable[[str], None], at_once: int) -> None:
    """Some side by side: a run mostly waits. Whoever takes the whole machine is alone."""
    plan = steps(asked)
    room = asyncio.Semaphore(at_once)

    async def make(step: Step) -> Outcome | str:
        async with room:
            return await _one(asked, step, tell)

    quiet = [number for number, step in enumerate(plan) if not loud(step)]
    made = dict(zip(quiet, await asyncio.gather(*(make(plan[number]) for number in quiet)), strict=True))
    for number, step in enumerate(plan):
        found = made[number] if number in made else await _one(asked, step, tell)
        if at_once > 1 and isinstance(found, Outcome) and found.broken and set(found.broken) <= TIMED:
            # Side by side the machine may have been too busy to tell; alone, it counts.
            tell(f"{step[0]}: once more, alone")
            found = await _one(asked, step, tell)
        _note(results, found)


def loud(step: Step) -> bool:
    """Whether it takes the whole machine."""
    return any(FLOOD in fault.effects for fault, _ in step[1])


def _note(results: Results, found: Outcome | str) -> None:
    if isinstance(found, str):
        results.errors.append(found)
    else:
        results.add(found)


async def _one(asked: Asked, step: Step, tell: Callable[[str], None]) -> Outcome | str:
    """A run's outcome, or why it could not be made."""
    begun = time.monotonic()
    name, faults = step
    with tempfile.TemporaryDirectory(prefix="drain-test-") as scratch:
        run = Run(
            name,
            asked.launch(scratch),
            Path(scratch),
            faults=faults,
            paths=asked.paths,
            methods=asked.methods,
            load=Load(rate=asked.rate),
        )
        try:
            outcome = judge(await run.go())
        except Failed as failed:
            tell(f"{name}: {_why(failed)}")
            return f"{name}: {failed}"
    bad = outcome.broken
    missed = "".join(f"; {fault} not injected: {why}" for fault, why in run.evidence.missed.items())
    said = f"broken: {', '.join(bad)}" if bad else "all hold"
    tell(f"{name}: {said} ({time.monotonic() - begun:.1f} s){missed}")
    return outcome


def _why(failed: Failed) -> str:
    """What failed and the last errors of the server's log, or its last line."""
    what, *log = str(failed).rstrip().splitlines()
    errors = []
    for line in log:
        with contextlib.suppress(ValueError, TypeError, KeyError):
            said = json.loads(line)
            if said["level"] in ("error", "critical"):
                errors.append(str(said["msg"]))
    return " ".join([what, "; ".join(errors[-3:] or log[-1:])])


async def _starts(results: Results, asked: Asked, tell: Callable[[str], None]) -> None:
    dice = random.Random(asked.seed)
    took = [
        each.evidence.ready - each.evidence.began
        for each in results.outcomes
        if each.evidence.ready is not None
    ]
    longest = max(took, default=2.0)
    offsets = [longest * (number + dice.random()) / asked.starts for number in range(asked.starts)]
    with tempfile.TemporaryDirectory(prefix="drain-test-") as scratch:
        launch = asked.launch(scratch)
        evidence = await start_up(launch, offsets, {})
        if launch.config:
            evidence.facts["impossible budget"] = await _impossible(launch)
    outcome = judge(evidence)
    results.add(outcome)
    bad = outcome.broken
    tell(f"{evidence.name}: {'broken: ' + ', '.join(bad) if bad else 'all hold'}")


async def _impossible(launch: Launch) -> tuple[int | None, str]:
    """What the server says to a budget that cannot be: exit code and words."""
    command = (*launch.command, "-o", "endure.grace_period=1s", "-o", "drain.announce.max=100s")
    target = Target(attrs.evolve(launch, command=command))
    try:
        patience = time.monotonic() + 10.0
        while target.code is None and time.monotonic() < patience:
            await asyncio.sleep(0.02)
        return target.code, target.log()
    finally:
        target.end()


async def discover(launch: Launch, given: Paths) -> Paths:
    """*given*, and where nothing was, the usual paths that are there: ``/wait?seconds=``, ``/big?size=``, ``/stream``."""
    target = Target(launch)
    try:
        clients = HttpClients([], launch.app, given, 3.0)
        patience = time.monotonic() + 20.0
        while time.monotonic() < patience and target.code is None:
            line = await clients.once("first")
            if line.outcome == COMPLETE and line.status < 500:
                break
            await asyncio.sleep(0.05)
        begun = time.monotonic()
        line = await clients.once("wait", "/wait?seconds=0.4")
        waits = line.status == 200 and 0.35 < time.monotonic() - begun < 2.5
        big = await clients.once("big", "/big?size=10")
        return Paths(
            plain=given.plain,
            long=given.long or ("/wait?seconds={seconds}" if waits else None),
            big=given.big or ("/big?size={size}" if big.status == 200 and waits else None),
            stream=given.stream or ("/stream" if await _streams(clients) else None),
        )
    finally:
        target.note_family()
        target.end()


async def _streams(clients: HttpClients) -> bool:
    """Whether ``/stream`` begins an answer and does not end it."""
    quick = HttpClients([], clients.address, Paths(), 0.4)
    line = await quick.once("stream", "/stream")
    return line.outcome == "hung" and line.began is not None


__all__ = ["PHASES", "USUAL", "Asked", "Outcome", "Results", "carry_out", "discover", "judge", "steps"]
