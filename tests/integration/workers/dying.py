"""Says why on standard error and exits before it answers anything."""

import sys

print("Traceback (most recent call last):\nModuleNotFoundError: No module named 'shop'", file=sys.stderr)
sys.exit(3)
