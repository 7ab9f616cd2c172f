"""Serves as raw_echo does, after it started a grandchild that holds standard error open; its pid goes there."""

import subprocess
import sys

import raw_echo

grandchild = subprocess.Popen(["sleep", "600"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
print(f"grandchild {grandchild.pid}", file=sys.stderr, flush=True)
raw_echo.serve(0, 1)
