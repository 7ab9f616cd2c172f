"""``--preload`` with real processes: what is shared, who is whose child, and what happens when one of them ends."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest
from admin_rig import administered, verb
from rig import alive, children, memory_kib, serving, until
from twisted.internet.selectreactor import SelectReactor

from twisted_rr.build import embed

PRELOAD = ("--preload",)
ZOMBIE = "Z"


def state(pid: int) -> str:
    """The state letter of a process, empty when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def ask(server, path="/"):
    status, _, body = server.get(path)
    assert status == 200, body
    return json.loads(body)


def template_of(server) -> int:
    return ask(server)["imported_by"]


def forked(server, count: int) -> list[int]:
    """The *count* workers of a server with a template."""
    template = template_of(server)
    return until(lambda: [pid for pid in server.workers() if pid != template], why="no workers")[:count]


def lines(server, text: str) -> list[str]:
    return [record["msg"] for record in server.records() if text in record["msg"]]


def test_workers_share_the_memory_of_what_was_imported_once(tmp_path):
    def proportional(folder, sdk):
        folder.mkdir()
        with serving(folder, "preload_app:app", workers=3, sdk=sdk, env={"BALLAST_MIB": "48"}) as server:
            return sum(memory_kib(pid) for pid in server.workers())

    plain = proportional(tmp_path / "plain", ())
    shared = proportional(tmp_path / "shared", PRELOAD)
    # Three copies against one, with the template counted in.
    assert shared < plain - 80 * 1024


def test_a_forked_worker_is_the_servers_child_in_a_group_of_its_own(tmp_path):
    with serving(tmp_path, "preload_app:app", sdk=PRELOAD) as server:
        told = ask(server)
        assert told["imported_by"] != told["pid"]
        assert told["pgid"] == told["pid"]
        assert told["ppid"] == server.pid
        assert set(told["environ"]) == {"RR_RELAY", "RR_VERSION", "RR_MODE"}
        assert len(children(server.pid)) == 3
        assert lines(server, "has imported the application")


def test_hooks_run_in_order_and_random_numbers_differ(tmp_path):
    with serving(tmp_path, "preload_app:app", workers=1, sdk=(*PRELOAD, "--loop", "asyncio")) as server:
        first = ask(server)
        assert first["events"] == ["after_fork", "on_start", "on_start in asyncio"]
        os.kill(first["pid"], signal.SIGKILL)
        second = until(lambda: (told := ask_or_none(server)) and told["pid"] != first["pid"] and told)
        assert second["imported_by"] == first["imported_by"]
        assert second["random"] != first["random"]
    assert lines(server, f"on_stop of {second['pid']}")


def ask_or_none(server):
    status, _, body = server.get("/")
    return json.loads(body) if status == 200 else None


def test_without_preload_each_imports_it_and_after_fork_is_not_called(tmp_path):
    with serving(tmp_path, "preload_app:app", workers=1, sdk=("--loop", "asyncio")) as server:
        told = ask(server)
        assert told["imported_by"] == told["pid"]
        assert told["events"] == ["on_start", "on_start in asyncio"]


def test_what_a_worker_prints_and_logs_comes_under_its_own_pid(tmp_path):
    with serving(tmp_path, "preload_app:app", workers=1, sdk=PRELOAD) as server:
        pid = ask(server, "/log")["pid"]
        until(lambda: lines(server, f"worker {pid}: printed by {pid}"))
        assert lines(server, f"worker {pid}: INFO:app:a line of {pid}")


def test_a_forked_worker_ends_as_python_ends(tmp_path):
    """Threads are waited for, atexit functions run, and what it printed is written, all after the hooks."""
    with serving(tmp_path, "preload_app:wsgi", workers=1, sdk=PRELOAD, env={"NO_LOOP": "1"}) as server:
        pid = ask(server, "/end")["pid"]
    said = [line.partition(": ")[2] for line in lines(server, f"worker {pid}: ")]
    assert said[1:] == ["the thread has ended", "atexit", "printed without a line feed"]


def test_a_wsgi_application_is_preloaded_as_well(tmp_path):
    with serving(tmp_path, "preload_app:wsgi", workers=1, sdk=PRELOAD, env={"NO_LOOP": "1"}) as server:
        told = ask(server)
        assert told["imported_by"] != told["pid"]
        assert told["events"][:2] == ["after_fork", "on_start"]


def test_the_death_of_the_template_takes_no_worker_with_it(tmp_path):
    with serving(tmp_path, "preload_app:app", sdk=PRELOAD) as server:
        template = template_of(server)
        workers = [pid for pid in server.workers() if pid != template]
        os.kill(template, signal.SIGKILL)
        until(lambda: not alive(template))
        until(lambda: lines(server, f"template {template} is given up"))
        assert ask(server)["pid"] in workers
        assert server.workers() == sorted(workers)
        # The next one is started without it.
        victim = ask(server)["pid"]
        os.kill(victim, signal.SIGKILL)
        until(lambda: len(server.workers()) == 2 and victim not in server.workers())
        until(lambda: server.status("/ready")[0] == 200)


