"""The small parts of the pool, each alone: settings of a start, lines, queue, spool, CPUs, handshake."""

import json
import os

import pytest
from twisted.internet.task import Clock

from twisted_rr.errors import BadChecksum, ConfigError, FrameError
from twisted_rr.pool import spec as specs
from twisted_rr.pool.cpus import cpu_quota, default_workers
from twisted_rr.pool.handshake import Handshake
from twisted_rr.pool.limits import Backoff
from twisted_rr.pool.process import LINE, Ending, LineCutter
from twisted_rr.pool.settings import ServerSettings
from twisted_rr.pool.spec import Identity, expand, launch_spec, resolve_identity, worker_env
from twisted_rr.pool.spool import BodySpool
from twisted_rr.pool.waiting import Waiting
from twisted_rr.wire.control import MuxAnswer, encode_pid_reply
from twisted_rr.wire.frame import CODEC_JSON, CODEC_RAW, CONTROL, encode

# ------------------------------------------------------------------------ environment, argv


def test_the_environment_has_roadrunners_order():
    server = ServerSettings(
        relay="unix:///tmp/rr.sock", env={"app_env": "prod", "RR_VERSION": "x", "KEEP": "1"}
    )
    environ = {"KEEP": "0", "HOME": "/root", "PATH": "/venv/bin:/bin"}
    env = worker_env(environ, server, "http", "2025.1", "tcp://127.0.0.1:6001", {"extra": "e"}, "/venv/bin")
    assert env == {
        "HOME": "/root",
        "KEEP": "1",
        "APP_ENV": "prod",
        "RR_RELAY": "unix:///tmp/rr.sock",
        "RR_RPC": "tcp://127.0.0.1:6001",
        "RR_VERSION": "2025.1",
        "RR_MODE": "http",
        "EXTRA": "e",
        "PATH": "/venv/bin:/bin",
    }


def test_the_python_of_the_server_is_found_when_no_other_is():
    """A service manager starts a virtual environment's command by its full path, with a PATH that knows nothing of it."""
    assert (
        worker_env({"PATH": "/bin"}, ServerSettings(), "http", "1", folder="/venv/bin")["PATH"]
        == "/bin:/venv/bin"
    )
    alone = worker_env({}, ServerSettings(), "http", "1", folder="/venv/bin")["PATH"]
    assert alone.endswith(":/venv/bin") and "/usr/bin" in alone


def test_without_an_rpc_section_there_is_no_rr_rpc():
    assert "RR_RPC" not in worker_env({}, ServerSettings(), "http", "1")


@pytest.mark.parametrize(
    "name",
    ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"],
)
def test_what_the_service_manager_says_to_us_is_not_for_workers(name):
    assert name not in worker_env({name: "1"}, ServerSettings(), "http", "1")


def test_variables_in_server_env_are_replaced_from_our_environment():
    assert expand("$A-${B}-$C", {"A": "1", "B": "2"}) == "1-2-"


def test_the_launcher_gets_its_steps_in_an_order_that_still_has_the_rights():
    server = ServerSettings(
        directory="/srv", nice=5, oom_score_adj=500, affinity=(0, 1), rlimits={"nofile": 4096}
    )
    argv = launch_spec(("php", "worker.php"), server, Identity(33, 33, (33, 44)), {}, parent=7).argv
    assert argv[1:3] == ("-I", "-S")
    assert argv[4:] == (
        "parent=7",
        "chdir=/srv",
        "rlimit=nofile:4096",
        "nice=5",
        "affinity=0,1",
        "oom=500",
        "groups=33,44",
        "gid=33",
        "uid=33",
        "--",
        "php",
        "worker.php",
    )


# ---------------------------------------------------------------------------------- identity


def test_no_user_changes_nothing():
    assert resolve_identity("", "") == Identity()


def test_an_unknown_user_is_named():
    with pytest.raises(ConfigError, match=r"server\.user: there is no user 'nobody-here'"):
        resolve_identity("nobody-here", "")


def test_an_unknown_group_is_named():
    with pytest.raises(ConfigError, match=r"server\.group: there is no group 'no-such-group'"):
        resolve_identity("", "no-such-group")


