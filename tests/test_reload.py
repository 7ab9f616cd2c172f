"""Reload: everything in one step or nothing, one at a time, and never against a drain."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from twisted_rr import reload
from twisted_rr.build import Builder, read_config, registry
from twisted_rr.config.keys import keys_of
from twisted_rr.discovery import discover
from twisted_rr.errors import ConfigError, ConfigProblem, Draining, WorkerStartError
from twisted_rr.interfaces import IReloadable
from twisted_rr.lifecycle.drain import WrongState
from twisted_rr.pool.settings import PoolSettings, ServerSettings
from twisted_rr.reload import RESTART, PlacedPool, Reloaded, live_keys, working_folder
from twisted_rr.testing.host import RecordingLog
from twisted_rr.testing.reactor import FakeReactor

PLUGINS = discover()

BASE: dict[str, Any] = {
    "version": "3",
    "server": {"command": ["php", "worker.php"]},
    "http": {"address": "127.0.0.1:0", "pool": {"num_workers": 2}},
    "status": {"address": "127.0.0.1:0"},
}


class Reactor(FakeReactor):
    """With the little that a server needs of a reactor besides."""

    def addSystemEventTrigger(self, *given: Any) -> Any:
        return given

    def removeSystemEventTrigger(self, handle: Any) -> None:
        pass


class FakeSuccession:
    """One pool's part, decided by the test; ``diary`` has what was done with it."""

    def __init__(self, world: World, pool: Any, plan: Any, always: bool) -> None:
        self.world = world
        self.pool = pool
        self.plan = plan
        self.name = pool.name
        self.replaces = always or pool.spec(plan) != pool.spec(pool.plan)
        self.changes = self.replaces or plan.settings != pool.plan.settings
        world.successions.append(self)

    def prove(self) -> Deferred[None]:
        self.world.diary.append("prove")
        return self.world.proof

    def check(self) -> None:
        if self.world.check is not None:
            raise self.world.check

    def abandon(self) -> None:
        self.world.diary.append("abandon")

    def commit(self) -> Deferred[None]:
        self.world.diary.append("commit")
        self.pool.plan = self.plan
        return self.world.commit


class Notes:
    """A notifier that keeps what systemd is told."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def reloading(self, now: float) -> None:
        self.sent.append(f"RELOADING {now:g}")

    def ready(self, line: str) -> None:
        self.sent.append(f"READY {line}")


class World:
    """A built server that claims to run, and what its reload reads next (`write`)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.diary: list[str] = []
        self.successions: list[FakeSuccession] = []
        self.proof: Deferred[None] = succeed(None)
        self.commit: Deferred[None] = succeed(None)
        self.check: Exception | None = None
        self.log = RecordingLog()
        self.clock = Clock()
        self.reads = 0
        self.data: Any = BASE
        monkeypatch.setattr(
            reload, "Succession", lambda pool, plan, always: FakeSuccession(self, pool, plan, always)
        )
        monkeypatch.setattr(reload, "logger", lambda channel: self.log)
        monkeypatch.setattr(reload.server_log, "apply", self._apply_logs)
        self.logs: list[Any] = []
        self.logs_error: Exception | None = None
        self.builder = Builder(
            self.read(),
            Reactor(),
            PLUGINS,
            environ={},
            clock=self.clock,
            on_failure=None,
            read=self.read,
        )
        self.server = self.builder.build()
        self.notes = self.server.notify = Notes()  # type: ignore[assignment]
        self.server.drain.start()

    def run(self) -> World:
        self.server.drain.ready()
        return self

    def read(self) -> Any:
        self.reads += 1
        if isinstance(self.data, Exception):
            raise self.data
        return read_config(self.data, environ={}, plugins=PLUGINS)

    def _apply_logs(self, settings: Any) -> None:
        if self.logs_error is not None:
            raise self.logs_error
        self.logs.append(settings)
        self.diary.append("logs")

    def write(self, **sections: Any) -> None:
        """The configuration as it is from now on; a section that is None is gone."""
        merged = {**BASE, **{name: {**BASE.get(name, {}), **(new or {})} for name, new in sections.items()}}
        self.data = {name: value for name, value in merged.items() if sections.get(name, {}) is not None}

    def ask(self, cause: str = "test", replace: bool = False) -> list[Any]:
        """Reload; the outcome as it comes: `Reloaded`, or the exception."""
        assert self.server.reload is not None
        seen: list[Any] = []
        self.server.reload(cause, replace).addCallbacks(
            seen.append, lambda failure: seen.append(failure.value)
        )
        return seen

    def front(self) -> Any:
        return self.server.fronts()[0]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch).run()


# ------------------------------------------------------------------------------- applied


def test_nothing_changed_is_said_and_nothing_is_done(world: World) -> None:
    assert world.ask() == [Reloaded()]
    assert world.diary == []
    assert "nothing has changed" in world.log.lines()[-1]


