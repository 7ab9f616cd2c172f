"""``python -m twisted_rr.worker module:attribute``."""

import sys

from twisted_rr.worker.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
