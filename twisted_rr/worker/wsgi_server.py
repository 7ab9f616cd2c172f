"""Serves a WSGI application over either kind of relay: threads under mux, else the main thread alone."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

from twisted_rr.wire.context import decode_request, encode_head
from twisted_rr.worker.blocking import BlockingCall, BlockingRelay
from twisted_rr.worker.descriptors import Relay
from twisted_rr.worker.environ import EnvironMaker
from twisted_rr.worker.handshake import Hello, answer
from twisted_rr.worker.report import say
from twisted_rr.worker.requests import codec_of, read_single, single_head
from twisted_rr.worker.signals import Waker
from twisted_rr.worker.thread_call import ThreadCall
from twisted_rr.worker.threads import ThreadServer
from twisted_rr.worker.wsgi import Application, Channel, Heads, input_stream, run


def serve(application: Application, relay: Relay, hello: Hello, threads: int) -> str:
    """Serve until the server asks to stop. *threads* is the number of calls at once, 0 for no mux.

    Gives "" when it ended in good order, else the reason.
    """
    waker = Waker()
    try:
        settings = answer(relay, hello, threads)
        if settings is None:
            return serve_single(application, BlockingRelay(relay, waker, hello.rest))
        threads = min(threads, settings.streams)
        mux = MuxHandler(application, threads > 1)
        server = ThreadServer(relay, waker, settings, threads, mux.handle)
        mux.environs = EnvironMaker(threads > 1, {"twisted_rr.draining": server.draining})
        return server.serve(hello.rest)
    finally:
        waker.close()


class MuxHandler:
    """Runs one call of a mux relay."""

    def __init__(self, application: Application, multithread: bool) -> None:
        self._application = application
        self._heads: dict[int, Heads] = {}
        self.environs = EnvironMaker(multithread)

    def handle(self, call: ThreadCall) -> None:
        """Answer *call*. Raises nothing."""
        heads = self._heads.get(call.codec)
        if heads is None:
            heads = self._heads[call.codec] = Heads(functools.partial(encode_head, call.codec))
        try:
            fields = decode_request(call.codec, call.context)
        except Exception as error:
            unreadable(call, error)
            return
        if fields[3] in ("ws", "wss"):
            call.send(encode_head(call.codec, 501, []), b"", False)  # WSGI has no WebSocket
            return
        environ = self.environs.make(*fields)
        if call.more and "HTTP_EXPECT" in environ:
            call.uninvited = functools.partial(encode_head, call.codec, 100, [])
        environ["wsgi.input"] = input_stream(call.body, call.read if call.streamed else None)
        run(self._application, environ, call, heads)


def serve_single(application: Application, relay: BlockingRelay) -> str:
    """Answer one call after the other."""
    environs = EnvironMaker(multithread=False)
    known: dict[int, Heads] = {}
    while (got := relay.call()) is not None:
        flags, context, body = got
        codec = codec_of(flags, context)
        heads = known.get(codec)
        if heads is None:
            heads = known[codec] = Heads(functools.partial(single_head, codec))
        call = BlockingCall(relay, codec)
        try:
            fields, body, pieces = read_single(codec, context, body)
        except Exception as error:
            unreadable(call, error)
            continue
        environ = environs.make(*fields)
        environ["wsgi.input"] = input_stream(body, None if pieces is None else _reader(pieces))
        run(application, environ, call, heads)
    return ""


def _reader(pieces: Iterator[bytes]) -> Callable[[], bytes]:
    return lambda: next(pieces, b"")


def unreadable(call: Channel, error: Exception) -> None:
    """Answer a call whose context is not what it should be: the server's mistake, said on both sides."""
    text = f"the request's context cannot be read: {type(error).__name__}: {error}"
    say(text)
    call.error(text)