def test_everything_changes_in_one_step(world: World) -> None:
    world.write(
        http={"timeouts": {"keepalive": "5s"}, "access_logs": True, "pool": {"num_workers": 3}},
        status={"unavailable_status_code": 500},
        endure={"grace_period": "10s"},
        logs={"level": "warn"},
        server={"command": ["php", "worker.php"], "env": {"A": "1"}},
    )
    [outcome] = world.ask()
    assert outcome == Reloaded(
        changed=(
            "endure.grace_period",
            "http.access_logs",
            "http.pool.num_workers",
            "http.timeouts.keepalive",
            "logs.level",
            "server.env.A",
            "status.unavailable_status_code",
        ),
        replaced=("http",),
    )
    assert world.diary == ["prove", "logs", "commit"]
    assert world.logs[0].level == "warn"
    assert world.front().settings.timeouts.keepalive == 5
    assert world.server.drain.plan.total == 10
    assert world.server.drain.budget.total == 10
    assert world.builder.config.settings("status").unavailable_status_code == 500
    assert world.successions[0].plan.settings.num_workers == 3
    assert world.ask() == [Reloaded()]


def test_workers_stop_by_the_new_budget(world: World) -> None:
    world.write(drain={"worker_stop": {"frame": "3s", "term": "4s"}})
    world.ask()
    schedule = world.builder._stop_schedule
    assert (schedule.term, schedule.kill) == (3, 7)


def test_workers_are_replaced_when_asked_for_though_nothing_changed(world: World) -> None:
    assert world.ask(replace=True) == [Reloaded(replaced=("http",))]
    assert world.diary == ["prove", "commit"]


def test_a_folder_behind_a_link_that_leads_elsewhere_replaces_the_workers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for release in ("1", "2"):
        (tmp_path / release).mkdir()
    link = tmp_path / "current"
    link.symlink_to(tmp_path / "1")
    world = World(monkeypatch).run()
    world.builder._folder = str(link)
    world.builder.pools[0].pool.plan = reload.PoolPlan(
        world.builder.config.settings("http").pool, world.builder.server_settings(world.builder.config), {}
    )
    assert world.ask() == [Reloaded()]
    link.unlink()
    link.symlink_to(tmp_path / "2")
    assert world.ask() == [Reloaded(replaced=("http",))]
    assert world.successions[-1].plan.server.directory == str(tmp_path / "2")


def test_systemd_is_told_the_beginning_and_the_end(world: World) -> None:
    world.clock.advance(7)
    world.ask()
    assert world.notes.sent == ["RELOADING 7", "READY running"]  # type: ignore[attr-defined]


def test_it_is_possible_while_an_admin_holds_the_server_out_of_traffic(world: World) -> None:
    world.server.drain.hold("admin")
    assert world.ask() == [Reloaded()]
    assert world.server.drain.state == "drained"


# ------------------------------------------------------------------------------- refused


def unchanged(world: World) -> None:
    """Nothing of what `write` wrote has come into force."""
    assert world.builder.config.settings("http").timeouts.keepalive == 75
    assert world.front().settings.timeouts.keepalive == 75
    assert world.server.drain.plan.total == 30
    assert world.logs == []
    assert "commit" not in world.diary


def test_keys_that_need_a_restart_are_all_named_and_nothing_changes(world: World) -> None:
    world.write(
        http={"address": "127.0.0.1:1", "timeouts": {"keepalive": "5s"}, "pool": {"debug": True}},
        server={"relay": "unix:///run/rr.sock", "user": "nobody"},
        drain={"exit_code": "zero"},
        endure={"grace_period": "10s"},
        status=None,
    )
    [error] = world.ask()
    assert isinstance(error, ConfigError)
    assert [problem.path for problem in error.problems] == [
        "drain.exit_code",
        "http.address",
        "http.pool.debug",
        "server.relay",
        "server.user",
        "status",
    ]
    assert {problem.reason for problem in error.problems} == {RESTART}
    unchanged(world)
    assert world.diary == []
    [line] = world.log.lines("error")
    assert "http.address" in line and "goes on as it was" in line
    assert world.notes.sent[-1] == "READY running"  # type: ignore[attr-defined]


def test_a_mistake_in_the_file_changes_nothing(world: World) -> None:
    world.data = {**BASE, "http": {"adress": "x"}}
    [error] = world.ask()
    assert isinstance(error, ConfigError)
    unchanged(world)


def test_a_budget_that_does_not_fit_changes_nothing(world: World) -> None:
    world.write(endure={"grace_period": "2s"}, drain={"finish": "5s"}, http={"timeouts": {"keepalive": "5s"}})
    [error] = world.ask()
    assert "do not fit" in str(error)
    unchanged(world)


