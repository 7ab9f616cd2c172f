"""The parts of the benchmarks that a wrong figure could come from: what is read of a load generator, and the ratios."""

from __future__ import annotations

import argparse
import json
import os
import re
import struct
import subprocess
import sys
import threading
from pathlib import Path
from zlib import crc32

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import choice, compiled, roadrunner  # noqa: E402
from benchmarks.contender import BIN  # noqa: E402
from benchmarks.drain import rig  # noqa: E402
from benchmarks.fronts import __main__ as fronts  # noqa: E402
from benchmarks.grpc import load  # noqa: E402
from benchmarks.http import contenders as http  # noqa: E402
from benchmarks.rounds import against_pure, alternate, ratio, summaries  # noqa: E402

SAID = """
finished in 2.01s, 3735.50 req/s, 526.10KB/s
requests: 7471 total, 7503 started, 7471 done, 7471 succeeded, 0 failed, 0 errored, 0 timeout
traffic: 1.03MB (1077452) total, 14.64KB (14990) headers (space savings 94.72%), 766.07KB (784455) data
"""


def rounds(*rates: float, failed: bool = False) -> list[dict]:
    return [{"rate": rate, "p50": 1.0, "p99": 2.0, "failed": failed} for rate in rates]


def test_a_ratio_is_the_median_of_the_rounds_own_ratios_and_not_of_the_rates() -> None:
    found = summaries({"fast": rounds(100, 300, 90), "slow": rounds(100, 100, 30)})
    assert found["fast"]["rate"] == 100
    assert found["fast"]["ratios"]["slow"] == [3.0, 1.0, 3.0]
    assert ratio(found["fast"], "slow", "fast") == "3.0 (1.0-3.0)"
    assert ratio(found["slow"], "slow", "slow") == "-"


def test_one_failed_round_marks_the_whole_cell() -> None:
    found = summaries({"one": [*rounds(10), *rounds(10, failed=True)]})
    assert found["one"]["failed"]


def test_cpu_is_of_the_contender_for_each_call_that_was_answered() -> None:
    class Busy:
        name = "busy"
        spent = 1.0

        def cpu(self) -> float:
            return self.spent

    def measure(each: Busy) -> dict:
        each.spent += 0.5
        return {"rate": 1000.0, "calls": 10000}

    found = alternate([Busy()], measure, 2, lambda each: None)  # type: ignore[list-item,arg-type]
    assert summaries(found)["busy"]["cpu_us"] == 50.0


def test_a_peer_that_answered_nothing_gives_no_ratio() -> None:
    assert "dead" not in summaries({"one": rounds(10), "dead": rounds(0)})["one"]["ratios"]


def test_figures_of_h2load() -> None:
    assert load.figures(SAID) == (3735.5, 7471, 784455)


