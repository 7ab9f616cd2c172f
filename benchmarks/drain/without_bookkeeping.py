"""`twisted-rr serve` whose fronts remember nothing of what is in flight: the other side of a comparison.

Such a server cannot drain, so it is only ever killed.
"""

from __future__ import annotations

from twisted_rr.cli.entry import main
from twisted_rr.lifecycle.in_flight import InFlight


def _nothing(self: InFlight, item: object) -> None:
    """Remember nothing."""


for name in ("begin", "end", "end_cut", "end_lost", "end_refused"):
    setattr(InFlight, name, _nothing)

main()
