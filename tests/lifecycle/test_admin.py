"""The verbs on a clock: states, parameters, who waits and for how long, and the service around them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from lifecycle_world import World
from twisted.internet.defer import Deferred

from twisted_rr.build import make_server, read_config
from twisted_rr.errors import ListenError
from twisted_rr.http1.session import Session
from twisted_rr.interfaces import IMetrics
from twisted_rr.lifecycle.admin.connections import SETTINGS
from twisted_rr.lifecycle.admin.install import install
from twisted_rr.lifecycle.admin.place import Place, at
from twisted_rr.lifecycle.admin.progress import Progress
from twisted_rr.lifecycle.admin.service import AdminService
from twisted_rr.lifecycle.admin.verbs import Verbs
from twisted_rr.lifecycle.admin.waits import Waits
from twisted_rr.lifecycle.budget import Budget
from twisted_rr.lifecycle.drain import ANNOUNCE, DRAINED, FORCE, RUNNING
from twisted_rr.lifecycle.previous_exit import PreviousExit
from twisted_rr.testing.host import FakeHost
from twisted_rr.testing.pool import FakePool
from twisted_rr.testing.transport import StringTransport


class Answer:
    """What a request got; ``status`` is 0 while it waits."""

    def __init__(self) -> None:
        self.status = 0
        self.told: dict[str, Any] = {}
        self.wait: Any = None

    def __call__(self, status: int, told: dict[str, Any]) -> None:
        assert not self.status, "answered twice"
        self.status, self.told = status, told


class Desk:
    """A world with verbs; the stop goes to the server, as it does where it is embedded."""

    def __init__(self, budget: Budget | None = None) -> None:
        self.world = World(budget or Budget(total=10.0))
        server = self.world.server
        self.progress = Progress(server)
        self.waits = Waits(server, self.progress)
        self.stops: list[str] = []
        self.verbs = Verbs(server, self.progress, self.waits, self._stop, lambda: {"socket": "/x"})
        server.at_end(lambda: self.waits.end(server.report))
        self.world.start()

    def _stop(self, cause: str) -> None:
        self.stops.append(cause)
        self.world.stop()

    def ask(self, method: str, target: str) -> Answer:
        answer = Answer()
        answer.wait = self.verbs.begin(method, target.encode(), "a test", answer)
        return answer

    def spend(self, seconds: float) -> None:
        self.world.reactor.spend(seconds)


@pytest.fixture
def desk() -> Desk:
    return Desk()


# --------------------------------------------------------------------------------------- drain


def test_drain_holds_and_undrain_takes_it_back_and_both_may_be_repeated(desk: Desk) -> None:
    for _ in range(3):
        answer = desk.ask("POST", "/drain")
        assert (answer.status, answer.told["state"], answer.told["reversible"]) == (200, DRAINED, True)
    assert desk.world.states.count(DRAINED) == 1
    assert desk.world.what("finish", "stop") == []
    for _ in range(2):
        assert desk.ask("POST", "/undrain").told["state"] == RUNNING


def test_a_drain_that_waits_is_answered_when_nothing_is_in_flight(desk: Desk) -> None:
    item = desk.world.accept("GET /slow")
    answer = desk.ask("POST", "/drain?wait=1")
    desk.spend(3.0)
    assert answer.status == 0
    desk.world.front.in_flight.end(item)
    desk.spend(0.1)
    assert (answer.status, answer.told["done"], answer.told["finished"]) == (200, True, 1)
    assert desk.world.reactor.getDelayedCalls() == []


def test_a_request_that_an_answer_lets_in_leaves_the_others_their_one_answer(desk: Desk) -> None:
    item = desk.world.accept("GET /slow")
    told: list[int] = []

    def first(status: int, _: Any) -> None:
        # The next request of the same connection was there already.
        told.append(status)
        desk.ask("POST", "/drain?wait=1")

    desk.verbs.begin("POST", b"/drain?wait=1", "a test", first)
    second = desk.ask("POST", "/drain?wait=1")
    desk.world.front.in_flight.end(item)
    desk.spend(0.1)
    assert (told, second.status) == ([200], 200)


def test_an_idle_server_is_drained_at_once(desk: Desk) -> None:
    assert desk.ask("POST", "/drain?wait=1").status == 200


def test_a_deadline_is_the_patience_of_the_one_who_asks_and_cuts_nobody(desk: Desk) -> None:
    desk.world.accept("GET /slow")
    short, long = desk.ask("POST", "/drain?deadline=1s"), desk.ask("POST", "/drain?wait=1&deadline=3s")
    desk.spend(1.2)
    assert (short.status, short.told["done"], short.told["reason"]) == (504, False, "the deadline passed")
    assert [call["path"] for call in short.told["calls"]] == ["/slow"]
    assert long.status == 0
    desk.spend(2.0)
    assert long.status == 504
    assert (desk.world.drain.state, desk.progress.in_flight()) == (DRAINED, 1)


def test_quiet_starts_anew_with_each_call_that_came_and_went(desk: Desk) -> None:
    answer = desk.ask("POST", "/drain?quiet=1s&wait=1")
    for _ in range(5):
        desk.spend(0.6)
        desk.world.front.in_flight.end(desk.world.accept())
    assert answer.status == 0
    desk.spend(1.2)
    assert answer.status == 200


def test_who_waits_is_told_when_somebody_takes_the_drain_back(desk: Desk) -> None:
    desk.world.accept()
    answer = desk.ask("POST", "/drain?wait=1")
    desk.ask("POST", "/undrain")
    assert (answer.status, answer.told["state"]) == (409, RUNNING)


def test_a_client_that_goes_away_leaves_the_drain(desk: Desk) -> None:
    desk.world.accept()
    answer = desk.ask("POST", "/drain?wait=1")
    desk.waits.forget(answer.wait)
    assert desk.world.reactor.getDelayedCalls() == []
    assert desk.world.drain.state == DRAINED


def test_a_signal_while_somebody_waits_answers_with_the_end_of_the_stop(desk: Desk) -> None:
    item = desk.world.accept()
    answer = desk.ask("POST", "/drain?wait=1")
    desk.world.drain.begin("SIGTERM")
    desk.world.stop()
    late = desk.ask("POST", "/drain?wait=1")
    desk.spend(1.0)
    assert answer.status == late.status == 0
    desk.world.front.in_flight.end(item)
    desk.spend(0.5)
    for one in (answer, late):
        assert (one.status, one.told["report"]["outcome"], one.told["report"]["cause"]) == (
            200,
            "drained",
            "SIGTERM",
        )


def test_a_cut_tells_who_waits_that_it_was_not_done(desk: Desk) -> None:
    desk.world.accept("GET /forever")
    answer = desk.ask("POST", "/drain?wait=1")
    desk.world.stop()
    desk.spend(11.0)
    assert (answer.status, answer.told["done"]) == (504, False)
    assert answer.told["report"]["cut_by"] == {"deadline": 1}


# --------------------------------------------------------------------------------- wrong states


def test_drain_before_everything_serves_is_409() -> None:
    world = World()
    pool = FakePool("http")
    world.server.place("WORKERS", pool)
    pool.ready = Deferred  # type: ignore[method-assign]
    desk = object.__new__(Desk)
    desk.world = world.start()
    progress = Progress(world.server)
    desk.verbs = Verbs(world.server, progress, Waits(world.server, progress), lambda cause: None, dict)
    answer = desk.ask("POST", "/drain")
    assert (answer.status, answer.told["state"]) == (409, "starting")
    assert desk.ask("POST", "/reset").status == 409


@pytest.mark.parametrize("path", ["/undrain", "/reset"])
def test_after_a_signal_there_is_no_way_back(desk: Desk, path: str) -> None:
    desk.world.accept()
    desk.world.drain.begin("SIGTERM")
    answer = desk.ask("POST", path)
    assert (answer.status, answer.told["state"]) == (409, ANNOUNCE)
    assert ANNOUNCE in answer.told["error"]


@pytest.mark.parametrize(
    ("method", "target", "status", "words"),
    [
        ("POST", "/drain?wait=maybe", 400, "expected 1 or 0"),
        ("POST", "/drain?deadline=soon", 400, "expected a duration such as 20s"),
        ("POST", "/drain?deadline=-1s", 400, "expected a duration"),
        ("POST", "/drain?deadline=100h", 400, "at most 24h"),
        ("POST", "/drain?wait=1&wait=0", 400, "given twice"),
        ("POST", "/drain?force=1", 400, "expected wait, deadline, quiet"),
        ("POST", "/undrain?wait=1", 400, "there are none here"),
        ("POST", "/stop?pool=x", 400, "expected wait, deadline, force"),
        ("POST", "/reset?pool=x", 400, "expected one of: none"),
        ("POST", "/drain?" + "&".join(f"a{n}=1" for n in range(99)), 400, "too many"),
        ("GET", "/undrain", 405, "/undrain takes POST"),
        ("DELETE", "/drain", 405, "/drain takes POST and GET"),
        ("GET", "/nope", 404, "nothing is at /nope"),
    ],
)
def test_a_wrong_request_is_refused_in_words_and_does_nothing(
    desk: Desk, method: str, target: str, status: int, words: str
) -> None:
    answer = desk.ask(method, target)
    assert (answer.status, words in answer.told["error"]) == (status, True), answer.told
    assert desk.world.drain.state == RUNNING


def test_a_bare_number_is_seconds(desk: Desk) -> None:
    desk.world.accept()
    answer = desk.ask("POST", "/drain?deadline=0.5")
    desk.spend(0.7)
    assert answer.status == 504


# ---------------------------------------------------------------------------------------- stop


def test_stop_is_one_stop_however_often_it_is_asked_for(desk: Desk) -> None:
    item = desk.world.accept()
    first = desk.ask("POST", "/stop")
    assert (first.status, first.told["in_flight"], first.told["cause"]) == (202, 1, "admin")
    waiting = desk.ask("POST", "/stop?wait=1")
    desk.spend(1.0)
    desk.world.front.in_flight.end(item)
    desk.spend(0.5)
    assert (waiting.status, waiting.told["report"]["outcome"]) == (200, "drained")


def test_force_cuts_now_and_is_what_was_wanted(desk: Desk) -> None:
    desk.world.accept()
    bystander = desk.ask("POST", "/drain?wait=1")
    answer = desk.ask("POST", "/stop?force=1&wait=1")
    assert desk.world.drain.state == FORCE or answer.status
    desk.spend(1.0)
    assert (answer.status, answer.told["report"]["code"]) == (200, 4)
    assert bystander.status == 504


def test_who_forces_without_waiting_hears_that_the_deadline_is_now(desk: Desk) -> None:
    desk.world.accept()
    answer = desk.ask("POST", "/stop?force=1")
    assert (answer.status, answer.told["in_flight"], answer.told["deadline_in"]) == (202, 1, 0.0)


# --------------------------------------------------------------------------------- what is told


def test_progress_tells_methods_paths_and_ages_oldest_first(desk: Desk) -> None:
    desk.world.accept("GET /old")
    desk.spend(1.0)
    item = desk.world.accept("POST /new")
    item.worker_pid = 77  # type: ignore[attr-defined]
    told = desk.ask("GET", "/drain").told
    assert [(call["method"], call["path"], call["pid"]) for call in told["calls"]] == [
        ("GET", "/old", 0),
        ("POST", "/new", 77),
    ]
    assert told["oldest"] == pytest.approx(1.0, abs=0.02)
    assert told["deadline_in"] is None and told["waiting"] == 0
    desk.world.drain.begin("SIGTERM")
    told = desk.ask("HEAD", "/drain").told
    assert told["deadline_in"] == pytest.approx(6.0, abs=0.1)
    assert (told["cause"], told["exit_in"]) == ("SIGTERM", pytest.approx(10.0, abs=0.1))


def test_the_counts_are_those_of_this_drain(desk: Desk) -> None:
    desk.world.front.in_flight.end(desk.world.accept())
    assert desk.ask("POST", "/drain").told["finished"] == 0
    desk.world.front.in_flight.end(desk.world.accept())
    assert desk.ask("GET", "/drain").told["finished"] == 1
    desk.ask("POST", "/undrain")
    assert desk.ask("POST", "/drain").told["finished"] == 0


def test_without_a_status_section_probes_answer_from_state_and_pools(desk: Desk) -> None:
    def codes() -> list[int]:
        return [desk.ask("GET", path).status for path in ("/health", "/ready", "/startup")]

    assert codes() == [200, 200, 200]
    desk.ask("POST", "/drain")
    assert codes() == [200, 503, 200]
    desk.world.drain.begin("SIGTERM")
    assert codes() == [200, 503, 200]


def test_status_tells_the_whole_server(desk: Desk) -> None:
    told = desk.ask("GET", "/status").told
    assert (told["pid"], told["socket"], told["ready"], told["health"]) == (os.getpid(), "/x", 200, 200)
    assert [front["name"] for front in told["fronts"]] == ["http"]
    assert told["drain"]["state"] == RUNNING


# ------------------------------------------------------------------------------------- service


class Port:
    """A bound port that nobody connects to."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.listening = False

    def listen(self, factory: Any, reactor: Any, spare: int = 0) -> None:
        self.listening = True

    def finish(self) -> None:
        self.listening = False

    def close(self) -> None:
        self.listening = False


