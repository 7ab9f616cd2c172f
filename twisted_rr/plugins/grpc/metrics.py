"""Numbers of the gRPC front, under RoadRunner's names (features.md 9)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Final

from zope.interface import implementer

from twisted_rr.interfaces import IInFlight, IMetrics

from .status import name

BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds in seconds: the default ones of Prometheus' Go library, as RoadRunner has them."""

MOST_METHODS: Final = 1000
OTHERS: Final = "other"

_TOTAL: Final = "rr_grpc_request_total"
_DURATION: Final = "rr_grpc_request_duration_seconds"
_QUEUE: Final = "rr_grpc_requests_queue"

Sample = tuple[str, str, str, Mapping[str, str], float]


@implementer(IMetrics)
class GrpcMetrics:
    """Counts calls by method and status; a client cannot make up labels without end."""

    def __init__(self, in_flight: IInFlight) -> None:
        self._in_flight = in_flight
        self._codes: dict[tuple[str, int], int] = {}
        self._times: dict[str, list[float]] = {}

    def record(self, method: str, code: int, seconds: float) -> None:
        """A call to *method* (a path) ended with *code* after *seconds*."""
        times = self._times.get(method)
        if times is None:
            if len(self._times) >= MOST_METHODS:
                method = OTHERS
            times = self._times.setdefault(method, [0.0] * (len(BUCKETS) + 2))
        key = (method, code)
        self._codes[key] = self._codes.get(key, 0) + 1
        times[bisect_left(BUCKETS, seconds)] += 1
        times[-1] += seconds

    def samples(self) -> Iterable[Sample]:
        """See `IMetrics`."""
        for (method, code), count in list(self._codes.items()):
            labels = {"grpc_method": method, "status_code": name(code)}
            yield _TOTAL, "counter", "Calls that ended.", labels, count
        for method, times in list(self._times.items()):
            yield from _histogram(method, times)
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
