"""Phases and the way out, on a clock: order, deadline, force, failures, stop during start, start again."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifecycle_world import Child, Front, Item, Reactor, World
from twisted.application.service import MultiService
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from twisted_rr.build import embed
from twisted_rr.errors import ListenError, WorkerStartError
from twisted_rr.interfaces import IDrain, IInFlight
from twisted_rr.lifecycle.budget import Budget
from twisted_rr.lifecycle.drain import (
    ANNOUNCE,
    BOOTING,
    FINISH,
    FORCE,
    RUNNING,
    STARTING,
    STOPPING,
    WrongState,
)
from twisted_rr.lifecycle.phases import PHASES, Phase, PhaseFailed
from twisted_rr.lifecycle.server import Server, StartEnded
from twisted_rr.testing.pool import FakePool

ANNOUNCING = Budget(total=20.0, announce_min=2.0, announce_max=5.0, announce_quiet=2.0)


# ----------------------------------------------------------------------------------- phase


def test_a_phase_waits_for_every_child() -> None:
    diary: list[str] = []
    phase = Phase("WORKERS")
    slow, quick = Child("slow", diary, holds=True), Child("quick", diary)
    for child in (slow, quick):
        child.setServiceParent(phase)
    phase.startService()
    done: list[object] = []
    phase.stopService().addBoth(done.append)
    assert (done, phase.waiting) == ([], ["slow"])
    slow.release()
    assert (done, phase.waiting) == ([None], [])


def test_a_phase_names_the_children_that_failed_and_stops_the_others() -> None:
    diary: list[str] = []
    phase = Phase("DRIVERS")
    for name in ("a", "b", "c"):
        Child(name, diary).setServiceParent(phase)
    for name in ("a", "c"):
        phase.getServiceNamed(name).broken = True
    phase.startService()
    failures: list[Failure] = []
    phase.stopService().addErrback(failures.append)
    error = failures[0].value
    assert isinstance(error, PhaseFailed)
    assert sorted(error.children) == ["a", "c"]
    assert "DRIVERS" in str(error)
    assert "b stopped" in diary


def test_a_child_whose_stop_raises_is_like_one_whose_stop_fails() -> None:
    phase = Phase("DRIVERS")

    class Broken(Child):
        def stopService(self) -> None:
            raise RuntimeError

    Broken("x", []).setServiceParent(phase)
    failures: list[Failure] = []
    phase.stopService().addErrback(failures.append)
    assert failures[0].check(PhaseFailed)


def test_a_child_that_cannot_be_forced_does_not_protect_the_others() -> None:
    diary: list[str] = []
    phase = Phase("WORKERS")

    class Broken(Child):
        def hurry(self) -> None:
            raise RuntimeError

    Broken("x", diary).setServiceParent(phase)
    Child("y", diary).setServiceParent(phase)
    phase.hurry()
    assert diary == ["y hurry"]


# ----------------------------------------------------------------------------------- start


def test_the_server_keeps_its_contracts() -> None:
    world = World()
    assert verifyObject(IDrain, world.drain)
    assert verifyObject(IInFlight, world.front.in_flight)


def test_phases_start_in_order_status_first() -> None:
    world = World().start()
    assert world.what("start") == [
        "status start",
        "metrics start",
        "control start",
        "drivers start",
        "workers start",
        "http start",
    ]


def test_running_needs_every_pool_and_every_front() -> None:
    world = World()
    pools = [FakePool("a"), FakePool("b")]
    for pool in pools:
        pool.start = Deferred()
        world.server.place("WORKERS", pool)
    world.front.start = Deferred()
    world.start()
    assert world.drain.state == STARTING
    for wait in (pools[1].start, world.front.start):
        assert wait is not None
        wait.callback(None)
    assert world.drain.state == STARTING
    assert pools[0].start is not None
    pools[0].start.callback(None)
    assert world.states == [BOOTING, STARTING, RUNNING]


def test_ready_tells_each_waiter_how_the_start_went() -> None:
    world = World()
    pool = FakePool("http")
    pool.start = Deferred()
    world.server.place("WORKERS", pool)
    early = world.server.ready()
    world.start()
    assert not early.called
    pool.start.callback(None)
    assert early.called
    assert world.server.ready().called
    world.drain.hold("admin")
    assert world.server.ready().called


def test_ready_fails_when_a_stop_came_first_and_when_it_is_asked_too_late() -> None:
    world = World()
    world.front.start = Deferred()
    world.start()
    waiting = world.server.ready()
    given_up = world.server.ready()
    ended: list[object] = []
    given_up.addErrback(lambda failure: ended.append(failure.type))
    given_up.cancel()
    world.stop()
    late = world.server.ready()
    for waiter in (waiting, late):
        waiter.addErrback(lambda failure: ended.append(failure.type))
    assert ended == [CancelledError, StartEnded, StartEnded]


def test_a_front_that_fails_to_announce_or_to_close_does_not_stop_the_stop() -> None:
    world = World()

    class Broken(Front):
        def announce(self) -> None:
            raise RuntimeError

        finish = announce

    world.server.place("FRONT", Broken("grpc", world.diary, world.reactor))
    world.start()
    world.stop()
    assert "http announce" in world.diary
    assert "http finish" in world.diary
    assert (world.stopped != [], world.server.code) == (True, 0)


def test_a_set_that_raises_ends_the_stop_with_code_1_and_not_never() -> None:
    world = World().start()

    class Broken:
        name = "x"

        def count(self) -> int:
            raise RuntimeError

    world.front.in_flight = Broken()  # type: ignore[assignment]
    world.front.hurry = lambda: None  # type: ignore[method-assign]
    world.stop()
    assert (world.stopped, world.server.code, world.drain.state) == ([0.0], 1, STOPPING)
    assert "workers stopped" in world.diary
    assert world.children["workers"].hurried == 1


def test_a_busy_port_fails_the_start_and_releases_what_was_bound() -> None:
    world = World()
    world.front.broken_bind = ListenError("127.0.0.1:80", "in use")
    with pytest.raises(ListenError):
        world.server.privilegedStartService()
    assert not any(child.bound for child in world.children.values())
    assert world.what("start") == []
    world.front.broken_bind = None
    world.start()
    assert world.drain.state == RUNNING


def test_a_start_that_fails_stops_what_was_started() -> None:
    world = World()
    workers = world.children["workers"]
    world.front.broken_start = RuntimeError("no")
    with pytest.raises(RuntimeError):
        world.start()
    assert "workers stopped" in world.diary
    assert workers.hurried == 1
    assert (world.server.running, world.server.code) == (0, 1)
    assert world.reactor.fire_shutdown() == []


def test_a_pool_that_cannot_start_fails_the_server_with_code_1() -> None:
    failures: list[Failure] = []
    world = World(on_failure=failures.append)
    pool = FakePool("http")
    pool.start = Deferred()
    world.server.place("WORKERS", pool)
    world.start()
    pool.start.errback(WorkerStartError("php worker.php", "exited with 1"))
    assert [failure.type for failure in failures] == [WorkerStartError]
    world.stop()
    world.reactor.spend(1)
    assert (world.server.code, world.stopped != []) == (1, True)
    assert world.server.report is not None
    assert world.server.report.outcome == "failed"


def test_an_embedded_server_that_cannot_go_on_stops_itself() -> None:
    world = World().start()
    world.server.fail(Failure(RuntimeError("the broker is gone")))
    world.reactor.spend(0.1)
    assert (world.server.running, world.drain.state, world.server.code) == (0, STOPPING, 1)
    assert world.what("stopped")[-1] == "status stopped"


def test_only_the_first_failure_counts() -> None:
    failures: list[Failure] = []
    world = World(on_failure=failures.append).start()
    world.server.fail(Failure(RuntimeError("one")))
    world.server.fail(Failure(RuntimeError("two")))
    assert [str(failure.value) for failure in failures] == ["one"]


# ------------------------------------------------------------------------------------ stop


def test_phases_stop_one_after_another_and_status_last() -> None:
    world = World()
    for child in world.children.values():
        child.holds = True
    world.front.holds = True
    world.start()
    world.stop()
    order = ["http", "workers", "drivers", "control", "metrics", "status"]
    for number, name in enumerate(order):
        assert world.what("stop") == [f"{each} stop" for each in order[: number + 1]]
        (world.front if name == "http" else world.children[name]).release()
    assert world.stopped == [0.0]
    assert world.server.report is not None
    assert world.server.report.outcome == "drained"


def test_the_shutdown_trigger_only_flips_the_state_and_does_it_in_its_own_turn() -> None:
    world = World(ANNOUNCING).start()
    flips: list[int] = []
    world.drain.watch(lambda state: flips.append(world.reactor.turns))
    world.reactor.running = True
    world.reactor.callFromThread(world.reactor.stop)
    assert (flips, world.drain.state) == ([], RUNNING)
    world.reactor.turn()
    assert (flips, world.drain.state) == ([1], ANNOUNCE)
    assert world.what("stop") == []


def test_the_trigger_was_registered_before_the_applications_own() -> None:
    world = World().start()
    seen: list[str] = []
    world.reactor.addSystemEventTrigger("before", "shutdown", lambda: seen.append(world.drain.state))
    world.reactor.fire_shutdown()
    assert seen == [ANNOUNCE]


def test_clients_are_told_in_the_turn_of_the_signal() -> None:
    world = World(ANNOUNCING).start()
    world.drain.begin("SIGTERM")
    assert world.diary[-1] == "http announce"
    world.stop()
    assert world.diary.count("http announce") == 1


def test_listeners_stay_open_through_the_announce() -> None:
    world = World(ANNOUNCING).start()
    world.stop()
    world.reactor.spend(1.9)
    assert world.what("finish") == []
    world.reactor.spend(0.2)
    assert world.what("finish") == ["http finish"]
    assert world.states[:5] == [BOOTING, STARTING, RUNNING, ANNOUNCE, FINISH]


def test_the_announce_goes_on_while_connections_come_but_not_beyond_its_maximum() -> None:
    world = World(ANNOUNCING).start()
    world.stop()
    for _ in range(49):
        world.reactor.spend(0.1)
        world.drain.arrived()
    assert world.drain.state == ANNOUNCE
    world.reactor.spend(0.15)
    assert world.what("finish") == ["http finish"]


def test_the_announce_ends_when_it_has_been_quiet() -> None:
    world = World(ANNOUNCING).start()
    world.stop()
    world.reactor.spend(1.5)
    world.drain.arrived()
    world.reactor.spend(1.9)
    assert world.drain.state == ANNOUNCE
    world.reactor.spend(0.2)
    assert world.what("finish") == ["http finish"]


def test_without_an_announce_listeners_close_in_the_turn_of_the_stop() -> None:
    world = World().start()
    world.accept()
    world.stop()
    assert world.what("finish") == ["http finish"]


def test_what_is_in_flight_finishes_before_anything_below_the_front_stops() -> None:
    world = World().start()
    item = world.accept()
    world.stop()
    world.reactor.spend(3)
    assert (world.what("stop"), world.drain.state) == ([], FINISH)
    world.front.in_flight.end(item)
    world.reactor.spend(0.1)
    report = world.server.report
    assert report is not None
    assert (report.outcome, report.finished, report.cut, report.code) == ("drained", 1, 0, 0)
    assert report.duration == pytest.approx(3.0)


def test_a_late_request_on_a_kept_connection_is_waited_for_too() -> None:
    world = World().start()
    other = Front("grpc", world.diary, world.reactor)
    world.server.place("FRONT", other)
    first, second = world.accept(), Item()
    other.in_flight.begin(second)
    world.stop()
    late = world.accept()
    world.front.in_flight.end(first)
    other.in_flight.end(second)
    world.reactor.spend(0.5)
    assert world.what("stop") == []
    world.front.in_flight.end(late)
    world.reactor.spend(0.1)
    assert world.stopped


def test_at_the_deadline_what_is_left_is_cut_and_counted() -> None:
    world = World().start()
    world.accept("GET /forever")
    world.stop()
    world.reactor.spend(5.9)
    assert (world.drain.state, world.front.hurried) == (FINISH, 0)
    world.reactor.spend(0.2)
    report = world.server.report
    assert report is not None
    assert (report.outcome, report.cut, report.code) == ("cut", 1, 3)
    assert [str(one) for one in report.blockers] == ["http GET /forever (6.0 s)"]
    assert FORCE in world.states


def test_the_exit_keeps_the_budget_when_everything_hangs() -> None:
    world = World()
    for child in world.children.values():
        child.holds = True
    world.front.holds = True
    world.start()
    world.accept()
    world.stop()
    world.reactor.spend(12)
    assert world.stopped
    assert world.stopped[0] <= 11.0
    report = world.server.report
    assert report is not None
    assert set(report.unstopped) >= {"http", "workers", "drivers"}


def test_workers_get_their_time_after_the_deadline_then_are_forced() -> None:
    world = World()
    workers = world.children["workers"]
    workers.holds = workers.yields = True
    world.start()
    world.accept()
    world.stop()
    world.reactor.spend(6.1)
    assert ("workers stop" in world.diary, workers.hurried) == (True, 0)
    world.reactor.spend(3.2)
    assert (
        workers.hurried == 0
    )  # their own schedule ended with SIGKILL at 9 s: it has to be reaped, not forced
    world.reactor.spend(0.3)
    assert workers.hurried == 1
    world.reactor.spend(0.2)
    assert world.stopped == [pytest.approx(9.5, abs=0.1)]


def test_a_process_that_slept_through_its_deadline_forces_at_once() -> None:
    world = World()
    workers = world.children["workers"]
    workers.holds = workers.yields = True
    world.start()
    world.accept()
    world.stop()
    world.reactor.advance(60)
    world.reactor.spend(0.3)
    assert workers.hurried == 1
    assert world.stopped == [pytest.approx(60.1, abs=0.1)]


def test_hurry_while_waiting_for_requests_cuts_them_at_once() -> None:
    world = World().start()
    world.accept()
    world.stop()
    world.reactor.spend(1)
    world.server.hurry()
    assert world.front.hurried >= 1
    world.reactor.spend(0.1)
    report = world.server.report
    assert report is not None
    assert (report.outcome, report.code, report.cut) == ("forced", 4, 1)
    assert world.stopped == [pytest.approx(1.0, abs=0.1)]


def test_hurry_in_the_announce_ends_it() -> None:
    world = World(ANNOUNCING).start()
    world.stop()
    world.reactor.spend(0.5)
    world.server.hurry()
    world.reactor.spend(0.1)
    assert world.stopped == [pytest.approx(0.5, abs=0.1)]
    assert world.server.code == 4


def test_hurry_before_the_stop_is_a_forced_stop() -> None:
    world = World(ANNOUNCING)
    workers = world.children["workers"]
    workers.holds = workers.yields = True
    world.start()
    world.accept()
    world.drain.hurry()
    world.stop()
    assert workers.hurried == 1
    assert world.stopped == [0.0]


def test_hurry_while_a_lower_phase_stops_forces_that_phase() -> None:
    world = World()
    workers = world.children["workers"]
    workers.holds = workers.yields = True
    world.start()
    world.stop()
    world.reactor.spend(0.5)
    assert (world.drain.state, workers.hurried) == (STOPPING, 0)
    world.server.hurry()
    assert workers.hurried == 1
    assert world.stopped == [pytest.approx(0.5, abs=0.01)]
    assert world.server.code == 4


def test_a_forced_stop_ends_within_a_second_even_when_nothing_yields() -> None:
    world = World()
    for child in world.children.values():
        child.holds = True
    world.front.holds = True
    world.start()
    world.accept()
    world.stop()
    world.reactor.spend(2)
    world.server.hurry()
    world.reactor.spend(1)
    assert world.stopped
    assert world.stopped[0] <= 3.0


def test_a_forced_stop_does_not_wait_for_a_flush_that_does_not_end() -> None:
    world = World(Budget(total=10.0, flush=5.0))
    world.server.at_end(lambda: Deferred())
    world.start()
    world.accept()
    world.stop()
    world.reactor.spend(1)
    world.server.hurry()
    world.reactor.spend(1)
    assert world.stopped
    assert world.stopped[0] <= 2.0


def test_hurry_in_the_flush_ends_it() -> None:
    world = World(Budget(total=10.0, flush=5.0))
    world.server.at_end(lambda: Deferred())
    world.start()
    world.stop()
    world.reactor.spend(1)
    assert not world.stopped
    world.server.hurry()
    world.reactor.spend(0.5)
    assert world.stopped


def test_a_child_that_fails_to_stop_does_not_keep_the_rest_from_stopping() -> None:
    world = World()
    world.children["drivers"].broken = True
    world.start()
    world.stop()
    assert world.what("stopped")[-1] == "status stopped"
    assert world.stopped


def test_stopping_twice_is_one_stop_and_both_are_told() -> None:
    world = World().start()
    item = world.accept()
    world.stop()
    world.reactor.spend(1)
    world.stop()
    assert world.stopped == []
    world.front.in_flight.end(item)
    assert world.stopped == [pytest.approx(1.0)] * 2
    assert world.diary.count("http finish") == 1


def test_a_stop_during_the_start_never_becomes_running() -> None:
    world = World()
    pool = FakePool("http")
    pool.start = Deferred()
    world.server.place("WORKERS", pool)
    world.start()
    world.stop()
    assert world.stopped
    pool.start.callback(None)
    assert RUNNING not in world.states
    assert ANNOUNCE not in world.states


def test_a_pool_that_gives_up_because_of_the_stop_is_no_failure() -> None:
    failures: list[Failure] = []
    world = World(on_failure=failures.append)
    pool = FakePool("http")
    pool.start = Deferred()
    pool.stop = Deferred()
    world.server.place("WORKERS", pool)
    world.start()
    world.stop()
    pool.start.errback(WorkerStartError("x", "stopped"))
    pool.stop.callback(None)
    assert (failures, world.server.code, world.stopped != []) == ([], 0, True)


def test_it_starts_again_after_a_stop() -> None:
    world = World().start()
    world.accept()
    world.stop()
    world.server.hurry()
    world.reactor.spend(0.1)
    assert world.server.code == 4
    world.start()
    assert (world.drain.state, world.drain.draining, world.server.code) == (RUNNING, False, 0)
    item = world.accept()
    world.stop()
    world.reactor.spend(1)
    world.front.in_flight.end(item)
    report = world.server.report
    assert report is not None
    assert (report.outcome, report.finished, report.cut) == ("drained", 1, 0)
    assert world.diary.count("status start") == 2


def test_stopping_before_starting_does_nothing() -> None:
    world = World()
    world.stop()
    assert (world.stopped, world.diary) == ([0.0], [])


def test_two_servers_have_room_under_one_parent() -> None:
    parent = MultiService()
    for _ in range(2):
        embed({"version": "3"}, Reactor()).setServiceParent(parent)
    assert len(list(parent)) == 2


def test_starting_it_twice_is_starting_it_once() -> None:
    world = World().start().start()
    assert world.diary.count("status start") == 1
    world.stop()
    world.start().stop()
    assert world.what("announce") == ["http announce"] * 2  # once a stop: nobody is left who followed before
    assert world.reactor.fire_shutdown() == []


def test_starting_it_while_it_stops_is_refused_and_changes_nothing() -> None:
    world = World().start()
    item = world.accept()
    world.stop()
    for start in (world.server.privilegedStartService, world.server.startService):
        with pytest.raises(WrongState):
            start()
    world.front.in_flight.end(item)
    world.reactor.spend(1)
    assert world.server.report is not None and world.server.report.finished == 1
    assert world.start().drain.state == RUNNING


def test_stopping_what_was_bound_and_never_started_releases_it() -> None:
    world = World()
    world.server.privilegedStartService()
    assert world.front.bound
    world.stop()
    assert (world.stopped, world.front.bound) == ([0.0], False)
    world.start()
    assert world.drain.state == RUNNING


def test_no_trigger_is_left_behind_in_a_foreign_reactor() -> None:
    world = World().start()
    world.stop()
    assert world.reactor.fire_shutdown() == []


def test_inside_a_foreign_service_it_starts_and_drains() -> None:
    world = World()
    parent = MultiService()
    world.server.setServiceParent(parent)
    parent.privilegedStartService()
    parent.startService()
    item = world.accept()
    done: list[object] = []
    parent.stopService().addCallback(done.append)
    world.reactor.spend(1)
    assert done == []
    world.front.in_flight.end(item)
    assert len(done) == 1


def test_a_flush_is_waited_for_before_status_closes_and_not_for_longer_than_its_time() -> None:
    world = World()
    flush: Deferred[None] = Deferred()
    world.server.at_end(lambda: flush)
    world.start()
    world.stop()
    world.reactor.spend(0.9)
    assert "metrics stopped" in world.diary
    assert "status stop" not in world.diary
    world.reactor.spend(0.2)
    assert "status stopped" in world.diary


def test_a_failing_flush_does_not_keep_the_server() -> None:
    world = World()
    world.server.at_end(lambda: fail(OSError("disk full")))
    world.start()
    world.stop()
    assert world.stopped


def test_a_worker_that_needed_sigkill_is_told_by_code_5() -> None:
    world = World()
    pool = FakePool("http")
    pool.stop = Deferred()
    pool.killed = 7  # type: ignore[attr-defined]  # while it ran
    world.server.place("WORKERS", pool)
    world.start()
    world.stop()
    pool.killed += 1  # type: ignore[attr-defined]
    pool.stop.callback(None)
    assert world.server.report is not None
    assert (world.server.report.killed, world.server.code) == (1, 5)


def test_every_phase_has_a_place() -> None:
    server = Server(Reactor(), Budget())
    assert [server.phase(name).name for name in PHASES] == list(PHASES)
    with pytest.raises(KeyError):
        server.place("ATTIC", Child("x", []))


EVENTS = ("accept", "end", "lost", "stop", "signal", "interrupt", "hurry", "arrive", "release")


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(EVENTS), st.sampled_from([0.0, 0.05, 0.7, 2.0, 30.0])), max_size=25),
    st.sampled_from(
        [QUICKEST := Budget(total=1.0, frame=0.1, term=0.2, flush=0.1), ANNOUNCING, Budget(total=10.0)]
    ),
    st.sets(st.sampled_from(["status", "metrics", "control", "drivers", "workers", "http"])),
    st.booleans(),
)
def test_whatever_comes_the_stop_ends_in_time_in_order_and_counts_everybody(
    events: list[tuple[str, float]], budget: Budget, holding: set[str], yields: bool
) -> None:
    world = World(budget)
    for child in (*world.children.values(), world.front):
        child.holds = child.name in holding
        child.yields = yields
    world.start()
    items: list[Item] = []
    begun: float | None = None

    def act(name: str) -> None:
        if name == "accept":
            items.append(world.accept())
        elif name in ("end", "lost") and items:
            getattr(world.front.in_flight, "end" if name == "end" else "end_lost")(items[0])
        elif name == "stop":
            world.stop()
        elif name in ("signal", "interrupt"):
            world.drain.begin(name, brisk=name == "interrupt")
        elif name == "hurry":
            world.drain.hurry()
        elif name == "arrive":
            world.drain.arrived()
        elif name == "release":
            for child in (*world.children.values(), world.front):
                child.release()

    for name, pause in [*events, ("stop", 0.0)]:
        act(name)
        if begun is None and world.drain.draining:
            begun = world.drain.begun
        if world.stopped:
            break
        world.reactor.spend(pause, step=0.05)
    world.reactor.spend(budget.total + 3, step=0.05)
    assert world.stopped
    assert begun is not None
    called = [line for line in world.what("stop")]
    assert called == [
        f"{name} stop" for name in ("http", "workers", "drivers", "control", "metrics", "status")
    ]
    flying = world.front.in_flight
    assert flying.finished + flying.cut + flying.lost + flying.count() == len(items)
    report = world.server.report
    assert report is not None
    assert (report.outcome == "drained") == (report.code == 0)
    if report.cut:
        assert report.code in (3, 4)
