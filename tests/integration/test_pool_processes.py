"""Pools with real processes: launcher, relays, start errors, death, stop, and what must not be inherited."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pool_processes import WORKERS, World, alive, command

from twisted_rr.errors import WorkerDied, WorkerStartError
from twisted_rr.pool import launch
from twisted_rr.pool.relay import RelayListener
from twisted_rr.pool.settings import ServerSettings
from twisted_rr.testing.host import RecordingLog


@pytest.fixture
def make():
    """Makes worlds and closes them; no descriptor may be left."""
    before = {}
    worlds = []

    def make(*arguments, **settings):
        before.update({} if worlds else fds())  # not earlier: the runner opens some as the test begins
        worlds.append(World(*arguments, **settings))
        return worlds[-1]

    yield make
    for world in worlds:
        world.close()
    left = {fd: name for fd, name in fds().items() if fd not in before}
    assert left == {}


def fds():
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            pass
    return found


def worker_fds(pid):
    return {int(name): os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")}


# ------------------------------------------------------------------------------ serving


@pytest.mark.parametrize("script", ["raw_echo.py", "mux_echo.py"])
def test_calls_are_answered_and_the_stop_is_quick(make, script):
    world = make(command=command(script)).start()
    assert world.pool.mux is (script == "mux_echo.py")
    for size in (0, 10, 100_000, 1_000_000):
        body = bytes(range(256)) * (size // 256) + b"x"
        assert world.ask(body) == body
    began = time.monotonic()
    world.stop()
    assert time.monotonic() - began < 0.5
    assert world.pool.workers() == []


def test_a_body_that_was_spooled_to_a_file_arrives_whole(make):
    world = make(command=command("raw_echo.py"), num_workers=1).start()
    body = os.urandom(3_000_000)
    assert world.ask(body) == body


def test_many_calls_at_once_through_one_mux_worker(make):
    world = make(command=command("mux_echo.py"), num_workers=1).start()
    tos = [world.open(b"call %d" % number) for number in range(300)]
    world.until(lambda: all(to.done for to in tos))
    assert [to.body for to in tos] == [b"call %d" % number for number in range(300)]


def test_real_pipes_serve_a_worker_that_opens_its_standard_input_by_path(make):
    world = make(ServerSettings(relay_pipes=True), command=command("raw_echo.py"), num_workers=1).start()
    found = json.loads(world.ask(b"fds"))
    assert found["0"].startswith("pipe:")
    assert found["1"].startswith("pipe:")
    body = os.urandom(500_000)
    assert world.ask(body) == body


def test_a_worker_has_a_socket_each_way_until_the_pool_knows_that_it_takes_one_call_at_a_time(make):
    # One socket both ways would wake it for nothing at each answer that is read here.
    world = make(command=command("raw_echo.py"), num_workers=1).start()
    first = json.loads(world.ask(b"fds"))
    assert (first["0"].partition(":")[0], first["1"].partition(":")[0]) == ("socket", "socket")
    assert first["0"] != first["1"]
    world.outcome(world.pool.replace())
    second = json.loads(world.ask(b"fds"))
    assert (second["0"].partition(":")[0], second["1"].partition(":")[0]) == ("pipe", "pipe")
    body = os.urandom(3_000_000)
    assert world.ask(body) == body


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_workers_connect_to_the_shared_listener(make, tmp_path, kind):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"unix://{tmp_path}/rr.sock" if kind == "unix" else f"tcp://127.0.0.1:{port}"
    log = RecordingLog()
    world = make(
        ServerSettings(relay=address),
        lambda reactor: {"relays": RelayListener(address, reactor, log)},
        command=command("raw_echo.py"),
    )
    relays = world.pool._host.relays
    relays.start()
    try:
        world.start()
        assert world.ask(b"over a socket") == b"over a socket"
        found = json.loads(world.ask(b"fds"))
        assert found["0"] == found["1"] == "/dev/null"
        assert log.events == []
    finally:
        world.stop()
        relays.stop()
    assert not (tmp_path / "rr.sock").exists()


def test_a_stranger_on_the_shared_listener_is_dropped_with_a_line(make, tmp_path):
    address = f"unix://{tmp_path}/rr.sock"
    log = RecordingLog()
    world = make(
        ServerSettings(relay=address),
        lambda reactor: {"relays": RelayListener(address, reactor, log, timeout=0.3)},
        command=command("raw_echo.py"),
        num_workers=1,
    )
    relays = world.pool._host.relays
    relays.start()
    sys.path.insert(0, str(WORKERS))
    import raw_echo

    try:
        strangers = [socket.socket(socket.AF_UNIX) for _ in range(3)]
        for stranger in strangers:
            stranger.connect(f"{tmp_path}/rr.sock")
        liar, babbler, silent = strangers
        liar.sendall(raw_echo.frame(1, 0, (), b'{"pid": 1}'))
        babbler.sendall(b"GET / HTTP/1.1\r\n\r\n")
        world.start()
        world.until(lambda: len(log.events) == 3)
        text = "\n".join(log.lines("warn"))
        assert "no worker of ours waits for a relay as pid 1" in text
        assert "GET /" in text
        assert "in time" in text
        assert world.ask(b"unharmed") == b"unharmed"
        for stranger in strangers:
            stranger.close()
    finally:
        world.stop()
        relays.stop()


def test_a_worker_behind_a_shell_serves(make):
    line = f"trap '' USR1; {sys.executable} {WORKERS}/raw_echo.py; exit $?"
    world = make(command=("sh", "-c", line), num_workers=1).start()
    told = int(world.ask(b"pid"))
    assert told != world.pids()[0]
    assert world.pool.workers()[0].memory > 5_000_000
    world.stop()
    assert not alive(told)


# --------------------------------------------------------------------- what a worker gets


def test_a_worker_gets_no_listener_and_no_relay_of_another(make):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.set_inheritable(True)  # even where a library forgot
        world = make(command=command("raw_echo.py"), num_workers=3).start()
        worlds_fds = [worker_fds(pid) for pid in world.pids()]
        for found in worlds_fds:
            assert set(found) == {0, 1, 2}, found
            assert found[0].startswith("socket:")
            assert found[1].startswith("socket:")
        assert len({found[fd] for found in worlds_fds for fd in (0, 1)}) == 6


def test_the_environment_tells_mode_relay_and_version(make, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    server = ServerSettings(env={"greeting": "hi $USER_OF_TEST"})
    monkeypatch.setenv("USER_OF_TEST", "you")
    world = make(server, {"version": "1.2"}, command=command("raw_echo.py"), num_workers=1).start()
    assert world.ask(b"env RR_MODE") == b"http"
    assert world.ask(b"env RR_RELAY") == b"pipes"
    assert world.ask(b"env RR_VERSION") == b"1.2"
    assert world.ask(b"env GREETING") == b"hi you"
    assert world.ask(b"env NOTIFY_SOCKET") == b"-"


def test_a_worker_leads_its_own_group_with_default_signals(make):
    world = make(command=command("silent.py"), num_workers=1, allocate_timeout=30)
    world.pool.startService()
    [worker] = world.pool.crew.workers
    started = f"{sys.executable}\0{WORKERS}"
    world.until(lambda: Path(f"/proc/{worker.pid}/cmdline").read_text().startswith(started))
    assert os.getpgid(worker.pid) == worker.pid
    status = Path(f"/proc/{worker.pid}/status").read_text()
    # Python itself ignores PIPE and XFSZ once it runs and handles INT; nothing else, nothing blocked.
    ignored = int(re.search(r"SigIgn:\s+(\w+)", status)[1], 16)
    ignored &= (1 << 31) - 1  # above are the C library's own
    assert ignored & ~(1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1) == 0
    assert int(re.search(r"SigBlk:\s+(\w+)", status)[1], 16) == 0


def test_limits_and_directory_are_set_before_the_program_runs(make, tmp_path):
    server = ServerSettings(
        directory=str(tmp_path), nice=3, oom_score_adj=700, affinity=(0,), rlimits={"nofile": 123}
    )
    world = make(server, command=command("raw_echo.py"), num_workers=1).start()
    [pid] = world.pids()
    assert os.readlink(f"/proc/{pid}/cwd") == str(tmp_path)
    assert os.getpriority(os.PRIO_PROCESS, pid) == min(19, os.getpriority(os.PRIO_PROCESS, 0) + 3)
    assert Path(f"/proc/{pid}/oom_score_adj").read_text().strip() == "700"
    assert os.sched_getaffinity(pid) == {0}
    assert re.search(r"Max open files\s+123\s+123", Path(f"/proc/{pid}/limits").read_text())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start workers as another user")
def test_a_worker_of_another_user_dies_with_the_server_too(make):
    world = make(ServerSettings(user="nobody"), command=("/bin/sh", "-c", "sleep 60"), allocate_timeout=30)
    world.pool.startService()
    worker = world.pool.crew.workers[0]
    world.until(lambda: Path(f"/proc/{worker.pid}/comm").read_text().strip() in ("sh", "sleep"))
    status = Path(f"/proc/{worker.pid}/status").read_text()
    assert re.search(r"Uid:\s+65534\s+65534\s+65534\s+65534", status)
    assert re.search(r"Gid:\s+65534\s+65534\s+65534\s+65534", status)


# ------------------------------------------------------------------------- start errors


def start_error(world, seconds=20.0):
    world.pool.startService()
    with pytest.raises(WorkerStartError) as caught:
        world.outcome(world.pool.ready(), seconds)
    assert world.pool.workers() == []
    return caught.value


def test_a_command_that_does_not_exist_is_named(make):
    error = start_error(make(command=("no-such-command", "x")))
    assert "command not found: no-such-command" in str(error)


def test_a_command_that_may_not_be_run_says_so(make, tmp_path):
    script = tmp_path / "worker"
    script.write_text("#!/bin/sh\n")
    assert f"{script}: exec: Permission denied" in str(start_error(make(command=(str(script),))))


def test_a_directory_that_is_missing_is_told_apart(make):
    error = start_error(make(ServerSettings(directory="/no/such/place"), command=command("raw_echo.py")))
    assert "could not be prepared: chdir: No such file or directory" in str(error)


def test_a_worker_that_dies_at_once_shows_its_last_words(make):
    error = start_error(make(command=command("dying.py")))
    assert "exit code 3" in str(error)
    assert error.stderr[-1] == "ModuleNotFoundError: No module named 'shop'"


def test_a_worker_that_prints_is_found_out_at_once(make):
    began = time.monotonic()
    error = start_error(make(command=command("garbage.py")))
    assert "Hello, world! I am an application that prints." in str(error)
    assert "print to stdout" in str(error)
    assert time.monotonic() - began < 5


def test_a_php_script_that_is_missing_is_told(make):
    if not Path("/usr/bin/php").exists():
        pytest.skip("needs php")
    error = start_error(make(command=("php", "/no/such/worker.php")))
    assert "Could not open input file" in str(error)


def test_a_worker_that_never_answers_is_killed_after_allocate_timeout(make):
    began = time.monotonic()
    world = make(command=command("silent.py", "deaf"), allocate_timeout=0.7)
    world.pool.startService()
    pids = [worker.pid for worker in world.pool.crew.workers]
    with pytest.raises(WorkerStartError, match=r"within 0\.7 s"):
        world.outcome(world.pool.ready())
    assert 0.6 < time.monotonic() - began < 3
    assert not any(alive(pid) for pid in pids)


# -------------------------------------------------------------------------------- death


@pytest.mark.parametrize("script", ["raw_echo.py", "mux_echo.py"])
def test_a_killed_busy_worker_fails_its_call_and_is_replaced(make, script):
    world = make(command=command(script), num_workers=2).start()
    assert world.ask(b"x") == b"x"
    to = world.open(b"sleep 30")
    busy = next(worker for worker in world.pool.crew.workers if worker.end.load)
    for _ in range(5):
        world.reactor.iterate(0.01)  # the call is written to its relay
    os.kill(busy.pid, signal.SIGKILL)
    world.until(lambda: to.done)
    assert isinstance(to.error, WorkerDied)
    assert to.error.pid == busy.pid
    began = time.monotonic()
    world.until(lambda: world.pool.counts() == (2, 2))
    assert time.monotonic() - began < 2
    assert to.ends == 1
    assert world.ask(b"y") == b"y"


def test_how_a_worker_ended_is_told(make):
    world = make(command=command("raw_echo.py"), num_workers=1).start()
    to = world.open(b"exit 7")
    world.until(lambda: to.done)
    assert "exit code 7" in str(to.error)


def test_garbage_on_the_relay_kills_the_worker(make):
    world = make(command=command("mux_echo.py"), num_workers=1).start()
    [pid] = world.pids()
    to = world.open(b"garbage")
    world.until(lambda: to.done)
    assert isinstance(to.error, WorkerDied)
    world.until(lambda: not alive(pid))
    world.until(lambda: world.pool.counts() == (1, 1))
    assert world.ask(b"well") == b"well"


def test_a_grandchild_that_holds_standard_error_delays_nothing_and_is_killed(make):
    world = make(command=command("forking.py"), num_workers=1).start()
    [worker] = world.pool.crew.workers
    world.until(lambda: worker.process.tail)
    grandchild = int(worker.process.tail[-1].split()[1])
    assert alive(grandchild)
    os.kill(worker.pid, signal.SIGKILL)
    began = time.monotonic()
    world.until(lambda: worker not in world.pool.crew.workers)
    assert time.monotonic() - began < 1
    world.until(lambda: not alive(grandchild))


def test_a_stopped_process_dies_by_the_schedule(make):
    world = make(command=command("mux_echo.py"), num_workers=1).start()
    [pid] = world.pids()
    os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    world.stop()
    assert 0.9 < time.monotonic() - began < 2.5
    assert not alive(pid)


def test_a_worker_that_ignores_frame_and_sigterm_is_killed(make):
    world = make(command=command("mux_echo.py", "deaf"), num_workers=1).start()
    assert world.ask(b"up") == b"up"
    [pid] = world.pids()
    began = time.monotonic()
    world.stop()
    assert 0.9 < time.monotonic() - began < 2.5
    assert not alive(pid)


def test_without_pidfd_processes_are_reaped_all_the_same(make):
    world = make(None, {"pidfd_open": None}, command=command("raw_echo.py"), num_workers=1).start()
    [pid] = world.pids()
    os.kill(pid, signal.SIGKILL)
    world.until(lambda: pid not in world.pids())


def test_many_deaths_leave_no_descriptor_behind(make):
    world = make(command=command("raw_echo.py"), num_workers=2).start()
    world.ask(b"x")
    count = len(os.listdir("/proc/self/fd"))
    for _ in range(15):
        for _ in range(2):
            world.ask(b"each has answered once, or its replacement would wait")
        to = world.open(b"exit 1")
        world.until(lambda to=to: to.done)
    world.until(lambda: world.pool.counts() == (2, 2))
    world.until(lambda: len(os.listdir("/proc/self/fd")) == count)


# ------------------------------------------------------------------------ reset, recycling


def test_a_reset_under_load_fails_no_call(make):
    world = make(command=command("raw_echo.py"), num_workers=2).start()
    before = set(world.pids())
    reset = world.pool.reset()
    seen = []
    reset.addBoth(seen.append)
    answers = []
    while not seen:
        answers.append(world.ask(b"during"))
    assert seen == [None]
    assert set(answers) == {b"during"}
    assert not before & set(world.pids())


def test_recycling_fails_no_call(make):
    world = make(command=command("raw_echo.py"), num_workers=2, max_jobs=9).start()
    tos = []
    for number in range(100):
        tos.append(world.open(b"%d" % number))
        if number % 4 == 3:
            world.until(lambda: all(to.done for to in tos))
    assert [to.body for to in tos] == [b"%d" % number for number in range(100)]
    assert len({worker.pid for worker in world.pool.crew.workers}) >= 2


def test_debug_answers_each_call_by_a_fresh_process(make):
    world = make(command=command("raw_echo.py"), debug=True).start()
    pids = {world.ask(b"pid") for _ in range(3)}
    assert len(pids) == 3
    world.until(lambda: world.pool.workers() == [])


# ------------------------------------------------------------------- the server is killed

SERVER = """
import sys
sys.path.insert(0, {folder!r})
from pool_processes import World, command
world = World(command=command({script!r}, *{arguments!r}), num_workers=3, allocate_timeout=60)
world.pool.startService()
if {wait!r}:
    world.outcome(world.pool.ready())
