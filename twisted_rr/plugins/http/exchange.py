"""One exchange: a request from its complete head to the last byte of its answer taken by the kernel.

It stands between a session and a call, and carries content both ways with back-pressure: `HttpFront` makes it,
`answers` says what the worker meant. Left out: framing (`twisted_rr.http1`), placing (`twisted_rr.pool`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from zope.interface import classImplements

from twisted_rr.errors import FrameError, RRError
from twisted_rr.http1.request import Request
from twisted_rr.http1.response import BadResponse
from twisted_rr.interfaces import ICallReceiver
from twisted_rr.wire.context import decode_trailers

from . import answers, bodies
from .forms import BadForm
from .head import RequestHead

if TYPE_CHECKING:
    from .service import HttpFront

WAITING, ANSWERING, OVER = 0, 1, 2
"""Of the answer: no final head was sent; one was; nothing more may be sent."""

NOT_STORED = "the request could not be stored\n"
STOPPING = "the server is stopping\n"


class Exchange(RequestHead):
    """Made by ``Front.begin``; ends by `sent` or `lost`, exactly one of them, once. It is its call's head too.

    :ivar since: monotonic seconds at its beginning.
    :ivar status: of the answer, 0 while there is none.
    :ivar size: bytes of content answered.
    :ivar cut: the server broke it off.
    :ivar refused: it was turned away because the server stops.
    """

    __slots__ = (
        "_call", "_collecting", "_pool", "_sending", "_state", "_trailers",
        "cut", "refused", "since", "size", "status",
    )  # fmt: skip

    def __init__(self, front: HttpFront, session: Any, request: Request) -> None:
        self.front = front
        self.session = session
        self.request = request
        self.content = None
        self.spooled = False
        routes = front.routes
        self._pool: Any = front.pool if routes is None else routes.pool(self.host(), request.target)
        self.since: float = front.seconds()
        self._call: Any = None
        self._collecting: bodies.Body | None = None
        self._sending = False
        self._state = WAITING
        self._trailers: Sequence[tuple[bytes, bytes]] = ()
        self.status = 0
        self.size = 0
        self.cut = False
        self.refused = False

    @property
    def worker_pid(self) -> int:
        """The process of the worker that has the call, 0 while none has: for who-blocks-the-stop lines."""
        worker = getattr(self._call, "worker", None)
        return 0 if worker is None else int(worker.pid)

    # ------------------------------------------------------------------ the request's content

    def start(self) -> None:
        """The head is complete: open the call, or collect what a one-call worker reads whole.

        Under ``pool.debug`` the workers' kind is not known before the first call: the pool itself then asks for a
        spool (`RequestHead.spool`) if it turns out that it needs one.
        """
        pool = self._pool
        if not (pool.mux or pool.debug):
            self._collect()
        elif self.request.length == 0:
            self._call = pool.open(self, b"", False, self)
        else:
            # Content that came with the head goes out with it. Waker when none did: `flush`, this turn.
            self.front.turn.add(self)

    def flush(self) -> None:
        """The turn ends: a client that waits before it sends its content still gets its worker."""
        if self._call is None and self._state == WAITING:
            try:
                self._open(b"", True)
            except Exception:
                self.broken()

    def _open(self, data: bytes, more: bool) -> None:
        self._sending = more
        self._call = self._pool.open(self, data, more, self)

    def _collect(self) -> None:
        try:
            body = self.content = bodies.make(self)
            if self.request.length == 0:
                body.complete()
        except BadForm as error:
            self._refuse(error)
            return
        if body.wanted and self.request.length:
            self._collecting = body
            self.session.expect_continue()
        else:
            self._open(b"", False)

    def body(self, data: bytes, more: bool) -> bool:
        """A piece of the content, from the session. False holds it; waker: `writable`."""
        if self._sending:
            self._sending = more
            return self._call is None or bool(self._call.send(data, more))
        if self._state == WAITING:
            if self._collecting is not None:
                self._gather(self._collecting, data, more)
            elif self._call is None:
                self._open(data, more)
        # What nobody reads (the content of HEAD, or more of it after the answer) is dropped.
        return True

    def _gather(self, body: bodies.Body, data: bytes, more: bool) -> None:
        """Keep a piece until the worker can have all of it; the call takes no slot meanwhile."""
        try:
            body.write(data)
            if more:
                return
            body.complete()
        except BadForm as error:
            self._refuse(error)
            return
        except OSError as full:
            text = "{request}: its content cannot be stored: {error}"
            self.front.log.error(text, request=self.describe(), error=full)
            self._answer(507, NOT_STORED)
            return
        self._collecting = None
        self._open(b"", False)

    def writable(self) -> None:
        """The call has room again."""
        self.session.resume_body()

    # ------------------------------------------------------------------------------ the answer

    def context(self, codec: int, context: bytes, body: bytes, more: bool) -> None:
        """A head, an interim one, or trailers, from the worker."""
        if self._state != WAITING:
            self._after_head(codec, context, body, more)
            return
        # Most answers repeat a head: no call for those.
        answer: answers.Answer | None = self.front.answers.cache.young.get(context)
        if answer is None or answer.codec != codec:
            try:
                answer = self.front.answers.head(codec, context)
            except answers.BadAnswer as error:
                self._nonsense(error)
                return
        if answer.status < 200:
            self._interim(answer, more)
            return
        self._state = ANSWERING
        self.status = answer.status
        self.size = len(body)
        trailers = self._trailers = answer.trailers
        if not more:
            self._call = None
        try:
            self.session.respond(answer.head, body, more or bool(trailers))
        except BadResponse as refused:
            self._state = WAITING
            self._nonsense(refused)
            return
        if trailers and not more:
            self._end_with(trailers)

    def _interim(self, answer: answers.Answer, more: bool) -> None:
        if not more:
            self._nonsense(answers.BadAnswer("the answer ends with an interim head"))
        elif answer.status == 100:
            # The application begins to read: the client may wait for just that.
            self.session.expect_continue()
        else:
            self.session.interim(answer.head)

    def data(self, body: bytes, more: bool) -> None:
        """A piece of the answer's content, from the worker."""
        if self._state != ANSWERING:
            self._without_head(body, more)
            return
        self.size += len(body)
        if more:
            self.session.send(body, True)
            return
        self._call = None
        if not self._trailers:
            self.session.send(body, False)
            return
        if body:
            self.session.send(body, True)
        self._end_with(self._trailers)

    def _end_with(self, trailers: Sequence[tuple[bytes, bytes]]) -> None:
        try:
            self.session.trailers(trailers)
        except BadResponse as error:
            text = "{request}: trailers cannot be sent: {error}"
            self.front.log.warn(text, request=self.describe(), error=error)
            self.session.send(b"", False)

    def _after_head(self, codec: int, context: bytes, body: bytes, more: bool) -> None:
        """A second context: trailers at the end of a mux call; from a one-call worker it says nothing new."""
        if not answers.is_mux(codec, context):
            text = "{request}: a second head in the answer is passed over"
            self.front.log.debug(text, request=self.describe())
            self.data(body, more)
            return
        if more:
            raise FrameError("a second final head", context)
        try:
            self._trailers = decode_trailers(codec, context)
        except (RRError, ValueError, TypeError, msgspec.MsgspecError) as error:
            raise FrameError(f"trailers that cannot be read: {error}", context) from error
        self.data(body, False)

    def _without_head(self, body: bytes, more: bool) -> None:
        """Content, or the end, where a head is due."""
        if self._pool.mux and (body or more):
            raise FrameError("content before the head of an answer", body)
        if not more:
            self._call = None
        self._nonsense(answers.unknown_status(0))

    def message(self, body: bytes, text: bool, more: bool) -> None:
        """No answer of HTTP has messages."""
        raise FrameError("a message in an answer of HTTP", body)

    def failed(self, error: Exception) -> None:
        """The call ended without a complete answer. One that was given up here is known already."""
        if self._call is None:
            return
        self._call = None
        self.front.failed(self, error)
        if self._state == ANSWERING:
            self._break_off()
        else:
            self._refuse(error)

    def _nonsense(self, error: RRError) -> None:
        """The worker answered what cannot be sent."""
        self._give_up("client")
        text = "{request}: {error}"
        self.front.log.error(text, request=self.describe(), error=error)
        self._answer(500, getattr(error, "body", answers.FAILED))

    def _refuse(self, error: Exception) -> None:
        self._collecting = None
        self._answer(*answers.refusal(error, self.front.settings.internal_error_code, self._pool.debug))

    def _answer(self, status: int, body: str, fields: answers.Fields = ()) -> None:
        """A small answer of the server's own."""
        self._state = ANSWERING
        content = body.encode()
        self.status = status
        self.size = len(content)
        self.session.simple(status, content, fields)

    def _break_off(self) -> None:
        self.cut = True
        self.session.cut()

    def _give_up(self, reason: str) -> None:
        """Nobody waits for the call any more. It tells `failed` before this returns, which finds no call."""
        call, self._call = self._call, None
        if call is not None:
            call.cancel(reason)

    # ------------------------------------------------------------------------- from the session

    def pause(self) -> None:
        """The client does not take what was sent: hold the answer, of this call only."""
        if self._call is not None:
            self._call.pauseProducing()

    def resume(self) -> None:
        """The client takes again."""
        if self._call is not None:
            self._call.resumeProducing()

    def sent(self) -> None:
        """The kernel has the whole answer."""
        if self._call is None and self.content is None:
            self._state = OVER
            self.front.over(self, "")
        else:
            self._end("")

    def lost(self, reason: str) -> None:
        """The answer cannot be completed; *reason* as in ``http1.contract.Exchange.lost``."""
        if reason == "length":
            text = "{request}: the answer contradicts its content-length and was cut"
            self.front.log.error(text, request=self.describe())
            self.cut = True
        elif self._state != WAITING and self.request.method == "HEAD":
            reason = ""  # its client has had all there is; the worker may have gone on with the content
        self._end(reason)

    def _end(self, reason: str) -> None:
        self._state = OVER
        if self._call is not None:
            self._give_up("timeout" if reason == "timeout" else "client")
        if self.content is not None and not self.spooled:
            self.content.close()
        self.front.over(self, reason)

    # --------------------------------------------------------------------------- from the front

    def broken(self) -> None:
        """The server itself failed, by the exception that is handled now."""
        self.front.log.failure("{request} could not be started", request=self.describe())
        self._give_up("client")
        if self._state == WAITING:
            self._answer(500, "")
        else:
            self._break_off()

    def turn_away(self) -> None:
        """It came too late (``drain.late_reject_after``): elsewhere it will be served."""
        self.refused = True
        self._answer(503, STOPPING, answers.RETRY_AFTER)

    def hurry(self) -> None:
        """The deadline has come: 503 where nothing was sent, else the connection is cut."""
        self.cut = True
        self._give_up("deadline")
        if self._state == WAITING:
            self._answer(503, STOPPING, answers.RETRY_AFTER)
        if self._state != OVER:
            self.session.cut()


classImplements(Exchange, ICallReceiver)


def begin(front: HttpFront, session: Any, request: Request) -> Exchange:
    """A head is complete: see `twisted_rr.http1.contract.Front`. Here, because it is on the path of every request."""
    exchange = Exchange(front, session, request)
    front.in_flight.begin(exchange)
    if request.head.upgrade:
        front.asks_to_upgrade(request, exchange)
    try:
        if exchange.since >= front.late_at:
            front.draining = True  # whatever drain.goaway_start says: nothing is served any more
            exchange.turn_away()
        else:
            exchange.start()
    except Exception:
        # The session does not know the exchange yet: nobody else would ever end it.
        exchange.broken()
    return exchange
