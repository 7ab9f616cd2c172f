"""Verdicts on records made by hand: what breaks each invariant, and what excuses it."""

import pytest

from twisted_rr.draintest import faults, records
from twisted_rr.draintest.invariants import INVARIANTS
from twisted_rr.draintest.records import Connect, Evidence, Exchange, Life, Probe, Terms
from twisted_rr.draintest.verdicts import BROKEN, HOLDS, NOT_RUN, Verdict, together

TERMS = Terms(total=3.0, cut=2.0, announce=0.6, announce_max=0.9, stuck_after=1.0, worker_stop=0.5)
SIGNAL = 10.0


def probe(channel, at, code, **more):
    return Probe(channel=channel, at=at, took=0.002, code=code, **more)


def exchange(opened, ended=None, outcome=records.COMPLETE, status=200, **more):
    more.setdefault("close", opened >= SIGNAL)
    return Exchange(
        number=0, protocol="http", client="closing", opened=opened, asked=opened, began=opened + 0.01,
        ended=opened + 0.02 if ended is None else ended, outcome=outcome, status=status, **more,
    )  # fmt: skip


@pytest.fixture
def good():
    """A run as it should be: signal at 10.0, listeners closed at 10.7, exit at 11.5."""
    steps = [8.0 + number / 50 for number in range(int(3.5 * 50))]
    found = Evidence("a run", TERMS, 7.0, ready=8.0, signalled=SIGNAL, exited=11.5, code=0)
    for at in steps:
        found.probes.append(probe("health", at, 200, entries=(200,)))
        found.probes.append(
            probe(
                "ready",
                at,
                503 if at >= SIGNAL else 200,
                in_flight=0 if at > SIGNAL else None,
                entries=(503,) if at >= SIGNAL else (200,),
            )
        )
        found.probes.append(probe("startup", at, 200))
        found.probes.append(probe("unknown", at, 503, entries=(404,)))
        found.connects.append(Connect(at, 0.001, "refused" if at > 10.7 else "accepted"))
        if at < 10.7:
            found.exchanges.append(exchange(at, parting="fin" if at >= SIGNAL else ""))
    found.exchanges.append(exchange(9.9, 11.3))
    found.exchanges[-1].close = True
    found.lives = {1: Life(1, 8.0, 11.45), 2: Life(2, 8.0, 11.45)}
    served = sum(1 for line in found.exchanges if line.ended >= SIGNAL)
    found.report, found.reports = {"finished": served, "cut": 0}, 1
    return found


def word(evidence, name):
    return INVARIANTS[name].of(evidence).word


def test_a_good_run_breaks_nothing(good):
    assert not [name for name in INVARIANTS if word(good, name) == BROKEN]
    held = {name for name in INVARIANTS if word(good, name) == HOLDS}
    assert held >= {
        "I1",
        "I2",
        "I3",
        "I4",
        "I5",
        "I6",
        "I7",
        "I9",
        "I10",
        "I11",
        "I12",
        "I16",
        "I17",
        "I22",
        "I28",
    }


def spoil_ready_again(run):
    run.probes.append(probe("ready", 10.9, 200))


def spoil_never_unready(run):
    run.probes = [each for each in run.probes if each.channel != "ready"]
    run.probes += [probe("ready", 9 + number / 50, 200) for number in range(120)]


def spoil_early_close(run):
    run.connects.append(Connect(10.1, 0.001, "refused"))
    run.connects.sort(key=lambda each: each.at)


def spoil_cut(run):
    run.exchanges.append(exchange(10.2, 10.5, records.CUT))


def spoil_reset(run):
    run.exchanges.append(exchange(9.9, 10.5, records.RESET))


def spoil_hang(run):
    run.connects.append(Connect(11.0, 1.0, "hung"))


def spoil_holder(run):
    run.holders.append(77)


def spoil_health(run):
    run.probes.append(probe("health", 10.9, 503, state="stuck"))


def spoil_health_refused(run):
    run.probes.append(probe("health", 10.9, 0))


def spoil_slow(run):
    run.probes += [Probe(channel="health", at=9 + number / 10, took=0.3, code=200) for number in range(20)]


