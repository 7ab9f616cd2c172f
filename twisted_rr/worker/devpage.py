"""What the browser is shown in dev mode (``twisted-rr serve --reload``) where an application fails: its traceback.

Never outside of dev mode: then the log has the traceback and the client an empty 500. Which calls it answers is
decided here as well, by a wrapper around the application; `command` puts it there, and in the place of one that
cannot be imported.
"""

from __future__ import annotations

import html
import linecache
import traceback
from collections.abc import Iterable, Iterator
from types import FrameType, TracebackType
from typing import Any, Final

from twisted_rr.worker.report import tell_failure, without_us

Headers = list[tuple[bytes, bytes]]

_AROUND: Final = 4
"""Lines of source shown before and after the one that failed."""
_LONGEST: Final = 400
"""Characters of a variable's value."""
_MOST: Final = 40
"""Variables of one frame."""
_FRAMES: Final = 60
"""Frames of one exception: of a recursion the first and last are enough."""
_SECRET: Final = (
    "password",
    "passwd",
    "secret",
    "token",
    "api_key",
    "apikey",
    "authorization",
    "cookie",
    "credential",
)
_POLICY: Final = b"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

_STYLE: Final = """
:root { color-scheme: light dark; --line: #d7dbe0; --soft: #f4f5f7; --hit: #ffe9e6; --mark: #b3261e; --dim: #5c6570 }
@media (prefers-color-scheme: dark) {
  :root { --line: #3a4048; --soft: #23272d; --hit: #4a2622; --mark: #ff8a80; --dim: #9aa4b0 }
}
body { font: 15px/1.5 system-ui, sans-serif; margin: 0; padding: 2rem clamp(1rem, 4vw, 4rem) }
header { border-left: 4px solid var(--mark); padding-left: 1rem; margin-bottom: 2rem }
h1 { font-size: 1.5rem; margin: 0; color: var(--mark) }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem }
p { margin: .4rem 0 } .dim { color: var(--dim) }
pre, code, td { font: 13px/1.5 ui-monospace, monospace }
header pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: 15px; margin: .5rem 0 }
section { border: 1px solid var(--line); border-radius: 6px; margin: .8rem 0; overflow: hidden }
section > p { margin: 0; padding: .5rem .8rem; background: var(--soft); overflow-wrap: anywhere }
section pre { margin: 0; padding: .4rem 0; overflow-x: auto } section pre span { display: block; padding: 0 .8rem }
.hit { background: var(--hit); font-weight: 600 }
details { border-top: 1px solid var(--line); padding: .4rem .8rem } summary { cursor: pointer; color: var(--dim) }
td { vertical-align: top; padding: .1rem .8rem .1rem 0; overflow-wrap: anywhere } td:first-child { color: var(--dim) }
footer { margin-top: 2rem; color: var(--dim); font-size: 13px }
"""


def answer(error: BaseException, headline: str, accept: bytes) -> tuple[Headers, bytes]:
    """Header fields and body that tell of *error*: HTML where *accept*, the request's field, has text/html."""
    if wants_html(accept):
        kind, body = b"text/html; charset=utf-8", page(error, headline)
    else:
        kind, body = b"text/plain; charset=utf-8", text(error, headline)
    data = body.encode("utf-8", "replace")
    fields = [
        (b"content-type", kind),
        (b"content-length", str(len(data)).encode()),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        (b"content-security-policy", _POLICY),
    ]
    return fields, data


def wants_html(accept: bytes) -> bool:
    """Whether an Accept field names text/html, as browsers do; ``*/*`` alone, as curl sends it, does not."""
    for part in accept.lower().split(b","):
        kind, *parameters = (word.strip() for word in part.split(b";"))
        if kind in (b"text/html", b"application/xhtml+xml"):
            return not any(parameter.replace(b" ", b"") in (b"q=0", b"q=0.0") for parameter in parameters)
    return False


def text(error: BaseException, headline: str) -> str:
    """The traceback as the log has it."""
    try:
        lines = "".join(traceback.format_exception(type(error), error, without_us(error)))
    except Exception:  # an exception may fail to print itself
        lines = f"{type(error).__name__} (which cannot be printed)\n"
    return f"{headline}\n\n{lines}"


def page(error: BaseException, headline: str) -> str:
    """The traceback as a page. Everything that comes from the application or the client is escaped."""
    title = _escaped(f"{type(error).__name__}: {_said(error)}"[:200])
    parts = [
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{_STYLE}</style></head><body><header><h1>{_escaped(type(error).__name__)}</h1>",
        f"<pre>{_escaped(_said(error))}</pre><p class=dim>{_escaped(headline)}</p></header><main>",
    ]
    for number, (reason, each) in enumerate(_chain(error)):
        if number:
            parts.append(
                f"<h2>{_escaped(reason)} {_escaped(type(each).__name__)}: {_escaped(_said(each))}</h2>"
            )
        parts.extend(_frames(each))
    parts.append(
        f"</main><h2>As text</h2><section><pre><span>{_escaped(text(error, headline))}</span></pre></section>"
    )
    parts.append(
        "<footer>twisted_rr in dev mode (--reload): save the file that is wrong and load this page again."
    )
    parts.append("</footer></body></html>\n")
    return "".join(parts)


def _chain(error: BaseException) -> Iterator[tuple[str, BaseException]]:
    """*error*, then what led to it."""
    seen: set[int] = set()
    reason, at = "", error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        yield reason, at
        if at.__cause__ is not None:
            reason, at = "caused by", at.__cause__
        elif at.__context__ is not None and not at.__suppress_context__:
            reason, at = "while handling", at.__context__
        else:
            return