class Binder:
    """Binds everything but what is in *taken*."""

    def __init__(self, *taken: str) -> None:
        self.taken = set(taken)
        self.bound: list[tuple[str, int]] = []

    def __call__(self, address: str, mode: int) -> Port:
        if address in self.taken:
            raise ListenError(address, "address already in use (EADDRINUSE): another process listens there")
        self.bound.append((address, mode))
        return Port(address)


def service(world: World, binder: Binder, *places: Place, **options: Any) -> AdminService:
    made = AdminService(world.server, lambda: places, bind=binder, **options)
    world.server.place("CONTROL", made)
    return made


def test_it_opens_privately_before_the_workers_start_and_closes_after_they_ended(tmp_path: Path) -> None:
    world, binder = World(), Binder()
    admin = service(world, binder, at(str(tmp_path / "x.sock")))
    world.start()
    assert binder.bound == [(f"unix://{tmp_path}/x.sock", 0o600)]
    assert admin.socket == f"{tmp_path}/x.sock"
    world.children["drivers"].holds = True
    world.stop()
    world.reactor.spend(0.5)
    assert "workers stopped" in world.diary and admin.socket
    world.children["drivers"].release()
    world.reactor.spend(0.5)
    assert world.stopped and not admin.socket
    assert world.reactor.getDelayedCalls() == []


