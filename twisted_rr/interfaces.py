"""The contracts between the parts, without logic.

A call's way is described once, here: a front opens it on a pool (`IWorkerPool.open`), the worker's
answer comes back to an `ICallReceiver`, and both directions carry back-pressure. Services, health,
drain and plugins have one small contract each. docs/how-it-works has the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from twisted.application.service import IService
from twisted.internet.defer import Deferred
from twisted.plugin import IPlugin
from zope.interface import Attribute, Interface

# ------------------------------------------------------------------------------------ calls


class ICallHead(Interface):
    """What a call starts with, independent of the worker that will take it.

    It is encoded when the call is placed, because only then the worker, and with it the codec, is known.
    """

    def mux_context(codec: int) -> bytes:
        """The context for a mux worker, in ``wire.frame.CODEC_MSGPACK`` or ``CODEC_JSON`` (mux.md 7)."""

    def spool() -> Any:
        """A new `IBodySpool` for a one-call worker."""

    def describe() -> str:
        """One short word of log text: for HTTP the method and the path without its query."""


class IBodySpool(Interface):
    """Collects a call's body for a one-call worker, which reads whole frames only."""

    def write(data: bytes) -> None:
        """Take a piece. May keep it in memory (up to 256 KiB) or in a temporary file."""

    def finish() -> tuple[int, bytes, Any, int]:
        """The body is complete: ``(codec flags, context, body, body length)``.

        *body* is ``bytes`` or a binary file positioned at its start. Called again after a retry,
        it answers the same.
        """

    def close() -> None:
        """Release everything, uploaded files too. Idempotent; called after the call has ended."""


class ICall(Interface):
    """One call, from `IWorkerPool.open` until its receiver was told the end."""

    def send(data: bytes, more: bool) -> bool:
        """Send a piece of the body; ``more=False`` ends it (an empty last piece is fine).

        Returns False when the source should be held until the receiver's ``writable()``.
        What is sent after the call has ended is dropped.
        """

    def cancel(reason: str) -> None:
        """Give up: ``client``, ``deadline``, ``drain`` or ``timeout``.

        The receiver gets ``failed(Cancelled)`` once, before this returns, then nothing more.
        """

    def pauseProducing() -> None:
        """Hold the answer of this call, and of this call only."""

    def resumeProducing() -> None:
        """Let the answer go on."""

    def stopProducing() -> None:
        """The same as ``cancel("client")``; for IPushProducer."""


class ICallReceiver(Interface):
    """Takes a call's answer. The last callback is one with ``more=False``, or ``failed``; exactly one, once.

    No callback comes before `IWorkerPool.open` has returned. One frame of the worker is one callback,
    so that a small answer costs a single call. A receiver that finds the answer to be nonsense raises
    `FrameError`: the worker is then killed.
    """

    def context(codec: int, context: bytes, body: bytes, more: bool) -> None:
        """A frame that carries a context: a head (or an interim one), or after the head the trailers.

        *codec* has the codec bits of the frame's flags, 0 when the worker set none.
        """

    def data(body: bytes, more: bool) -> None:
        """A piece of the answer's body."""

    def message(body: bytes, text: bool, more: bool) -> None:
        """A whole message (WebSocket, gRPC); *more* is False on the frame that also ends the call."""

    def failed(error: Exception) -> None:
        """The call ended without a complete answer; *error* is a `twisted_rr.errors.PoolError`."""

    def writable() -> None:
        """``ICall.send`` has room again."""


class IWorkerPool(IService):
    """Workers of one kind. `ready()` fires when all of them answered; the service stops when all are reaped."""

    name = Attribute("what the pool is called in logs and metrics: its plugin's name")
    mux = Attribute("True when its workers hold many calls at once; known once ready")
    shed = Attribute("calls that waited too long and were turned away, since the start")
    debug = Attribute("True when each call gets a fresh worker, whose kind is not known before")
    max_message = Attribute("bytes of one message that a worker may send; a front sets it before the start")

    def open(head: ICallHead, body: bytes, more: bool, to: ICallReceiver) -> ICall:
        """Start a call; returns at once. *body* is what has come so far, *more* whether the rest follows.

        A call that gets no worker ends by ``failed``: QueueFull, Overloaded, NoFreeWorker, Draining.
        """

    def ready() -> Deferred[None]:
        """Fires once when ``num_workers`` workers answered; fails with WorkerStartError."""

    def waiting() -> int:
        """Calls that wait for a worker."""

    def waited() -> float:
        """Seconds that the first of them has waited; 0 when none waits."""

    def workers() -> Sequence[Any]:
        """A snapshot of `twisted_rr.pool.state.WorkerInfo`, oldest first."""

    def template() -> Any:
        """Its `twisted_rr.pool.state.TemplateInfo`, None where nobody asks for preloaded workers."""

    def reset() -> Deferred[None]:
        """Replace every worker, the new one first; fires when the old ones are reaped."""

    def replace() -> Deferred[Any]:
        """The same, and tells: fires with a `twisted_rr.pool.rolling.ResetReport`, fails with its ResetFailed."""

    def grow(count: int) -> Deferred[None]:
        """Start *count* more workers."""

    def shrink(count: int) -> Deferred[None]:
        """Retire *count* workers after their calls; the last one stays."""


# ---------------------------------------------------------------------------- health, drain