def test_a_worker_that_dies_is_reaped_and_replaced_from_the_template(tmp_path):
    with serving(tmp_path, "preload_app:app", workers=1, sdk=PRELOAD) as server:
        first = ask(server)
        os.kill(first["pid"], signal.SIGKILL)
        second = until(lambda: (told := ask_or_none(server)) and told["pid"] != first["pid"] and told)
        assert second["imported_by"] == first["imported_by"]
        assert state(first["pid"]) == ""
        assert lines(server, f"worker {first['pid']} ended: signal 9")


def test_a_server_that_is_killed_takes_all_with_it(tmp_path):
    started = serving(tmp_path, "preload_app:app", sdk=PRELOAD)
    with pytest.raises(AssertionError, match="killed"), started as server:
        everyone = children(server.pid)
        assert len(everyone) == 3
        os.kill(server.pid, signal.SIGKILL)
        server.process.wait(10)
        until(lambda: not any(alive(pid) for pid in everyone), 10, why="somebody outlived the server")
        raise AssertionError("killed, as planned")


def test_a_stop_leaves_nobody(tmp_path):
    with serving(tmp_path, "preload_app:app", sdk=PRELOAD) as server:
        everyone = children(server.pid)
        assert server.stop() == 0
        assert not [pid for pid in everyone if state(pid)]
    assert not lines(server, "is given up")


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGHUP])
def test_a_reset_takes_new_code(tmp_path, number):
    program = tmp_path / "changing.py"
    program.write_text("VERSION = b'old'\n" + CHANGING)
    config = {"server": {"directory": str(tmp_path)}}
    with serving(tmp_path, "changing:app", sdk=PRELOAD, **config) as server:
        assert server.get("/")[2] == b"old"
        before = set(server.workers())
        program.write_text("VERSION = b'newer'\n" + CHANGING)
        if number == signal.SIGHUP:  # which replaces workers when something about them has changed
            server.file.write_text(
                server.file.read_text().replace("num_workers: 2", "num_workers: 2\n    max_jobs: 0")
            )
            text = server.file.read_text().replace("server:\n", "server:\n  env: {CHANGED: '1'}\n")
            server.file.write_text(text)
        server.signal(number)
        until(lambda: server.get("/")[2] == b"newer", why="the old code goes on")
        until(lambda: not before & set(children(server.pid)), why="somebody of old is left")
        assert len(server.workers()) == 3


CHANGING = """
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": VERSION})
"""


@pytest.mark.parametrize(
    "variable, reason", [("APP_THREAD", "threads are running: poller"), ("APP_GRPC", "grpcio is loaded")]
)
def test_where_a_fork_is_not_safe_the_reason_is_told_and_workers_start_plainly(tmp_path, variable, reason):
    with serving(tmp_path, "preload_app:app", sdk=PRELOAD, env={variable: "1"}) as server:
        told = ask(server)
        assert told["imported_by"] == told["pid"]
        assert len(until(lambda: len(server.workers()) == 2 and server.workers())) == 2
        assert len(lines(server, reason)) == 1, server.log()


@pytest.mark.parametrize(
    ("env", "said"),
    [({}, "{template} ready for "), ({"APP_THREAD": "1"}, "not used, threads are running: poller")],
)
def test_the_status_shows_the_template_or_why_there_is_none(tmp_path, env, said):
    with administered(tmp_path, "preload_app:app", sdk=PRELOAD, env=env) as server:
        [line] = [line for line in verb(server, "status").stdout.splitlines() if "template" in line]
        assert line.strip().startswith(f"template http: {said.format(template=template_of(server))}")


def test_a_template_that_dies_while_it_imports_is_replaced_by_plain_starts(tmp_path):
    env = {"APP_DIES_ONCE": str(tmp_path / "died")}
    with serving(tmp_path, "preload_app:app", sdk=PRELOAD, env=env) as server:
        told = ask(server)
        assert told["imported_by"] == told["pid"]
        assert lines(server, "is given up, workers are started one by one")


def test_a_program_that_is_no_template_is_started_plainly(tmp_path):
    workers = Path(__file__).parent / "workers"
    command = [sys.executable, str(workers / "http_raw.py")]
    with serving(tmp_path, "", server={"command": command, "preload": True}) as server:
        assert server.get("/")[0] == 404  # it knows no such path
        assert lines(server, "its program is no worker of twisted_rr.worker")


def test_orphans_of_workers_are_reaped(tmp_path):
    with serving(tmp_path, "preload_app:app", workers=1, sdk=PRELOAD) as server:
        ask(server, "/orphan")
        until(lambda: len(children(server.pid)) == 3, why="the orphan did not come to the server")
        until(lambda: len(children(server.pid)) == 2, 6, why="the orphan is not reaped")


@pytest.mark.parametrize("server, asked", [({}, False), ({"preload": True}, True)])
def test_in_a_foreign_program_only_the_key_asks_for_it(server, asked):
    command = [sys.executable, "-m", "twisted_rr.worker", "--preload", "asgi_app:app"]
    config = {
        "version": "3",
        "server": {"command": command, **server},
        "http": {"address": "127.0.0.1:0", "pool": {"num_workers": 1}},
    }
    [pool] = embed(config, SelectReactor()).pools()
    assert bool(pool.spec(pool.plan).preload) is asked
