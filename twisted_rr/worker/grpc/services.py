"""The methods that a worker serves: what generated code registers, and handlers of plain bytes.

How a handler is run is not known here, only whether it is a coroutine's.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from twisted_rr.worker.grpc.status import Metadatum

KINDS: Final = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


class CallDetails(NamedTuple):
    """What a generic handler is asked about, as grpcio's HandlerCallDetails."""

    method: str
    invocation_metadata: tuple[Metadatum, ...]


class Method:
    """One method of a service.

    :ivar path: ``/package.Service/Method``.
    :ivar behavior: the handler, called with a request (or an iterator of them) and a context.
    :ivar deserialize: makes a request of bytes; None: the handler takes bytes.
    :ivar serialize: makes bytes of a response; None: the handler gives bytes.
    :ivar asynchronous: the handler is a coroutine function or an async generator function.
    :ivar slow: above 0 while calls of it were seen to take long; see `grpc.thread_server`.
    """

    __slots__ = (
        "asynchronous",
        "behavior",
        "deserialize",
        "path",
        "request_streaming",
        "response_streaming",
        "serialize",
        "slow",
    )

    def __init__(
        self,
        path: str,
        behavior: Callable[..., Any],
        request_streaming: bool,
        response_streaming: bool,
        deserialize: Callable[[bytes], Any] | None,
        serialize: Callable[[Any], bytes] | None,
    ) -> None:
        self.path = path
        self.behavior = behavior
        self.request_streaming = request_streaming
        self.response_streaming = response_streaming
        self.deserialize = deserialize
        self.serialize = serialize
        self.asynchronous = is_async(behavior)
        self.slow = 0

    @classmethod
    def of(cls, path: str, handler: Any) -> Method:
        """The method that a grpc.RpcMethodHandler describes."""
        request_streaming = bool(handler.request_streaming)
        response_streaming = bool(handler.response_streaming)
        kind = KINDS[2 * request_streaming + response_streaming]
        return cls(
            path,
            getattr(handler, kind),
            request_streaming,
            response_streaming,
            handler.request_deserializer,
            handler.response_serializer,
        )


def is_async(behavior: Any) -> bool:
    """Whether *behavior* is to be run on an event loop."""
    while isinstance(behavior, functools.partial):
        behavior = behavior.func
    called = getattr(behavior, "__call__", None)  # noqa: B004
    return any(
        inspect.iscoroutinefunction(one) or inspect.isasyncgenfunction(one) for one in (behavior, called)
    )


class Services:
    """What ``worker.grpc`` is: takes the place of a ``grpc.Server`` in the functions that grpcio-tools generates.

    ::

        worker = Worker()
        add_EchoServicer_to_server(Echo(), worker.grpc)
        worker.run()

    Handlers may be coroutine functions or not, in any mixture. Register before the worker runs.
    """

    def __init__(self) -> None:
        self._services: dict[str, dict[str, Method]] = {}
        self._generic: list[Any] = []

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, Any]) -> None:
        """Serve *method_handlers*, grpc.RpcMethodHandler objects by method name. For generated code."""
        methods = self._services.setdefault(service_name, {})
        for name, handler in method_handlers.items():
            methods[name] = Method.of(f"/{service_name}/{name}", handler)

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[Any]) -> None:
        """Ask these grpc.GenericRpcHandler objects about methods that are not registered. For generated code."""
        for generic in generic_rpc_handlers:
            # grpcio's own handler of a dictionary: its methods are as good as registered.
            known = getattr(generic, "_method_handlers", None)
            if isinstance(known, Mapping):
                self._add_all(known)
            else:
                self._generic.append(generic)

    def _add_all(self, handlers: Mapping[str, Any]) -> None:
        for path, handler in handlers.items():
            service, _, name = path.lstrip("/").partition("/")
            self._services.setdefault(service, {}).setdefault(name, Method.of(f"/{service}/{name}", handler))

    def method(
        self,
        path: str,
        handler: Callable[..., Any] | None = None,
        kind: str = "unary_unary",
        deserialize: Callable[[bytes], Any] | None = None,
        serialize: Callable[[Any], bytes] | None = None,
    ) -> Any:
        """Serve the method *path*, ``package.Service/Method``, with *handler*; without one, a decorator.

        *kind* is ``unary_unary``, ``unary_stream``, ``stream_unary`` or ``stream_stream``. Messages are
        bytes, unless *deserialize* and *serialize* make something else of them. *handler* is called as a
        servicer's method is: ``handler(request or iterator, context)``. It is given back.

        Raises ValueError for another *kind*, or a *path* without a service.
        """
        if handler is None:
            return functools.partial(
                self._method, path, kind=kind, deserialize=deserialize, serialize=serialize
            )
        return self._method(path, handler, kind, deserialize, serialize)

    def _method(
        self,
        path: str,
        handler: Callable[..., Any],
        kind: str,
        deserialize: Callable[[bytes], Any] | None,
        serialize: Callable[[Any], bytes] | None,
    ) -> Callable[..., Any]:
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is no kind of method: {', '.join(KINDS)}")
        service, slash, name = path.removeprefix("/").partition("/")
        if not (service and slash and name) or "/" in name:
            raise ValueError(f"{path!r} is no path of a method: package.Service/Method")
        request_streaming = kind.startswith("stream")
        response_streaming = kind.endswith("stream")
        self._services.setdefault(service, {})[name] = Method(
            f"/{service}/{name}", handler, request_streaming, response_streaming, deserialize, serialize
        )
        return handler

    # ------------------------------------------------------------------ for the servers

    def find(self, service: str, name: str, metadata: Iterable[tuple[str, Any]]) -> Method | None:
        """The method, None when there is none."""
        methods = self._services.get(service)
        if methods is not None:
            found = methods.get(name)
            if found is not None:
                return found
        return self._ask(f"/{service}/{name}", metadata) if self._generic else None

    def _ask(self, path: str, metadata: Iterable[tuple[str, Any]]) -> Method | None:
        details = CallDetails(path, tuple(Metadatum(*pair) for pair in metadata))
        for generic in self._generic:
            handler = generic.service(details)
            if handler is not None:
                return Method.of(path, handler)
        return None

    def names(self) -> list[str]:
        """The services, as far as they are known before a call."""
        found = dict.fromkeys(self._services)
        for generic in self._generic:
            name = getattr(generic, "service_name", None)
            if callable(name):
                found[name()] = None
        return list(found)

    def needs_loop(self) -> bool:
        """Whether some handler is a coroutine's, or may be, which is known only when its call comes."""
        return bool(self._generic) or any(
            method.asynchronous for methods in self._services.values() for method in methods.values()
        )

    def unary_only(self) -> bool:
        """Whether no method has a stream, as far as that is known before a call."""
        return not self._generic and not any(
            method.request_streaming or method.response_streaming
            for methods in self._services.values()
            for method in methods.values()
        )

    def any_slow(self) -> bool:
        """Whether calls of some method were seen to take long, lately."""
        return any(method.slow for methods in self._services.values() for method in methods.values())

    def __bool__(self) -> bool:
        """Whether anything was registered."""
        return bool(self._services or self._generic)