def test_a_command_that_is_gone_changes_nothing(world: World) -> None:
    world.write(server={"command": []}, http={"timeouts": {"keepalive": "5s"}})
    [error] = world.ask()
    assert "server.command" in str(error)
    unchanged(world)


def test_a_part_that_refuses_changes_nothing(world: World) -> None:
    class Refusing:
        section = "http"
        live = frozenset({"timeouts"})

        def prepare(self, settings: Any) -> Callable[[], None]:
            raise ConfigError([ConfigProblem("http.timeouts", "not today")])

    world.builder.providers[IReloadable].append(Refusing())
    world.write(http={"timeouts": {"keepalive": "5s"}})
    [error] = world.ask()
    assert "not today" in str(error)
    unchanged(world)


def test_new_workers_that_do_not_start_change_nothing(world: World) -> None:
    world.proof = fail(WorkerStartError("php", "exit code 255"))
    world.write(
        http={"timeouts": {"keepalive": "5s"}}, server={"command": ["php", "x.php"]}, logs={"level": "warn"}
    )
    [error] = world.ask()
    assert isinstance(error, WorkerStartError)
    unchanged(world)
    assert world.diary == ["prove", "abandon"]
    assert any("the old ones stay" in line for line in world.log.lines("error"))
    told = world.log.lines("info")
    assert not any("replaced: http" in line and "to be" not in line for line in told), "it never came to that"
    assert any("to be changed: " in line and "http.timeouts.keepalive" in line for line in told)


def test_a_new_worker_that_ends_before_the_step_changes_nothing(world: World) -> None:
    world.check = WorkerStartError("php", "it ended at once")
    world.write(http={"timeouts": {"keepalive": "5s"}}, server={"command": ["php", "x.php"]})
    [error] = world.ask()
    assert error is world.check
    unchanged(world)
    assert world.diary == ["prove", "abandon"]


def test_a_log_that_cannot_be_opened_changes_nothing(world: World) -> None:
    world.logs_error = ConfigError([ConfigProblem("logs.output", "cannot open /x")])
    world.write(http={"timeouts": {"keepalive": "5s"}, "pool": {"num_workers": 3}}, logs={"output": "/x"})
    [error] = world.ask()
    assert "cannot open" in str(error)
    unchanged(world)
    assert world.diary == ["prove", "abandon"]


def test_a_step_that_fails_after_all_stops_no_other(world: World) -> None:
    class Broken:
        section = "http"
        live: frozenset[str] = frozenset()

        def prepare(self, settings: Any) -> Callable[[], None]:
            return lambda: 1 / 0  # type: ignore[return-value]

    world.builder.providers[IReloadable].insert(0, Broken())
    world.write(http={"timeouts": {"keepalive": "5s"}})
    [outcome] = world.ask()
    assert isinstance(outcome, Reloaded)
    assert world.front().settings.timeouts.keepalive == 5
    assert world.log.lines("critical") != []


def test_later_workers_that_do_not_start_are_told_and_the_rest_is_in_force(world: World) -> None:
    world.commit = fail(WorkerStartError("php", "no memory"))
    world.write(http={"timeouts": {"keepalive": "5s"}}, server={"command": ["php", "x.php"]})
    [error] = world.ask()
    assert isinstance(error, WorkerStartError)
    assert world.front().settings.timeouts.keepalive == 5
    assert any("is in force, but not every worker" in line for line in world.log.lines("error"))


def test_a_fault_of_ours_is_told_and_the_next_reload_works(world: World) -> None:
    world.data = RuntimeError("boom")
    [error] = world.ask()
    assert isinstance(error, RuntimeError)
    assert world.log.lines("critical") != []
    world.data = BASE
    assert world.ask() == [Reloaded()]


# ------------------------------------------------------------------------------- one at a time


def test_what_is_asked_for_meanwhile_is_done_once_afterwards(world: World) -> None:
    world.proof = Deferred()
    first = world.ask(replace=True)
    reads = world.reads
    others = [world.ask("one"), world.ask("two", replace=True), world.ask("one")]
    assert (first, others) == ([], [[], [], []])
    proof, world.proof = world.proof, succeed(None)
    proof.callback(None)
    assert first == [Reloaded(replaced=("http",))]
    assert others == [[Reloaded(replaced=("http",))]] * 3
    assert world.reads == reads + 1
    assert "one, two" in world.log.lines()[-1]


def test_one_that_comes_during_the_start_is_done_when_everything_serves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch)
    reads = world.reads
    seen = world.ask()
    assert (seen, world.reads, world.notes.sent) == ([], reads, [])  # type: ignore[attr-defined]
    world.run()
    assert seen == [Reloaded()]


# ------------------------------------------------------------------------------- drain


