"""CPU time a request of the server and of its workers, by kind of application: who is full first? See benchmarks/README.md.

The server is one process, so it is full at one core; workers can be as many as there are cores.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.drain.rig import Server
from benchmarks.http.__main__ import machine

ROOT = Path(__file__).resolve().parents[2]
VARIED = ROOT / "benchmarks" / "http" / "varied.lua"

#: name: folder of the application, application, more of the SDK's options, wrk script, cell with its server's cost
CELLS: dict[str, tuple[str, str, tuple[str, ...], Path | None, str]] = {
    "asgi": ("benchmarks/http", "apps:asgi", (), None, ""),
    "asgi, varied heads": ("benchmarks/http", "apps:asgi", (), VARIED, ""),
    "wsgi": ("benchmarks/http", "apps:wsgi", (), None, ""),
    "wsgi, one call a time": ("benchmarks/http", "apps:wsgi", ("--no-mux",), None, ""),
    "fastapi": ("examples/fastapi", "app:app", (), None, "asgi, varied heads"),
    "flask": ("examples/flask", "app:app", (), None, "wsgi"),
    "django": ("examples/django", "site_django:application", (), None, "wsgi"),
}


def _cpu(pid: int) -> float:
    return time.clock_gettime((~pid << 3) | 2)


def _round(server: Server, script: Path | None, seconds: float) -> tuple[float, float, float]:
    workers = server.workers()
    before, busy = server.cpu(), sum(_cpu(pid) for pid in workers)
    command = ["wrk", "-t1", "-c32", f"-d{seconds:g}", f"http://127.0.0.1:{server.port}/"]
    if script is not None:
        command[-1:-1] = ["-s", str(script)]
    told = subprocess.run(command, capture_output=True, text=True, check=True, cwd=VARIED.parent).stdout
    done = int(re.search(r"(\d+) requests in", told).group(1))  # type: ignore[union-attr]
    if "Non-2xx" in told:
        raise SystemExit(told)
    rate = float(re.search(r"Requests/sec: *([\d.]+)", told).group(1))  # type: ignore[union-attr]
    return (
        (server.cpu() - before) / done * 1e6,
        (sum(_cpu(pid) for pid in workers) - busy) / done * 1e6,
        rate,
    )


def measure(name: str, args: argparse.Namespace, found: dict[str, dict]) -> dict:
    """One cell: the least disturbed of some rounds, and what follows from it for a machine with *cores* cores.

    Where the workers are slow the server is idle most of the time and wakes up for each event alone, which costs far more a
    request than under load. What it costs when it is full is taken from a cell of the same kind where it nearly is.
    """
    folder, app, options, script, like = CELLS[name]
    command = [sys.executable, "-m", "twisted_rr.worker", *options, app]
    env = {"PYTHONPATH": f"{ROOT / folder}:{ROOT}"}
    with tempfile.TemporaryDirectory() as run:
        server = Server(Path(run), where=ROOT / folder, server={"command": command, "env": env})
        try:
            _round(server, script, 1.0)
            rounds = [_round(server, script, args.seconds) for _ in range(args.rounds)]
        finally:
            server.kill()
    seen, worker, _ = (min(each) for each in zip(*rounds, strict=True))
    rate = max(each[2] for each in rounds)
    front = found[like]["server_us"] if like in found else seen
    return {
        "application": name,
        "server_us": round(front, 1),
        "server_us_seen": round(seen, 1),
        "worker_us": round(worker, 1),
        "rate_measured": round(rate),
        "server_full_at": round(1e6 / front),
        "worker_cores_by_then": round(worker / front, 2),
        # With so many cores in all, the server's own included, either side may be full first.
        "rate_at_cores": round(min(1e6 / front, 1e6 * args.cores / (front + worker))),
        "server_limits": worker / front < args.cores - 1,
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fronts", description=__doc__)
    parser.add_argument("--cells", nargs="*", choices=sorted(CELLS), default=list(CELLS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--cores", type=int, default=4)
    args = parser.parse_args()
    found: dict[str, dict] = {}
    print("application                 server us  worker us  server full at  worker cores by then")
    for name in args.cells:
        each = found[name] = measure(name, args, found)
        print(
            f"{name:26s}  {each['server_us']:9.1f}  {each['worker_us']:9.1f}  {each['server_full_at']:12d}/s"
            f"  {each['worker_cores_by_then']:20.1f}",
            flush=True,
        )
    print(json.dumps({"machine": machine(), "cores": args.cores, "fronts": list(found.values())}))


if __name__ == "__main__":
    main()
