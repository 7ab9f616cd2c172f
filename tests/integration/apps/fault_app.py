"""The ASGI application of the fault cells: what `asgi_app` has, and what only a worker itself can do wrong."""

import asyncio
import os
import socket
import time

import asgi_app


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    await asgi_app.app(scope, receive, send)


async def lifespan(receive, send):
    """Takes its time to shut down, so that there is a phase in which workers stop."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.shutdown":
            await asyncio.sleep(float(os.environ.get("SLOW_SHUTDOWN", "0")))
            await send({"type": "lifespan.shutdown.complete"})
            return
        await send({"type": "lifespan.startup.complete"})


async def fork(scope, receive, send, query):
    """Leaves a grandchild behind that keeps every descriptor."""
    pid = os.fork()
    if not pid:
        time.sleep(60)
        os._exit(0)
    await asgi_app.answer(send, str(pid).encode())


async def garbage(scope, receive, send, query):
    """Writes what is no frame to the relay."""
    os.write(relay(), b"this is no frame, whatever it may look like")
    await asyncio.sleep(5)
    await asgi_app.answer(send, b"unreachable")


async def shut(scope, receive, send, query):
    """Closes the sending side of the relay."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), relay())
    await asyncio.sleep(5)
    await asgi_app.answer(send, b"unreachable")


async def eat(scope, receive, send, query):
    """Takes memory and uses it."""
    held = [b"x" * (1 << 20) for _ in range(int(query["megabytes"]))]
    await asgi_app.answer(send, str(len(held)).encode())


async def spin(scope, receive, send, query):
    """Holds the loop, and the interpreter, with pure computation."""
    end = time.monotonic() + float(query.get("seconds", "1"))
    number = 1
    while time.monotonic() < end:
        number = number * 3 % 1000003
    await asgi_app.answer(send, b"done")


def relay():
    """Our way to the server: the last of the sockets of our parent, where the SDK puts the relay."""
    found = []
    for fd in sorted(int(name) for name in os.listdir("/proc/self/fd")):
        try:
            with socket.socket(fileno=os.dup(fd)) as sock:
                creds = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        except OSError:
            continue
        if fd >= 10 and int.from_bytes(creds[:4], "little") == os.getppid():
            found.append(fd)
    return found[-1]


asgi_app.PATHS.update({function.__name__: function for function in (eat, fork, garbage, shut, spin)})