@pytest.mark.parametrize(
    ("data", "failed"), [(784455, False), (784455 - 105, True), (784455 + 33 * 105, True)]
)
def test_an_answer_without_its_message_is_a_failure(
    data: int, failed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gRPC tells an error in a trailer of a 200: h2load counts it as a success."""

    def h2load(port: int, folder: Path, method: str, text: bytes, *options: str) -> str:
        (folder / "h2load.log").write_text("1\t200\t1000\n1\t200\t3000\n")
        return SAID.replace("784455", str(data))

    class One:
        port = 1

    monkeypatch.setattr(load, "h2load", h2load)
    found = load.by_h2load(One(), tmp_path, 4, 8, 1.0)  # type: ignore[arg-type]
    assert found == {"rate": 3735.5, "calls": 7471, "p50": 3.0, "p99": 3.0, "failed": failed}


def test_a_request_is_a_message_of_the_example_with_its_prefix() -> None:
    assert load.message(b"x" * 98) == b"\0\0\0\0\x64\x0a\x62" + b"x" * 98
    assert len(load.message(b"x" * 98)) == load.SIZE


def frame(flags: int, options: tuple[int, ...], payload: bytes) -> bytes:
    head = struct.pack("<BBI", 0x13 + len(options), flags, len(payload))
    return head + struct.pack(f"<IBB{len(options)}I", crc32(head), 0, 0, *options) + payload


def answers(kind: str, *frames: bytes) -> bytes:
    command = [sys.executable, str(roadrunner.WORKER), kind]
    done = subprocess.run(command, input=b"".join(frames), capture_output=True, timeout=30, check=True)
    return done.stdout


def test_the_one_call_worker_echoes_messages_without_their_context() -> None:
    hello = frame(1, (), b'{"pid":1}')
    said = answers("grpc", hello, frame(8, (2,), b"{}one"), frame(8, (2,), b"{}" + b"x" * 70000))
    start = said.index(b"}") + 1
    assert json.loads(said[12:start])["pid"]
    assert said[start:] == frame(8, (0,), b"one") + frame(8, (0,), b"x" * 70000)


def test_the_one_call_worker_answers_hello() -> None:
    said = answers("http", frame(1, (), b'{"pid":1}'), frame(128, (0,), b""))
    assert said.endswith(b"Hello, world! This is the answer.\n")
    assert said[12:].partition(b"}")[2][1] == 128


def test_without_go_the_benchmarks_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roadrunner, "go", lambda: None)
    assert roadrunner.build(tmp_path) == "Go is not installed"


def test_a_build_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "go"
    broken.write_text("#!/bin/sh\necho no modules here >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(roadrunner, "go", lambda: str(broken))
    assert roadrunner.build(tmp_path) == "it does not build: no modules here"


def test_every_peer_is_pinned() -> None:
    lines = (ROOT / "benchmarks" / "requirements.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[a-z0-9-]+(\[[a-z]+\])?==[0-9.]+", line) for line in lines)
    named = {re.split(r"[\[=]", line)[0] for line in lines}
    assert {"gunicorn", "uvicorn", "granian", "grpcio", "grpcio-tools", "grpclib"} <= named


def test_a_compiled_contender_is_set_against_the_same_in_plain_python() -> None:
    rows = {
        "rr": {"cpu_us": 40.0, "ratios": {}},
        "rr-compiled": {"cpu_us": 30.0, "ratios": {"rr": [1.2, 1.1, 1.3]}},
    }
    assert against_pure(rows, "rr-compiled") == "1.2 (1.1-1.3), 0.75"
    assert against_pure(rows, "rr") == "-"
    assert against_pure({"rr-compiled": rows["rr-compiled"]}, "rr-compiled") == "-"


def test_server_and_workers_of_a_compiled_contender_come_from_its_environment() -> None:
    built = Path("/built/env/bin")
    found = {each.name: each for each in http.contenders(None, built)}
    assert {"rr-asgi-compiled", "rr-wsgi-compiled", "rr-worker-compiled"} <= found.keys()
    for name, programs in (("rr-asgi", BIN), ("rr-asgi-compiled", built)):
        assert found[name].command[0] == str(programs / "twisted-rr")
        assert found[name].config is not None
        assert json.loads(found[name].config(1))["server"]["command"][0] == str(programs / "python")


def test_without_a_c_compiler_the_benchmarks_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    said = compiled.build(tmp_path)
    assert said == "there is no C compiler"
    left_out: dict[str, str] = {}
    assert choice.available("compiled", said, left_out) is None
    assert left_out == {"compiled": "there is no C compiler"}


def test_a_contender_that_there_is_not_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    left_out: dict[str, str] = {}
    found = choice.chosen(http.contenders(), ["rr-asgi", "rr-asgi-compiled"], left_out)
    assert [each.name for each in found] == ["rr-asgi"]
    assert left_out == {"rr-asgi-compiled": "there is no such contender here"}
    with pytest.raises(SystemExit, match="no contender is left"):
        choice.chosen(http.contenders(), ["nobody"], left_out)


@pytest.mark.parametrize("cell", fronts.CELLS)
def test_fronts_serves_each_application_in_its_own_folder(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two folders have an ``apps``, and a worker takes the one of the folder that it is started in."""
    commands = []

    class Started(Exception): ...

    def contender(name: str, command: list[str], *rest: object) -> None:
        commands.append(command)
        raise Started

    monkeypatch.setattr(rig, "Contender", contender)
    with pytest.raises(Started):
        fronts.measure(cell, argparse.Namespace(rounds=1, seconds=1.0, cores=4), {})
    where = Path(commands[0][commands[0].index("-w") + 1])
    module, _, name = fronts.CELLS[cell][1].partition(":")
    assert re.search(rf"\b{name}\b", (where / f"{module}.py").read_text())


def test_workers_are_found_whichever_thread_started_them() -> None:
    """The server starts them in a thread; without them their CPU time was told as none."""
    server = object.__new__(rig.Server)
    server.pid = os.getpid()
    begun, over = threading.Event(), threading.Event()
    started: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        started.append(subprocess.Popen(["sleep", "60"]))
        begun.set()
        over.wait(10)  # children of a thread that has ended are another's

    thread = threading.Thread(target=start)
    thread.start()
    try:
        assert begun.wait(10)
        assert started[0].pid in server.workers()
    finally:
        over.set()
        thread.join()
        for process in started:
            process.kill()
            process.wait()