def test_it_is_refused_while_draining(world: World) -> None:
    world.server.drain.begin("SIGTERM")
    reads = world.reads
    [error] = world.ask()
    assert isinstance(error, WrongState)
    assert error.state == "draining:announce"
    assert world.reads == reads
    assert world.notes.sent == []  # type: ignore[attr-defined]
    assert "no reload for test: draining:announce" in world.log.lines("warn")


def test_a_drain_ends_it_while_the_new_workers_start(world: World) -> None:
    world.proof = Deferred()
    world.write(server={"command": ["php", "x.php"]}, http={"timeouts": {"keepalive": "5s"}})
    seen = world.ask()
    waiting = world.ask("another")
    world.server.drain.begin("SIGTERM")
    assert isinstance(seen[0], Draining)
    assert isinstance(waiting[0], WrongState)
    unchanged(world)
    assert world.diary == ["prove", "abandon"]
    assert world.notes.sent[1:] == []  # type: ignore[attr-defined]  # STOPPING is what it is told now
    assert any("ends where it is" in line for line in world.log.lines("warn"))


def test_a_drain_ends_it_while_workers_are_replaced(world: World) -> None:
    cancelled: list[str] = []
    world.commit = Deferred(lambda deferred: cancelled.append("commit"))
    world.write(server={"command": ["php", "x.php"]})
    seen = world.ask()
    assert seen == []
    world.server.drain.begin("SIGTERM")
    assert isinstance(seen[0], Draining)
    assert cancelled == ["commit"]


def test_a_drain_during_the_start_ends_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    seen = world.ask()
    world.server.drain.begin("SIGTERM")
    assert isinstance(seen[0], Draining)


# ------------------------------------------------------------------------------- what can change


def all_keys() -> set[str]:
    """Every key of the sections of a server with every plugin, down to where one part decides."""
    known = registry(PLUGINS)
    found = set()
    for name, section in known.sections.items():
        cls = getattr(section.kind, "cls", None)
        keys = keys_of(cls) if cls is not None else {}
        for key, about in keys.items():
            inner = getattr(about.kind, "cls", None)
            if inner is PoolSettings:
                found |= {f"{name}.{key}.{below}" for below in keys_of(inner)}
            else:
                found.add(f"{name}.{key}")
        if not keys:
            found.add(name)
    return found


def live(world: World) -> frozenset[str]:
    return live_keys(world.builder.pools, world.builder.collect(IReloadable))


def test_every_key_that_is_said_to_change_live_exists(world: World) -> None:
    sections = {path.partition(".")[0] for path in all_keys()}
    for key in live(world):
        assert key in all_keys() or key in sections, key


def test_the_table_in_the_docs_is_what_the_code_does(world: World) -> None:
    page = (Path(__file__).parents[1] / "docs" / "reload.md").read_text()
    table = page.partition("<!-- table -->")[2].partition("<!-- end of table -->")[0]
    told_live, told_fixed = set(), set()
    for row in table.splitlines():
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        if len(cells) == 3 and cells[0].startswith("`"):
            told_live |= set(re.findall(r"`([\w.]+)`", cells[1]))
            told_fixed |= set(re.findall(r"`([\w.]+)`", cells[2]))
    assert told_live == live(world)
    served = {"http", "status", "server", "drain"}
    fixed = {
        path
        for path in all_keys()
        if path.partition(".")[0] in served
        and not reload.covers(live(world), path)
        and not _not_served(path)
        and not _ignored(path)
    }
    assert told_fixed == fixed


def _key_of(path: str) -> Any:
    section, *names = path.split(".")
    cls = registry(PLUGINS).sections[section].kind.cls  # type: ignore[attr-defined]
    for name in names[:-1]:
        cls = keys_of(cls)[name].kind.cls  # type: ignore[attr-defined]
    return keys_of(cls)[names[-1]]


def _not_served(path: str) -> bool:
    return type(_key_of(path).kind).__name__ == "NotServed"


def _ignored(path: str) -> bool:
    return bool(_key_of(path).ignored)


def test_a_pool_of_any_section_is_known_by_its_key() -> None:
    placed = PlacedPool("jobs", "pools.fast", None)  # type: ignore[arg-type]
    assert "jobs.pools.fast.num_workers" in live_keys([placed], [])


# ------------------------------------------------------------------------------- folders


def test_the_working_folder_is_as_people_wrote_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "current").symlink_to(tmp_path / "1")
    monkeypatch.chdir(tmp_path / "current")
    real = os.getcwd()
    assert working_folder({"PWD": str(tmp_path / "current")}) == str(tmp_path / "current")
    for told in ("", "relative", str(tmp_path), str(tmp_path / "gone")):
        assert working_folder({"PWD": told}) == real


def test_workers_of_a_file_run_in_its_folder_and_others_where_they_are_told(world: World) -> None:
    assert world.builder.server_settings(world.builder.config) == ServerSettings(
        command=("php", "worker.php"), directory=""
    )
