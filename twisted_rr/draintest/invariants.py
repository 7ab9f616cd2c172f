"""The invariants I1 to I30, in order, each with what judges it."""

from __future__ import annotations

from collections.abc import Mapping

from twisted_rr.draintest import judge_grpc, judge_health, judge_process, judge_requests
from twisted_rr.draintest.verdicts import Invariant

_LATER = "its protocol is not served yet"

_ALL = (
    Invariant("I1", "from the signal on /ready is never 2xx again", judge_health.not_ready_again),
    Invariant("I2", "readiness fails before any listener closes", judge_health.ready_before_close),
    Invariant("I3", "in the announce every new connection is served", judge_requests.served_in_announce),
    Invariant("I4", "a request whose head was complete gets a complete answer, or is counted as cut", judge_requests.complete_or_counted),
    Invariant("I5", "no reset reaches a client before the deadline", judge_requests.no_resets),
    Invariant("I6", "after the listeners close a connect is refused at once, and nobody else holds them", judge_requests.refused_at_once),
    Invariant("I7", "/health is 200 while the server is not provably stuck", judge_health.alive),
    Invariant("I8", "/health fails soon when it is provably stuck", judge_health.stuck_is_told),
    Invariant("I9", "/health and /ready answer within 100 ms (p99)", judge_health.quick),
    Invariant("I10", "the status listener closes last", judge_health.closes_last),
    Invariant("I11", "the exit comes within the budget", judge_process.within_budget),
    Invariant("I12", "no worker outlives the server", judge_process.nobody_left),
    Invariant("I13", "a second signal that forces ends it within a second", judge_process.forced_at_once),
    Invariant("I14", "a signal at any moment of the start leads to the exit", judge_process.start_can_be_ended),
    Invariant("I15", "many signals and drains are one drain, and the first deadline holds", judge_process.one_drain),
    Invariant("I16", "in flight reaches exactly 0, probes are never in it", judge_requests.reaches_zero),
    Invariant("I17", "every answer in the drain says close, and the server closes with FIN", judge_requests.says_close),
    Invariant("I18", "HTTP/2: GOAWAY twice, no stream at or below its id is dropped", judge_grpc.goes_away_twice),
    Invariant("I19", "gRPC: NOT_SERVING before the first GOAWAY, Watch is ended by the server", judge_grpc.health_goes_first),
    Invariant("I20", "WebSocket: exactly one Close and time for its echo", needs=_LATER),
    Invariant("I21", "jobs: none fetched after the signal, each acked once or requeued", needs=_LATER),
    Invariant("I22", "no worker is recycled after the signal, none started without need", judge_process.no_recycling),
    Invariant("I23", "undrain leads back to running; impossible after a signal", judge_process.undrain),
    Invariant("I24", "/startup is 503 until the first ready, then 200 for ever", judge_health.startup_latched),
    Invariant("I25", "jumps of the wall clock change nothing", judge_process.clock_jumps),
    Invariant("I26", "a full disk and a closed output hold nothing up", judge_process.output_gone),
    Invariant("I27", "a budget that does not fit is refused at the start", judge_process.budget_refused),
    Invariant("I28", "the server's report equals what the clients saw", judge_requests.report_is_right),
    Invariant("I29", "an unknown ?plugin= is an error", judge_health.unknown_plugin),
    Invariant("I30", "body and code of a health answer agree", judge_health.body_agrees),
)  # fmt: skip

INVARIANTS: Mapping[str, Invariant] = {invariant.id: invariant for invariant in _ALL}
