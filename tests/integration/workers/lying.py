"""A worker that says what it must not: ``streams`` (a billion calls at once), ``ids`` (answers nobody asked for), ``pid``
(on a socket: that it is somebody else). ``child`` serves as a child of this process, as behind a wrapper."""

import json
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from raw_echo import CONTROL, connect, frame, read_frame, serve, write_all

MUX = {"v": 1, "streams": 10, "window": 65536, "max_frame": 65536, "codec": "msgpack", "caps": []}


def answer(fd, **said):
    write_all(fd, frame(CONTROL, 0, (), json.dumps(said).encode()))


def main(how):
    if how == "child":
        sys.exit(subprocess.call([sys.executable, str(Path(__file__).with_name("raw_echo.py"))]))
    reader, fd = (0, 1) if os.environ["RR_RELAY"] == "pipes" else (connect(),) * 2
    read_frame(reader)
    if how == "streams":
        answer(fd, pid=os.getpid(), mux={**MUX, "streams": 10**9})
    elif how == "ids":
        answer(fd, pid=os.getpid(), mux=MUX)
        write_all(fd, frame(0x04, 0x00, (4, 77), b"\x92\xcc\xc8\x90"))
    elif how == "pid":
        answer(fd, pid=1)
    serve(reader, fd)


main(sys.argv[1])