def _frames(error: BaseException) -> Iterator[str]:
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        yield _frame(error.filename, error.lineno, "", None)
    entries = list(_walk(without_us(error)))
    if len(entries) > _FRAMES:
        left = len(entries) - _FRAMES
        entries[_FRAMES // 2 : -_FRAMES // 2] = [(None, left)]
    for frame, line in entries:
        if frame is None:
            yield f"<p class=dim>({line} frames are not shown)</p>"
        else:
            yield _frame(frame.f_code.co_filename, line, frame.f_code.co_qualname, frame)


def _walk(at: TracebackType | None) -> Iterator[tuple[FrameType | None, int]]:
    while at is not None:
        yield at.tb_frame, at.tb_lineno
        at = at.tb_next


def _frame(filename: str, line: int, name: str, frame: FrameType | None) -> str:
    inside = f" in <code>{_escaped(name)}</code>" if name else ""
    lines = "".join(
        f"<span{' class=hit' if number == line else ''}>{number:>5}  {_escaped(source) or ' '}</span>"
        for number, source in _source(filename, line, frame)
    )
    shown = f"<pre>{lines}</pre>" if lines else ""
    return f"<section><p><code>{_escaped(filename)}</code>:{line}{inside}</p>{shown}{_variables(frame)}</section>"


def _source(filename: str, line: int, frame: FrameType | None) -> Iterable[tuple[int, str]]:
    linecache.checkcache(filename)
    lines = linecache.getlines(filename, frame.f_globals if frame is not None else None)
    first = max(0, line - 1 - _AROUND)
    return [
        (first + 1 + index, source.rstrip("\n")) for index, source in enumerate(lines[first : line + _AROUND])
    ]


def _variables(frame: FrameType | None) -> str:
    if frame is None:
        return ""
    here = [item for item in frame.f_locals.items() if not item[0].startswith("__")]
    if not here or frame.f_locals is frame.f_globals:
        return ""
    rows = "".join(
        f"<tr><td>{_escaped(name)}</td><td>{_escaped(_value(name, value))}</td></tr>"
        for name, value in here[:_MOST]
    )
    return f"<details><summary>Variables</summary><table>{rows}</table></details>"


def _value(name: str, value: Any) -> str:
    if any(word in name.lower() for word in _SECRET):
        return "(not shown)"
    try:
        shown = repr(value)
    except Exception as error:
        return f"(its repr failed: {type(error).__name__})"
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}… ({len(shown)} characters)"


def _said(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "(it cannot be printed)"


def _escaped(value: str) -> str:
    return html.escape(value.encode("utf-8", "backslashreplace").decode())


class Broken:
    """An ASGI application in the place of one that cannot be imported or started: it shows why, to everybody."""

    def __init__(self, error: BaseException, headline: str) -> None:
        self._error = error
        self._headline = headline

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise RuntimeError("there is no application")
        accept = b",".join(value for name, value in scope["headers"] if name.lower() == b"accept")
        fields, body = answer(self._error, self._headline, accept)
        await send({"type": "http.response.start", "status": 500, "headers": fields})
        await send({"type": "http.response.body", "body": body})


class ShownAsgi:
    """An ASGI application whose failures are shown, as long as nothing of its answer has left.

    An answer of 500 is held until the application returns: frameworks send one, and raise afterwards.
    """

    def __init__(self, application: Any) -> None:
        self._application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        held = _Held(send)
        try:
            await self._application(scope, receive, held.send)
        except Exception as error:
            if not held.left:
                where = f"{scope['method']} {scope['path']}"
                accept = b",".join(value for name, value in scope["headers"] if name.lower() == b"accept")
                fields, body = answer(error, f"The application failed in {where}", accept)
                await send({"type": "http.response.start", "status": 500, "headers": fields})
                await send({"type": "http.response.body", "body": body})
            raise  # to the log
        await held.let_go()


class _Held:
    """Messages of an answer of 500 that may still be replaced.

    :ivar left: something was sent.
    """

    def __init__(self, send: Any) -> None:
        self._send = send
        self._kept: list[Any] = []
        self.left = False

    async def send(self, message: Any) -> None:
        if not self.left:
            begins = message["type"] == "http.response.start" and message.get("status") == 500
            if begins or (self._kept and not message.get("more_body")):
                self._kept.append(message)
                return
        await self.let_go()
        self.left = True
        await self._send(message)

    async def let_go(self) -> None:
        kept, self._kept = self._kept, []
        for message in kept:
            self.left = True
            await self._send(message)


class ShownWsgi:
    """A WSGI application whose failures are shown, as long as nothing of its answer has left."""

    def __init__(self, application: Any) -> None:
        self._application = application

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        result: Any = None
        left = False
        try:
            result = self._application(environ, start_response)
            for piece in result:
                left = left or bool(piece)
                yield piece
        except Exception as error:
            where = f"{environ.get('REQUEST_METHOD')} {environ.get('PATH_INFO')}"
            if left:
                raise
            tell_failure(f"The WSGI application failed in {ascii(where)[1:-1]}", error)
            accept = environ.get("HTTP_ACCEPT", "").encode("latin-1")
            fields, body = answer(error, f"The application failed in {where}", accept)
            pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in fields]
            start_response("500 Internal Server Error", pairs, (type(error), error, error.__traceback__))
            yield body
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()


def shown(application: Any, interface: str) -> Any:
    """*application* with its failures shown."""
    if interface == "wsgi":
        return ShownWsgi(application)
    return ShownAsgi(application) if interface == "asgi" else application