print(*[worker.pid for worker in world.pool.crew.workers], flush=True)
world.until(lambda: False, 60)
"""


@pytest.mark.parametrize(
    ("script", "arguments", "wait"),
    [("mux_echo.py", (), True), ("raw_echo.py", (), True), ("silent.py", ("deaf",), False)],
)
def test_no_worker_outlives_a_killed_server(script, arguments, wait):
    text = SERVER.format(folder=str(WORKERS.parent), script=script, arguments=arguments, wait=wait)
    server = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE)
    try:
        pids = [int(word) for word in server.stdout.readline().split()]
        assert len(pids) == 3
        assert all(alive(pid) for pid in pids)
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
    deadline = time.monotonic() + 2
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < deadline, "workers are left"
        time.sleep(0.01)


# ------------------------------------------------------------------------- the launcher


def run_launcher(*arguments):
    return subprocess.run(
        [sys.executable, "-I", "-S", launch.__file__, *arguments], capture_output=True, timeout=20
    )


def test_the_launcher_becomes_the_command():
    done = run_launcher(f"parent={os.getpid()}", "--", "sh", "-c", "echo $$; cat /proc/$$/cmdline")
    assert done.returncode == 0
    assert b"echo $$" in done.stdout


def test_the_launcher_does_not_run_without_its_server():
    done = run_launcher("parent=1", "--", "echo", "too late")
    assert done.returncode == 1
    assert done.stdout == b""


def test_the_launcher_imports_next_to_nothing():
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-X", "importtime", launch.__file__, "--", "true"],
        capture_output=True,
        timeout=20,
    )
    modules = {line.rpartition("|")[2].strip() for line in done.stderr.decode().splitlines()}
    assert not modules & {"signal", "enum", "ctypes", "subprocess", "typing", "re", "site", "collections"}