def test_root_resolves_a_user_to_its_ids_and_groups(monkeypatch):
    monkeypatch.setattr(specs.os, "geteuid", lambda: 0)
    identity = resolve_identity("daemon", "")
    assert identity.uid == 1
    assert identity.gid in identity.groups


def test_only_root_may_run_workers_as_another(monkeypatch):
    monkeypatch.setattr(specs.os, "geteuid", lambda: 4711)
    monkeypatch.setattr(specs.os, "getegid", lambda: 4711)
    with pytest.raises(ConfigError, match="only root"):
        resolve_identity("daemon", "")
    assert resolve_identity("4711", "") == Identity()


# ------------------------------------------------------------------------------------- lines


def cut(*pieces):
    lines = []
    cutter = LineCutter(lines.append)
    for piece in pieces:
        cutter.feed(piece)
    cutter.end()
    return lines


def test_lines_are_whole_however_they_come():
    assert cut(b"one\ntw", b"o\r\n\nthr", b"ee") == ["one", "two", "three"]


def test_a_long_line_is_cut_and_marked_and_not_kept_in_memory():
    [line] = cut(b"x" * LINE, b"y" * 1_000_000, b"\n")
    assert line == "x" * LINE + " [cut]"


def test_bytes_that_are_no_text_are_escaped():
    assert cut(b"caf\xe9\n") == ["caf\\xe9"]


def test_an_ending_is_told_in_words():
    assert str(Ending(3, None)) == "exit code 3"
    assert str(Ending(None, 9)) == "signal 9 (SIGKILL, out of memory?)"
    assert str(Ending(None, 11)) == "signal 11 (SIGSEGV)"
    assert str(Ending(127, None, "chdir", 2)) == "chdir: No such file or directory"


# --------------------------------------------------------------------------------- handshake


def test_an_answer_without_mux_means_one_call_at_a_time():
    handshake = Handshake(42)
    answer = handshake.feed(encode_pid_reply(7))
    assert (answer.pid, answer.mux) == (7, None)


def test_the_offer_is_what_mux_md_says():
    payload = Handshake(42).request[12:]
    assert json.loads(payload) == {
        "pid": 42,
        "mux": {
            "v": 1,
            "streams": 1000,
            "window": 524288,
            "max_frame": 262144,
            "codecs": ["msgpack", "json"],
        },
    }


def test_an_answer_in_single_bytes_is_understood_and_what_follows_is_kept():
    handshake = Handshake(42)
    data = encode_pid_reply(7, MuxAnswer(streams=10))
    answers = [handshake.feed(data[i : i + 1]) for i in range(len(data))]
    assert answers[:-1] == [None] * (len(data) - 1)
    assert answers[-1].mux.streams == 10
    assert handshake.rest() == b""
    assert Handshake(42).feed(data + b"tail").pid == 7


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"PHP Warning: something", BadChecksum),
        (encode(CODEC_RAW, 0, (0,), b"{}"), FrameError),
        (encode(CONTROL | CODEC_JSON, 0, (), b'{"pid":0}'), FrameError),
        (encode(CONTROL | CODEC_JSON, 0, (), b"[]"), FrameError),
        (encode_pid_reply(7, MuxAnswer(streams=10**9)), FrameError),
    ],
)
def test_what_is_no_answer_is_refused(data, error):
    with pytest.raises(error):
        Handshake(42).feed(data)


# ------------------------------------------------------------------------------------- queue


def test_the_queue_keeps_no_timer_while_it_is_empty():
    clock = Clock()
    waiting = Waiting(clock, 5.0, lambda call: None)
    waiting.put("a")
    assert clock.getDelayedCalls()
    assert waiting.take() == "a"
    assert not clock.getDelayedCalls()


def test_each_call_expires_at_its_own_time():
    clock = Clock()
    late = []
    waiting = Waiting(clock, 5.0, lambda call: late.append((call, clock.seconds())))
    waiting.put("a")
    clock.advance(2)
    waiting.put("b")
    clock.advance(3)
    clock.advance(2)
    assert late == [("a", 5.0), ("b", 7.0)]
    assert waiting.size == 0


def test_a_call_that_comes_back_is_served_first_and_does_not_delay_the_expiry_of_others():
    clock = Clock()
    late = []
    waiting = Waiting(clock, 5.0, late.append)
    waiting.put("a")
    clock.advance(4)
    waiting.put_first("retried")
    clock.advance(1)
    assert late == ["a"]
    assert waiting.take() == "retried"


