"""An application for preloading: it tells what a worker shares with its template, and what it does not."""

import asyncio
import atexit
import json
import logging
import os
import random
import sys
import threading

from twisted_rr.worker import after_fork, on_start, on_stop

IMPORTED_BY = os.getpid()
BALLAST = bytearray(int(os.environ.get("BALLAST_MIB", "0")) * 1048576)
BALLAST[::4096] = b"x" * len(BALLAST[::4096])
LOG = logging.getLogger("app")
logging.basicConfig(stream=sys.stderr, level=logging.INFO)
EVENTS = []

if os.environ.get("APP_THREAD"):
    threading.Thread(target=threading.Event().wait, name="poller", daemon=True).start()
if os.environ.get("APP_GRPC"):
    sys.modules["grpc._cython.cygrpc"] = sys  # type: ignore[assignment]
if "APP_DIES_ONCE" in os.environ and not os.path.exists(os.environ["APP_DIES_ONCE"]):
    open(os.environ["APP_DIES_ONCE"], "w").close()
    os.kill(os.getpid(), 9)


@after_fork
def forked():
    EVENTS.append("after_fork")


@on_start
def started():
    EVENTS.append("on_start")


@on_start
async def started_on_loop():
    EVENTS.append(f"on_start in {type(asyncio.get_running_loop()).__module__.partition('.')[0]}")


@on_stop
async def stopped():
    print("on_stop of", os.getpid(), file=sys.stderr)


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise RuntimeError("no lifespan")
    path = scope["path"]
    if path == "/log":
        LOG.info("a line of %d", os.getpid())
        print("printed by", os.getpid())
    if path == "/orphan":
        os.system("sleep 0.1 &")
    if path == "/exit":
        os._exit(7)
    answer = {
        "pid": os.getpid(),
        "ppid": os.getppid(),
        "pgid": os.getpgid(0),
        "imported_by": IMPORTED_BY,
        "random": random.random(),
        "events": EVENTS,
        "environ": {name: value for name, value in os.environ.items() if name.startswith("RR_")},
        "fds": sorted(int(name) for name in os.listdir("/proc/self/fd")),
        "version": os.environ.get("APP_VERSION", ""),
    }
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(answer).encode()})


def leave_traces():
    """At its end the worker should say three things, in this order: thread, atexit, buffer."""

    def after_all_others():
        threading.main_thread().join()
        os.write(2, b"the thread has ended\n")

    sys.stdout.write("printed without a line feed")
    atexit.register(os.write, 2, b"atexit\n")
    threading.Thread(target=after_all_others).start()


def wsgi(environ, start_response):
    if environ["PATH_INFO"] == "/end":
        leave_traces()
    start_response("200 OK", [])
    return [json.dumps({"pid": os.getpid(), "imported_by": IMPORTED_BY, "events": EVENTS}).encode()]