def test_a_place_that_cannot_be_had_is_passed_over_and_none_is_no_failure(tmp_path: Path) -> None:
    world = World()

    def refuse(address: str, mode: int) -> Port:
        raise ListenError(address, "read-only file system (EROFS)")

    admin = AdminService(world.server, lambda: [at("@a"), at("@b")], bind=refuse)
    world.server.place("CONTROL", admin)
    world.start()
    assert (admin.socket, world.drain.state) == ("", RUNNING)


def test_a_living_servers_place_gives_a_second_one_with_the_pid() -> None:
    world, binder = World(), Binder("unix://@rr/x")
    admin = service(world, binder, at("@rr/x"), at("@rr/y"))
    world.start()
    assert admin.socket == f"@rr/x.{os.getpid()}"


def test_a_configured_place_that_is_taken_fails_the_start(tmp_path: Path) -> None:
    world, binder = World(), Binder(f"unix://{tmp_path}/x.sock")
    service(world, binder, at(str(tmp_path / "x.sock")), configured=True)
    with pytest.raises(ListenError):
        world.server.privilegedStartService()


def test_the_state_file_follows_the_lifecycle_and_ends_clean(tmp_path: Path) -> None:
    path = tmp_path / "x.sock.state"
    world = World()
    service(world, Binder(), at(str(tmp_path / "x.sock")), facts={"folder": "/srv"})
    world.start()
    assert '"state":"running"' in path.read_text()
    world.reactor.spend(0.1)
    world.stop()
    world.reactor.spend(0.5)
    assert '"ended":"clean","outcome":"drained"' in path.read_text()
    again = World()
    admin = service(again, Binder(), at(str(tmp_path / "x.sock")))
    again.start()
    assert admin.previous is not None and admin.previous.label == "clean"