def test_the_age_of_the_oldest_is_known():
    clock = Clock()
    waiting = Waiting(clock, 5.0, lambda call: None)
    assert waiting.oldest() == 0.0
    waiting.put("a")
    clock.advance(3)
    waiting.put("b")
    assert waiting.oldest() == 3.0


def test_back_off_doubles_to_its_longest_and_never_overflows():
    backoff = Backoff(lambda: 0.0)
    assert backoff.pause() == 0.0
    pauses = []
    for _ in range(3000):
        backoff.failed()
        pauses.append(backoff.pause())
    assert pauses[:4] == [0.1, 0.2, 0.4, 0.8]
    assert pauses[-1] == 5.0
    assert Backoff(lambda: 0.99).pause() == 0.0


# ------------------------------------------------------------------------------------- spool


def test_a_small_body_stays_in_memory_and_is_answered_twice():
    spool = BodySpool(8, b"{}")
    spool.write(b"ab")
    spool.write(b"cd")
    assert spool.finish() == (8, b"{}", b"abcd", 4)
    assert spool.finish() == (8, b"{}", b"abcd", 4)
    assert not spool.in_file


def test_a_large_body_moves_to_a_file_that_no_worker_inherits():
    spool = BodySpool(8, b"{}", memory=10)
    spool.write(b"0123456789")
    assert not spool.in_file
    spool.write(b"abc")
    spool.write(b"def")
    for _ in range(2):
        _, _, file, length = spool.finish()
        assert (file.read(), length) == (b"0123456789abcdef", 16)
    assert not os.get_inheritable(file.fileno())
    spool.close()
    spool.close()
    assert file.closed


# -------------------------------------------------------------------------------------- CPUs


def machine(tmp_path, cgroup, **files):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(cgroup)
    for name, text in files.items():
        path = tmp_path / "sys/fs/cgroup" / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_a_quota_is_rounded_up(tmp_path):
    root = machine(tmp_path, "0::/app\n", app__cpu_DOT_max="250000 100000\n")
    assert default_workers(root, lambda pid: set(range(8))) == (3, "the cgroup's quota is 2.5 CPUs")


def test_the_strictest_quota_above_counts(tmp_path):
    root = machine(tmp_path, "0::/a/b\n", a__b__cpu_DOT_max="max 100000\n", a__cpu_DOT_max="400000 100000\n")
    assert cpu_quota(root) == 4.0


def test_inside_a_container_the_mount_point_is_the_cgroup(tmp_path):
    root = machine(tmp_path, "0::/../../elsewhere\n", cpu_DOT_max="300000 100000\n")
    assert cpu_quota(root) == 3.0


def test_cgroups_of_version_1_are_read(tmp_path):
    root = machine(
        tmp_path,
        "4:cpu,cpuacct:/app\n",
        cpu__app__cpu_DOT_cfs_quota_us="350000",
        cpu__app__cpu_DOT_cfs_period_us="100000",
    )
    assert default_workers(root, lambda pid: set(range(8)))[0] == 4


def test_without_a_quota_the_affinity_counts(tmp_path):
    root = machine(tmp_path, "0::/app\n", app__cpu_DOT_max="max 100000\n")
    assert default_workers(root, lambda pid: {0, 1, 5}) == (3, "3 CPUs may be used")


def test_two_workers_are_the_least(tmp_path):
    number, reason = default_workers(tmp_path, lambda pid: {0})
    assert number == 2
    assert "2 is the least" in reason


def test_the_log_has_what_a_worker_said_that_did_not_start():
    from twisted_rr.errors import WorkerStartError, for_log

    said = [
        "twisted_rr.worker: cannot load the application 'a:b': there is no 'b' in it",
        "twisted_rr.worker:   sys.path: /",
    ]
    error = WorkerStartError("python x", "it ended", said)
    assert for_log(error) == f"worker 'python x' did not start: it ended; it said: {said[0]}"
    assert (
        str(error) == "worker 'python x' did not start: it ended"
    )  # the status port shows no standard error
    assert for_log(ValueError("x")) == "x"
