"""What a pool's workers may have, of real processes, started plainly and forked from a template."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from rig import BIN, config_for, free_port, serving

SERVER = {"nice": 1, "rlimits": {"nofile": "300:400", "core": 0}}
POOL = {"num_workers": 1, "nice": 4, "oom_score_adj": 600, "affinity": [0], "rlimits": {"nofile": 256}}


@pytest.mark.parametrize("sdk", [(), ("--preload",)], ids=["plain", "preload"])
def test_a_pool_has_its_own(tmp_path, sdk):
    own = os.getpriority(os.PRIO_PROCESS, 0)
    with serving(tmp_path, "asgi_app:app", sdk=sdk, server=SERVER, http={"pool": POOL}) as server:
        workers = server.workers()
        assert len(workers) == 1 + bool(sdk)
        for pid in workers:
            limits = Path(f"/proc/{pid}/limits").read_text()
            assert re.search(r"Max open files\s+256\s+256", limits)
            assert re.search(r"Max core file size\s+0\s+0", limits)
            assert os.getpriority(os.PRIO_PROCESS, pid) == min(19, own + 4)
            assert Path(f"/proc/{pid}/oom_score_adj").read_text().strip() == "600"
            assert os.sched_getaffinity(pid) == {0}


def test_soft_and_hard_limits_of_the_server(tmp_path):
    with serving(tmp_path, "asgi_app:app", server=SERVER, workers=1) as server:
        [pid] = server.workers()
        assert re.search(r"Max open files\s+300\s+400", Path(f"/proc/{pid}/limits").read_text())


def test_a_cpu_that_is_not_there_is_told_before_anything_starts(tmp_path):
    config = config_for("asgi_app:app", port=free_port(), status_port=free_port())
    config["http"]["pool"]["affinity"] = [0, 4000]
    file = tmp_path / "rr.yaml"
    file.write_text(yaml.safe_dump(config))
    done = subprocess.run(
        [str(BIN / "twisted-rr"), "serve", "-c", str(file)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "http.pool.affinity: there is no CPU 4000; online are" in done.stderr + done.stdout


def test_a_limit_that_is_none_is_told_with_its_line(tmp_path):
    config = config_for("asgi_app:app", port=free_port(), status_port=free_port())
    config["server"]["rlimits"] = {"nofile": "4096:1024"}
    file = tmp_path / "rr.yaml"
    file.write_text(yaml.safe_dump(config))
    done = subprocess.run(
        [str(BIN / "twisted-rr"), "config", "check", str(file)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0
    said = done.stderr + done.stdout
    assert "server.rlimits.nofile" in said and "the soft limit is above the hard one" in said