def test_a_start_that_fails_closes_the_record_as_failed(tmp_path: Path) -> None:
    world = World()
    service(world, Binder(), at(str(tmp_path / "x.sock")))
    world.children["workers"].broken_start = RuntimeError("no")
    with pytest.raises(RuntimeError):
        world.start()
    assert '"ended":"failed"' in (tmp_path / "x.sock.state").read_text()


def test_a_start_that_fails_leaves_no_operator_connected() -> None:
    world = World()
    admin = service(world, Binder(), at("@x"))
    transport = StringTransport()
    session = Session(transport, admin.front, SETTINGS, world.reactor.seconds, "http", None, None)
    admin.front.sessions[session] = "a test"
    session.data_received(b"GET /drain HTTP/1.1\r\nHost: x\r\n\r\n")
    assert transport.take().startswith(b"HTTP/1.1 200")
    world.children["workers"].broken_start = RuntimeError("no")
    with pytest.raises(RuntimeError):
        world.start()
    assert transport.closing


def test_what_dead_second_servers_left_is_removed(tmp_path: Path) -> None:
    for name in ("x.77.sock", "x.77.sock.state", "y.78.sock.state"):
        (tmp_path / name).touch()
    world = World()
    service(world, Binder(), at(str(tmp_path / "x.sock")))
    world.start()
    assert sorted(os.listdir(tmp_path)) == ["x.sock.state", "y.78.sock.state"]


