"""Numbers of the gRPC front, under RoadRunner's names (features.md 9)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Final

from zope.interface import implementer

from twisted_rr.interfaces import IInFlight, IMetrics

from .status import name

BUCKETS: Final[tuple[float, ...]] = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds in seconds: the default ones of Prometheus' Go library, as RoadRunner has them."""

QUICK: Final = 0.005
"""The first of them."""

MOST_METHODS: Final = 1000
OTHERS: Final = "other"

_TOTAL: Final = "rr_grpc_request_total"
_DURATION: Final = "rr_grpc_request_duration_seconds"
_QUEUE: Final = "rr_grpc_requests_queue"

Sample = tuple[str, str, str, Mapping[str, str], float]


class Tally:
    """The calls of one method.

    :ivar method: its path.
    :ivar codes: how many ended with each status.
    :ivar times: how many took at most as long as each of `BUCKETS`, and no less than the one before, those that took
        longer, and the sum of the seconds.
    """

    __slots__ = ("codes", "method", "times")

    def __init__(self, method: str) -> None:
        self.method = method
        self.codes: dict[int, int] = {}
        self.times = [0.0] * (len(BUCKETS) + 2)

    def add(self, code: int, seconds: float) -> None:
        """A call ended with *code* after *seconds*."""
        codes = self.codes
        codes[code] = codes.get(code, 0) + 1
        times = self.times
        times[0 if seconds <= QUICK else bisect_left(BUCKETS, seconds)] += 1
        times[-1] += seconds


@implementer(IMetrics)
class GrpcMetrics:
    """Counts calls by method and status; a client cannot make up labels without end."""

    def __init__(self, in_flight: IInFlight) -> None:
        self._in_flight = in_flight
        self._tallies: dict[str, Tally] = {}

    def tally(self, method: str) -> Tally:
        """That of *method* (a path), or of all others once there are too many; it stays the same."""
        found = self._tallies.get(method)
        if found is None:
            if len(self._tallies) >= MOST_METHODS:
                method = OTHERS
            found = self._tallies.setdefault(method, Tally(method))
        return found

    def knows(self, method: str) -> bool:
        """It has a label of its own."""
        return method in self._tallies

    def record(self, method: str, code: int, seconds: float) -> None:
        """A call to *method* ended with *code* after *seconds*."""
        self.tally(method).add(code, seconds)

    def samples(self) -> Iterable[Sample]:
        """See `IMetrics`."""
        tallies = list(self._tallies.values())
        for tally in tallies:
            for code, count in list(tally.codes.items()):
                labels = {"grpc_method": tally.method, "status_code": name(code)}
                yield _TOTAL, "counter", "Calls that ended.", labels, count
        for tally in tallies:
            yield from _histogram(tally.method, tally.times)
        yield _QUEUE, "gauge", "Calls in flight.", {}, self._in_flight.count()


def _histogram(method: str, times: list[float]) -> Iterable[Sample]:
    about = "Seconds from a call's head to the end of its answer."
    total = 0.0
    for bound, count in zip((*BUCKETS, float("inf")), times[:-1], strict=True):
        total += count
        labels = {"grpc_method": method, "le": "+Inf" if bound == float("inf") else f"{bound:g}"}
        yield f"{_DURATION}_bucket", "histogram", about, labels, total
    yield f"{_DURATION}_sum", "histogram", about, {"grpc_method": method}, times[-1]
    yield f"{_DURATION}_count", "histogram", about, {"grpc_method": method}, total