def spoil_status_early(run):
    run.probes = [each for each in run.probes if each.at < 10.8]


def spoil_late(run):
    run.exited = 14.5


def spoil_code(run):
    run.code = 1


def spoil_orphan(run):
    run.left_behind.append(5)


def spoil_leak(run):
    run.exited = 15.0
    run.terms = Terms(total=9.0, cut=8.0, worker_stop=0.5)


def spoil_open(run):
    run.exchanges[-2].close = False


def spoil_parting(run):
    run.exchanges[-2].parting = "open"


def spoil_recycle(run):
    run.lives[9] = Life(9, 10.8)


def spoil_startup(run):
    run.probes.append(probe("startup", 10.9, 503))


def spoil_report(run):
    run.report["finished"] += 40


def spoil_unknown(run):
    run.probes.append(probe("unknown", 10.9, 200, entries=()))


def spoil_body(run):
    run.probes.append(probe("ready", 10.9, 200, entries=(500,)))


@pytest.mark.parametrize(
    ("invariant", "spoil"),
    [
        ("I1", spoil_ready_again),
        ("I1", spoil_never_unready),
        ("I2", spoil_early_close),
        ("I2", spoil_never_unready),
        ("I3", spoil_early_close),
        ("I3", spoil_cut),
        ("I4", spoil_cut),
        ("I5", spoil_reset),
        ("I6", spoil_hang),
        ("I6", spoil_holder),
        ("I7", spoil_health),
        ("I7", spoil_health_refused),
        ("I9", spoil_slow),
        ("I10", spoil_status_early),
        ("I11", spoil_late),
        ("I11", spoil_code),
        ("I12", spoil_orphan),
        ("I16", spoil_leak),
        ("I17", spoil_open),
        ("I17", spoil_parting),
        ("I22", spoil_recycle),
        ("I24", spoil_startup),
        ("I28", spoil_report),
        ("I29", spoil_unknown),
        ("I30", spoil_body),
    ],
)
def test_what_breaks_it_is_found(good, invariant, spoil):
    spoil(good)
    assert word(good, invariant) == BROKEN


def test_stopped_workers_have_to_be_told_and_excuse_the_health(good):
    good.effects.add(faults.STUCK)
    good.outages.append((8.2, 11.0))
    assert word(good, "I8") == BROKEN
    good.probes.insert(0, probe("health", 9.3, 503, state="stuck"))
    assert word(good, "I8") == HOLDS
    assert word(good, "I7") == HOLDS


def test_calls_of_a_lost_worker_may_fail_only_where_one_was_lost(good):
    good.exchanges.append(exchange(10.2, status=502, parting="fin"))
    assert word(good, "I3") == BROKEN
    good.effects.add(faults.LOSES_CALLS)
    assert word(good, "I3") == HOLDS


def test_calls_in_flight_at_the_close_are_not_the_servers_to_turn_away(good):
    good.exchanges[-1].status = 503
    assert word(good, "I4") == BROKEN
    good.exchanges.append(exchange(8.5, status=503))
    assert word(good, "I4") == HOLDS, "so the application answers"
    good.exchanges.pop()
    good.effects.add(faults.LOSES_CALLS)
    assert word(good, "I4") == HOLDS


def test_what_came_after_the_close_may_be_turned_away(good):
    good.exchanges.append(exchange(10.9, status=503, reused=True, parting="fin"))
    assert word(good, "I4") == HOLDS


def test_a_cut_before_the_deadline_is_a_loss_also_when_it_was_counted(good):
    good.exchanges.append(exchange(9.9, 10.8, records.CUT))
    good.report["cut"] = 1
    assert word(good, "I4") == BROKEN
    good.effects.add(faults.LOSES_CALLS)
    assert word(good, "I4") == HOLDS


def test_an_unusual_health_client_has_to_be_answered(good):
    good.facts["odd probes"] = [("HEAD", 10.1, 10.2, 200), ("Expect", 10.2, 10.3, 417)]
    assert word(good, "I7") == BROKEN
    good.effects.add(faults.HELD)
    assert word(good, "I7") == HOLDS