class IHealth(Interface):
    """One line of the status answers. Never blocks, never raises."""

    name = Attribute("the plugin's name")

    def alive() -> str | None:
        """None when work can make progress, else why not."""

    def ready() -> str | None:
        """None when a new call would be served, else why not."""


class IInFlight(Interface):
    """The exchanges a front has accepted and not finished: a set, never a counter."""

    name = Attribute("the protocol: http, grpc, tcp, jobs")

    def begin(item: Any) -> None:
        """*item* was accepted. It has ``since`` (monotonic seconds) and ``describe() -> str``."""

    def end(item: Any) -> None:
        """*item* is over; a second time does nothing."""

    def count() -> int:
        """How many are in flight."""

    def oldest() -> float | None:
        """Age in seconds of the oldest, None when there is none."""

    def idle() -> Deferred[None]:
        """Fires when none is in flight; at once when none is now."""


class IFront(IService):
    """A service of phase FRONT that can be drained; docs/fronts.md has the order of calls and a test kit."""

    in_flight = Attribute("its IInFlight")

    def announce() -> None:
        """Clients should go elsewhere: go on accepting, but tell them (``Connection: close``, GOAWAY).

        At ``drain.goaway_start`` of a stop, or in an admin's drain, which may be taken back."""

    def finish() -> None:
        """Take what is in the accept queue, close the listeners; go on serving what was accepted."""

    def hurry() -> None:
        """Cut what is in flight now: 503 where nothing was sent, else the connection."""


class IHurry(Interface):
    """A service whose orderly stop can be forced while it is under way."""

    def hurry() -> None:
        """Stop now. ``stopService``'s Deferred still fires only when everything is released."""


class IDrain(Interface):
    """The one lifecycle state and the one deadline."""

    state = Attribute(
        "booting, starting, running, drained, draining:announce, draining:finish, draining:force, stopping"
    )
    draining = Attribute("True from the instant of the signal on")

    def begin(cause: str) -> None:
        """Start the drain: synchronous, idempotent, sets the deadline."""

    def undrain() -> None:
        """Return to running after an admin drain."""

    def remaining() -> float:
        """Seconds until the deadline, never negative; the whole budget while not draining."""

    def hurry() -> None:
        """The deadline is now."""

    def watch(changed: Callable[[str], None]) -> Callable[[], None]:
        """Call *changed* with each new state, in the same reactor turn; returns the call that ends it."""


# ---------------------------------------------------------------------------------- plugins


class IServerPlugin(IPlugin):
    """A plugin as discovery finds it: strings only, so that finding it loads nothing."""

    name = Attribute("the config section it answers to")
    description = Attribute("one line for people")
    module = Attribute("dotted name of the module with ``configure`` and ``build``")


class IHost(Interface):
    """All that a plugin is given."""

    clock = Attribute("IReactorTime whose seconds() are monotonic")
    reactor = Attribute("the reactor, passed in and never imported")
    drain = Attribute("the IDrain")
    turn = Attribute("the twisted_rr.net.turn.Turn of the reactor")

    def log(part: str) -> Any:
        """A logger for this part of the plugin; its channel is the plugin's name."""

    def pool(
        name: str, settings: Any, mode: str, key: str = "pool", env: Mapping[str, str] | None = None
    ) -> IWorkerPool:
        """A pool in phase WORKERS, whose *settings* are *key* of the section.

        *mode* becomes the workers' RR_MODE, *env* is added to their environment.
        """

    def named_pool(name: str, mode: str, key: str, env: Mapping[str, str] | None = None) -> IWorkerPool:
        """The pool *name* of the section ``pools``, which *key* of the plugin's section asks for; made once.

        Raises ConfigError: there is none, or another plugin has it.
        """

    def bind(address: str, key: str = "address") -> Any:
        """The `twisted_rr.net.ports.BoundPort` for *address*, as *key* of the plugin's section says it.

        One that a service manager passed to the process (docs/reload, "Socket activation"), else one bound
        now; raises ListenError. To be called in ``privilegedStartService``.
        """

    def place(phase: str, service: IService) -> None:
        """Put *service* into a phase: STATUS, METRICS, CONTROL, DRIVERS, WORKERS, FRONT."""

    def provide(interface: Any, provider: object) -> None:
        """Offer *provider* to whoever collects *interface*."""

    def collect(interface: Any) -> Iterable[Any]:
        """Every provider so far; complete once the tree is built, so call it late."""

    def setting(section: str) -> Any:
        """The frozen settings of another section, None when it is absent."""

    def fail(failure: Any) -> None:
        """The server cannot go on: log, drain, exit with a non-zero code."""


class IMetrics(Interface):
    """Numbers for the metrics page."""

    def samples() -> Iterable[tuple[str, str, str, Mapping[str, str], float]]:
        """``(name, type, help, labels, value)`` for each sample; cheap, never blocks."""


class IRemote(Interface):
    """Methods for RPC clients."""

    def methods() -> Mapping[str, Callable[..., Any]]:
        """Method name, as RoadRunner spells it, to a callable."""


class IReloadable(Interface):
    """Something whose settings can change while it runs (docs/reload)."""

    section = Attribute("the config section whose settings it takes")
    live = Attribute("the keys of that section that `prepare` can change, such as timeouts or tls.cert")

    def prepare(settings: Any) -> Callable[[], Any]:
        """Check *settings*, of the whole section, and return the step that applies them.

        Changes nothing itself; raises ConfigError to refuse. The step is called at once or never, must not fail,
        and is done when it returns; ``IHost.setting`` then answers by the new configuration.
        """
