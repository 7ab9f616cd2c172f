"""Prints to stdout before it serves, as applications do; then waits."""

import sys
import time

print("Hello, world! I am an application that prints.", flush=True)
time.sleep(float(sys.argv[1]) if len(sys.argv) > 1 else 60)