# ------------------------------------------------------------------------------------- install


CONFIG = {"version": "3", "server": {"command": "python app.py"}}


def test_an_embedded_server_has_no_socket_unless_it_is_asked_for(tmp_path: Path) -> None:
    world = World()
    assert install(read_config(CONFIG, environ={}), world.server, FakeHost(), {}, None) is None
    asked = read_config({**CONFIG, "admin": {"socket": str(tmp_path / "a.sock")}}, environ={})
    host = FakeHost()
    admin = install(asked, world.server, host, {}, None)
    assert admin is not None
    assert host.placed == [("CONTROL", admin)]


def test_a_process_that_is_ours_always_has_one() -> None:
    world, host = World(), FakeHost()
    admin = install(read_config(CONFIG, environ={}), world.server, host, {}, lambda cause: None)
    assert admin is not None
    (metric,) = host.collect(IMetrics)
    assert list(metric.samples()) == []
    admin.previous = PreviousExit(reason="killed", state="draining:finish")
    assert [(one[0], one[3], one[4]) for one in metric.samples()] == [
        ("rr_previous_exit", {"reason": "killed_draining"}, 1.0)
    ]
    (tell,) = host.collect(PreviousExit)
    assert tell() is admin.previous


def test_make_server_places_it_for_a_process_only() -> None:
    def names(**options: Any) -> list[str]:
        server = make_server(read_config(CONFIG, environ={}), World().reactor, environ={}, **options)
        return [str(child.name) for child in server.phase("CONTROL")]

    assert names() == []
    assert names(stop=lambda cause: None) == ["admin"]