@pytest.mark.parametrize(
    ("status", "at", "lag", "verdict"),
    [(-1, 10.1, 0.0, BROKEN), (-1, 10.1, 0.7, HOLDS), (-2, 10.1, 0.7, BROKEN), (-2, 11.4, 0.0, HOLDS)],
)
def test_an_unusual_health_client_needs_a_machine_and_a_server_that_run(good, status, at, lag, verdict):
    good.facts["odd probes"] = [("HEAD", at, at + 0.9 if status == -1 else at + 0.01, status)]
    if lag:
        good.lags.append((at, lag))
    assert word(good, "I7") == verdict


@pytest.mark.parametrize(
    ("waited", "log", "verdict"),
    [
        (0, "asks for drain?wait=1", HOLDS),
        (1, "asks for drain?wait=1", BROKEN),
        (None, "asks for drain?wait=1", BROKEN),
        (1, "", HOLDS),
    ],
)
def test_a_drain_that_waits_ends_with_the_stop(good, waited, log, verdict):
    good.faults, good.log = ["F45:announce"], log
    good.facts["drain --wait"] = waited
    assert word(good, "I15") == verdict


def test_a_cut_that_the_server_counted_is_no_loss(good):
    good.exchanges.append(exchange(10.2, 12.0, records.CUT))
    assert word(good, "I4") == BROKEN
    good.report["cut"] = 1
    assert word(good, "I4") == HOLDS


def test_a_request_that_crossed_the_close_is_the_clients_to_repeat(good):
    line = exchange(11.0, 11.01, records.EMPTY, reused=True)
    line.began = None
    good.exchanges.append(line)
    assert word(good, "I4") == HOLDS


def test_a_kept_connection_that_ended_before_the_close_is_a_loss(good):
    line = exchange(10.4, 10.42, records.EMPTY, reused=True)
    line.began = None
    good.exchanges.append(line)
    assert word(good, "I4") == BROKEN
    # Unless the rig slept so long that it cannot know.
    good.connects[:] = [each for each in good.connects if not 10.3 < each.at < 10.9]
    assert word(good, "I4") == HOLDS


@pytest.mark.parametrize(("pause", "verdict"), [(0.1, BROKEN), (0.5, HOLDS)])
def test_a_new_connection_is_lost_unless_its_client_took_its_time(good, pause, verdict):
    line = exchange(10.68 - pause, 10.72, records.EMPTY)
    line.asked, line.began = 10.68, None
    good.exchanges.append(line)
    assert word(good, "I4") == verdict
    assert word(good, "I3") == HOLDS  # it came when the announce was over, or was crossed


def test_a_server_that_was_stopped_right_behind_its_answer_could_not_close(good):
    spoil_parting(good)
    answered = good.exchanges[-2].ended
    good.holds.append((answered + 0.001, answered + 1.0))
    assert word(good, "I17") == BROKEN
    good.holds[:] = [(answered + 0.001, answered + 1.9)]
    assert word(good, "I17") == HOLDS


def test_a_line_excuses_as_many_calls_as_it_stands_for(good):
    good.exchanges.append(exchange(10.1, 10.2, records.LEFT, by_plan=True))
    spoil_report(good)
    assert word(good, "I28") == BROKEN
    good.exchanges[-1].calls = 40
    assert word(good, "I28") == HOLDS


def test_waiting_for_a_cpu_is_not_the_servers_time(good):
    good.probes += [
        Probe(channel="health", at=9 + number / 10, took=0.3, waited=0.28, code=200) for number in range(20)
    ]
    assert word(good, "I9") == HOLDS


def test_one_broken_run_decides():
    verdicts = [("a", Verdict(HOLDS, "x")), ("b", Verdict(BROKEN, "y")), ("c", Verdict(NOT_RUN, "z"))]
    assert together(verdicts) == Verdict(BROKEN, "b: y")
    assert together(verdicts[:1] + verdicts[2:]).word == HOLDS
    assert (
        together([("c", Verdict(NOT_RUN, "needs F1")), ("d", Verdict(NOT_RUN, "too few"))]).why == "too few"
    )
