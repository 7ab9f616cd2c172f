"""The command's usage: what it refuses, what it picks."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from twisted_rr.cli.drain_test import drain_test
from twisted_rr.draintest import campaign
from twisted_rr.draintest.campaign import USUAL, Asked, Outcome, Results, random_steps, steps
from twisted_rr.draintest.faults import ELSEWHERE, FAULTS
from twisted_rr.draintest.records import Evidence, Terms
from twisted_rr.draintest.verdicts import BROKEN, HOLDS, Verdict

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str):
    return CliRunner().invoke(drain_test, list(arguments))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "either -c FILE or"),
        (("-c", "nowhere.yaml"), "no file"),
        (("--", "serve"), "needs --url"),
        (("-c", "CONFIG", "--grpc-call", "Say"), "no package.Service/Method"),
        (("--url", "http://192.0.2.1/", "--status", "http://127.0.0.1:1", "--", "x"), "--allow-remote"),
        (("--url", "http://example.org/", "--status", "http://127.0.0.1:1", "--", "x"), "no IP address"),
        (("--url", "https://127.0.0.1/", "--status", "http://127.0.0.1:1", "--", "x"), "only http"),
        (("--url", "http://127.0.0.1:99999/", "--status", "http://127.0.0.1:1", "--", "x"), "--url"),
        (("-c", "CONFIG", "--faults", "F99"), "no fault"),
        (("-c", "CONFIG", "--phase", "lunch"), "no phase"),
        (("-c", "CONFIG", "--soak", "long"), "no duration"),
        (("-c", "CONFIG", "--soak", "25h"), "at most 24h"),
        (("-c", "CONFIG", "--rate", "1000000"), "--rate"),
        (("-c", "CONFIG", "--scale", "7"), "--scale"),
        (("-c", "CONFIG", "-o", "htp.address=1"), "htp"),
    ],
)
def test_wrong_use_is_code_2(arguments, words):
    config = str(ROOT / "examples" / "hello" / ".rr.yaml")
    ended = run(*(config if word == "CONFIG" else word for word in arguments))
    assert ended.exit_code == 2, ended.output
    assert words in ended.output


def test_the_list_names_every_fault_and_every_invariant():
    ended = run("--list")
    assert ended.exit_code == 0
    first = {line.split()[0].partition(":")[0] for line in ended.output.splitlines() if line}
    assert first >= {f"I{number}" for number in range(1, 31)} | {f"F{number}" for number in range(1, 49)}


def test_faults_of_clients_share_a_run_and_others_have_their_own():
    asked = Asked(launch=None, faults=("F13", "F14", "F1", "F5"))
    names = [name for name, _ in steps(asked)]
    assert names == ["a plain stop", "F13, F14 in announce", "F1 in finish", "F5 in running"]


def test_a_soak_is_repeated_by_its_seed():
    def first(seed):
        drawn = random_steps(Asked(launch=None, faults=tuple(FAULTS), seed=seed))
        return [next(drawn)[0] for _ in range(20)]

    assert first(7) == first(7) != first(8)


def test_every_fault_is_known_once():
    assert not set(FAULTS) & set(ELSEWHERE)
    assert set(USUAL) <= set(FAULTS)


@pytest.mark.integration
def test_a_command_line_of_ones_own(tmp_path):
    """Any server will do; here ours, started as a stranger."""
    from twisted_rr.draintest.target import free_port

    port, status = free_port(), free_port()
    config = ROOT / "examples" / "hello" / ".rr.yaml"
    told = tmp_path / "told.json"
    page = tmp_path / "page.html"
    ended = run(
        "--url", f"http://127.0.0.1:{port}/", "--status", f"http://127.0.0.1:{status}", "--budget", "3s",
        "--faults", "F14,F29", "--json", str(told), "--html", str(page), "--",
        "env", f"PATH={Path(sys.executable).parent}:{os.environ['PATH']}",
        sys.executable, "-m", "twisted_rr.cli.entry", "serve", "-c", str(config), "-o", "endure.grace_period=3s",
        "-o", f"http.address=127.0.0.1:{port}", "-o", f"status.address=127.0.0.1:{status}",
        "-o", f"admin.socket={tmp_path}/admin.sock", "-o", "logs.mode=production",
    )  # fmt: skip
    assert ended.exit_code == 0, ended.output
    data = json.loads(told.read_text())
    assert not data["broken"] and len(data["runs"]) == 4
    assert data["invariants"]["I7"]["verdict"] == "holds"
    html = page.read_text()
    assert html.count("<svg") == 3 and "<script" not in html and "http://" not in html


@pytest.mark.integration
def test_no_server_outlives_a_drain_test_that_is_ended():
    config = ROOT / "examples" / "hello" / ".rr.yaml"
    ended = psutil.Popen(
        [sys.executable, "-m", "twisted_rr.cli.entry", "drain-test", "-c", str(config), "--faults", "none"],
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    serving = False
    while not serving:
        assert ended.poll() is None
        with contextlib.suppress(psutil.NoSuchProcess):
            family = ended.children(recursive=True)
            serving = any("twisted_rr.worker" in " ".join(one.cmdline()) for one in family)
    ended.send_signal(signal.SIGTERM)
    assert ended.wait(30) == 1
    assert not psutil.wait_procs(family, timeout=5)[1]


def test_runs_side_by_side_are_told_in_the_order_of_the_plan(monkeypatch):
    """Two at a time, whoever needs the machine alone; a missed moment is tried again."""
    running, most, made = set(), [], []

    async def one(asked, step, tell):
        name = step[0]
        running.add(name)
        most.append(sorted(running))
        await asyncio.sleep(0 if name.startswith("a plain") else 0.01)
        running.discard(name)
        made.append(name)
        evidence = Evidence(name, Terms(), 0.0)
        word = BROKEN if name == "F1 in finish" and made.count(name) == 1 else HOLDS
        return Outcome(evidence, {"I9": Verdict(word, "")})

    monkeypatch.setattr(campaign, "_one", one)
    results = Results(1)
    asked = Asked(launch=None, faults=("F1", "F2", "F27"))
    asyncio.run(campaign._each_once(results, asked, lambda line: None, 2))
    assert [each.evidence.name for each in results.outcomes] == [name for name, _ in steps(asked)]
    assert not [each for each in results.outcomes if each.broken] and made.count("F1 in finish") == 2
    assert max(map(len, most)) == 2 and ["F27 in announce"] in most
    assert not [names for names in most if len(names) > 1 and "F27 in announce" in names]
