"""Reads nothing and answers nothing; ``deaf``: not even to SIGTERM."""

import signal
import sys
import time

if "deaf" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(600)
